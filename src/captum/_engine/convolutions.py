"""A convolution of a call: what is known about it, and how its later chunks run fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from captum._engine.packing import Options, Packed, PackedConvolution, packs
from captum._engine.strided import FEW_CHANNELS, StridedConvolution, split_phases


@dataclass(frozen=True)
class Norm:
    """The batch norm after a convolution: its tensors and ``eps``, with their versions."""

    tensors: tuple[Tensor | None, ...]  # running mean, running variance, weight, bias
    eps: float
    versions: tuple[int, ...]

    @classmethod
    def of(cls, call: dict[str, Any]) -> Norm | None:
        """The batch norm of a call in eval mode in single precision; None for any other."""
        tensors = tuple(call.get(k) for k in ("running_mean", "running_var", "weight", "bias"))
        floats = all(isinstance(t, Tensor) and t.dtype == torch.float32 for t in tensors if t is not None)
        if call.get("training", False) or tensors[0] is None or tensors[1] is None or not floats:
            return None
        return cls(tensors, float(call.get("eps", 1e-5)), versions(tensors))

    def same(self, other: Norm | None) -> bool:
        """Whether two calls normalise alike."""
        if other is None or self.eps != other.eps or self.versions != other.versions:
            return False
        return all(a is b for a, b in zip(self.tensors, other.tensors, strict=True))


@dataclass
class Convolution:
    """What is known about the convolutions of one weight: what follows them, and the tensors they run with instead."""

    weight: Tensor
    bias: Tensor | None
    versions: tuple[int, ...]
    norm: Norm | None = None
    plain: bool = False
    prepared: tuple[Tensor, Tensor | None] | None = None
    kernels: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    packs: dict[tuple[int, torch.Size, Options], Packed | None] = field(default_factory=dict[Any, Any])

    def followed_by(self, norm: Norm | None) -> None:
        """Take note of a use of a result; anything but one and the same batch norm means no folding."""
        if norm is None or (self.norm is not None and not self.norm.same(norm)):
            self.plain = True
        self.norm = norm

    @property
    def current(self) -> bool:
        """Whether weight and bias are what they were when they were first seen."""
        return self.versions == versions((self.weight, self.bias))

    @property
    def folds(self) -> bool:
        """Whether the batch norm is taken into the weight."""
        return self.norm is not None and not self.plain

    def run(self, call: dict[str, Any]) -> Tensor:
        """The convolution of a call, with the weights that it runs with."""
        x, options = call["input"], _options(call)
        wanted = x.requires_grad and torch.is_grad_enabled()
        strided = None if options is None or not wanted else _few_channels(x, options)
        if strided is not None:
            weight, bias = self.parameters()
            return StridedConvolution.apply(x, (weight, bias, self.kernel(strided[0])), *strided)
        packed = None if options is None else self._packed(x, options)
        if packed is not None:
            return PackedConvolution.apply(x, packed) if wanted else packed.of(x)
        given = (call.get("stride", 1), call.get("padding", 0), call.get("dilation", 1), call.get("groups", 1))
        return torch.conv2d(x, *self.parameters(), *given)

    def parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight (channels last) and bias to run with, without gradients."""
        if self.prepared is None:
            self.prepared = self.made()
        return self.prepared

    def made(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias to run with, made anew."""
        with torch.inference_mode(False), torch.no_grad():
            if self.folds:
                return self._folded()
            weight = self.weight.detach().contiguous(memory_format=torch.channels_last)
            return weight, None if self.bias is None else self.bias.detach()

    def kernel(self, stride: int) -> Tensor:
        """The weight by phases of the stride."""
        if stride not in self.kernels:
            with torch.inference_mode(False), torch.no_grad():
                self.kernels[stride] = split_phases(self.parameters()[0], stride)
        return self.kernels[stride]

    def _packed(self, x: Tensor, options: Options) -> Packed | None:
        """The convolution with weights in the order of its kernels; None where torch would run it otherwise."""
        key = (min(len(x), 2), x.shape[1:], options)  # torch chooses alike for all numbers of rows from two on
        if key not in self.packs:
            self.packs[key] = self._like(x, options) if packs(x, self.weight, options) else None
        return self.packs[key]

    def _like(self, x: Tensor, options: Options) -> Packed:
        """One packed weight for all numbers of rows."""
        size = (self.weight.shape[2], self.weight.shape[3])
        earlier = (p for (_, shape, given), p in self.packs.items() if shape == x.shape[1:] and given == options)
        return next((p for p in earlier if p is not None), None) or Packed(self.made, size, options)

    def _folded(self) -> tuple[Tensor, Tensor]:
        if self.norm is None:
            message = "There is no batch norm to fold."
            raise RuntimeError(message)
        mean, variance, gain, shift = (None if t is None else t.detach().double() for t in self.norm.tensors)
        if mean is None or variance is None:
            message = "A batch norm in eval mode has running statistics."
            raise RuntimeError(message)
        scale = torch.rsqrt(variance + self.norm.eps) if gain is None else gain * torch.rsqrt(variance + self.norm.eps)
        bias = -mean if self.bias is None else self.bias.detach().double() - mean
        bias = bias * scale if shift is None else bias * scale + shift
        weight = torch.empty_like(self.weight, memory_format=torch.channels_last)
        return torch.mul(self.weight.detach(), scale.float().reshape(-1, 1, 1, 1), out=weight), bias.float()


def is_plain(x: Any, weight: Any) -> bool:
    """Whether a convolution is one of images in single precision on a CPU, and nothing but autograd follows it."""
    tensors = all(isinstance(t, Tensor) and t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, weight))
    if not tensors or x.dim() != 4 or weight.dim() != 4 or weight.is_inference():
        return False
    return not is_followed()


def is_followed() -> bool:
    """Whether autocast, transforms, forward-mode derivatives or hooks on saved tensors see each operator."""
    if (
        torch.is_autocast_enabled("cpu")
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    ):
        return True
    autograd: object = getattr(torch._C, "_autograd", None)
    hooks: Callable[[bool], object] | None = getattr(autograd, "_top_saved_tensors_default_hooks", None)
    return hooks is not None and hooks(False) is not None


def versions(tensors: Sequence[Tensor | None]) -> tuple[int, ...]:
    """How often each tensor was written to; −1 for inference tensors, which do not count."""
    return tuple(-1 if t.is_inference() else t._version for t in tensors if t is not None)


def _few_channels(x: Tensor, options: Options) -> tuple[int, int] | None:
    """Stride and padding of a convolution whose gradient by the input is better taken by phases."""
    stride, padding, dilation, groups = options
    alike = stride[0] == stride[1] > 1 and padding[0] == padding[1]
    few = x.shape[1] <= FEW_CHANNELS and groups == 1 and dilation == (1, 1)
    return (stride[0], padding[0]) if alike and few else None


def _options(call: dict[str, Any]) -> Options | None:
    """Stride, padding, dilation and groups in numbers; None for padding given by name."""
    pairs = [_pair(call.get(k, v)) for k, v in (("stride", 1), ("padding", 0), ("dilation", 1))]
    stride, padding, dilation = pairs
    if stride is None or padding is None or dilation is None:
        return None
    return stride, padding, dilation, int(call.get("groups", 1))


def _pair(value: Any) -> tuple[int, int] | None:
    """A stride or padding as two numbers; None for padding given by name."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, str):
        return None
    numbers = tuple(int(v) for v in value)
    return (numbers[0], numbers[-1]) if numbers else None
