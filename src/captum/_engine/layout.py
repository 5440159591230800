"""Memory format of image chunks: channels last where it helps, and never where the model's code could notice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor, nn

from captum._engine.folding import Convolution, Folded, Probe

T = TypeVar("T")
Body = Callable[[tuple[Tensor, ...]], T]


_SHARED: ContextVar[tuple[object, Layout] | None] = ContextVar("shared layout", default=None)


class Layout:
    """Feeds 4-D chunks in ``channels_last`` when the model convolves images on a CPU in single precision.

    The first such chunk runs under a probe; when the model's code looks at strides, or fails because of them, that chunk
    and all later ones run in the usual format. Else the later ones run with batch norms folded into the convolutions
    before them, see :mod:`captum._engine.folding`. The user's model is never changed.

    Args:
        modules: the modules of the model.
        least: fewest pixels per side of what counts as an image.
    """

    def __init__(self, modules: list[nn.Module], least: int = 16) -> None:
        convolutions = [m for m in modules if isinstance(m, nn.Conv2d)]
        self.on = any(m.groups == 1 and m.in_channels >= 16 for m in convolutions)
        self._least = least
        self._convolutions: dict[int, Convolution] | None = None

    def suits(self, tensors: tuple[Tensor, ...]) -> bool:
        """Tell whether these tensors are images in single precision on a CPU."""
        return self.on and any(self._is_image(t) for t in tensors)

    def run(self, tensors: tuple[Tensor, ...], body: Body[T]) -> T:
        """``body(tensors)``, with images in the format that is faster."""
        if not self.suits(tensors):
            return body(tensors)
        turned = tuple(t.contiguous(memory_format=torch.channels_last) if self._is_image(t) else t for t in tensors)
        if self._convolutions is None:
            return self._first(tensors, turned, body)
        if not self._convolutions:
            return body(turned)
        mode = Folded(self._convolutions)
        try:
            with mode:
                value = body(turned)
            if mode.settled():
                return value
        except BaseException:
            if not mode.diverged:
                raise
        self._convolutions = {}
        return body(turned)

    def _first(self, tensors: tuple[Tensor, ...], turned: tuple[Tensor, ...], body: Body[T]) -> T:
        probe = Probe()
        try:
            with probe:
                value = body(turned)
        except RuntimeError as fault:
            if "view" not in str(fault) and "stride" not in str(fault) and "contiguous" not in str(fault):
                raise
            self.on = False
            return body(tensors)
        if probe.noticed:
            self.on = False
            return body(tensors)
        self._convolutions = probe.found()
        return value

    def _is_image(self, tensor: Tensor) -> bool:
        return (
            tensor.dim() == 4
            and tensor.dtype == torch.float32
            and tensor.device.type == "cpu"
            and tensor.shape[1] > 1
            and min(tensor.shape[2:]) >= self._least
        )


@contextlib.contextmanager
def sharing(forward: object, layout: Layout) -> Generator[None]:
    """Calls that explain ``forward`` meanwhile use one layout: what one finds out holds for the next."""
    token = _SHARED.set((forward, layout))
    try:
        yield
    finally:
        _SHARED.reset(token)


def shared_layout(forward: object) -> Layout | None:
    """The layout of the calls that explain ``forward`` now, if any."""
    shared = _SHARED.get()
    return shared[1] if shared is not None and shared[0] is forward else None
