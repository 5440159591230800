"""DeepLIFT's Rescale rule, one rule per kind of operator.

Each rule turns multipliers m of the output into multipliers of the inputs such that Σ m_in · Δin = Σ m_out · Δout,
where Δ is the difference between the value for the input and the value for the baseline. Where nothing differs the
multipliers are the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.calls import Call, reduce_to, route, route_in_place
from captum._engine.operators import Kind
from captum._engine.rules import Rule, Table
from captum.attr.backprop.rescale_extremes import extreme
from captum.attr.backprop.rescale_norms import NORMS
from captum.attr.backprop.slopes import (
    at_least,
    bends,
    derivative_at,
    detached,
    distinct,
    same_conditions,
    secant,
    some,
)

#: Functions whose slope changes fast near 0, so that "a small step" is relative to the argument.
STEEP = {
    "elu", "selu", "celu", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "pow", "float_power",
    "xlogy",
    "lgamma", "digamma", "logit", "tan", "asin", "acos", "acosh", "atanh", "erfinv",
}  # fmt: skip


class Rescale:
    """The Rescale rules for one value of ``eps``.

    Args:
        eps: where |Δin| is below it, an element-wise operator uses its own gradient.
    """

    def __init__(self, eps: float = 1e-10) -> None:
        self.eps = eps

    def table(self) -> Table:
        """Rules by operator and kind."""
        kinds: dict[Kind, Rule] = {
            Kind.STRUCTURAL: self.linear,
            Kind.LINEAR: self.linear,
            Kind.BILINEAR: self.bilinear,
            Kind.ELEMENTWISE: self.elementwise,
            Kind.EXTREME: lambda call: extreme(call, self.eps),
        }
        names = {"relu": self.relu, "div": self.quotient, "pow": self.power, "dropout": self.dropout, **NORMS}
        names["grid_sample"] = self.sampled
        names |= dict.fromkeys(("dropout1d", "dropout2d", "dropout3d", "feature_dropout"), self.dropout)
        return Table(names, kinds)

    def linear(self, call: Call) -> Any:
        """Multipliers are the operator's own derivative."""
        if not call.active or same_conditions(call):
            return call.native()
        return self._conditional(call, call.evaluate)

    def sampled(self, call: Call) -> Any:
        """Linear at points that are constants."""
        return call.native() if bends(call) else self.linear(call)

    def bilinear(self, call: Call) -> Any:
        """Δ(ab) = ā Δb + b̄ Δa with the means ā, b̄ of both values: the derivative at the midpoint."""
        if len(call.path) < 2 or not call.active:
            return call.native()
        if call.name in ("einsum", "bilinear", "kron") and len(call.active) > 2:
            call.mode.complain(call.function, f"{call.name} of more than two tensors that vary")
        if len(call.active) == 1:
            return self._weighed_by(call)
        if not same_conditions(call):
            call.mode.complain(call.function, f"{call.name} of two tensors that vary under a condition that varies")
        return call.settle(self._midpoint(call), call.twin_value())

    def _weighed_by(self, call: Call) -> Any:
        """Weights that no derivative follows: they must not differ where elements are mixed, or no share is due."""
        if call.name in ("mul", "addcmul") or same_conditions(call):
            return self.linear(call)
        call.mode.complain(
            call.function,
            f"{call.name} with weights that the baseline changes and no derivative follows, as routing picks them",
        )
        return call.native()

    @staticmethod
    def _midpoint(call: Call) -> Tensor:
        active = distinct(call.active)
        middles = [(t.detach() + call.mode.twin(t)) / 2 for t in active]
        value = call.evaluate(detached)
        operands = [a for a in call.args if isinstance(a, Tensor)]
        if call.name == "mul" and len(operands) == len(active) == 2:
            first, second = middles
            a, b = _weighed(call, active) or middles
            return route(lambda g: (reduce_to(g * b, first), reduce_to(g * a, second)), value, *active)
        if call.name in ("matmul", "bmm", "mm") and len(active) == 2 and min(a.dim() for a in active) > 1:
            a, b = middles
            return route(
                lambda g: (reduce_to(g @ b.transpose(-1, -2), a), reduce_to(a.transpose(-1, -2) @ g, b)), value, *active
            )
        return route(derivative_at(call, active, middles), value, *active)

    def _conditional(self, call: Call, evaluate: Callable[[Callable[[Tensor], Tensor] | None], Tensor]) -> Any:
        """An operand without derivative (a mask, an index) differs too: scale what its two values give to Δout."""
        mode = call.mode
        moves, stays = {id(t) for t in call.active}, {id(t) for t in call.passive}

        def under(t: Tensor) -> Tensor:
            return mode.twin(t) if id(t) in stays else t

        other = call.twin_value()
        value = call.evaluate(detached)
        if not isinstance(value, Tensor) or value.shape != other.shape:
            call.mode.complain(call.function, f"{call.name} that selects other shapes for input and baseline")
        if _routes(call):
            call.mode.complain(
                call.function, f"{call.name} that picks other rows for input and baseline, as routing does"
            )
        out = (evaluate(None) + evaluate(under)) / 2
        with torch.no_grad():
            moved = (evaluate(lambda t: mode.twin(t) if id(t) in moves else t) + other) / 2
            slope = secant(value - other, out.detach() - moved, self.eps, 1.0)
        return call.settle(route(lambda g: (g * slope,), value, out), other)

    def elementwise(self, call: Call) -> Any:
        """Multipliers Δout / Δin; the own derivative where Δin is too small to divide by."""
        active = call.active
        if not active:
            return call.native()
        if len(active) > 1:
            call.mode.complain(call.function, f"{call.name} of {len(active)} tensors that vary")
            return call.native()
        x = active[0]
        like = x.detach()
        value, other = call.evaluate(detached), call.twin_value()
        slope = self._slope(call, x, value, other)
        out = call.settle(route(lambda g: (reduce_to(g * slope, like),), value, x), other)
        mark = call.mode.marks.get(out, call.mode)
        if mark is not None:
            mark.notes["normaliser"] = _divides(call)
        return out

    def _slope(self, call: Call, x: Tensor, value: Tensor, other: Tensor) -> Tensor:
        here, there = x.detach(), call.mode.twin(x)
        delta = here - there
        size = delta.abs()
        own = ~(size >= at_least(self.eps, size))
        near = own
        if call.operator.smooth:
            limit = torch.finfo(delta.dtype).eps ** (1 / 3)
            middle = (here + there) / 2
            near = own | (size < (limit * middle.abs() if call.name in STEEP else limit))
            here = torch.where(own, here, middle)
        slope = secant(value - other, delta, 0.0, 0.0)
        if not some(near):
            return slope
        derivative = derivative_at(call, [x], [here.expand(value.shape)])(torch.ones_like(value))[0]
        if call.name in STEEP:  # a root at 0, as of a distance from a thing to itself
            derivative = torch.where((delta == 0) & ~derivative.isfinite(), 0.0, derivative)
        return torch.where(near, derivative, slope)

    def relu(self, call: Call) -> Any:
        """:meth:`elementwise` for the most frequent operator, with as few passes over memory as there can be."""
        if not call.active:
            return call.native()
        x, mode = call.active[0], call.mode
        here, there = x.detach(), mode.twin(x)
        delta = here - there
        overwrites = call.overwrites
        if overwrites:
            mode.protect(x)
        value, other = (here.relu_(), there.relu_()) if overwrites else (here.relu(), there.relu())
        slope = (value - other).div_(delta)
        own = ~(delta.abs_() >= at_least(self.eps, delta))
        if some(own):
            slope = torch.where(own, (value > 0).to(slope.dtype), slope)
        if overwrites:
            return route_in_place(lambda g: (g * slope,), x)
        return call.settle(route(lambda g: (g * slope,), value, x), other)

    def quotient(self, call: Call) -> Any:
        """Δ(a/b) = (Δa − ȳ Δb) / b̄ with y = a/b, the product rule for a = y b, or for a · 1/b where b changes sign."""
        if call.argument(2, "rounding_mode") is not None:
            call.mode.complain(call.function, "div with rounding_mode")
        top, bottom = call.args[0], call.args[1] if len(call.args) > 1 else call.kwargs["other"]
        if not (isinstance(bottom, Tensor) and bottom.requires_grad and any(bottom is t for t in call.active)):
            return self.linear(call)
        if len(call.active) == 1:
            return self.elementwise(call)
        a, b = top.detach(), bottom.detach()
        a0, b0 = call.mode.twin(top), call.mode.twin(bottom)
        keeps, total = b * b0 > 0, b + b0
        by_top = torch.where(keeps, 2 / total, (1 / b + 1 / b0) / 2)
        by_bottom = torch.where(keeps, -(a / b + a0 / b0) / total, -(a + a0) / (2 * b * b0))
        value = call.evaluate(detached)
        out = route(lambda g: (reduce_to(g * by_top, a), reduce_to(g * by_bottom, b)), value, top, bottom)
        return call.settle(out, call.twin_value())

    def power(self, call: Call) -> Any:
        """``a ** b`` with both varying is exp(b log a)."""
        if len(call.active) < 2:
            return self.elementwise(call)
        with call.mode:
            out = torch.exp(call.argument(1, "exponent") * torch.log(call.args[0]))
        return call.settle(out, call.mode.twin(out)) if call.mutates else out

    def dropout(self, call: Call) -> Any:
        """In training the input and the baseline share one mask."""
        if not call.argument(2, "training", True) or call.argument(1, "p", 0.5) == 0:
            return self.linear(call)
        mask = call.evaluate(torch.ones_like)
        out = call.args[0] * mask
        with torch.no_grad():
            return call.settle(out, call.mode.twin(call.args[0]) * mask)


def _routes(call: Call) -> bool:
    """Whether an index that varies sends whole rows elsewhere, where no share of the change is due to one of them."""
    if call.name in ("index_select", "index_add", "index_copy"):
        return True
    if call.name != "getitem":
        return False
    key: Any = call.args[1]
    keys: list[Any] = list(key) if isinstance(key, tuple) else [key]
    tensors = [k for k in keys if isinstance(k, Tensor) and k.dim()]
    taken = sum(k.dim() if k.dtype is torch.bool else 1 for k in tensors) + sum(isinstance(k, int) for k in keys)
    return bool(tensors) and taken < call.args[0].dim()


def _divides(call: Call) -> bool:
    """Whether an element-wise call gives what its argument divides by."""
    if call.name == "pow":
        power: object = call.argument(1, "exponent")
        return isinstance(power, (int, float)) and power < 0
    return call.name in ("rsqrt", "reciprocal", "div")


def _weighed(call: Call, active: list[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Mean factors of a · r where r normalises, r = 1/b: those of the quotient a / b; None for other products.

    Δ(a r) = h Δa + (y + y₀) / (r + r₀) Δr with h = 2 r r₀ / (r + r₀) and y = a r.
    """
    marks = [call.mode.marks.get(t, call.mode) for t in active]
    noted = [mark is not None and bool(mark.notes.get("normaliser")) for mark in marks]
    if sum(noted) != 1:
        return None
    which = noted.index(True)
    r, r0 = active[which].detach(), call.mode.twin(active[which])
    a, a0 = active[1 - which].detach(), call.mode.twin(active[1 - which])
    keeps, total = r * r0 > 0, r + r0
    of_a = torch.where(keeps, 2 * r * r0 / total, total / 2)
    of_r = torch.where(keeps, (a * r + a0 * r0) / total, (a + a0) / 2)
    return (of_a, of_r) if which == 0 else (of_r, of_a)
