"""One torch call as a rule sees it: its operator, its tensors on the differentiated path, and how to finish it.

A tensor on the path carries a *mark*. Under paired rules the mark holds the tensor's *twin*: the value that the same
place of the computation has for the baseline. Marks sit on tensors that the forward pass made, and are taken off after
it.
"""

from __future__ import annotations

import operator as python_operators
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum._engine.operators import Operator, Spelling

if TYPE_CHECKING:
    from captum._engine.rules import RuleMode

MARK = "_captum_mark"
_REFLECTED: dict[str, Callable[..., Any]] = {
    "add": python_operators.add,
    "sub": python_operators.sub,
    "mul": python_operators.mul,
    "div": python_operators.truediv,
    "pow": python_operators.pow,
    "matmul": python_operators.matmul,
}


class Mark:
    """What a rule mode knows of a tensor.

    Attributes:
        mode: the mode that set it.
        twin: the tensor's value for the baseline, or None where nothing is paired.
        live: whether the tensor was seen to require grad; one that turns so later may come from code unseen.
        beside: whether it requires grad for the sake of parameters alone, as weights do that an index picks.
        notes: what rules want to tell the next rule.
    """

    __slots__ = ("beside", "live", "mode", "notes", "twin")

    def __init__(self, mode: RuleMode, twin: Tensor | None = None, live: bool = False, *, beside: bool = False) -> None:
        self.mode = mode
        self.twin = twin
        self.live = live
        self.beside = beside
        self.notes: dict[str, Any] = {}


def leaves_in(value: Any, found: list[Any], kind: type = object) -> list[Any]:
    """Append what is of a kind, and no list, tuple or dict, in nested ones."""
    if isinstance(value, (list, tuple)):
        for part in value:
            leaves_in(part, found, kind)
    elif isinstance(value, dict):
        for part in value.values():
            leaves_in(part, found, kind)
    elif isinstance(value, kind):
        found.append(value)
    return found


def tensors_in(value: Any, found: list[Tensor]) -> list[Tensor]:
    """Append the tensors in nested lists, tuples and dicts."""
    return leaves_in(value, found, Tensor)


def replace_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor replaced by ``change(tensor)``."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        parts = [replace_tensors(part, change) for part in value]
        kind: Any = type(value)
        return kind(*parts) if hasattr(kind, "_fields") else tuple(parts) if kind is tuple else kind(parts)
    if isinstance(value, list):
        return [replace_tensors(part, change) for part in value]
    if isinstance(value, dict):
        return {k: replace_tensors(v, change) for k, v in value.items()}
    if isinstance(value, slice):
        kind = slice
        return kind(*[replace_tensors(v, change) for v in (value.start, value.stop, value.step)])
    return value


def _own(value: Tensor) -> Tensor:
    """The value as a tensor in its own right: torch refuses to write to views that come out of a node."""
    return torch.ops.aten._unsafe_view(value, value.shape) if value._is_view() else value  # no public names


class _Node(torch.autograd.Function):
    """A node of the graph whose values (in a list, so that they count as made here) and backward rule are given."""

    @staticmethod
    def forward(ctx: Any, pull: Callable[..., Any], values: list[Any], *_inputs: Tensor) -> Any:
        """Hand the values over."""
        ctx.pull = pull
        found = values.pop()
        return _own(found) if isinstance(found, Tensor) else tuple(map(_own, found))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Apply the rule."""
        return None, None, *ctx.pull(*grads)


Pull = Callable[[Tensor], Any] | Callable[[Tensor, Tensor], Any]


def route(pull: Pull, values: Any, *inputs: Tensor) -> Any:
    """``values`` as a function of ``inputs`` whose backward pass is ``pull(*grads)``, one gradient or None per input.

    Args:
        pull: the rule; gets one gradient for each of the values.
        values: a tensor or a tuple of tensors, without history and not yet used elsewhere.
        inputs: the tensors that the gradients are for.
    """
    return _Node.apply(pull, [values], *inputs)


def route_in_place(pull: Callable[[Tensor], Any], target: Tensor) -> Any:
    """Like :func:`route` for one tensor whose memory already holds the new values: the tensor itself is the result."""
    return Overwrite.apply(pull, target)


class Overwrite(torch.autograd.Function):
    """Like :func:`route` for a tensor whose memory already holds the new values: the tensor itself is the result."""

    @staticmethod
    def forward(ctx: Any, pull: Callable[..., Any], target: Tensor) -> Tensor:
        """Declare that the tensor was written to."""
        ctx.pull = pull
        ctx.mark_dirty(target)
        return target

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Apply the rule."""
        return None, *ctx.pull(*grads)


def made_by_user(tensor: Tensor) -> bool:
    """Whether a tensor is the result of an autograd function that is not one of ours."""
    node = tensor.grad_fn
    ours = (_Node, Overwrite)
    return isinstance(node, torch.autograd.function.BackwardCFunction) and not any(
        type(node).__name__ == f"{kind.__name__}Backward" for kind in ours
    )


def reduce_to(grad: Tensor, like: Tensor) -> Tensor:
    """Sum a gradient over what broadcasting repeated, in the dtype of the tensor that it belongs to."""
    grad = grad if grad.shape == like.shape else grad.sum_to_size(like.shape)
    return grad if grad.dtype == like.dtype else grad.to(like.dtype)


class Call:
    """One torch call on the differentiated path.

    Attributes:
        mode: the active mode.
        operator: the canonical operator.
        function: the function to call, operands in the usual order.
        args: positional arguments.
        kwargs: keyword arguments.
        path: marked tensors among the arguments, in order.
        mutates: whether the user's call writes into ``args[0]``.
    """

    __slots__ = ("_active", "_writes", "args", "function", "kwargs", "mode", "mutates", "operator", "path")

    def __init__(
        self, mode: RuleMode, spelling: Spelling, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> None:
        self.mode = mode
        self.operator: Operator = spelling.operator
        self.function = function
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        if not args and "input" in kwargs and self.name != "where":  # torch's name for the first operand
            self.args = (kwargs["input"],)
            self.kwargs = {k: v for k, v in kwargs.items() if k != "input"}
        self.mutates = self._writes = spelling.mutates
        if spelling.reflected:
            self.function = _REFLECTED[self.operator.name]
            self.args = (args[1], args[0])
        elif spelling.inplace_at >= 0:
            self._normalise_inplace(spelling.inplace_at)
        self.path: list[Tensor] = []
        self._active: list[Tensor] | None = None

    def _normalise_inplace(self, position: int) -> None:
        """Call the functional form, and remember whether the user asked for the in-place one."""
        if len(self.args) > position:
            self.mutates = bool(self.args[position])
            self.args = (*self.args[:position], False, *self.args[position + 1 :])
        elif self.kwargs.get("inplace"):
            self.mutates = True
            self.kwargs = {**self.kwargs, "inplace": False}

    @property
    def name(self) -> str:
        """Canonical name of the operator."""
        return self.operator.name

    @property
    def active(self) -> list[Tensor]:
        """Tensors on the path from which a derivative leads to the variables."""
        found = self._active
        if found is None:
            found = self.mode.leading(self.path)
            self._active = None if self.mutates else found  # what is written to may lead there afterwards
        return found

    @property
    def passive(self) -> list[Tensor]:
        """Tensors on the path that no derivative follows: masks, indices, what they pick, what was detached."""
        active = self.active
        return [t for t in self.path if all(t is not a for a in active)]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    @property
    def overwrites(self) -> bool:
        """Whether the first tensor may be computed in its own memory: the user asked for it, and no view looks on."""
        target: Tensor = self.args[0]
        return (
            self.mutates and not target._is_view() and not target.is_leaf and torch.is_grad_enabled()
        )  # no public name

    def evaluate(self, change: Callable[[Tensor], Tensor] | None = None) -> Any:
        """The operator's value, never in place, with every tensor argument replaced by ``change(tensor)``."""
        return self.evaluator(self.args, self.kwargs)(change)

    def evaluator(self, args: Any, kwargs: Any) -> Callable[[Callable[[Tensor], Tensor] | None], Any]:
        """:meth:`evaluate` for other arguments, without a reference to this call."""
        function, writes = self.function, self._writes

        def evaluate(change: Callable[[Tensor], Tensor] | None) -> Any:
            now, named = args, kwargs
            if change is not None:
                now, named = replace_tensors(args, change), replace_tensors(kwargs, change) if kwargs else kwargs
            if not writes:
                return function(*now, **named)
            target = now[0].clone()
            out = function(target, *now[1:], **named)
            return target if out is None else out

        return evaluate

    def twin_value(self) -> Any:
        """The operator's value for the baseline, never in place and without a graph."""
        with torch.no_grad():
            return self.evaluate(self.mode.twin)

    def native(self) -> Any:
        """Make the call as the user wrote it, with torch's own derivative, and mark what it gives."""
        mode = self.mode
        target = self.args[0] if self.mutates else None
        beside = not self.active
        if target is not None:
            mode.protect(target)
            mode.adopt(target, beside=beside)
        if self.mutates and not self._writes:
            return self.settle(self.evaluate(), self.twin_value() if mode.paired else None)
        twin_args: Any = None
        if mode.paired:
            twin_args = replace_tensors(self.args, mode.twin), replace_tensors(self.kwargs, mode.twin)
        out = self.function(*self.args, **self.kwargs)
        twin = None
        if mode.paired:
            with torch.no_grad():
                twin = self.function(*twin_args[0], **twin_args[1])
        if target is None:
            mode.mark_all(out, twin, beside=beside)
        return out

    def settle(self, out: Any, twin: Any = None) -> Any:
        """Finish a call whose value was computed out of place: write it where it was wanted, mark it, return it."""
        if not self.mutates:
            self.mode.mark_all(out, twin)
            return out
        target: Tensor = self.args[0]
        self.mode.protect(target)
        self.mode.adopt(target, beside=not self.active)
        target.copy_(out)
        if self.mode.paired:
            with torch.no_grad():
                self.mode.twin(target).copy_(twin)
        return target


class Marks:
    """The marks of one mode: set, read, and taken off at the end."""

    def __init__(self) -> None:
        self._seen: list[weakref.ref[Tensor]] = []
        self.adopted = False

    def get(self, tensor: Tensor, mode: RuleMode) -> Mark | None:
        """The mark that this mode set on a tensor, or on the constant whose memory it looks at."""
        mark: Mark | None = getattr(tensor, MARK, None)
        if mark is not None:
            return mark if mark.mode is mode else None
        base = tensor._base if self.adopted else None  # the tensor that a view looks at
        found: Mark | None = None if base is None else getattr(base, MARK, None)
        if base is None or found is None or found.mode is not mode:
            return None
        twin = found.twin
        if twin is not None:
            twin = twin.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset() - base.storage_offset())
        return self.set(tensor, Mark(mode, twin, beside=found.beside))

    def forget_beside(self, tensor: Tensor) -> None:
        """A derivative leads through the memory of a tensor from now on."""
        memory = tensor.untyped_storage().data_ptr()
        for other in self:
            if other.untyped_storage().data_ptr() == memory:
                getattr(other, MARK).beside = False

    def set(self, tensor: Tensor, mark: Mark) -> Mark:
        """Put a mark on a tensor."""
        setattr(tensor, MARK, mark)
        self._seen.append(weakref.ref(tensor))
        return mark

    def clear(self) -> None:
        """Take all marks off."""
        for reference in self._seen:
            tensor = reference()
            if tensor is not None and hasattr(tensor, MARK):
                delattr(tensor, MARK)
        self._seen.clear()

    def __iter__(self) -> Iterator[Tensor]:
        return iter([t for t in (r() for r in self._seen) if t is not None])
