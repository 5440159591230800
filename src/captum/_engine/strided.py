"""Strided convolution of few channels: the gradient by its input as a dense convolution of phases.

The input gradient of a convolution with stride ``s`` is a transposed convolution. For an image of one to four channels
the usual kernels leave most of their lanes idle. Split by the phase of a pixel in the stride grid it is one ordinary
convolution with ``channels · s²`` outputs, whose results are woven back: the same sums in another order.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: From how many input channels on the usual kernels are as fast.
FEW_CHANNELS = 4


def split_phases(weight: Tensor, stride: int) -> Tensor:
    """Kernel ``(C·s², O, ⌈K/s⌉, ⌈L/s⌉)`` of the dense convolution, from the weight ``(O, C, K, L)``."""
    out, channels, height, width = weight.shape
    rows, columns = -(-height // stride), -(-width // stride)
    padded = F.pad(weight, (0, columns * stride - width, 0, rows * stride - height))
    taps = padded.reshape(out, channels, rows, stride, columns, stride).flip(2, 4)
    kernel = taps.permute(1, 3, 5, 0, 2, 4).reshape(channels * stride * stride, out, rows, columns)
    return kernel.contiguous(memory_format=torch.channels_last)


def gradient_by_input(gradient: Tensor, kernel: Tensor, stride: int, padding: int, size: tuple[int, int]) -> Tensor:
    """Gradient by an input of ``size`` (height, width), from the gradient by the convolution's output."""
    pads: list[int] = []
    for taps, length, given in zip(kernel.shape[:1:-1], size[::-1], gradient.shape[:1:-1], strict=True):
        first, last = padding // stride, (padding + length - 1) // stride
        pads += [taps - 1 - first, last + 1 - given]
    if pads[0] >= 0 and len(set(pads)) == 1:
        woven = torch.conv2d(gradient, kernel, None, 1, pads[0])
    else:
        woven = torch.conv2d(F.pad(gradient, pads), kernel)
    image = F.pixel_shuffle(woven, stride)
    start = padding - stride * (padding // stride)
    return image[:, :, start : start + size[0], start : start + size[1]]


class StridedConvolution(torch.autograd.Function):
    """2-D convolution with one stride and padding for both sides; differentiable by its input alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, parameters: tuple[Tensor, Tensor | None, Tensor], stride: int, padding: int
    ) -> Tensor:
        """``parameters``: weight, bias, and the kernel of :func:`split_phases`."""
        weight, bias, kernel = parameters
        ctx.kernel, ctx.stride, ctx.padding, ctx.size = kernel, stride, padding, tuple(x.shape[2:])
        return torch.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        """The gradient by ``x``."""
        return gradient_by_input(gradient, ctx.kernel, ctx.stride, ctx.padding, ctx.size), None, None, None
