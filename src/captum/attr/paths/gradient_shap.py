"""Expected gradients: path gradients at random nodes, from random baselines to noisy inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.draws import Normal, Samples, Source, check_stdevs
from captum._engine.drive import AtInputs, Reduce
from captum._engine.entry import differentiable
from captum._engine.place import Layers
from captum._engine.rows import Chunk, fold
from captum._engine.sweep import Sweep, check_limit
from captum.attr.base import GradientAttribution, LayerAttribution, NeuronAttribution, completeness_gap
from captum.attr.paths.influence import gradients_at_layer
from captum.attr.paths.integral import Tensors, precise
from captum.errors import InputError
from captum.log import log_usage

__all__ = [
    "GradientShap",
    "LayerGradientShap",
    "NeuronGradientShap",
]


class _Draws:
    """All that is random in a call: which baselines, how much noise, where on the path; drawn before chunking."""

    def __init__(
        self, function: AtInputs, baselines: tuple[Any, Any], n_samples: int, stdevs: Any, source: Source
    ) -> None:
        if isinstance(n_samples, bool) or not isinstance(n_samples, int) or n_samples < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass floats
            message = f"Expected n_samples as an int of at least 1, got {n_samples!r}."
            raise InputError(message)
        self.function = function
        self.n_samples = n_samples
        count = function.batch * n_samples
        values = function.end()
        spread = _stdevs_of_variables(function, stdevs)
        self.baselines: Samples = function.samples(*baselines, source, n_samples)
        self.noise: list[Normal] = [
            source.normal(count, v, s, alone=len(values) == 1) for v, s in zip(values, spread, strict=True)
        ]
        self.nodes = source.uniform(count)

    def ends(self, chunk: Chunk, keep_graph: bool) -> tuple[Tensors, Tensors]:
        """The noisy inputs and the baselines of a chunk."""
        values = self.function.end(keep_graph)
        noisy = [chunk.rows.pick(v) + n.take(chunk.start, chunk.stop) for v, n in zip(values, self.noise, strict=True)]
        return tuple(noisy), self.baselines.take(chunk.start, chunk.stop)

    def points(self, chunk: Chunk, ends: tuple[Tensors, Tensors]) -> Tensors:
        """``u x̃ + (1 − u) b``, one ``u`` per pair."""
        nodes = self.nodes[chunk.start : chunk.stop]
        out: list[Tensor] = []
        for noisy, base in zip(*ends, strict=True):
            share = nodes.to(precise(noisy.dtype)).to(noisy.device).reshape(-1, *[1] * (noisy.dim() - 1))
            out.append(torch.lerp(base.to(share.dtype), noisy.to(share.dtype), share).to(noisy.dtype))
        return tuple(out)


def _stdevs_of_variables(function: AtInputs, stdevs: Any) -> tuple[float, ...]:
    """One standard deviation per variable from one per input; look-ups take that of their input."""
    per_leaf = check_stdevs(stdevs, len(function.base))
    varied = [per_leaf[i] for i in function.varied]
    return (*varied, *[per_leaf[u.leaf] for u in function.lookups])


class _Expectation:
    """One call of expected gradients."""

    def __init__(self, draws: _Draws, multiply: bool, create_graph: bool) -> None:
        self.draws = draws
        self.multiply = multiply
        self.create_graph = create_graph

    def sweep(self, limit: int | None, label: str | None) -> Sweep:
        """Examples in order, all samples of one before the next."""
        function = self.draws.function
        plan = function.plan(check_limit(limit))
        return Sweep(function.batch, self.draws.n_samples, plan, order="example", label=label)

    def at_inputs(self, chunk: Chunk) -> tuple[Tensors, tuple[Tensors, Tensors]]:
        """Attributions of each pair, and the ends of its path."""
        ends = self.draws.ends(chunk, self.create_graph)
        points = self.draws.points(chunk, ends)
        grads = self.draws.function.gradients(points, chunk.rows, create_graph=self.create_graph)
        return self._times(grads, *ends), ends

    def at_layer(self, chunk: Chunk, layers: Layers) -> tuple[Tensors, tuple[Tensors, Tensors]]:
        """Attributions of each pair at a layer, and the ends of its path in input space."""
        function = self.draws.function
        ends = self.draws.ends(chunk, self.create_graph)
        points = self.draws.points(chunk, ends)
        grads = function.run_points(
            points, lambda p: gradients_at_layer(function, layers, p, chunk, self.create_graph)[1]
        )
        if not self.multiply:
            return self._times(grads, grads, grads), ends
        with torch.set_grad_enabled(self.create_graph):
            values = [function.tap(layers, e, chunk.rows, keep_graph=self.create_graph)[1] for e in ends]
        return self._times(grads, values[0], values[1]), ends

    def _times(self, grads: Tensors, end: Tensors, start: Tensors) -> Tensors:
        if not self.multiply:
            return tuple(g.to(precise(g.dtype)) for g in grads)
        out = [g.to(precise(g.dtype)) * (e - s) for g, e, s in zip(grads, end, start, strict=True)]
        return tuple(out) if self.create_graph else tuple(o.detach() for o in out)

    def mean(
        self, sweep: Sweep, body: Callable[[Chunk], tuple[Tensors, tuple[Tensors, Tensors]]], want_delta: bool
    ) -> tuple[Tensors, Tensor | None]:
        """Mean attributions of each row, and the delta of each pair."""
        function = self.draws.function
        totals: list[Tensor] = []
        deltas: list[Tensor] = []
        with function.running():
            for chunk, (parts, ends) in sweep.run(body):
                if not totals:
                    totals = [p.new_zeros((function.batch, *p.shape[1:])) for p in parts]
                totals = [fold(t, chunk, p / self.draws.n_samples) for t, p in zip(totals, parts, strict=True)]
                if want_delta:
                    deltas.append(self._delta(chunk, parts, ends))
        return tuple(totals), torch.cat(deltas) if want_delta else None

    def _delta(self, chunk: Chunk, parts: Tensors, ends: tuple[Tensors, Tensors]) -> Tensor:
        function = self.draws.function
        with torch.no_grad():
            end, start = (function.value(e, chunk.rows) for e in ends)
        return completeness_gap([p.detach() for p in parts], end, start)


class GradientShap(GradientAttribution):
    r"""Expected gradients.

    :math:`a = \mathbb E_{b,u,\varepsilon}[(\tilde x - b) \odot \partial F / \partial x\,(b + u(\tilde x - b))]`.

    ``x̃ = x + ε`` with ``ε ~ N(0, stdev²)``, ``b`` a random baseline, ``u ~ U(0, 1)``.

    S. Lundberg, S.-I. Lee, 2017, arXiv:1705.07874; G. Erion et al., 2019, arXiv:1906.10670.

    Args:
        forward_func: the model or function.
        multiply_by_inputs: whether to multiply by ``x̃ − b`` (default).
    """

    baselines_are_distribution = True

    def __init__(self, forward_func: Callable[..., Any], multiply_by_inputs: bool = True) -> None:
        super().__init__(forward_func)
        self._multiply_by_inputs = multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        """The constructor's flag."""
        return self._multiply_by_inputs

    def has_convergence_delta(self) -> bool:
        """True."""
        return True

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        baselines: Any,
        n_samples: int = 5,
        stdevs: float | tuple[float, ...] = 0.0,
        target: Any = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Any:
        """Expected gradients of the score by the inputs.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids move to their embeddings.
            baselines: tensor(s) ``(N, *)`` to draw from, or a function of nothing or of the inputs that returns them.
            n_samples: draws per row (default 5).
            stdevs: standard deviation of the noise in input units, a float, or a tuple with one per input (default 0).
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            return_convergence_delta: whether to return the delta too.
            internal_batch_size: rows per forward pass; None (default) plans it.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result can be differentiated again.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.
            generator: source of all draws; None for the global streams of torch and NumPy.
            seed: makes a fresh generator.

        Returns:
            Attributions in the structure of ``inputs``, in score units; with the delta ``(B·n_samples,)``, example by
            example and against the noisy inputs, if asked for.

        Raises:
            InputError: when arguments do not fit.
        """
        function = self._at_inputs(inputs, target, additional_forward_args, embedding_reduce)
        draws = _Draws(function, (baselines, inputs), n_samples, stdevs, Source(generator, seed))
        function.tune()
        call = _Expectation(draws, self._multiply_by_inputs, create_graph)
        sweep = call.sweep(internal_batch_size, self._label(show_progress))
        means, delta = call.mean(sweep, call.at_inputs, return_convergence_delta)
        result = function.restore([m.to(v.dtype) for m, v in zip(means, function.values, strict=True)])
        return (result, delta) if return_convergence_delta else result


class LayerGradientShap(LayerAttribution, GradientAttribution):
    r"""Expected gradients of a layer.

    :math:`a = \mathbb E[(y(\tilde x) - y(b)) \odot \partial F / \partial y]`, the path in input space.

    S. Lundberg, S.-I. Lee, 2017, arXiv:1705.07874.

    Args:
        forward_func: the model or function.
        layer: a module.
        device_ids: accepted for compatibility.
        multiply_by_inputs: whether to multiply by ``y(x̃) − y(b)`` (default).
    """

    baselines_are_distribution = True

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: torch.nn.Module,
        device_ids: list[int] | None = None,
        multiply_by_inputs: bool = True,
    ) -> None:
        super().__init__(forward_func, layer, device_ids)
        self._multiply_by_inputs = multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        """The constructor's flag."""
        return self._multiply_by_inputs

    def has_convergence_delta(self) -> bool:
        """True."""
        return True

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        baselines: Any,
        n_samples: int = 5,
        stdevs: float | tuple[float, ...] = 0.0,
        target: Any = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        create_graph: bool = False,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Any:
        """Expected gradients of the score by the layer's value.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids move to their embeddings.
            baselines: tensor(s) ``(N, *)`` to draw from, or a function of nothing or of the inputs that returns them.
            n_samples: draws per row (default 5).
            stdevs: standard deviation of the noise in input units, a float, or a tuple with one per input (default 0).
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            return_convergence_delta: whether to return the delta too.
            attribute_to_layer_input: whether to use the layer's input.
            internal_batch_size: rows per forward pass; None (default) plans it.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result can be differentiated again.
            generator: source of all draws; None for the global streams of torch and NumPy.
            seed: makes a fresh generator.

        Returns:
            Attributions shaped like the layer's value, in score units; with the delta ``(B·n_samples,)`` if asked for.

        Raises:
            LayerError: when the layer is not reached.
        """
        function = self._at_inputs(inputs, target, additional_forward_args)
        layers = self._layers(attribute_to_layer_input)
        draws = _Draws(function, (baselines, inputs), n_samples, stdevs, Source(generator, seed))
        function.tune(layers.modules)
        call = _Expectation(draws, self._multiply_by_inputs, create_graph)
        sweep = call.sweep(internal_batch_size, self._label(show_progress))
        means, delta = call.mean(sweep, lambda chunk: call.at_layer(chunk, layers), return_convergence_delta)
        low = function.values[0].dtype
        results = [m.to(low) if low in (torch.float16, torch.bfloat16) else m for m in means]
        result = self._by_layer(results, layers)
        return (result, delta) if return_convergence_delta else result


class NeuronGradientShap(NeuronAttribution, GradientAttribution):
    r"""Expected gradients of a neuron: the score is :math:`y_j(x)`.

    S. Lundberg, S.-I. Lee, 2017, arXiv:1705.07874.

    Args:
        forward_func: the model or function.
        layer: the module whose output (or input) holds the neuron.
        device_ids: accepted for compatibility.
        multiply_by_inputs: whether to multiply by ``x̃ − b`` (default).
    """

    baselines_are_distribution = True

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: torch.nn.Module,
        device_ids: list[int] | None = None,
        multiply_by_inputs: bool = True,
    ) -> None:
        super().__init__(forward_func, layer, device_ids)
        self._multiply_by_inputs = multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        """The constructor's flag."""
        return self._multiply_by_inputs

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        neuron_selector: Any,
        baselines: Any,
        n_samples: int = 5,
        stdevs: float | tuple[float, ...] = 0.0,
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        create_graph: bool = False,
        embedding_reduce: Reduce = "sum",
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> Any:
        """Expected gradients of the selected neuron by the inputs.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids move to their embeddings.
            neuron_selector: int, slice, tuple of these (slices are summed), or a function of the layer's value.
            baselines: tensor(s) ``(N, *)`` to draw from, or a function of nothing or of the inputs that returns them.
            n_samples: draws per row (default 5).
            stdevs: standard deviation of the noise in input units (default 0).
            additional_forward_args: constants of the model.
            attribute_to_neuron_input: whether to read the layer's input.
            internal_batch_size: rows per forward pass; None (default) plans it.
            show_progress: whether to draw a progress bar.
            create_graph: whether the result can be differentiated again.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.
            generator: source of all draws; None for the global streams of torch and NumPy.
            seed: makes a fresh generator.

        Returns:
            Attributions in the structure of ``inputs``, in units of the neuron.

        Raises:
            LayerError: when the layer is not reached or the selector does not fit.
        """
        function = self._at_neuron(
            inputs, neuron_selector, additional_forward_args, attribute_to_neuron_input, embedding_reduce
        )
        draws = _Draws(function, (baselines, inputs), n_samples, stdevs, Source(generator, seed))
        function.tune()
        call = _Expectation(draws, self._multiply_by_inputs, create_graph)
        means, _ = call.mean(call.sweep(internal_batch_size, self._label(show_progress)), call.at_inputs, False)
        return function.restore([m.to(v.dtype) for m, v in zip(means, function.values, strict=True)])
