"""Memory format of image chunks: channels last where it helps, and never where the model's code could notice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor, nn

from captum._engine.convolutions import Convolution
from captum._engine.entrance import Head
from captum._engine.folding import Folded, Image, Probe

T = TypeVar("T")
Body = Callable[[tuple[Tensor, ...]], T]


_SHARED: ContextVar[tuple[object, Layout] | None] = ContextVar("shared layout", default=None)


class Layout:
    """Feeds 4-D chunks in ``channels_last`` when the model convolves images on a CPU in single precision.

    The first such chunk runs under a probe; when the model's code looks at strides, or fails because of them, that
    chunk and all later ones run in the usual format. Else the later ones run with batch norms folded into the
    convolutions before them, see :mod:`captum._engine.folding`. The user's model is never changed.

    Args:
        modules: the modules of the model.
        least: fewest pixels per side of what counts as an image.

    Attributes:
        head: the model's first convolution when it alone reads the images; known after the first chunk.
    """

    def __init__(self, modules: list[nn.Module], least: int = 16) -> None:
        convolutions = [m for m in modules if isinstance(m, nn.Conv2d)]
        self.on = any(m.groups == 1 and m.in_channels >= 16 for m in convolutions)
        self._least = least
        self._convolutions: dict[int, Convolution] | None = None
        self.head: Head | None = None

    def suits(self, tensors: tuple[Tensor, ...]) -> bool:
        """Tell whether these tensors are images in single precision on a CPU."""
        return self.on and any(self._is_image(t) for t in tensors)

    def learns_from(self, tensors: tuple[Tensor, ...]) -> bool:
        """Tell whether the first chunk of tensors like these says how to run the next."""
        return self._convolutions is None and self.suits(tensors)

    def run(self, tensors: tuple[Tensor, ...], body: Body[T]) -> T:
        """``body(tensors)``, with images in the format that is faster."""
        if not self.suits(tensors):
            return body(tensors)
        turned = tuple(t.contiguous(memory_format=torch.channels_last) if self._is_image(t) else t for t in tensors)
        if self._convolutions is None:
            return self._first(tensors, turned, body)
        results = self._folded(Folded(self._convolutions), body, turned) if self._convolutions else []
        if not results:
            self._convolutions, self.head = {}, None
        return results[0] if results else body(turned)

    def run_behind_head(self, mapped: Tensor, shape: tuple[int, ...], body: Body[T]) -> list[T]:
        """``body(images)`` for images of ``shape`` that the head maps to ``mapped``; nothing if it reads them."""
        if self.head is None or not self._convolutions:
            return []
        mode = Folded(self._convolutions, (self.head, mapped))
        images = torch.empty(shape, dtype=mapped.dtype, device="meta", memory_format=torch.channels_last)
        results = self._folded(mode, body, (Image.like(images, mode),))
        if not results:
            self.head = None
        return results

    def _folded(self, mode: Folded, body: Body[T], tensors: tuple[Tensor, ...]) -> list[T]:
        """The result of ``body`` in the mode, or nothing when the model did otherwise than in the first chunk."""
        try:
            with mode:
                value = body(tensors)
        except BaseException:
            if not mode.diverged:
                raise
            return []
        return [value] if mode.settled() else []

    def _first(self, tensors: tuple[Tensor, ...], turned: tuple[Tensor, ...], body: Body[T]) -> T:
        probe = Probe(turned)
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
        first, self._convolutions = probe.first(), probe.found()
        head = None if first is None else Head(*first)
        self.head = head if head is not None and head.reversible else None
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
