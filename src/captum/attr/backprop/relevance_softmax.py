"""Relevance through softmax, also where it is written out: exponentials of logits less their largest, over their sum.

softmax(x − c) = softmax(x) for every c that the entries share, so what is taken off against overflow explains nothing:
c gets no relevance, and x what x − c has. To share it in proportion to x and −c instead would divide by x − c, which is
0 at the largest entry, where exp(0) = 1 has relevance all the same. Written so, softmax has the relevance of
``torch.softmax``.

Whether x − max x is such a shift is known when an exponential reads it, at once or after moves, casts and constant
factors. Where none does, it is a difference like others, and x and the largest entry share its relevance in proportion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.calls import Call, reduce_to, route, tensors_in
from captum._engine.operators import Kind
from captum._engine.rules import Rule, Saved
from captum.attr.backprop.relevance_products import Pull
from captum.attr.backprop.slopes import widened

_LOGITS, _EXPONENT, _TOTAL = "logits", "exponent", "total"
_EXPONENTIALS = {"exp", "exp2", "softmax", "log_softmax", "logsumexp"}
#: Besides moves, operators that a shift is seen through.
_THROUGH = {"mul", "div", "clamp", "clamp_min", "clamp_max"}


class Shift:
    """A difference of logits and their largest, and whether an exponential reads it.

    Attributes:
        logits: the logits, or None where they are not known any more.
        followed: holds something if an exponential reads the difference; shared with what is made of it.
    """

    __slots__ = ("followed", "logits")

    def __init__(self, logits: Saved | None, followed: list[str] | None = None) -> None:
        self.logits = logits
        self.followed: list[str] = [] if followed is None else followed

    def pull(self, otherwise: Pull, operands: list[Tensor], x: Tensor) -> Callable[[Tensor], tuple[Tensor | None, ...]]:
        """All relevance to the operand x if an exponential followed, else what ``otherwise`` gives."""
        takes = [t is x for t in operands]
        like = x.detach()

        def rule(relevance: Tensor) -> tuple[Tensor | None, ...]:
            if not self.followed:
                return otherwise(relevance)
            return tuple(reduce_to(relevance, like) if all_of_it else None for all_of_it in takes)

        return rule


class Shifts:
    """Follows differences of logits and their largest to the exponentials that read them."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self, call: Call) -> Shift | None:
        """The shift that a difference may be."""
        if not takes_off_the_largest(call):
            return None
        self.begun = True
        return Shift(logits_of(call, call.args[0]))

    def followed(self, rule: Rule) -> Rule:
        """A rule that also follows shifts."""

        def follow(call: Call) -> Any:
            active = call.active if self.begun else ()
            shift = shift_of(call, active[0]) if len(active) == 1 else None
            if shift is None:
                return rule(call)
            if call.name in _EXPONENTIALS:
                shift.followed.append(call.name)
                return rule(call)
            moved = _after(call, shift)
            out = rule(call)
            if moved is not None:
                for part in tensors_in(out, []):
                    note_shift(call, moved if part is out else Shift(None, shift.followed), part)
            return out

        return follow


def takes_off_the_largest(call: Call) -> bool:
    """Whether a difference is that of logits and their largest, along some dims or of all."""
    x, largest = call.argument(0, "input"), call.argument(1, "other")
    if not isinstance(x, Tensor) or not isinstance(largest, Tensor) or call.kwargs.get("alpha", 1) != 1:
        return False
    if not any(x is t for t in call.active) or x.is_meta or not x.numel() or largest.numel() == x.numel():
        return False
    if largest.dim() not in (0, x.dim()):
        return False
    shape = largest.shape if largest.dim() else (1,) * x.dim()
    along = [d for d, (here, there) in enumerate(zip(x.shape, shape, strict=True)) if here != there]
    if any(shape[d] != 1 for d in along):
        return False
    return torch.equal(x.detach().amax(along, keepdim=True), largest.detach().reshape(shape).to(x.dtype))


def shift_of(call: Call, x: Tensor) -> Shift | None:
    """The shift that a tensor is, unless it was written to since."""
    mark = call.mode.marks.get(x, call.mode)
    noted: Any = None if mark is None else mark.notes.get(_LOGITS)
    return noted[0] if noted is not None and noted[1] == x._version else None  # no public name


def logits_of(call: Call, x: Tensor) -> Saved:
    """The logits behind the argument of a softmax or an exponential, before the largest was taken off."""
    shift = shift_of(call, x)
    return call.mode.save(x) if shift is None or shift.logits is None else shift.logits


def note_shift(call: Call, shift: Shift, out: Tensor) -> None:
    """Remember of a difference that it may be a shift."""
    _note(call, out, _LOGITS, (shift, out._version))  # no public name


def _after(call: Call, shift: Shift) -> Shift | None:
    """What an operator makes of a shift; to be asked before the call is made."""
    x = call.active[0]
    if call.operator.kind is not Kind.STRUCTURAL and (call.name not in _THROUGH or call.args[0] is not x):
        return None
    moved: object = None
    if shift.logits is not None and not call.name.startswith("clamp"):
        logits = shift.logits.tensor
        with torch.no_grad():
            moved = call.evaluate(lambda t: logits if t is x else t.detach())
    return Shift(call.mode.save(moved) if isinstance(moved, Tensor) else None, shift.followed)


def note_exponent(call: Call, logits: Saved, out: Tensor) -> None:
    """Remember of an exponential its logits."""
    _note(call, out, _EXPONENT, (logits, out._version))  # no public name


def note_total(call: Call, out: Tensor) -> None:
    """Remember of a sum of exponentials what was summed."""
    x = call.argument(0, "input")
    mark = call.mode.marks.get(x, call.mode)
    if mark is not None and _EXPONENT in mark.notes and out.dim() == x.dim():
        along = [d for d, (here, there) in enumerate(zip(x.shape, out.shape, strict=True)) if here != there]
        _note(call, out, _TOTAL, (x, x._version, along))  # no public name


def written_out(call: Call) -> tuple[Saved, list[int]] | None:
    """The logits and dims of a quotient that is a softmax, or None."""
    top, bottom = call.argument(0, "input"), call.argument(1, "other")
    if not isinstance(top, Tensor) or not isinstance(bottom, Tensor):
        return None
    above, below = (call.mode.marks.get(t, call.mode) for t in (top, bottom))
    total: Any = None if below is None else below.notes.get(_TOTAL)
    exponent: Any = None if above is None else above.notes.get(_EXPONENT)
    if total is None or exponent is None or total[0] is not top:
        return None
    same = total[1] == exponent[1] == top._version  # no public name
    return (exponent[0], total[2]) if same else None


def taylor(call: Call, x: Tensor, logits: Saved, dims: int | list[int]) -> Any:
    """R_i = x_i (R_i − y_i Σ R) with logits x and shares y, given to the tensor ``x``."""
    value = call.evaluate(lambda t: t.detach())
    shares = call.mode.save(value)

    def pull(relevance: Tensor) -> tuple[Tensor]:
        wide = widened(relevance)
        total = wide.sum(dims, keepdim=True)
        out = (wide - shares.tensor * total).mul_(logits.tensor)
        return (out.nan_to_num_(nan=0.0).to(relevance.dtype),)  # hidden scores of −inf have no share: −inf · 0

    return call.settle(route(pull, value, x))


def _note(call: Call, out: Tensor, name: str, value: object) -> None:
    mark = call.mode.marks.get(out, call.mode)
    if mark is not None:
        mark.notes[name] = value
