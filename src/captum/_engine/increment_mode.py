"""Run a model on increments: its code sees tensors without data, each operator works on the boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from captum._engine.calls import leaves_in, tensors_in
from captum._engine.convolutions import Convolution
from captum._engine.folding import Diverged
from captum._engine.increment_calls import MOST, IncrementCall, changed
from captum._engine.increment_rules import rule_for
from captum._engine.increments import Increment
from captum._engine.operators import SPELLINGS, Spelling

#: Without what a probe found.
NOTHING_KNOWN: Mapping[int, Convolution] = MappingProxyType({})
STATE = "_captum_increment"
#: What tells of a tensor's form alone.
_FORM = frozenset(
    """
    shape ndim dtype layout requires_grad size dim ndimension numel nelement __len__ is_floating_point is_complex
    element_size itemsize is_sparse is_quantized is_nested is_leaf grad_fn is_inference __hash__
    """.split()  # noqa: SIM905  # a list of words reads better
)
_PLACE = frozenset(["device", "is_cuda", "is_cpu", "is_meta", "is_mps", "is_xpu", "get_device", "is_xla"])
_VIEWS = frozenset(["view", "view_as", "unflatten", "as_strided", "stride", "is_contiguous"])
#: Operators that cost much on whole maps.
_HEAVY = frozenset(
    """
    conv1d conv2d conv3d conv_transpose2d linear matmul __matmul__ bmm baddbmm einsum scaled_dot_product_attention
    multi_head_attention_forward
    """.split()  # noqa: SIM905  # a list of words reads better
)


class NotLocalError(Exception):
    """The model cannot be run on increments; the message says why."""


class _State:
    """What a tensor without data stands for: an increment, or from some moment on a whole map."""

    __slots__ = ("dense", "map")

    def __init__(self, map_: Increment) -> None:
        self.map = map_
        self.dense: Tensor | None = None

    def whole(self, plain: bool = False) -> Tensor:
        """All of the map; from here on the user's code may write to it and look at it through views.

        Args:
            plain: in the usual memory format, so that every view of it exists.
        """
        if self.dense is not None:
            return self.dense
        if self.map.norm is not None:
            raise Diverged
        dense = self.map.dense()
        dense = dense.contiguous() if plain else dense
        if not self.map.shared:
            # views that stand for increments would not see what is written here, nor the other way round
            self.dense = dense
        return dense


class IncrementMode(TorchFunctionMode):
    """See every torch call and finish those on increments by the rule of their operator.

    An operator without a rule, or one whose result differs from the unchanged one nearly everywhere, gets whole maps,
    and what follows is ordinary work. So the result is exact whatever the model does.

    Args:
        most: share of a map above which the whole map is computed.
        convolutions: what a :class:`~captum._engine.folding.Probe` found; for whole maps use
            :class:`~captum._engine.folding.Folded` around this mode.

    Attributes:
        spread: the first operator that needed whole maps while the boxes were small.
        local: number of convolutions that worked on boxes.
        wide: number of heavy operators on whole maps after ``spread``.
        largest: most elements per row of any tensor that was computed.
    """

    def __init__(self, most: float = MOST, convolutions: Mapping[int, Convolution] = NOTHING_KNOWN) -> None:
        super().__init__()
        self.most = most
        self.convolutions = convolutions
        self.spread = ""
        self.local = 0
        self.wide = 0
        self.largest = 0
        self._rows = 1

    def begin(self, map_: Increment) -> Tensor:
        """The tensor that stands for an increment in the user's code."""
        self._rows = map_.shape[0]
        return self._stand_in(map_)

    def end(self, output: object) -> object:
        """A result, as an ordinary tensor.

        Raises:
            NotLocalError: when it was computed by code that was not seen.
        """
        return self._whole(output)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See one torch call."""
        kwargs = {} if kwargs is None else kwargs
        tensors = tensors_in((args, kwargs), [])
        states = [s for s in map(_state_of, tensors) if s is not None]
        if any(s.dense is None for s in states):
            return self._on_increments(func, args, kwargs, states)
        name = getattr(func, "__name__", "")
        if self.spread and name in _HEAVY and tensors and tensors[0].dim() > 2:
            self.wide += 1
        return self._counted(func, args, kwargs, bool(states) or any(t.is_meta for t in tensors))

    def _on_increments(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], states: list[_State]) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name in _FORM:
            return func(*args, **kwargs)
        if name in _PLACE:
            return func(next(s for s in states if s.dense is None).map.values)
        spelling = SPELLINGS.get(func)
        if spelling is None:
            return self._on_whole(func, args, kwargs, False)
        if spelling.operator.name != "batch_norm" and any(s.map.norm is not None for s in states):
            raise Diverged
        call, target = self._parsed(func, spelling, args, kwargs)
        rule = rule_for(spelling.operator.name)
        if target is not None and target.map.shared and target.dense is None:
            message = f"{spelling.operator.name} writes into a tensor that is seen through another one"
            raise NotLocalError(message)
        written = target is not None and target.dense is not None
        if rule is None or written or not call.increments or kwargs.get("out") is not None:
            return self._on_whole(func, args, kwargs, False)
        out = rule(call)
        if out is None or (isinstance(out, tuple) and None in out):
            return self._on_whole(func, args, kwargs, call.large)
        self.local += spelling.operator.name == "conv2d"
        return self._finished(out, args, target, call)

    def _parsed(
        self, func: Callable[..., Any], spelling: Spelling, args: Any, kwargs: dict[str, Any]
    ) -> tuple[IncrementCall, _State | None]:
        """The call, out of place; and the state of the tensor that the user's call writes to, if any."""
        mutates, position = spelling.mutates, spelling.inplace_at
        if position >= 0:
            mutates = bool(args[position] if len(args) > position else kwargs.get("inplace", False))
            if len(args) > position:
                args = (*args[:position], False, *args[position + 1 :])
            elif mutates:
                kwargs = {**kwargs, "inplace": False}
        function = _out_of_place(func) if spelling.mutates else func
        target = _state_of(args[0]) if mutates and args else None
        if mutates and target is None:
            # an ordinary tensor is written to: it is that tensor that the code goes on with
            args, kwargs = changed((args, kwargs), self._whole)
        args, kwargs = changed((args, kwargs), _map_of)
        return IncrementCall(function, args, kwargs, self.most, self.convolutions), target

    def _finished(self, out: Any, args: Any, target: _State | None, call: IncrementCall) -> Any:
        """The result as the user's code sees it."""
        if target is not None:
            if isinstance(out, Increment):
                target.map = out
            else:
                target.dense = out
            return args[0]
        if isinstance(out, tuple):
            return tuple(self._stand_in(part) for part in out)
        if not isinstance(out, Increment):
            return out
        if args and out is call.args[0]:
            return args[0]
        return self._stand_in(out)

    def _on_whole(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], large: bool) -> Any:
        """The call on whole maps."""
        small = [m for m in map(_map_of, leaves_in((args, kwargs), [])) if isinstance(m, Increment)]
        if not large and not self.spread and any(_is_small(m, self.most) for m in small):
            self.spread = resolve_name(func) or getattr(func, "__name__", repr(func))
        name = getattr(func, "__name__", "")
        for state in map(_state_of, args):
            if state is not None and name in _VIEWS:
                state.whole(plain=True)
        return self._counted(func, args, kwargs, True)

    def _counted(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], replaced: bool) -> Any:
        """The call on ordinary tensors."""
        if replaced:
            args = changed(args, self._whole)
            named: dict[str, Any] = changed(kwargs, self._whole)
            kwargs = named
        try:
            out = func(*args, **kwargs)
        except RuntimeError:
            if getattr(func, "__name__", "") not in _VIEWS:
                raise
            # whole maps have their channels last, where not every view exists: the tensor moves to the usual format
            args[0].data = args[0].contiguous()
            out = func(*args, **kwargs)
        if isinstance(out, Tensor):
            self.largest = max(self.largest, out.numel() // self._rows)
        return out

    def _stand_in(self, map_: Increment) -> Tensor:
        self.largest = max(self.largest, map_.values.numel() // self._rows)
        tensor = torch.empty(map_.shape, dtype=map_.values.dtype, device="meta")
        setattr(tensor, STATE, _State(map_))
        return tensor

    def _whole(self, value: Any) -> Any:
        state = _state_of(value)
        if state is not None:
            return state.whole()
        if isinstance(value, Tensor) and value.is_meta:
            message = "code that is hidden from torch's function modes works on the maps"
            raise NotLocalError(message)
        return value


@torch.inference_mode()
def leave_values(modules: Sequence[nn.Module]) -> None:
    """What modules kept of a run, such as their last value, becomes ordinary tensors."""
    for module in modules:
        for name, value in list(vars(module).items()):
            state = _state_of(value)
            if state is not None and state.map.norm is None:
                setattr(module, name, state.whole())


def _state_of(value: object) -> _State | None:
    return getattr(value, STATE, None) if isinstance(value, Tensor) else None


def _map_of(value: Any) -> Any:
    """The increment that a tensor stands for, its whole map if that is what it stands for now, or the value itself."""
    state = _state_of(value)
    return value if state is None else state.map if state.dense is None else state.dense


def _is_small(map_: Increment, most: float) -> bool:
    return map_.y.size * map_.x.size > 1 and map_.y.length * map_.x.length <= most * map_.y.size * map_.x.size


_WRITERS: dict[Callable[..., Any], Callable[..., Any]] = {}


def _out_of_place(func: Callable[..., Any]) -> Callable[..., Any]:
    """The same call that writes into a copy; one function for each."""
    if func not in _WRITERS:

        def copying(target: Tensor, *args: Any, **kwargs: Any) -> Any:
            copy = target.clone()
            out = func(copy, *args, **kwargs)
            return copy if out is None else out

        copying.__name__ = getattr(func, "__name__", "").rstrip("_") or "copying"
        _WRITERS[func] = copying
    return _WRITERS[func]
