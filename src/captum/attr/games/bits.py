"""``torch.where`` through the bits of numbers: on a CPU several times as fast, and equal to the last bit."""

from __future__ import annotations

import torch
from torch import Tensor

_WORDS = {
    torch.float64: torch.int64, torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16,
    torch.int64: torch.int64, torch.int32: torch.int32, torch.int16: torch.int16, torch.int8: torch.int8,
    torch.uint8: torch.int8, torch.bool: torch.int8,
}  # fmt: skip
#: Masks with fewer elements are not worth three operators instead of one.
SMALL = 1024


def all_zero(tensor: Tensor) -> bool:
    """Whether a tensor on the CPU is zero in every bit, which ``-0.0`` is not."""
    words = _WORDS.get(tensor.dtype) if tensor.device.type == "cpu" else None
    return words is not None and not bool(tensor.view(words).any())


def where(keep: Tensor, value: Tensor, base: Tensor, zero: bool = False) -> Tensor:
    """``value`` where ``keep``, else ``base``: with all bits of a word set or not, ``base ^ (keep & (value ^ base))``.

    NaN and inf in the one never reach the other.

    Args:
        keep: bool, broadcasts with the others.
        value: any tensor.
        base: any tensor.
        zero: whether the base is known to be zero in every bit.
    """
    words = _WORDS.get(value.dtype)
    if words is None or base.dtype != value.dtype or value.device.type != "cpu" or keep.numel() < SMALL:
        return torch.where(keep, value, base)
    mask = keep.to(words).neg_()
    if zero:
        return (mask & value.view(words)).view(value.dtype)
    fill = base.view(words)
    chosen = mask & (value.view(words) ^ fill)
    return chosen.bitwise_xor_(fill).view(value.dtype)
