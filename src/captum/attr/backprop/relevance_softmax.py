"""Relevance through softmax, also where it is written out: exponentials of logits less their largest, over their sum.

softmax(x − c) = softmax(x) for every c that the entries share, so what is taken off against overflow explains nothing:
c gets no relevance, and x what x − c has. To share it in proportion to x and −c instead would divide by x − c, which is
0 at the largest entry, where exp(0) = 1 has relevance all the same. Written so, softmax has the relevance of
``torch.softmax``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum._engine.calls import Call, route
from captum._engine.rules import Saved
from captum.attr.backprop.slopes import widened

_LOGITS, _EXPONENT, _TOTAL = "logits", "exponent", "total"


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


def logits_of(call: Call, x: Tensor) -> Saved:
    """The logits behind the argument of a softmax or an exponential, before the largest was taken off."""
    mark = call.mode.marks.get(x, call.mode)
    noted: Any = None if mark is None else mark.notes.get(_LOGITS)
    return noted[0] if noted is not None and noted[1] == x._version else call.mode.save(x)  # no public name


def note_logits(call: Call, logits: Saved, out: Tensor) -> None:
    """Remember of a difference what its logits were."""
    _note(call, out, _LOGITS, (logits, out._version))  # no public name


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
