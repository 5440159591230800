"""Noise tunnel: attributions averaged over noisy copies of the input."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from captum._engine.draws import Source, check_stdevs
from captum._engine.entry import differentiable
from captum._engine.layout import Layout, sharing
from captum._engine.place import telling_rows
from captum._engine.recollection import Recollection
from captum._engine.rows import Chunk, Rows, fold
from captum._engine.score import Score, tell_rows
from captum._engine.sweep import Plan, Sweep, check_limit, parameter_count, sharing_rows
from captum._engine.target import TargetObject, is_target_object
from captum._engine.values import Leaves, Rebuild, describe, parse_inputs
from captum.attr.averages.token_noise import TokenNoise
from captum.attr.base import Attribution
from captum.errors import InputError
from captum.log import log_usage

__all__ = ["SUPPORTED_NOISE_TUNNEL_TYPES", "NoiseTunnel", "NoiseTunnelType"]


class NoiseTunnelType(Enum):
    """Which moment of the attributions is taken."""

    smoothgrad = 1
    smoothgrad_sq = 2
    vargrad = 3


SUPPORTED_NOISE_TUNNEL_TYPES = [kind.name for kind in NoiseTunnelType]


class _Moments:
    """Streaming mean, mean square and variance of attributions, row by row, about the row's first draw."""

    def __init__(self, batch: int, samples: int) -> None:
        self._batch = batch
        self._samples = samples
        self._first: list[Tensor] = []
        self._sums: list[tuple[Tensor, Tensor]] = []
        self._dtypes: list[torch.dtype] = []
        self._dims: tuple[int, ...] = ()
        self.rebuild: Rebuild | None = None

    def add(self, chunk: Chunk, attributions: Any, dims: tuple[int, ...]) -> None:
        """Take in the attributions of a chunk, in any structure; ``dims``: where rows lie that are not in dim 0."""
        leaves = Leaves([], [])
        self.rebuild = leaves.gather(attributions, "attributions")
        self._dims = dims if len(dims) == len(leaves.tensors) else (0,) * len(leaves.tensors)
        leaves.tensors = [t.movedim(d, 0) if d else t for t, d in zip(leaves.tensors, self._dims, strict=True)]
        if not self._first:
            self._start(leaves.tensors)
        for i, tensor in enumerate(leaves.tensors):
            if tensor.dim() == 0 or len(tensor) != chunk.count:
                message = (
                    f"Expected attributions with one row for each of {chunk.count} noisy inputs, got "
                    f"{describe(tensor)}: in no dim of what the wrapped method returns are the rows known to lie."
                )
                raise InputError(message)
            value = tensor.to(self._first[i].dtype)
            self._keep_first(i, chunk, value)
            shifted = value - chunk.rows.pick(self._first[i])
            total, square = self._sums[i]
            self._sums[i] = (fold(total, chunk, shifted), fold(square, chunk, shifted.square()))

    def _start(self, tensors: list[Tensor]) -> None:
        self._dtypes = [t.dtype for t in tensors]
        for tensor in tensors:
            dtype = torch.promote_types(tensor.dtype, torch.float32)
            zeros = torch.zeros((self._batch, *tensor.shape[1:]), dtype=dtype, device=tensor.device)
            self._first.append(zeros)
            self._sums.append((zeros.clone(), zeros.clone()))

    def _keep_first(self, i: int, chunk: Chunk, value: Tensor) -> None:
        fresh = torch.nonzero(chunk.variants == 0).flatten()
        if len(fresh):
            index = chunk.rows.index
            rows = fresh if index is None else index[fresh]
            place = rows.to(value.device)
            self._first[i] = self._first[i].index_copy(0, place, value[fresh.to(value.device)].detach())

    def result(self, kind: NoiseTunnelType) -> Any:
        """The moment asked for, in the structure and dtype of the attributions."""
        out: list[Tensor] = []
        parts = zip(self._first, self._sums, self._dtypes, self._dims, strict=True)
        for first, (total, square), dtype, dim in parts:
            shift, spread = total / self._samples, square / self._samples
            if kind is NoiseTunnelType.smoothgrad:
                moment = first + shift
            elif kind is NoiseTunnelType.vargrad:
                moment = (spread - shift.square()).clamp(min=0)
            else:
                moment = spread + 2 * first * shift + first.square()
            out.append(moment.to(dtype).movedim(0, dim))
        if self.rebuild is None:
            message = "No attributions came."
            raise InputError(message)
        return self.rebuild(iter(out))


class NoiseTunnel(Attribution):
    r"""Moments of attributions under Gaussian noise on the input.

    :math:`x + \varepsilon,\ \varepsilon \sim N(0, \sigma^2)`.

    ``smoothgrad`` is the mean, ``smoothgrad_sq`` the mean square, ``vargrad`` the (biased) variance over ``nt_samples``
    draws. For token ids the noise is added to their embeddings.

    D. Smilkov et al., "SmoothGrad", 2017, arXiv:1706.03825; J. Adebayo et al., 2018, arXiv:1810.03307.

    Args:
        attribution_method: the method whose attributions are averaged.

    Example:
        >>> import torch
        >>> from captum.attr import Saliency
        >>> tunnel = NoiseTunnel(Saliency(lambda x: 2 * x.sum(1)))
        >>> tunnel.attribute(torch.zeros(1, 2), nt_type="vargrad", seed=0)
        tensor([[0., 0.]])
    """

    def __init__(self, attribution_method: Attribution) -> None:
        self.attribution_method = attribution_method
        self.is_delta_supported = attribution_method.has_convergence_delta()
        super().__init__(attribution_method.forward_func)

    @property
    def multiplies_by_inputs(self) -> bool:
        """What the wrapped method says."""
        return self.attribution_method.multiplies_by_inputs

    def has_convergence_delta(self) -> bool:
        """What the wrapped method says."""
        return self.is_delta_supported

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        nt_type: str = "smoothgrad",
        nt_samples: int = 5,
        nt_samples_batch_size: int | None = None,
        stdevs: float | tuple[float, ...] = 1.0,
        draw_baseline_from_distrib: bool = False,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        nt_show_progress: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The moment of the wrapped method's attributions.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            nt_type: ``"smoothgrad"`` (default), ``"smoothgrad_sq"`` or ``"vargrad"``.
            nt_samples: draws per row (default 5).
            nt_samples_batch_size: draws of each row that are evaluated together; None (default) plans it.
            stdevs: standard deviation of the noise in input units, a float, or a tuple with one per input (default
                1.0).
            draw_baseline_from_distrib: whether each draw takes a random row of ``baselines``.
            generator: source of all draws; None for the global streams of torch and NumPy.
            seed: makes a fresh generator.
            nt_show_progress: whether to draw a progress bar over the draws.
            **kwargs: arguments of the wrapped method; tensors with one row per example follow the examples.

        Returns:
            What the wrapped method returns, averaged; with the delta ``(B·nt_samples,)``, example by example, if
            ``return_convergence_delta=True`` is among the arguments.

        Raises:
            InputError: for an unknown ``nt_type``, ``nt_samples`` below 1, or stdevs that are not floats.
        """
        if nt_type not in SUPPORTED_NOISE_TUNNEL_TYPES:
            message = f"Expected as nt_type one of {', '.join(SUPPORTED_NOISE_TUNNEL_TYPES)}; got {nt_type!r}."
            raise InputError(message)
        if isinstance(nt_samples, bool) or not isinstance(nt_samples, int) or nt_samples < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass floats
            message = f"Expected nt_samples as an int of at least 1, got {nt_samples!r}."
            raise InputError(message)
        limit = check_limit(nt_samples_batch_size, "nt_samples_batch_size")
        call = _Tunnel(self.attribution_method, inputs, kwargs)
        noise = call.draw(nt_samples, stdevs, draw_baseline_from_distrib, Source(generator, seed))
        plan = call.plan(None if limit is None else limit * call.batch)
        label = f"Noise Tunnel of {self.attribution_method.get_name()}" if nt_show_progress else None
        moments, deltas = _Moments(call.batch, nt_samples), []
        for chunk, (result, delta) in Sweep(call.batch, nt_samples, plan, order="example", label=label).run(
            lambda chunk: call.attribute(chunk, noise)
        ):
            moments.add(chunk, result, getattr(self.attribution_method, "batch_dims", ()))
            deltas += [] if delta is None else [delta]
        averaged = moments.result(NoiseTunnelType[nt_type])
        return (averaged, torch.cat(deltas)) if deltas else averaged


Noise = Callable[[Chunk], tuple[Any, dict[str, Any]]]


class _Following:
    """A target object whose rows are those of a chunk."""

    def __init__(self, target: TargetObject, rows: Rows) -> None:
        self._target = target
        self._rows = rows

    def select(self, output: Tensor, rows: Rows) -> Tensor:
        """Read the output for rows of the chunk."""
        return self._target.select(output, self._rows.compose(rows))


class _Tunnel:
    """One call: the noisy inputs, the arguments that follow the rows, and the wrapped method."""

    def __init__(self, method: Attribution, inputs: Any, kwargs: dict[str, Any]) -> None:
        self.method = method
        self.kwargs = dict(kwargs)
        self.want_delta = bool(kwargs.get("return_convergence_delta"))
        self.spread = not getattr(method, "baselines_are_distribution", False)
        target = kwargs.get("target")
        constants = kwargs.get("additional_forward_args")
        self.score = Score(method.forward_func, parse_inputs(inputs, method.forward_func), target, constants)
        self.inputs = self.score.inputs
        self.batch = self.score.batch
        if isinstance(target, str):
            self.kwargs["target"] = self.score.resolve()
        self.tokens: TokenNoise | None = None
        if not all(t.dtype.is_floating_point for t in self.inputs.tensors):
            self.tokens = TokenNoise(self.score, self.kwargs.pop("embedding_reduce", "sum"))
        self.values = self.inputs.tensors if self.tokens is None else self.tokens.values
        layer = getattr(method, "layer", ())
        read = layer if isinstance(layer, (list, tuple)) else (layer,)
        known = Recollection(method.forward_func, read, self.values)
        self.layout = Layout(self.score.modules(), recollection=known)

    def plan(self, limit: int | None) -> Plan:
        """Noisy rows per call of the wrapped method."""
        elements = sum(v[0].numel() for v in self.values)
        recall = self.layout.recall if self.layout.learns_from(self.values) else None
        work, least = parameter_count(self.score.modules()), sharing_rows(self.values)
        return Plan(limit, elements, work, recall=recall, least=least)

    def draw(self, samples: int, stdevs: Any, from_distribution: bool, source: Source) -> Noise:
        """Draw all that is random; the result gives the noisy inputs and changed arguments of a chunk."""
        per_leaf = check_stdevs(stdevs, len(self.inputs.tensors))
        if self.tokens is not None:
            per_leaf = self.tokens.per_variable(per_leaf)
        picks = self._draw_baselines(samples, source) if from_distribution else None
        count = self.batch * samples
        alone = len(self.values) == 1
        noise = [source.normal(count, v, s, alone) for v, s in zip(self.values, per_leaf, strict=True)]

        def take(chunk: Chunk) -> tuple[Any, dict[str, Any]]:
            noisy = tuple(
                chunk.rows.pick(v) + n.take(chunk.start, chunk.stop) for v, n in zip(self.values, noise, strict=True)
            )
            return noisy, {} if picks is None else {"baselines": self._chosen(picks, chunk)}

        return take

    def _draw_baselines(self, samples: int, source: Source) -> list[Tensor | None]:
        entries = _entries(self.kwargs.get("baselines"))
        return [source.choice(len(e), self.batch * samples) if isinstance(e, Tensor) else None for e in entries]

    def _chosen(self, picks: list[Tensor | None], chunk: Chunk) -> Any:
        given = self.kwargs.get("baselines")
        entries = _entries(given)
        out = [
            e if p is None else e[p[chunk.start : chunk.stop].to(e.device)] for e, p in zip(entries, picks, strict=True)
        ]
        return tuple(out) if isinstance(given, tuple) else out[0]

    def attribute(self, chunk: Chunk, noise: Noise) -> tuple[Any, Tensor | None]:
        """Attributions, and the delta if wanted, of the noisy rows of a chunk."""
        noisy, changed = noise(chunk)
        kwargs = {**self._follow(chunk.rows), **changed}
        try:
            with telling_rows():
                found = self._found(noisy, kwargs, chunk.rows)
        except Exception as fault:
            tell_rows(fault, chunk.count, self.batch)
            raise
        return (found[0], found[1]) if self.want_delta else (found, None)

    def _found(self, noisy: tuple[Tensor, ...], kwargs: dict[str, Any], rows: Rows) -> Any:
        if self.tokens is not None:
            return self.tokens.attribute(self.method, noisy, kwargs, rows)
        with sharing(self.method.forward_func, self.layout):
            return self.method.attribute(self.inputs.restore(noisy), **kwargs)

    def _follow(self, rows: Rows) -> dict[str, Any]:
        """Arguments whose rows belong to examples, for the rows of a chunk."""
        out = dict(self.kwargs)
        target = self.score.target
        if is_target_object(target):
            out["target"] = _Following(target, rows)
        elif isinstance(target, (list, Tensor)):
            out["target"] = rows.pick_list(target) if isinstance(target, list) else rows.pick_constant(target)
        if "additional_forward_args" in out:
            out["additional_forward_args"] = tuple(rows.pick_constant(c) for c in self.score.constants)
        for name in ("feature_mask", "baselines"):
            if name in out and (name != "baselines" or self.spread):
                out[name] = _picked(out[name], rows)
        return out


def _entries(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _picked(value: Any, rows: Rows) -> Any:
    """A value of any structure, with the rows of its tensors that have one per example."""
    leaves = Leaves([], [])
    rebuild = leaves.gather(value, "")
    return rebuild(iter([rows.pick(t) if t.dim() and len(t) == rows.batch else t for t in leaves.tensors]))
