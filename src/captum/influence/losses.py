"""The loss of one example, whatever a loss function does with a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.values import describe
from captum.errors import InputError, InputTypeError, OutputError
from captum.influence.batches import rows_of

__all__ = ["ExampleLoss", "expect_reduction"]

#: What torch.func says of code that it cannot vectorise, and what such code says itself.
REFUSALS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)


def expect_reduction(loss_fn: Any, allowed: tuple[str, ...], name: str, why: str) -> None:
    """Refuse a loss whose ``reduction`` is none of those allowed; functions without one are taken.

    Raises:
        InputError: when it is another.
        InputTypeError: when ``loss_fn`` cannot be called.
    """
    if loss_fn is None:
        return
    if not callable(loss_fn):
        message = f"Expected {name} to be a function (outputs, labels) -> loss, got {describe(loss_fn)}."
        raise InputTypeError(message)
    reduction = getattr(loss_fn, "reduction", None)
    if reduction is not None and reduction not in allowed:
        listed = " or ".join(repr(a) for a in allowed)
        message = f"Expected {name} with reduction {listed}, got {reduction!r}: {why}."
        raise InputError(message)


class ExampleLoss:
    """The loss of an example alone.

    A batch of one gives it for every reduction. Class weights and ignored labels, which a mean of ``CrossEntropyLoss``
    or ``NLLLoss`` would divide by, count as they do in a sum.

    Args:
        loss_fn: a loss of torch, or any function ``(outputs, labels) -> Tensor``; None for the sum of the outputs.
        name: the argument, for messages.
    """

    def __init__(self, loss_fn: Any, name: str = "loss_fn") -> None:
        self._name = name
        self._reduction: object = getattr(loss_fn, "reduction", None)
        self._loss: Callable[[Any, Any], Any] | None = loss_fn
        self._ignored: int | None = None
        if isinstance(loss_fn, (nn.CrossEntropyLoss, nn.NLLLoss)) and self._reduction == "mean":
            summed = copy.copy(loss_fn)
            summed.reduction = "sum"
            self._loss, self._ignored = summed, loss_fn.ignore_index

    def of_one(self, output: Any, labels: Any) -> Tensor:
        """The loss of a batch of one, a number."""
        if self._loss is None:
            return _tensor(output, "the model's output").sum()
        loss = _tensor(self._loss(output, labels), f"what {self._name} returns")
        if self._ignored is not None and isinstance(labels, Tensor):
            return loss.sum() / self._counted(labels, _tensor(output, "the model's output"))
        return loss.sum()

    def _of_row(self, output: Tensor, label: Tensor) -> Tensor:
        return self.of_one(output[None], label[None])

    def _counted(self, labels: Tensor, output: Tensor) -> Tensor | int:
        """How many labels of an example the mean is over."""
        if labels.dtype.is_floating_point:  # probabilities of the classes
            return max(1, labels.numel() // output.shape[min(1, output.dim() - 1)])
        return (labels != self._ignored).sum().clamp(min=1)

    def total(self, output: Any, labels: Any, size: int) -> Tensor:
        """The sum of the losses of ``size`` examples."""
        if self._loss is None:
            return self.of_one(output, labels)
        if self._reduction in {"none", "sum"}:
            return _tensor(self._loss(output, labels), f"what {self._name} returns").sum()
        if isinstance(output, Tensor) and isinstance(labels, Tensor) and len(output) == len(labels) == size:
            try:
                return torch.func.vmap(self._of_row, randomness="different")(output, labels).sum()
            except REFUSALS:
                pass  # one after the other, below; what is wrong with the loss itself is said there
        parts = [self.of_one(rows_of(output, size, i, i + 1), rows_of(labels, size, i, i + 1)) for i in range(size)]
        return torch.stack(parts).sum()


def _tensor(value: Any, what: str) -> Tensor:
    if not isinstance(value, Tensor) or not (value.dtype.is_floating_point or value.dtype.is_complex):
        message = f"Expected {what} to be a floating-point tensor, got {describe(value)}."
        raise OutputError(message)
    return value
