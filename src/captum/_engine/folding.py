"""Folding: batch norm into the convolution before it while many chunks of a call run; the model stays as it is.

A :class:`Probe` watches the first chunk on operators. Later chunks run in :class:`Folded`: a convolution whose result
went to one batch norm (in eval mode) and nowhere else runs with the folded weight, and that batch norm passes its input
on. What stands between the two is a :class:`Pending` tensor without numbers, so that no other operator can read it, and
a model that tries has its chunk run again the plain way. Weights are taken channels last, once a call.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum._engine.entrance import Entrance, Head
from captum._engine.strided import FEW_CHANNELS, StridedConvolution, split_phases

_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_BATCH_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_NEUTRAL_CALLS = {"dim", "size", "is_floating_point", "__len__"}
_NEUTRAL_PROPERTIES = {"shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout"}
_NOTICES = {
    "as_strided", "stride", "storage_offset", "untyped_storage", "storage", "data_ptr", "is_contiguous", "as_strided_",
    "as_strided_scatter", "set_", "numpy", "__array__", "__dlpack__",
}  # fmt: skip

Call = Callable[..., Any]


class Diverged(BaseException):
    """The model uses a convolution's result otherwise than before; no code of a model is meant to catch this."""


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
        return cls(tensors, float(call.get("eps", 1e-5)), _versions(tensors))

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

    def followed_by(self, norm: Norm | None) -> None:
        """Take note of a use of a result; anything but one and the same batch norm means no folding."""
        if norm is None or (self.norm is not None and not self.norm.same(norm)):
            self.plain = True
        self.norm = norm

    @property
    def current(self) -> bool:
        """Whether weight and bias are what they were when they were first seen."""
        return self.versions == _versions((self.weight, self.bias))

    @property
    def folds(self) -> bool:
        """Whether the batch norm is taken into the weight."""
        return self.norm is not None and not self.plain

    def parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight (channels last) and bias to run with, without gradients."""
        if self.prepared is None:
            with torch.inference_mode(False), torch.no_grad():
                weight, bias = self._folded() if self.folds else (self.weight.detach(), self.bias)
                bias = None if bias is None else bias.detach()
                self.prepared = weight.contiguous(memory_format=torch.channels_last), bias
        return self.prepared

    def kernel(self, stride: int) -> Tensor:
        """The weight by phases of the stride."""
        if stride not in self.kernels:
            with torch.inference_mode(False), torch.no_grad():
                self.kernels[stride] = split_phases(self.parameters()[0], stride)
        return self.kernels[stride]

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
        return self.weight.detach() * scale.float().reshape(-1, 1, 1, 1), bias.float()


class Probe(TorchFunctionMode):
    """Watch one chunk: which convolutions a batch norm follows, and whether the code looks at strides.

    Args:
        variables: what the chunk differentiates by.

    Attributes:
        noticed: whether the code asks how a tensor lies in memory.
    """

    def __init__(self, variables: tuple[Tensor, ...] = ()) -> None:
        super().__init__()
        self.noticed = False
        self._entrance = Entrance(variables)
        self._convolutions: dict[int, Convolution] = {}
        self._made: dict[int, tuple[weakref.ref[Tensor], Convolution]] = {}
        self._spent: set[int] = set()

    def __torch_function__(
        self, func: Call, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See one torch call."""
        keywords = kwargs or {}
        if getattr(func, "__name__", "") in _NOTICES:
            self.noticed = True
        if func is F.batch_norm:
            call = _bind(_BATCH_NORM, args, keywords)
            self._used(call["input"], Norm.of(call))
        elif self._made and not _is_neutral(func):
            for tensor in _tensors((*args, *keywords.values())):
                self._used(tensor, None)
        out = func(*args, **keywords)
        call = _bind(_CONVOLUTION, args, keywords) if func is torch.conv2d else None
        convolution = None if call is None else self._record(call, out)
        if not _is_neutral(func):
            self._entrance.see(func, _tensors((*args, *keywords.values())), out, (convolution, call))
        return out

    def first(self) -> tuple[Convolution, dict[str, Any]] | None:
        """The convolution that alone reads the variable, and the arguments of its call."""
        return self._entrance.settled()

    def found(self) -> dict[int, Convolution]:
        """The convolutions by the ``id`` of their weight; those whose results somebody still holds stay plain."""
        for reference, convolution in self._made.values():
            if reference() is not None:
                convolution.plain = True
        return self._convolutions

    def _used(self, tensor: Any, norm: Norm | None) -> None:
        reference, convolution = self._made.get(id(tensor), (None, None))
        if reference is None or convolution is None or reference() is not tensor:
            return
        convolution.followed_by(None if id(tensor) in self._spent else norm)
        self._spent.add(id(tensor))

    def _record(self, call: dict[str, Any], out: Tensor) -> Convolution | None:
        weight, bias = call["weight"], call.get("bias")
        if not _is_plain(call["input"], weight) or out.dim() != 4:
            return None
        convolution = self._convolutions.setdefault(id(weight), Convolution(weight, bias, _versions((weight, bias))))
        if convolution.bias is not bias or not convolution.current:
            convolution.plain = True
        earlier = self._made.get(id(out))
        if earlier is not None and earlier[0]() is not None:
            earlier[1].plain = convolution.plain = True
        self._made[id(out)] = (weakref.ref(out), convolution)
        self._spent.discard(id(out))
        return convolution


class Shell(Tensor):
    """A tensor with a shape and no numbers: whatever operator reads it makes its owner's run void."""

    owner: Folded

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def like(cls, tensor: Tensor, owner: Folded) -> Self:
        """A shell in the shape of ``tensor``."""
        shell = torch.Tensor._make_wrapper_subclass(
            cls,
            tensor.shape,
            strides=tensor.stride(),
            dtype=tensor.dtype,
            device=torch.device("cpu"),
            requires_grad=tensor.requires_grad,
        )
        shell.owner = owner
        return shell

    @classmethod
    def __torch_dispatch__(
        cls, func: Call, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Some operator wants the numbers, whoever called it."""
        for tensor in _tensors((*args, *(kwargs or {}).values())):
            if isinstance(tensor, Shell):
                tensor.owner.diverged = True
        raise Diverged


class Pending(Shell):
    """The result of a folded convolution on its way to the batch norm."""

    folded: tuple[Tensor, Norm]
    spent: bool


class Image(Shell):
    """The model's input on its way to the first convolution, whose result is at hand; copies are shells too."""

    @classmethod
    def __torch_dispatch__(
        cls, func: Call, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Copy the shell; refuse everything else."""
        if func in (torch.ops.aten.detach.default, torch.ops.aten.clone.default) and isinstance(args[0], Image):
            return cls.like(args[0], args[0].owner)
        return super().__torch_dispatch__(func, types, args, kwargs)


class Folded(TorchFunctionMode):
    """Run a chunk with folded weights.

    Args:
        convolutions: what a :class:`Probe` found.
        first: the convolution that reads an :class:`Image`, and its result.

    Attributes:
        diverged: whether the model did something else than before, so that the chunk does not count.
    """

    def __init__(self, convolutions: dict[int, Convolution], first: tuple[Head, Tensor] | None = None) -> None:
        super().__init__()
        self.diverged = False
        self._convolutions = convolutions
        self._first = first
        self._pending: list[weakref.ref[Tensor]] = []

    def __torch_function__(
        self, func: Call, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace one convolution or batch norm, or let a call pass."""
        keywords = kwargs or {}
        if func is torch.conv2d:
            return self._convolve(func, args, keywords)
        if func is F.batch_norm:
            return self._normalise(func, args, keywords)
        return func(*args, **keywords)

    def settled(self) -> bool:
        """Whether every folded result has met its batch norm and nobody holds one."""
        return not self.diverged and all(p() is None for p in self._pending)

    def _diverge(self) -> NoReturn:
        self.diverged = True
        raise Diverged

    def _convolve(self, func: Call, args: Sequence[Any], keywords: dict[str, Any]) -> Tensor:
        call = _bind(_CONVOLUTION, args, keywords)
        known = self._convolutions.get(id(call["weight"]))
        if isinstance(call["input"], Image):
            if self._first is None or known is None or not self._first[0].matches(known, call):
                self._diverge()
            mapped, self._first = self._first[1], None  # the model may write into it, so it serves once
            if torch.is_grad_enabled() and call["input"].requires_grad and not mapped.requires_grad:
                mapped = mapped.requires_grad_().clone()
            return self._passed_on(known, mapped)
        if known is None or not _is_plain(call["input"], call["weight"]) or known.bias is not call.get("bias"):
            return func(*args, **keywords)
        if not known.current:
            self._diverge()
        return self._passed_on(known, _run(known, call))

    def _passed_on(self, known: Convolution, out: Tensor) -> Tensor:
        if not known.folds or known.norm is None:
            return out
        pending = Pending.like(out, self)
        pending.folded, pending.spent = (out, known.norm), False
        self._pending.append(weakref.ref(pending))
        return pending

    def _normalise(self, func: Call, args: Sequence[Any], keywords: dict[str, Any]) -> Tensor:
        call = _bind(_BATCH_NORM, args, keywords)
        given = call["input"]
        if not isinstance(given, Pending):
            return func(*args, **keywords)
        out, norm = given.folded
        if given.spent or not norm.same(Norm.of(call)):
            self._diverge()
        given.spent = True
        return out


def _run(known: Convolution, call: dict[str, Any]) -> Tensor:
    """The convolution with its prepared weight."""
    weight, bias = known.parameters()
    strided = _few_channels(call)
    if strided is not None:
        return StridedConvolution.apply(call["input"], (weight, bias, known.kernel(strided[0])), *strided)
    options = (call.get("stride", 1), call.get("padding", 0), call.get("dilation", 1), call.get("groups", 1))
    return torch.conv2d(call["input"], weight, bias, *options)


def _few_channels(call: dict[str, Any]) -> tuple[int, int] | None:
    """Stride and padding of a convolution whose gradient by the input is wanted and is better taken by phases."""
    x, stride, padding = call["input"], _pair(call.get("stride", 1)), _pair(call.get("padding", 0))
    if stride is None or padding is None or not x.requires_grad or not torch.is_grad_enabled():
        return None
    alike = stride[0] == stride[1] > 1 and padding[0] == padding[1]
    few = x.shape[1] <= FEW_CHANNELS and call.get("groups", 1) == 1 and _pair(call.get("dilation", 1)) == (1, 1)
    return (stride[0], padding[0]) if alike and few else None


def _is_plain(x: Any, weight: Any) -> bool:
    """Whether a convolution is one of images in single precision on a CPU, outside of autocast and transforms."""
    tensors = all(isinstance(t, Tensor) and t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, weight))
    if not tensors or x.dim() != 4 or weight.dim() != 4 or weight.is_inference():
        return False
    return not torch.is_autocast_enabled("cpu") and not torch._C._are_functorch_transforms_active()


def _pair(value: Any) -> tuple[int, int] | None:
    """A stride or padding as two numbers; None for padding given by name."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, str):
        return None
    numbers = tuple(int(v) for v in value)
    return (numbers[0], numbers[-1]) if numbers else None


def _bind(names: tuple[str, ...], args: Sequence[Any], keywords: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **keywords}


def _is_neutral(func: Call) -> bool:
    """Whether a call asks only for what folding does not change."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", "") in _NEUTRAL_PROPERTIES
    return name in _NEUTRAL_CALLS


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(list(value.values()))


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _versions(tensors: Sequence[Tensor | None]) -> tuple[int, ...]:
    return tuple(_version(t) for t in tensors if t is not None)
