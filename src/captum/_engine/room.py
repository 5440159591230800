"""Room: the memory of a chunk serves the next one, instead of going back to the system in between.

The allocator of the C library returns free memory at the end of its heap to the system, so that every chunk has it
mapped and zeroed again, page by page: some percent of a run. A block that stays behind that memory while chunks run
keeps it. Nothing of it is written to, so nothing is taken from the machine, and all goes back when the block goes.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

#: Bytes of a block: from 32 MiB on, blocks are mapped one by one.
BLOCK = 30 * 2**20
#: Blocks of room for a chunk.
BLOCKS = 8


def hold_room() -> Tensor | None:
    """A tensor to keep while chunks run; None where there is nothing to gain."""
    if sys.platform != "linux" or _fills():
        return None
    try:
        keep_freed()
        blocks = [_block(BLOCK) for _ in range(BLOCKS + 1)]
    except RuntimeError:  # a process that may not have as much address space
        return None
    return blocks[-1]


def keep_freed() -> None:
    """Let the allocator keep up to twice :data:`BLOCK` of freed memory, and take blocks of that size from its heap.

    The C library does so by itself once a block of this size, mapped on its own, was freed.
    """
    if sys.platform == "linux" and not _fills():
        _block(BLOCK + BLOCK // 64)


def _block(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, device="cpu")


def _fills() -> bool:
    """Whether torch writes to all memory that it takes."""
    fills = bool(getattr(torch.utils.deterministic, "fill_uninitialized_memory", True))
    return fills and torch.are_deterministic_algorithms_enabled()
