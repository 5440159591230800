"""Whether the rows of a forward pass influence each other, as where code normalises by the mean of the batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

#: How far a row's score may move with the rows beside it: as a share of how far scores differ, and of their size.
SPREAD = 1e-3
SIZE = 1e-4
#: Processors beside the CPU may round factors to ten bits.
COARSE = 2e-3
ROUNDINGS = 16
#: Rows are looked at between copies of themselves times this and times its negative.
FAR = 8.0
#: Where so many coalitions are asked for, one more evaluation costs little.
MANY = 24

Tensors = tuple[Tensor, ...]


def rounding(scores: Tensor, dtype: torch.dtype, modules: list[nn.Module]) -> float:
    """How far scores ``(K, n)`` may be off by rounding.

    Args:
        scores: some scores.
        dtype: dtype of the output.
        modules: the model's modules, which may compute in lower precision.
    """
    parameters = [p for m in modules for p in m._parameters.values() if p is not None]
    kinds = {dtype, *(p.dtype for p in parameters)}
    coarsest = max((torch.finfo(k).eps for k in kinds if k.is_floating_point), default=0.0)
    low, high = (float(end) for end in scores.aminmax())
    if not math.isfinite(high - low):
        finite = scores[scores.isfinite()]
        if not len(finite):
            return 0.0
        low, high = (float(end) for end in finite.aminmax())
    away = any(p.device.type != "cpu" for p in parameters)
    relative = max(COARSE if away else SIZE, ROUNDINGS * coarsest)
    return SPREAD * (high - low) + relative * max(abs(low), abs(high))


def most_telling(scores: Tensor, full: Tensor) -> list[int]:
    """Which of the scores ``(K, n)`` is farthest from that of the first coalition, ``(1, n)``; and the last one."""
    farthest = int((scores - full).abs().nan_to_num(nan=0.0, posinf=0.0).sum(1).argmax())
    return [farthest] if farthest == len(scores) - 1 else [farthest, len(scores) - 1]


def examples_to_look_at(batch: int) -> Tensor | None:
    """The first, a middle and the last example, as a LongTensor; None for all."""
    return torch.tensor(sorted({0, batch // 2, batch - 1}), device="cpu") if batch else None


def among_far(groups: list[Tensors], places: Tensor | None) -> tuple[Tensors, Tensor]:
    """Rows of several fillings between copies of them that are far away, and which examples they are.

    Args:
        groups: fillings of all examples, ``(B, *)`` each; the first and the last one are copied.
        places: which examples; None for all.
    """
    chosen = groups if places is None else [tuple(t[places.to(t.device)] for t in g) for g in groups]
    away = [_scaled(chosen[0], FAR), *chosen, _scaled(chosen[-1], -FAR)]
    index = torch.arange(len(groups[0][0]), device="cpu") if places is None else places
    return tuple(torch.cat(parts) for parts in zip(*away, strict=True)), index.repeat(len(away))


def _scaled(tensors: Tensors, by: float) -> Tensors:
    return tuple(t * by if t.dtype.is_floating_point else t for t in tensors)


def mixes(again: Callable[[bool], Tensor], together: Tensor, tolerance: float) -> bool | None:
    """Whether rows get another score among other rows, and get it again; None when that is chance, as dropout is.

    Args:
        again: gives their scores among other rows; from fresh inputs if asked, where code may have written into them.
        together: their scores in a chunk.
        tolerance: how far scores may be off by rounding.
    """
    one = again(False)
    if alike(one, together, tolerance):
        return False
    return None if not alike(one, again(False), tolerance) else not alike(again(True), together, tolerance)


def alike(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether two scores of the same coalition are the same but for rounding."""
    return torch.allclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)
