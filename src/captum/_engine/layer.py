"""One side of a module inside a model: its values in a forward pass, watched by hooks, and changed where wanted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from captum._engine.score import Score
from captum._engine.values import Leaves, describe
from captum.errors import LayerError

Side = Literal["output", "input"]
Change = Callable[[int, tuple[Tensor, ...]], Sequence[Tensor] | None]


class Layer:
    """One side of a module inside the model.

    A module that runs several times in a forward pass counts with its last run, as :meth:`read` found it.

    Args:
        module: the module.
        side: ``"output"``, or ``"input"`` for what the module receives.

    Attributes:
        integers: whether integers are values where there are no other numbers, for callers that do not differentiate.
    """

    def __init__(self, module: nn.Module, side: Side = "output") -> None:
        if not isinstance(module, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass names and lists
            message = f"Expected an nn.Module as layer, got {describe(module)}; pass model.get_submodule(name)."
            raise LayerError(message) from None
        self.module = module
        self.side: Side = side
        self.uses = 0
        self.integers = False
        self._watch: _Watch | None = None

    @property
    def in_place(self) -> bool:
        """Whether the module says that it writes into its input."""
        return getattr(self.module, "inplace", False) is True

    @contextlib.contextmanager
    def watched(self, change: Change) -> Generator[None]:
        """Call ``change(use, values)`` at each run of the module; what it returns takes the values' place.

        Inside another watch of the same layer that one sees nothing. Runs in other threads are none of its business.
        """
        outer, watch, thread = self._watch, _Watch(self, change), threading.get_ident()

        def before(_module: nn.Module, args: Any, keywords: Any = None) -> Any:
            # other threads may run the module meanwhile, also while this hook is being removed
            return watch.before(args, keywords) if threading.get_ident() == thread else None

        def after(_module: nn.Module, _args: Any, output: Any) -> Any:
            return watch.after(output) if threading.get_ident() == thread else None

        handles: list[RemovableHandle] = []
        try:
            self._watch = watch
            if outer is not None:
                outer.sleeps += 1
            handles.append(self.module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(self.module.register_forward_hook(after))
            yield
            self.uses = watch.count
        finally:
            for handle in handles:
                handle.remove()
            if outer is not None:
                outer.sleeps -= 1
            self._watch = outer

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

    The model goes on with other tensors than those it made. Where the module wrote into a tensor that the model may
    read again under its old name, that tensor is written too, so that both names still hold one value.
    """

    def __init__(self, layer: Layer, change: Change) -> None:
        self._layer = layer
        self._change = change
        self.sleeps = 0
        self.count = 0
        self._versions: dict[int, tuple[Tensor, int]] = {}
        self._given: list[tuple[Tensor, Tensor, int]] = []

    def before(self, args: Any, keywords: Any) -> Any:
        """The module is about to run on these arguments."""
        if self.sleeps:
            return None
        if self._layer.side == "output":
            tensors = _tensors_in(args, keywords)
            self._versions = {id(t): (t, t._version) for t in tensors if not t.is_inference()}
            return None
        leaves = Leaves([], [])
        rebuild = leaves.gather((args, keywords), "value")
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
        if self.sleeps:
            return None
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
        if self._layer.integers and not any(floating):
            floating = [True] * len(floating)
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


def _tensors_in(args: Any, keywords: Any) -> list[Tensor]:
    """The tensors among a module's arguments, at any depth; nearly always the arguments are tensors themselves."""
    if not keywords and all(isinstance(a, Tensor) for a in args):
        return list(args)
    leaves = Leaves([], [])
    leaves.gather((args, keywords), "value")
    return leaves.tensors


def _merged(tensors: list[Tensor], floating: list[bool], new: Sequence[Tensor]) -> Iterator[Tensor]:
    fresh = iter(new)
    return iter([next(fresh) if f else t for t, f in zip(tensors, floating, strict=True)])
