"""The score as a function of the value of a layer: what comes before the layer runs once for each example."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from captum._engine.derivative import differentiate, leaf
from captum._engine.drive import Function
from captum._engine.layout import Layout
from captum._engine.place import Layers
from captum._engine.recollection import Recollection
from captum._engine.rows import Rows
from captum._engine.score import Score
from captum._engine.sweep import Plan
from captum.errors import InputError, LayerError

#: Fewest pixels per side of a map that is fed channels last.
SMALLEST_MAP = 6


class AtLayer(Function):
    """The variable is the value of one layer or several; the model's inputs stay as they are.

    Along a path, what comes before the layers runs once for each example of a chunk, and not once for each point, as
    soon as two points have given the same numbers that way.

    Args:
        score: the score of the call.
        layers: the modules.
        side: ``"output"`` or ``"input"`` of the modules.
        keep_graph: whether values at the layers stay connected to the user's inputs and the parameters.
        limit: rows per forward pass when the layers are read; None for all.
    """

    def __init__(
        self,
        score: Score,
        layers: Sequence[nn.Module],
        side: Literal["output", "input"],
        keep_graph: bool = False,
        limit: int | None = None,
    ) -> None:
        self.limit = limit
        self.score = score
        self.place = Layers(layers, side)
        self.tensors = score.inputs.tensors
        self.keep_graph = keep_graph
        self._sample: _Sample | None = None
        self._shares = False
        with self.running():
            self.values = self.read(self.tensors)

    def tune(self, read: Sequence[nn.Module] = ()) -> None:
        """Choose how many chunks are run fastest; maps inside a model are smaller than images."""
        known = Recollection(self.score.forward, (*read, *self.place.modules), self.values)
        self.layout = self.layout or Layout(self.score.modules(), SMALLEST_MAP, known)

    def plan(self, limit: int | None, larger: int = 1) -> Plan:
        """Rows per forward pass for this function."""
        self.place.require_rows(self.values, self.batch)
        return super().plan(limit, larger)

    def value(self, variables: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """One number per row, ``(n,)``."""
        if self._shares:
            try:
                return self._value(variables, rows, rows.distinct())
            except (RuntimeError, ValueError, IndexError):
                self._shares = False  # a model may count rows in some chunks only
        return self._value(variables, rows, None)

    def value_and_gradients(
        self, points: tuple[Tensor, ...], rows: Rows, *, create_graph: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """F and ∂F/∂variable at ``points``; maps go in channels last where that is faster."""
        if create_graph or self.keep_graph:
            return super().value_and_gradients(points, rows, create_graph=create_graph)
        if self._sample is not None and not self._sample.used:
            self._shares = self._sample.agrees(self._gradients_shared)
        values, grads = self.run_points(points, lambda p: super(AtLayer, self).value_and_gradients(p, rows))
        chosen = None if self._sample is not None else _Sample.choose(rows)
        if chosen is not None:
            self._sample = _Sample(chosen, points, rows, (values, *grads))
        return values, grads

    @contextlib.contextmanager
    def differentiating(self) -> Generator[None]:
        """Refuse layers that run again in the backward pass, where the variable would not take their place."""
        thread = threading.get_ident()

        def again(module: nn.Module, _args: object) -> None:
            if threading.get_ident() != thread and torch._C._current_graph_task_id() < 0:  # no public name
                return  # another thread's forward pass; the backward pass of a device has a thread of its own
            message = (
                f"{type(module).__name__} runs again in the backward pass (activation checkpointing), where its value "
                "cannot be replaced: switch checkpointing off, or choose a layer outside of the checkpointed part."
            )
            raise LayerError(message)

        with contextlib.ExitStack() as stack:
            for layer in self.place.layers:
                stack.callback(layer.module.register_forward_pre_hook(again).remove)
            yield

    def _gradients_shared(self, points: tuple[Tensor, ...], rows: Rows) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            variables = tuple(leaf(p) for p in points)
            values = self._value(variables, rows, rows.distinct())
            with self.differentiating():
                return (values.detach(), *differentiate(values, variables))

    def _value(self, variables: tuple[Tensor, ...], rows: Rows, fed: Rows | None) -> Tensor:
        tensors = tuple((fed or rows).pick(t) if len(t) == self.batch else t for t in self.tensors)
        return self.place.score(self.score_of_model(), variables, tensors, rows, fed)

    def score_of_model(self) -> Score:
        """The score of the model's own output."""
        if not isinstance(self.score, Score):
            message = "A neuron cannot be read while a layer is replaced."
            raise InputError(message)
        return self.score

    def read(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The layer's values for other inputs, ``(1, *)`` or ``(B, *)`` each."""
        parts: list[tuple[Tensor, ...]] = []
        with torch.set_grad_enabled(self.keep_graph):
            for rows in self.everyone().pieces(self.limit):
                picked = tuple(rows.pick(t) for t in tensors)
                parts.append(self.place.tap(self.score_of_model(), picked, rows)[1])
        return parts[0] if len(parts) == 1 else tuple(torch.cat(p) for p in zip(*parts, strict=True))


class _Sample:
    """A few points of a path with their values and gradients, to compare a shorter way with.

    Two belong to one example, and a third to another one if there is any: a model that counts rows, or that reads what
    comes before the layer again behind it, cannot give the right numbers for them.
    """

    @staticmethod
    def choose(rows: Rows) -> Tensor | None:
        """Places in a chunk of two rows of one example and one of another; None when there are none."""
        if rows.index is None:
            return None
        first = torch.nonzero(rows.index == rows.index[0]).flatten()
        others = torch.nonzero(rows.index != rows.index[0]).flatten()
        if len(first) < 2 or (rows.batch > 1 and not len(others)):
            return None
        return torch.cat([first[:2], others[:1]])

    def __init__(self, chosen: Tensor, points: tuple[Tensor, ...], rows: Rows, numbers: tuple[Tensor, ...]) -> None:
        self.used = False
        self._rows = Rows(rows.batch, None if rows.index is None else rows.index[chosen])
        self._points = tuple(p[chosen.to(p.device)] for p in points)
        self._scales = [t.abs().max() for t in numbers]
        self._wanted = [t[chosen.to(t.device)] for t in numbers]

    def agrees(self, way: Callable[[tuple[Tensor, ...], Rows], tuple[Tensor, ...]]) -> bool:
        """Whether ``way`` gives the same numbers up to rounding; a model that refuses it does not."""
        self.used = True
        try:
            found = way(self._points, self._rows)
            return all(
                f.shape == w.shape and bool(((f - w).abs() <= scale * torch.finfo(w.dtype).eps ** 0.5).all())
                for f, w, scale in zip(found, self._wanted, self._scales, strict=True)
            )
        except Exception:  # noqa: BLE001  # whatever a model says to fewer rows, the usual way remains
            return False
