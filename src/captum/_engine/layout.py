"""Memory format of image chunks: channels last where it helps, and never where the model's code could notice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor, nn

from captum._engine.convolutions import Convolution, is_followed
from captum._engine.entrance import Head
from captum._engine.folding import Folded, Image, Probe
from captum._engine.recollection import Known, Recollection

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
        recollection: what earlier calls found out; see :meth:`recall`.

    Attributes:
        head: the model's first convolution when it alone reads the images; known after the first chunk.
    """

    def __init__(self, modules: list[nn.Module], least: int = 16, recollection: Recollection | None = None) -> None:
        convolutions = [m for m in modules if isinstance(m, nn.Conv2d)]
        self.on = any(m.groups == 1 and m.in_channels >= 16 for m in convolutions)
        self._least = least
        self._convolutions: dict[int, Convolution] | None = None
        self._recollection = recollection
        self._relearns = True
        self._counts = any(m.training and m._buffers for m in modules)
        self.head: Head | None = None

    def suits(self, tensors: tuple[Tensor, ...]) -> bool:
        """Tell whether these tensors are images in single precision on a CPU."""
        return self.on and any(self._is_image(t) for t in tensors)

    def learns_from(self, tensors: tuple[Tensor, ...]) -> bool:
        """Tell whether a trial of tensors like these says how to run chunks, and does no more than that.

        Modules in training mode may keep statistics of all that they see, trials too.
        """
        return self._convolutions is None and not self._counts and self.suits(tensors)

    def recall(self) -> bool:
        """Take what earlier calls found out, so that no chunk is needed to learn from; False when there is nothing.

        The chunks of all calls are run alike only if those of the first call were: the chunk that it learnt from has to
        be one whose result does not count.
        """
        known = None if self._recollection is None or is_followed() else self._recollection.recall()
        if known is None:
            return False
        self.on = self.on and known.on
        self._convolutions, self.head = known.convolutions, known.head
        return True

    def run(self, tensors: tuple[Tensor, ...], body: Body[T]) -> T:
        """``body(tensors)``, with images in the format that is faster."""
        if not self.suits(tensors):
            return body(tensors)
        turned = tuple(t.contiguous(memory_format=torch.channels_last) if self._is_image(t) else t for t in tensors)
        if self._convolutions is None:
            return self._first(tensors, turned, body)
        if not self._convolutions:
            return body(turned)
        results = self._folded(Folded(self._convolutions), body, turned)
        if results:
            return results[0]
        self.head = None
        if self._relearns:  # the model does otherwise than in an earlier chunk or call
            self._relearns = False
            return self._first(tensors, turned, body)
        self._convolutions = {}
        return body(turned if self.on else tensors)

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
        except BaseException as fault:
            if not mode.diverged and not _complains(fault):
                raise
            self.on = self.on and mode.diverged
        else:
            if mode.settled():
                return [value]
        if self._recollection is not None:
            self._recollection.forget()
        return []

    def _first(self, tensors: tuple[Tensor, ...], turned: tuple[Tensor, ...], body: Body[T]) -> T:
        probe = Probe(turned)
        try:
            with probe:
                value = body(turned)
        except RuntimeError as fault:
            if not _complains(fault):
                raise
            probe.noticed = True
        else:
            if not probe.noticed:
                first, self._convolutions = probe.first(), probe.found()
                head = None if first is None else Head(*first)
                head = head if head is not None and head.reversible else None
                self._keep(Known(True, self._convolutions, head))
                self.head = head if self._relearns else None  # paths were begun behind another head
                return value
        self.on = False
        value = body(tensors)
        self._keep(Known(on=False))
        return value

    def _keep(self, known: Known) -> None:
        if self._recollection is not None and not is_followed():
            self._recollection.keep(known)

    def _is_image(self, tensor: Tensor) -> bool:
        return (
            tensor.dim() == 4
            and tensor.dtype == torch.float32
            and tensor.device.type == "cpu"
            and tensor.shape[1] > 1
            and min(tensor.shape[2:]) >= self._least
        )


def _complains(fault: BaseException) -> bool:
    """Whether an operator could not take a tensor for the way it lies in memory."""
    return isinstance(fault, RuntimeError) and any(word in str(fault) for word in ("view", "stride", "contiguous"))


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
