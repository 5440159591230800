"""Place: where the variable is, or where the score is read: the model's own input, or one side of a module.

Verbs: *read* the values there, *replace* them, *tap* them as differentiable tensors of a forward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from captum._engine.rows import Rows
from captum._engine.score import Score
from captum._engine.values import Leaves, describe
from captum.errors import InputTypeError, LayerError

Side = Literal["output", "input"]
Change = Callable[[int, tuple[Tensor, ...]], Sequence[Tensor] | None]


class Layer:
    """One side of a module inside the model.

    A module that runs several times in a forward pass counts with its last run, as :meth:`read` found it.

    Args:
        module: the module.
        side: ``"output"``, or ``"input"`` for what the module receives.
    """

    def __init__(self, module: nn.Module, side: Side = "output") -> None:
        if not isinstance(module, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass names and lists
            message = f"Expected an nn.Module as layer, got {describe(module)}; pass model.get_submodule(name)."
            raise LayerError(message) from None
        self.module = module
        self.side: Side = side
        self.uses = 0

    @property
    def in_place(self) -> bool:
        """Whether the module says that it writes into its input."""
        return getattr(self.module, "inplace", False) is True

    @contextlib.contextmanager
    def watched(self, change: Change) -> Generator[None]:
        """Call ``change(use, values)`` at each run of the module; what it returns takes the values' place."""
        watch = _Watch(self, change)
        with contextlib.ExitStack() as stack:
            handle: RemovableHandle = self.module.register_forward_pre_hook(
                lambda _m, args, keywords: watch.before((args, keywords)), with_kwargs=True
            )
            stack.callback(handle.remove)
            handle = self.module.register_forward_hook(lambda _m, _a, output: watch.after(output))
            stack.callback(handle.remove)
            yield
        self.uses = watch.count

    def describe(self) -> str:
        """Name the layer for a message."""
        return f"the {self.side} of {type(self.module).__name__}"

    def require(self, values: tuple[Tensor, ...] | None, score: Score) -> tuple[Tensor, ...]:
        """Complain when the forward pass did not come by, or left nothing that can vary."""
        if values is None:
            scripted = isinstance(score.forward, (torch.jit.ScriptModule, torch.fx.GraphModule))
            why = (
                "The model is scripted or exported, so its layers cannot be watched: explain the eager model."
                if scripted
                else "Pass a module object that the forward function really calls (with __call__, not .forward)."
            )
            message = f"The forward hook did not obtain any outputs: {self.describe()} was never reached. {why}"
            raise LayerError(message)
        if not values:
            message = f"Expected floating-point tensors at {self.describe()}, found none."
            raise LayerError(message)
        return values


class _Watch:
    """One forward pass at one side of a module: which run it is, and what in-place code does to the values.

    The model goes on with other tensors than those it made. Where the module wrote into a tensor that the model may read
    again under its old name, that tensor is written too, so that both names still hold one value.
    """

    def __init__(self, layer: Layer, change: Change) -> None:
        self._layer = layer
        self._change = change
        self.count = 0
        self._versions: dict[int, tuple[Tensor, int]] = {}
        self._given: list[tuple[Tensor, Tensor, int]] = []

    def before(self, value: Any) -> Any:
        """The module is about to run on ``value``, its arguments."""
        leaves = Leaves([], [])
        rebuild = leaves.gather(value, "value")
        if self._layer.side == "output":
            self._versions = {id(t): (t, t._version) for t in leaves.tensors if not t.is_inference()}
            return None
        own = leaves.tensors
        if self._layer.in_place:
            leaves.tensors = [t.clone() if t.dtype.is_floating_point else t for t in own]
        new = self._visit(leaves)
        if new is None:
            return None
        self._given = [(t, n, n._version) for t, n in zip(own, new, strict=True) if n is not t and not n.is_inference()]
        return rebuild(iter(new))

    def after(self, value: Any) -> Any:
        """The module ran and returned ``value``."""
        if self._layer.side == "input":
            self._write_back()
            return None
        leaves = Leaves([], [])
        rebuild = leaves.gather(value, "value")
        own = leaves.tensors
        written = [self._was_written(t) for t in own]
        leaves.tensors = [t.clone() if w else t for t, w in zip(own, written, strict=True)]
        new = self._visit(leaves)
        if new is None:
            return None
        out = [t.copy_(n) if w else n for t, n, w in zip(own, new, written, strict=True)]
        return rebuild(iter(out))

    def _visit(self, leaves: Leaves) -> list[Tensor] | None:
        """The tensors with the changed values in the places of the floating-point ones."""
        self.count += 1
        floating = [t.dtype.is_floating_point for t in leaves.tensors]
        values = tuple(t for t, f in zip(leaves.tensors, floating, strict=True) if f)
        new = self._change(self.count - 1, values)
        return None if new is None else list(_merged(leaves.tensors, floating, new))

    def _was_written(self, tensor: Tensor) -> bool:
        if tensor.is_inference():
            return self._layer.in_place
        kept, version = self._versions.get(id(tensor), (None, 0))
        return kept is tensor and tensor._version > version

    def _write_back(self) -> None:
        for own, given, version in self._given:
            if given._version == version:
                continue
            if not self._layer.in_place:
                kind = type(self._layer.module).__name__
                message = f"{kind} writes into its input, which the model may read again: attribute to its output."
                raise LayerError(message)
            own.copy_(given)
        self._given = []


def _merged(tensors: list[Tensor], floating: list[bool], new: Sequence[Tensor]) -> Iterator[Tensor]:
    fresh = iter(new)
    return iter([next(fresh) if f else t for t, f in zip(tensors, floating, strict=True)])


class Layers:
    """The place made of one layer or several: their values side by side in one tuple."""

    def __init__(self, layers: Sequence[nn.Module], side: Side = "output") -> None:
        self.layers = [Layer(m, side) for m in layers]
        self.counts: list[int] = []

    def read(self, score: Score, tensors: tuple[Tensor, ...], rows: Rows) -> tuple[Tensor, ...]:
        """The values at the place for these inputs, detached."""
        with torch.no_grad():
            return self.tap(score, tensors, rows)[1]

    def tap(
        self, score: Score, tensors: tuple[Tensor, ...], rows: Rows, from_here: bool = False
    ) -> tuple[Any, tuple[Tensor, ...]]:
        """Run the model; return its output and the values at the place as tensors of the graph, ready to differentiate.

        With ``from_here`` the graph begins at the layers' outputs, so that what the model does before them keeps nothing;
        for inputs of layers that is the same as without, since the model may read such a tensor elsewhere too.
        """
        seen: dict[int, tuple[Tensor, ...]] = {}
        inputs = any(layer.side == "input" for layer in self.layers)
        if torch.is_grad_enabled() and inputs:
            tensors = _tracked(tensors)
        late = from_here and not inputs and torch.is_grad_enabled()
        with contextlib.ExitStack() as stack:
            if late:
                stack.enter_context(torch.no_grad())
            for position, layer in enumerate(self.layers):
                stack.enter_context(
                    layer.watched(lambda _use, values, p=position, s=layer.side: _keep(seen, p, values, s, late))
                )
            output = score.output(_copies(tensors), rows)
        parts = [layer.require(seen.get(i), score) for i, layer in enumerate(self.layers)]
        self.counts = [len(p) for p in parts]
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
        with contextlib.ExitStack() as stack:
            if late:
                stack.enter_context(torch.no_grad())
            for layer, part in zip(self.layers, parts, strict=True):
                last = layer.uses - 1
                stack.enter_context(layer.watched(lambda use, _v, p=part, n=last: _put(p, late) if use == n else None))
            output = score.output(_copies(tensors), rows if fed is None else fed)
        return score.read(output, rows)

    def group(self, values: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        """Values side by side as one tuple per layer."""
        return _split(values, self.counts)


def _tracked(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Inputs that require gradients, so that what a module receives is one tensor of the graph in all its uses.

    Otherwise the other uses, as in a skip connection, would count only in models whose parameters require gradients.
    """
    return tuple(t.detach().requires_grad_() if t.is_floating_point() and not t.requires_grad else t for t in tensors)


def _copies(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What the model may write into: the caller's own tensors are copied, results of operators are not."""
    return tuple(t.clone() if t.is_leaf else t for t in tensors)


def _put(values: tuple[Tensor, ...], track: bool) -> list[Tensor]:
    """Copies of the values that take the place of a layer's; from there on the model is differentiated if tracked."""
    if track:
        torch.set_grad_enabled(True)
    return [v.clone() for v in values]


def _keep(
    seen: dict[int, tuple[Tensor, ...]], position: int, values: tuple[Tensor, ...], side: Side, begin: bool
) -> list[Tensor]:
    """Keep the values of the latest run; the model goes on with copies, so that in-place code cannot change them.

    With ``begin`` gradients are switched on here, for the rest of the forward pass.
    """
    if begin:
        torch.set_grad_enabled(True)
    if torch.is_grad_enabled():
        # a module that returns what it received (identity, dropout in eval) still has an output of its own
        tracked = tuple(v.view_as(v) if side == "output" else v for v in values)
        values = tuple(v if v.requires_grad else v.detach().requires_grad_() for v in tracked)
    seen[position] = values
    return [v.clone() for v in values]


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
        self._selector = selector
        if not callable(selector) and not isinstance(selector, (int, slice, tuple, list)):
            message = f"Expected as neuron_selector an int, a tuple of ints or slices, or a function; got {describe(selector)}."
            raise InputTypeError(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._score, name)

    def __call__(self, tensors: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """One number per row, ``(n,)``."""
        _, values = self._layer.tap(self._score, tensors, rows)
        return self.pick(values, rows)

    def pick(self, values: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """Read the selected neuron in the layer's values."""
        selector: Any = self._selector
        if callable(selector):
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


def select_neuron(value: Tensor, selector: Any, rows: Rows) -> Tensor:
    """Index a layer value ``(n, *)`` and sum what slices leave, to ``(n,)``."""
    indices = tuple(selector) if isinstance(selector, (tuple, list)) else (selector,)
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
        if not isinstance(index, slice) and not -size <= int(index) < size:
            message = f"neuron_selector {indices} is outside the layer value {shape} (dim 0 is the batch)."
            raise LayerIndexError(message)
    if len(indices) < len(shape) - 1:
        message = f"neuron_selector {indices} leaves several neurons of the layer value {shape}: give {len(shape) - 1} indices."
        raise LayerError(message)
    picked = value[(slice(None), *indices)]
    return picked if picked.dim() == 1 else picked.reshape(rows.count, -1).sum(1)


class LayerIndexError(LayerError, IndexError):
    """A neuron index lies outside the layer's value."""
