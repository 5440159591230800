"""Memory format of image chunks: channels last where it helps, and never where the model's code could notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

T = TypeVar("T")

_NOTICES = {
    "as_strided", "stride", "storage_offset", "untyped_storage", "storage", "data_ptr", "is_contiguous", "as_strided_",
    "as_strided_scatter", "set_", "numpy", "__array__", "__dlpack__",
}  # fmt: skip


class _Guard(TorchFunctionMode):
    """Notice calls whose result depends on how a tensor lies in memory."""

    noticed = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See one torch call."""
        if getattr(func, "__name__", "") in _NOTICES:
            self.noticed = True
        return func(*args, **(kwargs or {}))


class Layout:
    """Feeds 4-D chunks in ``channels_last`` when the model convolves images on a CPU in single precision.

    The first such chunk runs under a guard; when the model's code looks at strides, or fails because of them, that chunk
    and all later ones run in the usual format. The user's model is never changed.

    Args:
        modules: the modules of the model.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        convolutions = [m for m in modules if isinstance(m, nn.Conv2d)]
        self.on = any(m.groups == 1 and m.in_channels >= 16 for m in convolutions)
        self._tried = False

    def suits(self, tensors: tuple[Tensor, ...]) -> bool:
        """Tell whether these tensors are images in single precision on a CPU, several rows of them."""
        return self.on and any(_is_image(t) for t in tensors)

    def run(self, tensors: tuple[Tensor, ...], body: Callable[[tuple[Tensor, ...]], T]) -> T:
        """``body(tensors)``, with images in the format that is faster."""
        if not self.suits(tensors):
            return body(tensors)
        turned = tuple(t.contiguous(memory_format=torch.channels_last) if _is_image(t) else t for t in tensors)
        if self._tried:
            return body(turned)
        try:
            with _Guard() as guard:
                value = body(turned)
        except RuntimeError as fault:
            if "view" not in str(fault) and "stride" not in str(fault) and "contiguous" not in str(fault):
                raise
            self.on = False
        else:
            self._tried = True
            if not guard.noticed:
                return value
            self.on = False
        return body(tensors)


def _is_image(tensor: Tensor) -> bool:
    return (
        tensor.dim() == 4
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.shape[1] > 1
        and min(tensor.shape[2:]) >= 16
    )
