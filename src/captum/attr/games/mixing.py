"""Whether the rows of a forward pass influence each other, as where code normalises by the mean of the batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: How far a row's score may move with the rows beside it: as a share of how far scores differ, and of their size.
SPREAD = 1e-3
SIZE = 1e-4
#: Processors beside the CPU may round factors to ten bits.
COARSE = 2e-3
ROUNDINGS = 16


def rounding(scores: Tensor, dtype: torch.dtype, modules: list[nn.Module]) -> float:
    """How far scores ``(K, n)`` may be off by rounding.

    Args:
        scores: some scores.
        dtype: dtype of the output.
        modules: the model's modules, which may compute in lower precision.
    """
    kinds = {dtype, *(p.dtype for m in modules for p in m.parameters(recurse=False))}
    coarsest = max((torch.finfo(k).eps for k in kinds if k.is_floating_point), default=0.0)
    finite = scores[scores.isfinite()]
    if not len(finite):
        return 0.0
    away = any(p.device.type != "cpu" for m in modules for p in m.parameters(recurse=False))
    relative = max(COARSE if away else SIZE, ROUNDINGS * coarsest)
    return float(SPREAD * (finite.max() - finite.min()) + relative * finite.abs().max())


def most_telling(scores: Tensor, full: Tensor) -> int:
    """Which of the scores ``(K, n)`` is farthest from that of the first coalition, ``(1, n)``."""
    return int((scores - full).abs().nan_to_num(nan=0.0, posinf=0.0).sum(1).argmax())


def alike(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether two scores of the same coalition are the same but for rounding."""
    return torch.allclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)
