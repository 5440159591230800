"""Convolutions whose weights are brought into the order of the processor's kernels once a call, and not once a chunk.

The kernels (oneDNN's) and the sums are those that torch runs, so no number changes; what falls away is that torch
reorders the weights of each convolution at each pass, in both directions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Pair = tuple[int, int]
#: Stride, padding, dilation and groups.
Options = tuple[Pair, Pair, Pair, int]

_NEEDED = (
    "_reorder_convolution_weight",
    "_convolution_pointwise",
    "_reorder_convolution_transpose_weight",
    "_convolution_transpose_pointwise",
)


def packs(x: Tensor, weight: Tensor, options: Options) -> bool:
    """Whether torch would run the convolution of ``x`` ``(N, C, H, W)`` with oneDNN, and lets its weight be packed."""
    select: Callable[..., object] | None = getattr(torch._C, "_select_conv_backend", None)
    if select is None or not torch.backends.mkldnn.is_available():
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in _NEEDED):
        return False
    stride, padding, dilation, groups = options
    with torch.no_grad():
        backend = select(x.detach(), weight.detach(), None, stride, padding, dilation, False, (0, 0), groups)
    return getattr(backend, "name", None) == "Mkldnn"


class Packed:
    """One convolution with its weight as the kernels of each direction want it.

    Args:
        parameters: makes the weight ``(D, C / groups, h, w)`` and the bias; only what is packed from them is kept.
        size: height and width of the kernel.
        options: stride, padding, dilation and groups.
    """

    def __init__(self, parameters: Callable[[], tuple[Tensor, Tensor | None]], size: Pair, options: Options) -> None:
        self._parameters = parameters
        self._size = size
        self._stride, self._padding, self._dilation, self._groups = options
        self._forward: tuple[Tensor, Tensor | None] | None = None
        self._backward: Tensor | None = None

    def of(self, x: Tensor, *, backward: bool = False) -> Tensor:
        """The convolution of ``x`` ``(N, C, H, W)``, channels last and without a graph.

        With ``backward`` the weight is packed for :meth:`pull` too, while it is at hand.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        options = (self._padding, self._stride, self._dilation, self._groups)
        parameters = None
        if self._forward is None:
            with torch.inference_mode(False), torch.no_grad():
                parameters = self._parameters()
                packed = torch.ops.mkldnn._reorder_convolution_weight(parameters[0], *options, list(x.shape))
            self._forward = packed, parameters[1]
        out = torch.ops.mkldnn._convolution_pointwise(x, *self._forward, *options, "none", [], "")
        if backward and self._backward is None and parameters is not None:
            self._backward = self._turned(parameters[0], out.shape, x.shape)
        return out

    def pull(self, gradients: Tensor, shape: torch.Size) -> Tensor:
        """Gradients by the input, of ``shape``, from those by the result."""
        gradients = gradients.contiguous(memory_format=torch.channels_last)
        options = (self._padding, self._excess(gradients.shape, shape), self._stride, self._dilation, self._groups)
        if self._backward is None:
            self._backward = self._turned(self._parameters()[0], gradients.shape, shape)
        convolve = torch.ops.mkldnn._convolution_transpose_pointwise
        return convolve(gradients, self._backward, None, *options, "none", [], "")

    def pull_plainly(self, gradients: Tensor, shape: torch.Size) -> Tensor:
        """What :meth:`pull` gives, as a function of ``gradients`` that can be differentiated."""
        weight, excess = self._parameters()[0], self._excess(gradients.shape, shape)
        options = (self._stride, self._padding, excess, self._groups, self._dilation)
        return torch.conv_transpose2d(gradients, weight, None, *options)

    def _turned(self, weight: Tensor, mapped: torch.Size, shape: torch.Size) -> Tensor:
        """The weight packed for the way back from results of shape ``mapped`` to inputs of ``shape``."""
        options = (self._padding, self._excess(mapped, shape), self._stride, self._dilation, self._groups)
        with torch.inference_mode(False), torch.no_grad():
            return torch.ops.mkldnn._reorder_convolution_transpose_weight(weight, *options, list(mapped))

    def _excess(self, mapped: torch.Size, shape: torch.Size) -> list[int]:
        """Rows and columns at the far end of the input that no kernel reaches."""
        places = zip(shape[2:], mapped[2:], self._size, self._stride, self._padding, self._dilation, strict=True)
        return [n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in places]


class PackedConvolution(torch.autograd.Function):
    """A packed convolution, differentiable by its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed) -> Tensor:
        """The convolution of ``x``."""
        ctx.packed, ctx.shape = packed, x.shape
        return packed.of(x, backward=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        """The gradient by ``x``; by torch's own operator where it is differentiated again."""
        way = ctx.packed.pull_plainly if torch.is_grad_enabled() else ctx.packed.pull
        return way(gradient, ctx.shape), None
