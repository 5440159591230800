"""What a game varies, and what it reads: the tensors of a call, and all numbers that its target leaves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from captum._engine.rows import Rows
from captum._engine.score import Score
from captum.errors import OutputError

Tensors = tuple[Tensor, ...]
Evaluate = Callable[[Tensors, Rows], Tensor]
#: Integers that cannot hold the difference of two of them.
NARROW = (torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


class RawScore(Score):
    """A score that keeps all numbers that the target leaves, whatever their shape."""

    def read(self, output: object, rows: Rows) -> Tensor:
        """The target's part of the output for these rows; a number of Python keeps its double precision."""
        scores = self.select(torch.tensor(output, dtype=torch.float64) if isinstance(output, float) else output, rows)
        if scores.is_complex():
            message = f"Expected real scores, got {scores.dtype}: take .abs() or .real in the forward function."
            raise OutputError(message)
        return scores.long() if scores.dtype in NARROW else scores


class Variable:
    """What is varied, and how the model is run with it: the inputs, or the values of a layer.

    Args:
        values: the tensors whose parts are the players, ``(B, *)``.
        evaluate: the output for such tensors.
        score: the score of the call; its modules tell how large the model is.
        batch: number of examples.
    """

    def __init__(self, values: Tensors, evaluate: Evaluate, score: Score, batch: int) -> None:
        self.values = values
        self.evaluate = evaluate
        self.score = score
        self.batch = batch
        self.modules = score.modules()

    def elements(self) -> int:
        """Elements of one example."""
        return sum(v.numel() // max(len(v), 1) for v in self.values)

    def as_given(self, filled: Tensors) -> Tensors:
        """Filled tensors that lie in memory as the user's do, which the model's code may make views of."""
        pairs = zip(filled, self.values, strict=True)
        return tuple(f.contiguous() if v.is_contiguous() else f for f, v in pairs)

    def trains_batch_norm(self) -> bool:
        """Whether rows of a forward pass influence each other."""
        return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in self.modules)
