"""Rules: which derivative the backward pass takes at every operator that the forward pass calls.

Inside a ``with RuleMode(table):`` block every torch call is seen, whether it comes from a module, a function, a tensor
method or Python's operators. Calls that touch the differentiated path are finished by the table's rule for their
operator; an operator that the table does not know raises.

Paired modes also carry, beside each tensor on the path, its *twin*: the value at the same place for the baseline. The
model is run once, for the inputs; each operator is evaluated for both. So a rule has both values at hand whatever the
layout of the tensors, no dimension needs to be the batch, and the backward pass has the rows of the inputs only.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from captum._engine.calls import Call, Mark, Marks, made_by_user, replace_tensors, tensors_in
from captum._engine.checkpoints import everything_kept, is_checkpointed, refuse_reentrant
from captum._engine.complexes import BEGIN, BY_PARTS
from captum._engine.operators import OPERATORS, SPELLINGS, Kind, Operator
from captum._engine.recurrent import declare_recurrent
from captum.errors import CaptumWarning, UnknownOperatorError

declare_recurrent()

Rule = Callable[[Call], Any]
OnUnknown = Literal["raise", "warn", "linear"]

#: What tells Python how large a tensor is.
_SIZES = {
    Tensor.size,
    Tensor.__len__,
    Tensor.numel,
    Tensor.nelement,
    vars(torch._C.TensorBase)["shape"].__get__,
}  # no public name


class Table:
    """Rules by operator name, else by kind of operator.

    Args:
        names: rules for single operators.
        kinds: rules for whole kinds.
        fallback: rule for what neither knows, or None to treat it as unknown.
    """

    def __init__(self, names: Mapping[str, Rule], kinds: Mapping[Kind, Rule], fallback: Rule | None = None) -> None:
        self.names = dict(names)
        self.kinds = dict(kinds)
        self.fallback = fallback

    def rule(self, operator: Operator) -> Rule | None:
        """The rule for an operator."""
        found = self.names.get(operator.name)
        return found or self.kinds.get(operator.kind) or self.fallback


class Saved:
    """A tensor that a backward rule will need; a later in-place call gives it memory of its own first."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class RuleMode(TorchFunctionMode):
    """See every torch call and finish those on the differentiated path by a table.

    Args:
        table: the rules.
        root: the model, to name modules in messages.
        paired: whether tensors on the path have twins.
        on_unknown: what to do at an operator without a rule: ``"raise"``, ``"warn"`` or use its own derivative
            (``"linear"``).
    """

    def __init__(
        self, table: Table, root: nn.Module | None = None, *, paired: bool = False, on_unknown: OnUnknown = "raise"
    ) -> None:
        super().__init__()
        self.table = table
        self.root = root
        self.paired = paired
        self.on_unknown: OnUnknown = on_unknown
        self.marks = Marks()
        self.leaves: list[Tensor] = []
        self.used: dict[str, int] = {}
        self.besides = False
        self._complex = False
        self._saved: dict[int, list[weakref.ref[Saved]]] = {}
        self._constants: list[Tensor] = []

    def begin(self, variables: Sequence[Tensor], twins: Sequence[Tensor] | None = None) -> None:
        """Put the variables on the path.

        Args:
            variables: leaves that require grad.
            twins: their values for the baseline, of the same shapes, for a paired mode.
        """
        for number, variable in enumerate(variables):
            twin = None
            if twins is not None:
                twin = torch.empty_like(variable, requires_grad=False).copy_(twins[number].detach())
            self.marks.set(variable, Mark(self, twin, live=True))
        self.leaves.extend(variables)

    def close(self) -> None:
        """Take every mark off; to be called when the backward pass is through."""
        self.marks.clear()
        self.leaves.clear()
        self._saved.clear()
        self._constants.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See one torch call."""
        kwargs = kwargs or {}
        path = self._path(args, kwargs)
        if not path:
            return func(*args, **kwargs)
        spelling = SPELLINGS.get(func)
        if spelling is None:
            return self._unlisted(func, args, kwargs, path)
        if kwargs.get("out") is not None:
            self.complain(func, f"{spelling.operator.name} with out=")
        call = Call(self, spelling, func, args, kwargs)
        call.path = path
        if not is_checkpointed():
            return self._apply(call)
        with everything_kept():  # what runs again in the backward pass would run without rules
            return self._apply(call)

    def _apply(self, call: Call) -> Any:
        kind, name = call.operator.kind, call.name
        self.used[name] = self.used.get(name, 0) + 1
        if kind is Kind.CONSTANT:
            return call.function(*call.args, **call.kwargs)
        if kind is Kind.READ:
            return self._read(call)
        self._complex |= name in BEGIN
        rule = self.table.rule(call.operator)
        if kind is Kind.STOP:
            return call.native()
        if (name in BY_PARTS or self._complex) and self.table.fallback is None and _mixes_complex(call):
            return self._by_parts(call)
        if kind is Kind.COMPOSITE and name not in self.table.names and call.operator.decompose is not None:
            if call.mutates:
                return call.native() if not call.active else self._decomposed_inplace(call)
            with self:
                return call.operator.decompose(*call.args, **call.kwargs)
        if rule is None:
            self.complain(call.function, name)
            return call.native()
        return rule(call)

    def _by_parts(self, call: Call) -> Any:
        """A call on complex numbers, written with their real and imaginary parts."""
        self._complex = True
        function = BY_PARTS.get(call.name)
        if function is None:
            self.complain(call.function, f"{call.name} of complex numbers")
            return call.native()
        with self:
            out = function(*call.args, **call.kwargs)
        return call.settle(out, self.twin(out) if self.paired else None) if call.mutates else out

    def _decomposed_inplace(self, call: Call) -> Any:
        with self:
            out = call.operator.decompose(*call.args, **call.kwargs) if call.operator.decompose else None
        return call.settle(out, replace_tensors(out, self.twin) if self.paired else None)

    def _path(self, args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
        """Marked tensors among the arguments."""
        found: list[Tensor] = []
        for value in args:
            if isinstance(value, Tensor):
                found.append(value)
            elif isinstance(value, (list, tuple)):
                tensors_in(value, found)
        if kwargs:
            tensors_in(kwargs, found)
        return [t for t in found if self._on_path(t)]

    def _on_path(self, tensor: Tensor) -> bool:
        mark = self.marks.get(tensor, self)
        if mark is None:
            return self._escaped(tensor)
        if not mark.live and tensor.requires_grad:
            mark.live = True
            if made_by_user(tensor):
                refuse_reentrant(type(tensor.grad_fn).__name__, self._caller)
                self.complain(None, f"an autograd function of the model's own ({type(tensor.grad_fn).__name__})")
        return True

    def _escaped(self, tensor: Tensor) -> bool:
        """Complain about a tensor that depends on the path through code that this mode did not see."""
        if not tensor.requires_grad or tensor.grad_fn is None or not self.leaves:
            return False
        if any(tensor is t for t in self._constants):
            return False
        if not _reaches(tensor, self.leaves):
            self._constants.append(tensor)
            return False
        name = tensor.grad_fn.name()
        refuse_reentrant(name, self._caller)
        if self.paired:
            raise UnknownOperatorError(self._message(f"a call outside torch's functions (autograd node {name})", None))
        self.complain(None, f"a call outside torch's functions (autograd node {name})")
        self.marks.set(tensor, Mark(self))
        return True

    def _unlisted(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], path: list[Tensor]) -> Any:
        """A function that no table lists: fine when no derivative passes, else unknown."""
        out = func(*args, **kwargs)
        results = tensors_in(out, [])
        if not results:
            if self.paired and func in _SIZES and args[0].shape != self.twin(args[0]).shape:
                self.complain(func, f"{_name_of(func)}: Python code reads a size that the baseline changes")
            return out
        leads = bool(self.leading(path))
        cuts = leads and torch.is_grad_enabled()
        if any((leads and t.requires_grad) or (cuts and t.is_floating_point()) for t in results):
            self.complain(func, _name_of(func))
        twin = None
        if self.paired:
            with torch.no_grad():
                twin = func(*replace_tensors(args, self.twin), **replace_tensors(kwargs, self.twin))
        self.mark_all(out, twin, beside=not leads)
        return out

    def _read(self, call: Call) -> Any:
        """Python code reads a value: right only when the baseline's value is the same."""
        value = call.function(*call.args, **call.kwargs)
        if self.paired and not any(t.is_meta for t in call.path):
            with torch.no_grad():
                other = call.function(*replace_tensors(call.args, self.twin), **call.kwargs)
            same = value == other
            if not (same if isinstance(same, bool) else bool(same.all())):
                self.complain(call.function, f"{call.name}: Python code reads a value that the baseline changes")
        return value

    def twin(self, tensor: Tensor) -> Tensor:
        """The tensor's value for the baseline; itself when it is a constant."""
        mark = self.marks.get(tensor, self)
        if mark is not None and mark.twin is not None:
            return mark.twin
        return tensor.detach() if tensor.requires_grad else tensor

    def leading(self, tensors: list[Tensor]) -> list[Tensor]:
        """Those of the tensors on the path from which a derivative leads to the variables."""
        found = [t for t in tensors if t.requires_grad]
        if not self.besides:
            return found
        marks = [self.marks.get(t, self) for t in found]
        return [t for t, mark in zip(found, marks, strict=True) if mark is None or not mark.beside]

    def mark_all(self, out: Any, twin: Any, *, beside: bool = False) -> None:
        """Mark the tensors of a result, each with its twin; ``beside`` if no derivative leads to the variables."""
        if isinstance(out, Tensor):
            if self.paired or out.requires_grad:
                beside = beside and out.requires_grad
                self.marks.set(out, Mark(self, twin, out.requires_grad, beside=beside))
                self.besides |= beside
        elif isinstance(out, (list, tuple)):
            for position, part in enumerate(out):
                self.mark_all(part, None if twin is None else twin[position], beside=beside)

    def adopt(self, tensor: Tensor, *, beside: bool = False) -> None:
        """A tensor is about to be written to by the path: from here on it is on the path too, or leads along it."""
        if self.marks.get(tensor, self) is not None:
            if self.besides and not beside:
                self.marks.forget_beside(tensor)
            return
        base = tensor if tensor._base is None else tensor._base  # the tensor that a view looks at
        twin = base.detach().clone() if self.paired else None
        self.marks.set(base, Mark(self, twin, beside=beside))
        self.besides |= beside
        self.marks.adopted = True
        self.marks.get(tensor, self)

    def check_seen(self, scores: Tensor) -> None:
        """Complain when the scores come out of code that this mode did not see."""
        self._on_path(scores)

    def save(self, tensor: Tensor) -> Saved:
        """Keep a value for the backward pass, safe from later in-place calls."""
        saved = Saved(tensor.detach())
        self._saved.setdefault(_memory(tensor), []).append(weakref.ref(saved))
        return saved

    def protect(self, tensor: Tensor) -> None:
        """Before memory is overwritten: copy what backward rules still need of it."""
        for reference in self._saved.pop(_memory(tensor), ()) if self._saved else ():
            saved = reference()
            if saved is not None:
                saved.tensor = saved.tensor.clone()

    def complain(self, func: Callable[..., Any] | None, what: str) -> None:
        """Say that an operator has no rule, as the caller chose."""
        if self.on_unknown == "linear":
            return
        message = self._message(what, func)
        if self.on_unknown == "warn":
            warnings.warn(message, CaptumWarning, stacklevel=4)
            return
        raise UnknownOperatorError(message)

    def _message(self, what: str, func: Callable[..., Any] | None) -> str:
        full = _name_of(func) if func is not None else ""
        spelled = f" ({full})" if full and full != what else ""
        return (
            f"No backward rule for operator {what}{spelled}, called from {self._caller()}. Register one with "
            "captum.attr.rules.register, rewrite the call in operators of captum.attr.rules.operators(), or pass "
            "on_unknown='linear' to use its plain derivative."
        )

    def _caller(self) -> str:
        """The innermost module on the Python stack, by its path in the model."""
        names = {id(m): n for n, m in self.root.named_modules()} if self.root is not None else {}
        frame = sys._getframe()  # only on the way to an error
        while frame is not None:
            owner: object = frame.f_locals.get("self")
            if isinstance(owner, nn.Module):
                path = names.get(id(owner))
                kind = type(owner).__name__
                return f"the model itself ({kind})" if path == "" else f"module {path!r} ({kind})" if path else kind
            frame = frame.f_back
        return "the forward function"


def _mixes_complex(call: Call) -> bool:
    """Whether an operator that does more than move elements works on complex numbers."""
    if call.operator.kind is Kind.STRUCTURAL:
        return False
    operands = (*call.args, *call.kwargs.values())
    return any(isinstance(a, complex) or (isinstance(a, Tensor) and a.is_complex()) for a in operands)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _name_of(func: Callable[..., Any] | None) -> str:
    return (resolve_name(func) or getattr(func, "__name__", repr(func))) if func is not None else ""


def _reaches(tensor: Tensor, leaves: Sequence[Tensor]) -> bool:
    """Tell whether the graph of a tensor leads to one of the leaves."""
    seen: set[Any] = set()
    stack: list[Any] = [tensor.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and any(variable is leaf for leaf in leaves):
            return True
        stack.extend(n for n, _ in node.next_functions)
    return False


def known(name: str) -> Operator:
    """The operator of a canonical name."""
    return OPERATORS[name]
