"""Folding: batch norm into the convolution before it while many chunks of a call run; the model stays as it is.

A :class:`Probe` watches the first chunk on operators. Later chunks run in :class:`Folded`: a convolution whose result
went to one batch norm (in eval mode) and nowhere else runs with the folded weight, and that batch norm passes its input
on. What stands between the two is a :class:`Pending` tensor without numbers, so that no other operator can read it, and
a model that tries has its chunk run again the plain way. Weights are taken channels last, once a call.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum._engine.convolutions import Convolution, Norm, is_plain, versions
from captum._engine.entrance import Entrance, Head

_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_BATCH_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_NEUTRAL_CALLS = {"dim", "size", "is_floating_point", "__len__"}
_NEUTRAL_PROPERTIES = {"shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "is_leaf", "layout"}
_NOTICES = {
    "as_strided", "stride", "storage_offset", "untyped_storage", "storage", "data_ptr", "is_contiguous", "as_strided_",
    "as_strided_scatter", "set_", "numpy", "__array__", "__dlpack__",
}  # fmt: skip

Call = Callable[..., Any]


class Diverged(BaseException):
    """The model uses a convolution's result otherwise than before; no code of a model is meant to catch this."""


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
        if not is_plain(call["input"], weight) or out.dim() != 4:
            return None
        convolution = self._convolutions.setdefault(id(weight), Convolution(weight, bias, versions((weight, bias))))
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
        if getattr(func, "__name__", "") in _NOTICES:
            self._diverge()
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
        if known is None or not is_plain(call["input"], call["weight"]) or known.bias is not call.get("bias"):
            return func(*args, **keywords)
        if not known.current:
            self._diverge()
        return self._passed_on(known, known.run(call))

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
