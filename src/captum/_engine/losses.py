"""Losses written in primitive operators, for models whose score is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum.errors import InputError


def _reduced(values: Tensor, size_average: Any, reduce: Any, reduction: str, total: Any = None) -> Tensor:
    """All values, their sum, or their mean: sum over ``total``, their number if None."""
    if size_average is not None or reduce is not None:
        message = (
            "Expected a loss with reduction=; size_average= and reduce= are out of use on the differentiated path."
        )
        raise InputError(message)
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    return values.mean() if total is None else values.sum() / total


def _total(weight: Tensor | None, values: Tensor) -> Tensor | None:
    return None if weight is None else weight.expand_as(values).sum()


def _of_gap(of: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A loss that is a function of x − t, with torch's arguments."""

    def loss(
        input: Tensor,  # noqa: A002  # torch's name
        target: Tensor,
        size_average: Any = None,
        reduce: Any = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
    ) -> Tensor:
        values = of(input - target)
        values = values if weight is None else values * weight
        return _reduced(values, size_average, reduce, reduction, _total(weight, values))

    return loss


def smooth_l1_loss(
    input: Tensor,  # noqa: A002  # torch's name
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """|x − t| less β/2, and its square over 2β below β."""
    size = (input - target).abs()
    near = size.clamp(max=beta)
    values = size if beta == 0 else near * near * (0.5 / beta) + (size - near)
    return _reduced(values, size_average, reduce, reduction)


def nll_loss(
    input: Tensor,  # noqa: A002  # torch's name
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """−x at the target's class, which is in dim 1."""
    axis = 1 if input.dim() > 1 else 0
    kept = target != ignore_index
    classes = target.masked_fill(~kept, 0)
    of_class = kept.to(input.dtype) if weight is None else weight[classes] * kept
    values = -input.gather(axis, classes.unsqueeze(axis)).squeeze(axis) * of_class
    return _reduced(values, size_average, reduce, reduction, of_class.sum())


def cross_entropy(
    input: Tensor,  # noqa: A002  # torch's name
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """−Σ t log softmax(x) over the classes, which are in dim 1."""
    axis = 1 if input.dim() > 1 else 0
    logs = F.log_softmax(input, axis)
    if not target.is_floating_point() and label_smoothing == 0:
        return nll_loss(logs, target, weight, size_average, ignore_index, reduce, reduction)
    if not target.is_floating_point() or weight is not None:
        message = "Expected cross_entropy without weights of classes beside probabilities or label_smoothing."
        raise InputError(message)
    shares = target * (1 - label_smoothing) + label_smoothing / input.shape[axis]
    values = -(logs * shares).sum(axis)
    return _reduced(values, size_average, reduce, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,  # noqa: A002  # torch's name
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """−p t log σ(x) − (1 − t) log(1 − σ(x))."""
    positive = target if pos_weight is None else target * pos_weight
    values = -(positive * F.logsigmoid(input) + (1 - target) * F.logsigmoid(-input))
    return _reduced(values if weight is None else values * weight, size_average, reduce, reduction)


def binary_cross_entropy(
    input: Tensor,  # noqa: A002  # torch's name
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """−t log x − (1 − t) log(1 − x), logarithms ≥ −100."""
    here, there = torch.log(input).clamp(min=-100), torch.log(1 - input).clamp(min=-100)
    values = -(target * here + (1 - target) * there)
    return _reduced(values if weight is None else values * weight, size_average, reduce, reduction)


LOSSES = {
    "mse_loss": _of_gap(lambda gap: gap * gap),
    "l1_loss": _of_gap(torch.abs),
    "smooth_l1_loss": smooth_l1_loss,
    "nll_loss": nll_loss,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
}
