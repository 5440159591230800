"""Where the rows of a batch lie in a layer's value: in dim 0, or in another one, as in time-major recurrent models.

Sizes alone settle most cases. Where several dims, or one that is not the first, have as many elements as there are
rows, the model is run once more with one row more: the dim that grows holds the rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode  # no public name

from captum._engine.rows import Rows

Shape = tuple[int, ...]
Run = Callable[[tuple[Tensor, ...], Rows], object]


def settled(shape: Sequence[int], rows: int) -> bool:
    """Tell whether the size of a value says where the ``rows`` rows are: in dim 0 only, or nowhere."""
    return list(shape).count(rows) == (1 if len(shape) and shape[0] == rows else 0)


def grown(shape: Shape, larger: Shape, rows: int) -> int:
    """The dim that holds the rows, by the value's shapes for ``rows`` rows and for one row more; 0 when none does."""
    if len(shape) != len(larger):
        return 0
    pairs = zip(shape, larger, strict=True)
    return next((d for d, (few, more) in enumerate(pairs) if few == rows and more == rows + 1), 0)


def one_more(tensors: tuple[Tensor, ...], rows: Rows) -> tuple[tuple[Tensor, ...], Rows]:
    """Inputs ``(n, *)`` with their first row repeated at the end, and the examples of these rows."""
    index = torch.arange(rows.count, device="cpu") if rows.index is None else rows.index
    more = tuple(torch.cat([t, t[:1]]) if t.dim() and len(t) == rows.count else t for t in tensors)
    return more, Rows(rows.batch, torch.cat([index, index[:1]]))


def rehearse(run: Run, tensors: tuple[Tensor, ...], rows: Rows, modules: Sequence[nn.Module]) -> None:
    """Run the model with one row more, unseen by any mode of this library, so that nothing is left of it."""
    device = tensors[0].device
    forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with _unwatched(), torch.no_grad(), forked, _as_before(modules):
        run(*one_more(tuple(t.detach() for t in tensors), rows))


@contextlib.contextmanager
def _unwatched() -> Generator[None]:
    """Leave the modes of this library, innermost first, and enter them again at the end."""
    left: list[TorchFunctionMode] = []
    try:
        while _is_ours(mode := _get_current_function_mode()):
            TorchFunctionMode.__exit__(mode, None, None, None)
            left.append(mode)
        yield
    finally:
        for mode in reversed(left):
            TorchFunctionMode.__enter__(mode)


def _is_ours(mode: object) -> TypeGuard[TorchFunctionMode]:
    return isinstance(mode, TorchFunctionMode) and type(mode).__module__.startswith("captum.")


@contextlib.contextmanager
def _as_before(modules: Sequence[nn.Module]) -> Generator[None]:
    """Give modules back the attributes and buffers that they had: some keep what they computed last."""
    kept = [(room, dict(room)) for m in modules for room in (m.__dict__, m._buffers)]
    try:
        yield
    finally:
        for room, before in kept:
            for name in [n for n in room if n not in before]:
                del room[name]
            room.update(before)
