"""Place: where the variable is, or where the score is read: the model's own input, or one side of a module.

Verbs: *read* the values there, *replace* them, *tap* them as differentiable tensors of a forward pass.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter  # no public name

from captum._engine.batch_axis import Shape, grown, rehearse, settled
from captum._engine.layer import Layer, Side
from captum._engine.rows import Rows
from captum._engine.score import Score
from captum._engine.values import describe
from captum.errors import InputTypeError, LayerError

__all__ = ["LayerIndexError", "Layers", "Neuron", "Side", "select_neuron", "telling_rows"]

_TELL_ROWS: ContextVar[bool] = ContextVar("captum_tell_rows", default=False)


@contextlib.contextmanager
def telling_rows() -> Generator[None]:
    """Find the dim of the rows also for callers that never tell rows apart: what they return goes on row by row."""
    token = _TELL_ROWS.set(True)
    try:
        yield
    finally:
        _TELL_ROWS.reset(token)


Use = tuple[int, int]  # the number of a layer, and that of its run in a forward pass


class Layers:
    """The place made of one layer or several: their values side by side in one tuple.

    Values are read and replaced with their rows in dim 0, wherever the layer itself has them; :meth:`group` brings them
    back into the layer's own form.

    Args:
        layers: the modules.
        side: ``"output"``, or ``"input"`` for what the modules receive.
        as_made: whether values stay as the layer has them, for callers that never tell rows apart, outside of
            :func:`telling_rows`.
    """

    def __init__(self, layers: Sequence[nn.Module], side: Side = "output", *, as_made: bool = False) -> None:
        self.layers = [Layer(m, side) for m in layers]
        self.counts: list[int] = []
        self._stays = as_made
        self._axes: dict[Use, tuple[int, ...]] = {}
        self._overwritten = False
        self._last: list[tuple[int, ...]] = []

    @property
    def modules(self) -> list[nn.Module]:
        """The layers' modules."""
        return [layer.module for layer in self.layers]

    def read(self, score: Score, tensors: tuple[Tensor, ...], rows: Rows) -> tuple[Tensor, ...]:
        """The values at the place for these inputs, detached."""
        with torch.no_grad():
            return self.tap(score, tensors, rows)[1]

    def tap(
        self, score: Score, tensors: tuple[Tensor, ...], rows: Rows, from_here: bool = False
    ) -> tuple[Any, tuple[Tensor, ...]]:
        """Run the model; return its output and the values at the place as tensors of the graph, ready to differentiate.

        With ``from_here`` the graph begins at the layers' outputs, so that what the model does before them keeps
        nothing; for inputs of layers that is the same as without, since the model may read such a tensor elsewhere too.
        """
        seen: dict[int, tuple[Tensor, ...]] = {}
        versions: list[tuple[Tensor, int]] = []
        inputs = any(layer.side == "input" for layer in self.layers)
        if torch.is_grad_enabled() and inputs:
            tensors = _tracked(tensors)
        late = from_here and not inputs and torch.is_grad_enabled()
        larger = functools.cache(lambda: self._shapes_of_one_more(score, tensors, rows))

        def keep(position: int, use: int, values: tuple[Tensor, ...]) -> list[Tensor] | None:
            axes = self._find_axes((position, use), values, rows.count, larger)
            if late:
                torch.set_grad_enabled(True)
            seen[position] = _own(values, self.layers[position].side, axes)
            if not torch.is_grad_enabled():
                seen[position] = tuple(v.clone() for v in seen[position])  # the model may write into its own later
                return None
            layer = self.layers[position]
            if (self._overwritten or any(axes)) and layer.side == "input" and not layer.in_place:
                seen[position] = tuple(_put_before(v, a) for v, a in zip(values, axes, strict=True))
            versions.extend((v, v._version) for v in seen[position])
            return _copied(seen[position], axes)

        with contextlib.ExitStack() as stack:
            if late:
                stack.enter_context(torch.no_grad())
            for position, layer in enumerate(self.layers):
                stack.enter_context(layer.watched(functools.partial(keep, position)))
            given = tuple(t.clone() for t in tensors) if inputs else _copies(tensors)
            output = score.output(given, rows)
        if inputs and not self._overwritten and any(v._version != version for v, version in versions):
            self._overwritten = True  # so that these are no more the values that the layer received
            return self.tap(score, tensors, rows, from_here)
        parts = [layer.require(seen.get(i), score) for i, layer in enumerate(self.layers)]
        self.counts = [len(p) for p in parts]
        self._last = [self._axes[i, layer.uses - 1] for i, layer in enumerate(self.layers)]
        return output, tuple(t for part in parts for t in part)

    def score(
        self,
        score: Score,
        variables: tuple[Tensor, ...],
        tensors: tuple[Tensor, ...],
        rows: Rows,
        fed: Rows | None = None,
    ) -> Tensor:
        """One number per row with ``variables`` put in at the place.

        Args:
            score: how to run the model.
            variables: values for the place, ``(n, *)`` each.
            tensors: the model's own inputs.
            rows: the examples of the variables.
            fed: the examples of ``tensors`` when these are fewer: what comes before the place runs once for each.
        """
        parts = _split(variables, self.counts)
        late = fed is not None and torch.is_grad_enabled()
        lasts = [layer.uses - 1 for layer in self.layers]

        def put(position: int, use: int, values: tuple[Tensor, ...]) -> list[Tensor] | None:
            if use != lasts[position]:
                return None
            if late:  # from here on the model is differentiated
                torch.set_grad_enabled(True)
            new = _copied(parts[position], self._last[position])
            if fed is None:
                _require_form(new, values, self.layers[position])
            return new

        with contextlib.ExitStack() as stack:
            if late:
                stack.enter_context(torch.no_grad())
            for position, layer in enumerate(self.layers):
                stack.enter_context(layer.watched(functools.partial(put, position)))
            output = score.output(_copies(tensors), rows if fed is None else fed)
        return score.read(output, rows)

    def group(self, values: tuple[Tensor, ...], *, rows_first: bool = False) -> list[tuple[Tensor, ...]]:
        """Values side by side as one tuple per layer: in the layer's own form, or with the rows in dim 0."""
        parts = _split(values, self.counts)
        return parts if rows_first else [self.as_made(part, position) for position, part in enumerate(parts)]

    def batch_dims(self, *, rows_first: bool = False) -> tuple[int, ...]:
        """The dim of the rows in each value that :meth:`group` gives."""
        return tuple(0 if rows_first else axis for axes in self._last for axis in axes)

    def require_rows(self, values: tuple[Tensor, ...], rows: int) -> None:
        """Require that every value has its own part for each of the rows, so that rows can be told apart."""
        shared = [tuple(v.shape) for v in values if v.dim() == 0 or len(v) != rows]
        if shared:
            places = " and ".join(layer.describe() for layer in self.layers)
            message = (
                f"Expected values of their own for each of {rows} rows at {places}; one of {len(values)} values is "
                f"{shared[0]}, which rows share. Choose a module inside the layer, or one after it, all of whose "
                "values belong to rows, or use LayerGradientXActivation."
            )
            raise LayerError(message)

    def as_made(self, values: tuple[Tensor, ...], position: int = 0) -> tuple[Tensor, ...]:
        """Values of one layer with the rows in dim 0, in the layer's own form."""
        return tuple(v.movedim(0, a) if a else v for v, a in zip(values, self._last[position], strict=True))

    def _find_axes(
        self, use: Use, values: tuple[Tensor, ...], rows: int, larger: Callable[[], dict[Use, list[Shape]]]
    ) -> tuple[int, ...]:
        """The dim of each value that holds the rows; found once."""
        if use not in self._axes:
            shapes = [tuple(v.shape) for v in values]
            others = shapes
            if (not self._stays or _TELL_ROWS.get()) and not all(settled(s, rows) for s in shapes):
                others = larger().get(use, shapes)
            pairs = zip(shapes, others, strict=True) if len(others) == len(shapes) else ((s, s) for s in shapes)
            self._axes[use] = tuple(grown(few, more, rows) for few, more in pairs)
        return self._axes[use]

    def _shapes_of_one_more(self, score: Score, tensors: tuple[Tensor, ...], rows: Rows) -> dict[Use, list[Shape]]:
        """The shapes of the values at each run of each layer, with one row more."""
        found: dict[Use, list[Shape]] = {}

        def note(position: int, use: int, values: tuple[Tensor, ...]) -> None:
            found[position, use] = [tuple(v.shape) for v in values]

        def run(more: tuple[Tensor, ...], all_rows: Rows) -> None:
            with contextlib.ExitStack() as stack:
                for position, layer in enumerate(self.layers):
                    stack.enter_context(layer.watched(functools.partial(note, position)))
                score.output(_copies(more), all_rows)

        uses = [layer.uses for layer in self.layers]
        rehearse(run, tensors, rows, score.modules())
        for layer, count in zip(self.layers, uses, strict=True):
            layer.uses = count
        return found


def _tracked(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Inputs that require gradients, so that what a module receives is one tensor of the graph in all its uses.

    Otherwise the other uses, as in a skip connection, would count only in models whose parameters require gradients.
    """
    return tuple(t.detach().requires_grad_() if t.is_floating_point() and not t.requires_grad else t for t in tensors)


def _copies(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What the model may write into: the caller's own tensors are copied, results of operators are not."""
    return tuple(t.clone() if t.is_leaf else t for t in tensors)


def _own(values: tuple[Tensor, ...], side: Side, axes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Values with their rows in dim 0, as tensors of the graph where one is made."""
    values = tuple(v.movedim(a, 0) if a else v for v, a in zip(values, axes, strict=True))
    if not torch.is_grad_enabled():
        return values
    # a module that returns what it received (identity, dropout in eval) still has an output of its own
    tracked = tuple(v.view_as(v) if side == "output" else v for v in values)
    return tuple(v if v.requires_grad else v.detach().requires_grad_() for v in tracked)


def _put_before(value: Tensor, axis: int) -> Tensor:
    """A copy, rows in dim 0, that ``value`` comes from in the graph; code that writes into ``value`` leaves it be."""
    before = value.movedim(axis, 0).clone()
    before = before if before.requires_grad else before.requires_grad_()
    try:
        with _unsafe_preserve_version_counter(value):  # the same bits: who kept them may use them still
            value.copy_(before.movedim(0, axis))
    except RuntimeError:  # nobody may write into it: one of several outputs, elements that share memory, parameters
        return _own((value,), "input", (axis,))[0]
    return before


def _copied(values: tuple[Tensor, ...], axes: tuple[int, ...]) -> list[Tensor]:
    """Copies for the model to go on with, so that in-place code changes no value, in the layer's own form."""
    dense = torch.contiguous_format
    pairs = zip(values, axes, strict=True)
    return [v.movedim(0, a).clone(memory_format=dense) if a else v.clone() for v, a in pairs]


def _require_form(new: list[Tensor], own: tuple[Tensor, ...], layer: Layer) -> None:
    """Require that values fit where the layer's own values of this run stand."""
    for value, other in zip(new, own, strict=False):
        pairs = zip(value.shape, other.shape, strict=False)
        if value.dim() != other.dim() or any(a != b != 1 for a, b in pairs):
            message = (
                f"Expected a layer whose value grows with the rows of the inputs; {layer.describe()} is "
                f"{tuple(other.shape)} for rows whose values are {tuple(value.shape)}. Choose another layer, or "
                "explain one row at a time with internal_batch_size=1."
            )
            raise LayerError(message)


def _split(values: tuple[Tensor, ...], counts: list[int]) -> list[tuple[Tensor, ...]]:
    out: list[tuple[Tensor, ...]] = []
    start = 0
    for count in counts:
        out.append(values[start : start + count])
        start += count
    return out


class Neuron:
    """A score read at a layer: ``selector`` picks one number per row from the layer's value.

    Takes the place of :class:`Score`; the model's own output is computed and ignored.

    Args:
        score: how to run the model.
        layer: where to read.
        selector: int, slice, tuple of ints and slices (slices are summed), or a function of the layer's value.
    """

    def __init__(self, score: Score, layer: Layers, selector: Any) -> None:
        self._score = score
        self._layer = layer
        self._selector = parse_selector(selector)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._score, name)

    @property
    def read_modules(self) -> Sequence[nn.Module]:
        """The modules whose values are read."""
        return self._layer.modules

    def __call__(self, tensors: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """One number per row, ``(n,)``."""
        _, values = self._layer.tap(self._score, tensors, rows)
        return self.pick(values, rows)

    def pick(self, values: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """Read the selected neuron in the layer's values."""
        selector: Any = self._selector
        if callable(selector):
            values = self._layer.as_made(values)
            picked = selector(values[0] if len(values) == 1 else values)
            if not isinstance(picked, Tensor) or picked.numel() != rows.count:
                message = (
                    f"Expected the neuron_selector function to return a tensor ({rows.count},), got {describe(picked)}."
                )
                raise LayerError(message)
            return picked.reshape(rows.count)
        if len(values) != 1:
            message = (
                f"The layer has {len(values)} tensors: pass a neuron_selector function that picks one number per row."
            )
            raise LayerError(message)
        return select_neuron(values[0], selector, rows)


def parse_selector(selector: Any) -> Any:
    """Check the form of a selector and bring it to a function or a tuple of ints and slices."""
    if callable(selector) and not isinstance(selector, Tensor):
        return selector
    parts = selector if isinstance(selector, (tuple, list)) else (selector,)
    try:
        return tuple(p if isinstance(p, slice) else _index(p) for p in parts)
    except TypeError:
        message = (
            f"Expected as neuron_selector an int, a tuple of ints or slices, or a function; got {describe(selector)}."
        )
        raise InputTypeError(message) from None


def _index(value: Any) -> int:
    """A whole number of any kind; a bool would be taken for 0 or 1."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def select_neuron(value: Tensor, indices: tuple[Any, ...], rows: Rows) -> Tensor:
    """Index a layer value ``(n, *)`` and sum what slices leave, to ``(n,)``."""
    shape = tuple(value.shape)
    if not shape or shape[0] != rows.count:
        message = f"The layer value {shape} has not the {rows.count} rows in dim 0: pass a function as neuron_selector."
        raise LayerError(message)
    if len(indices) > len(shape) - 1:
        message = (
            f"neuron_selector {indices} has {len(indices)} indices; the layer value {shape} takes {len(shape) - 1}."
        )
        raise LayerError(message)
    for index, size in zip(indices, shape[1:], strict=False):
        if not isinstance(index, slice) and not -size <= index < size:
            message = f"neuron_selector {indices} is outside the layer value {shape} (dim 0 is the batch)."
            raise LayerIndexError(message)
    if len(indices) < len(shape) - 1:
        message = (
            f"neuron_selector {indices} leaves several neurons of the layer value {shape}: give {len(shape) - 1} "
            "indices."
        )
        raise LayerError(message)
    picked = value[(slice(None), *indices)]
    if not picked.numel():
        message = f"neuron_selector {indices} selects no neuron of the layer value {shape}."
        raise LayerError(message)
    return picked if picked.dim() == 1 else picked.reshape(rows.count, -1).sum(1)


class LayerIndexError(LayerError, IndexError):
    """A neuron index lies outside the layer's value."""
