"""The score as a function of the value of a layer: what comes before the layer runs once for each example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from captum._engine.derivative import differentiate, leaf
from captum._engine.drive import Function
from captum._engine.layout import Layout
from captum._engine.place import Layers
from captum._engine.rows import Rows
from captum._engine.score import Score
from captum.errors import InputError

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

    def tune(self) -> None:
        """Choose how many chunks are run fastest; maps inside a model are smaller than images."""
        self.layout = self.layout or Layout(self.score.modules(), SMALLEST_MAP)

    def value(self, variables: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """One number per row, ``(n,)``."""
        return self._value(variables, rows, rows.distinct() if self._shares else None)

    def value_and_gradients(
        self, points: tuple[Tensor, ...], rows: Rows, *, create_graph: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """F and ∂F/∂variable at ``points``; maps go in channels last where that is faster."""
        if create_graph or self.keep_graph:
            return super().value_and_gradients(points, rows, create_graph=create_graph)
        if self._sample is not None and not self._sample.used:
            self._shares = self._sample.agrees(self._gradients_shared)
        values, grads = self.run_points(points, lambda p: super(AtLayer, self).value_and_gradients(p, rows))
        if self._sample is None:
            self._sample = _Sample(points, rows, values, grads)
        return values, grads

    def _gradients_shared(self, points: tuple[Tensor, ...], rows: Rows) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            variables = tuple(leaf(p) for p in points)
            values = self._value(variables, rows, rows.distinct())
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
    """The first points of a path with their values and gradients, to compare a shorter way with."""

    def __init__(
        self, points: tuple[Tensor, ...], rows: Rows, values: Tensor, grads: tuple[Tensor, ...], count: int = 2
    ) -> None:
        self.used = rows.count <= count or rows.distinct().count == rows.count or any(len(p) < count for p in points)
        self._points = tuple(p[:count].clone() for p in points)
        self._rows = Rows(rows.batch, (rows.index if rows.index is not None else torch.arange(rows.batch))[:count])
        self._scales = [t.abs().max() for t in (values, *grads)]
        self._wanted = [t[:count].clone() for t in (values, *grads)]

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
