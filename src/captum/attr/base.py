"""Base classes of all attribution methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from captum._engine.at_layer import AtLayer
from captum._engine.derivative import differentiate, leaf
from captum._engine.drive import AtInputs, GradientFunction, Reduce
from captum._engine.place import Layers, Neuron, Side
from captum._engine.score import Score
from captum._engine.sweep import check_limit
from captum._engine.values import describe, parse_baselines, parse_inputs
from captum.errors import InputError, InputTypeError, LayerError

__all__ = [
    "Attribution",
    "GradientAttribution",
    "InternalAttribution",
    "LayerAttribution",
    "NeuronAttribution",
    "PerturbationAttribution",
]

ModuleOrModules = TypeVar("ModuleOrModules")


class Attribution:
    """A method that says how much each part of the input made a score.

    Args:
        forward_func: the model, or any function of the inputs that returns one score per row or several.
    """

    attribute: Callable[..., Any]
    attribute_future: Callable[..., Any]

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        self.forward_func = forward_func

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions carry the factor (input − baseline), so that they sum to a difference of scores."""
        return False

    def has_convergence_delta(self) -> bool:
        """Whether ``attribute`` can return the convergence delta."""
        return False

    @classmethod
    def get_name(cls) -> str:
        """The name of the class in words.

        Example:
            >>> from captum.attr import IntegratedGradients
            >>> IntegratedGradients.get_name()
            'Integrated Gradients'
        """
        return "".join(f" {c}" if c.isupper() and i else c for i, c in enumerate(cls.__name__))

    def _label(self, show_progress: bool) -> str | None:
        """The name of the progress bar, or None for no bar."""
        return f"{self.get_name()} attribution" if show_progress else None


def default_gradients(
    forward_fn: Callable[..., Any],
    inputs: tuple[Tensor, ...],
    target_ind: Any = None,
    additional_forward_args: Any = None,
) -> tuple[Tensor, ...]:
    """Gradients of the target's score by each input tensor.

    Args:
        forward_fn: the model.
        inputs: tensors ``(n, *)`` to differentiate by.
        target_ind: the target.
        additional_forward_args: constants of the model.
    """
    with torch.enable_grad():
        score = Score(forward_fn, parse_inputs(inputs), target_ind, additional_forward_args)
        variables = tuple(leaf(t, keep_graph=True) for t in inputs)
        return differentiate(score(variables, score.everyone()), variables, score.inputs.names)


class GradientAttribution(Attribution):
    """Base of methods that differentiate the score.

    Attributes:
        gradient_func: ``(forward_fn, inputs, target_ind, additional_forward_args) -> tuple of gradients``; may be
            replaced.
    """

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        super().__init__(forward_func)
        self.gradient_func: GradientFunction = default_gradients

    def compute_convergence_delta(
        self,
        attributions: Any,
        start_point: Any,
        end_point: Any,
        target: Any = None,
        additional_forward_args: Any = None,
    ) -> Tensor:
        r"""How far the attributions are from completeness: :math:`\delta = \sum a - (F(x) - F(x'))` per row.

        Args:
            attributions: tensor or tuple, dim 0 is the batch.
            start_point: baselines ``x'``: None for zeros, numbers, or tensors ``(1, *)`` or ``(B, *)``.
            end_point: inputs ``x``.
            target: the output explained; outputs of several elements are summed per row.
            additional_forward_args: constants of the model.

        Returns:
            Tensor ``(B,)``.

        Raises:
            InputError: when batch sizes differ.
        """
        inputs = parse_inputs(end_point, self.forward_func)
        tensors = _leaves(attributions)
        rows = {len(t) for t in (*tensors, *inputs.tensors)}
        if len(rows) != 1:
            message = f"Expected attributions and end_point with the same batch size, got {sorted(rows)}."
            raise InputError(message)
        start = parse_baselines(start_point, inputs)
        score = Score(self.forward_func, inputs, target, additional_forward_args)
        everyone = score.everyone()
        with torch.no_grad():
            ends = [
                score.select(score.output(tuple(everyone.pick(t).clone() for t in point), everyone), everyone)
                for point in (inputs.tensors, start)
            ]
        rise = [e.reshape(inputs.batch, -1).sum(1) for e in ends]
        return completeness_gap(tensors, rise[0], rise[1])

    def _at_inputs(self, inputs: Any, target: Any, constants: Any, reduce: Reduce = "sum") -> AtInputs:
        """The score as a function of the inputs."""
        score = Score(self.forward_func, parse_inputs(inputs, self.forward_func), target, constants)
        function = AtInputs(score, reduce)
        if self.gradient_func is not default_gradients:
            function.gradient_func = self.gradient_func
        return function


def completeness_gap(attributions: Sequence[Tensor], end: Tensor, start: Tensor) -> Tensor:
    """``Σ attributions − (end − start)`` per row, ``(B,)``."""
    sums = [a.reshape(len(a), -1).sum(1) for a in attributions]
    total = sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
    return total - (end.to(total.dtype) - start.to(total.dtype)).to(total.device)


def _leaves(value: Any) -> tuple[Tensor, ...]:
    if isinstance(value, list):
        return tuple(t for v in value for t in _leaves(v))
    return parse_inputs(value).tensors


class PerturbationAttribution(Attribution):
    """Base of methods that change the input and compare scores."""

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: attributions are differences of scores."""
        return True


class InternalAttribution(Attribution, Generic[ModuleOrModules]):
    """Base of methods that explain, or look at, the inside of a model.

    Args:
        forward_func: the model or function.
        layer: a module inside it, or for some methods a list of modules.
        device_ids: accepted for compatibility; layers are found on the devices they run on.
    """

    layer: Any
    _place: Layers | None = None
    _rows_first: bool = False

    def __init__(self, forward_func: Callable[..., Any], layer: Any, device_ids: list[int] | None = None) -> None:
        super().__init__(forward_func)
        self.layer = layer
        self.device_ids = device_ids

    def _modules(self, several: bool = False) -> list[nn.Module]:
        """The layer as a list of modules."""
        modules: list[Any] = list(self.layer) if isinstance(self.layer, (list, tuple)) else [self.layer]
        if isinstance(self.layer, (list, tuple)) and not (several and modules):
            wanted = "a layer or a list with at least one" if several else "one layer"
            message = f"{type(self).__name__} takes {wanted}, got {describe(self.layer)}; call it once for each layer."
            raise LayerTypeError(message)
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):
                message = "The layer is a scripted module, which cannot be watched: explain the eager model."
                raise LayerError(message)
        return modules

    def _layers(self, to_input: bool, several: bool = False, as_made: bool = False) -> Layers:
        """The place of the layer; values have their rows in dim 0, or stay as they are made."""
        self._place = Layers(self._modules(several), side_of(to_input), as_made=as_made)
        return self._place


_GRAD_KWARGS = ("allow_unused", "create_graph", "materialize_grads", "retain_graph")


def wants_graph(create_graph: bool, grad_kwargs: dict[str, Any] | None) -> bool:
    """Whether the caller asked for a graph, by the flag or among the arguments of ``torch.autograd.grad``."""
    unknown = [k for k in grad_kwargs or {} if k not in _GRAD_KWARGS]
    if unknown:
        message = f"Expected grad_kwargs among {', '.join(_GRAD_KWARGS)}; got {', '.join(unknown)}."
        raise InputTypeError(message)
    return create_graph or bool((grad_kwargs or {}).get("create_graph"))


def side_of(to_input: bool) -> Side:
    """The side of a module that a flag names."""
    return "input" if to_input else "output"


class LayerTypeError(LayerError, TypeError):
    """A list of layers where one layer is taken."""


class LayerAttribution(InternalAttribution[Any]):
    """Base of methods that attribute to the values of a layer."""

    @property
    def batch_dims(self) -> tuple[int, ...]:
        """The dim of the batch in each tensor of the last result, as far as it was looked for."""
        return () if self._place is None else self._place.batch_dims(rows_first=self._rows_first)

    @staticmethod
    def interpolate(
        layer_attribution: Tensor,
        interpolate_dims: int | tuple[int, ...],
        interpolate_mode: str = "nearest",
    ) -> Tensor:
        """Resize layer attributions ``(B, C, *spatial)``, as ``torch.nn.functional.interpolate`` does.

        Args:
            layer_attribution: the attributions.
            interpolate_dims: the spatial size to reach, in elements.
            interpolate_mode: ``"nearest"`` (default), ``"bilinear"``, …

        Returns:
            Tensor ``(B, C, *interpolate_dims)``.

        Raises:
            InputError: the attributions have no spatial dims, or the size or mode does not fit them.

        Example:
            >>> import torch
            >>> LayerAttribution.interpolate(torch.ones(1, 1, 2, 2), (4, 4)).shape
            torch.Size([1, 1, 4, 4])
        """
        try:
            return nn.functional.interpolate(layer_attribution, interpolate_dims, mode=interpolate_mode)
        except (TypeError, ValueError, AttributeError, RuntimeError) as fault:
            message = (
                f"Cannot bring {describe(layer_attribution)} to size {interpolate_dims} by mode {interpolate_mode!r}: "
                f"expected attributions (B, C, *spatial) and one size per spatial dim. {fault}"
            )
            raise InputError(message) from fault

    def _score(self, inputs: Any, target: Any, constants: Any) -> Score:
        """The score of the model's output."""
        return Score(self.forward_func, parse_inputs(inputs, self.forward_func), target, constants)

    def _at_layer(self, score: Score, to_input: bool, keep_graph: bool = False, limit: int | None = None) -> AtLayer:
        """The score as a function of the value of the layer, or of several layers."""
        return AtLayer(score, self._modules(several=True), side_of(to_input), keep_graph, check_limit(limit))

    def _by_layer(self, values: Sequence[Tensor], layers: Layers, rows_first: bool = False) -> Any:
        """Values in the form of the layer: a tensor, a tuple, or a list with one of these per layer."""
        self._place, self._rows_first = layers, rows_first
        groups = [g[0] if len(g) == 1 else g for g in layers.group(tuple(values), rows_first=rows_first)]
        return groups if isinstance(self.layer, (list, tuple)) else groups[0]


class NeuronAttribution(InternalAttribution[Any]):
    """Base of methods that explain a neuron: the score is read at a layer."""

    def _at_neuron(
        self, inputs: Any, selector: Any, constants: Any, to_input: bool, reduce: Reduce = "sum"
    ) -> AtInputs:
        """The neuron as a function of the inputs."""
        score = Score(self.forward_func, parse_inputs(inputs, self.forward_func), None, constants)
        neuron = Neuron(score, self._layers(to_input), selector)
        return AtInputs(neuron, reduce)  # pyright: ignore[reportArgumentType]  # a Neuron offers all that AtInputs asks of a Score
