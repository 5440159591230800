r"""DeepLIFT's RevealCancel rule: positive and negative parts of every difference have multipliers of their own.

Beside a tensor x travels, in the graph, its *spread* s = Δx⁺ − Δx⁻, so that Δx± = (Δx ± s) / 2 with Δx = x − x₀. What
cancels in Δx is still seen in s.

- An operator that mixes elements, y = W x, parts what it adds up by the sign of each w_i Δx_i: s_y = |W| |Δx|. Hence
  the multipliers of x_i are Σ w_i m⁺ over the outputs where w_i Δx_i > 0 and Σ w_i m⁻ where it is < 0, and the mean of
  both where Δx_i = 0.
- Moves and sums add spreads, and a factor w scales one by |w|: they belong to the operator before them.
- An activation f answers the parts in both orders, Δy⁺ = ½ (f(x₀ + Δx⁺) − f(x₀)) + ½ (f(x) − f(x₀ + Δx⁻)) and Δy⁻ with
  the signs exchanged, so that s_y = f(x₀ + Δx⁺) − f(x₀ + Δx⁻).
- All else follows Rescale, and what it gives has s = |Δ|.

A mixing operator sees Δx and not the parts of x. To map each part by W⁺ and W⁻ would multiply s by Σ |w| in every
layer, where Δx grows by √Σ w² at most in the mean: after a dozen layers no float would hold Δx = Δx⁺ + Δx⁻. Here s/|Δx|
is that of one layer, activations of slope at most L make s at most L times as large, and completeness is lost by the
rounding of s alone. For the same reason functions without a bound on the slope (exp, log, powers) follow Rescale.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum._engine.calls import Call, Mark, route
from captum._engine.derivative import differentiate, leaf
from captum._engine.operators import Kind
from captum._engine.place import Layers
from captum._engine.rows import Rows
from captum._engine.ruled import Pass, Tensors, bypassed, run_forward
from captum._engine.ruled_inputs import AtRuled
from captum._engine.rules import RuleMode, Table
from captum.attr.backprop.affine import as_affine
from captum.attr.backprop.rescale_rules import STEEP, Rescale
from captum.attr.backprop.slopes import derivative_at, same_conditions, secant, some

if TYPE_CHECKING:
    from captum.attr.backprop.contrast import Comparison

#: Linear operators of one tensor all of whose weights are ≥ 0.
_AVERAGES = {
    "sum", "mean", "cumsum", "trace", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d",
}  # fmt: skip
#: Products with constants that no other rule reads.
_PRODUCTS = {"einsum", "tensordot", "inner", "outer", "ger", "dot", "vdot", "linalg_vecdot", "kron"}
#: Activations: element-wise functions whose slope is bounded.
_ACTIVATIONS = {
    "relu", "relu6", "leaky_relu", "prelu", "hardtanh", "hardswish", "hardsigmoid", "abs", "clamp", "clamp_min",
    "clamp_max", "softshrink", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "logsigmoid", "tanh",
    "softplus", "softsign", "tanhshrink", "sin", "cos", "atan", "asinh", "erf",
}  # fmt: skip
#: Moves that bring no constants in.
_VIEWS = {
    "view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "getitem", "contiguous", "clone",
    "to",
    "expand", "unbind", "chunk", "split", "select", "narrow", "movedim", "unflatten",
}  # fmt: skip
_WRITES = {"setitem", "copy", "_pack_padded_sequence"}


class RevealCancel(Rescale):
    """The RevealCancel rules.

    Args:
        eps: below this size of a part, the own gradient is used.
        genomics: whether activations after convolutions follow the Rescale rule.
    """

    def __init__(self, eps: float, *, genomics: bool) -> None:
        super().__init__(eps)
        self.genomics = genomics

    def table(self) -> Table:
        """The Rescale table with rules for spreads where operators have them."""
        table = super().table()
        rules: dict[Kind | str, Callable[[Call], Tensor | list[Tensor] | None]] = {
            Kind.STRUCTURAL: self._moved,
            Kind.LINEAR: self._added,
            Kind.BILINEAR: self._mixed,
            "mul": self._scaled,
            "div": self._scaled,
            "batch_norm": self._normed,
            "dropout": self._dropped,
        }
        for key, spread in rules.items():
            plain = table.kinds[key] if isinstance(key, Kind) else table.names.get(key, table.kinds[Kind.BILINEAR])
            rule = _beside(plain, spread)
            if isinstance(key, Kind):
                table.kinds[key] = rule
            else:
                table.names[key] = rule
        return table

    def _moved(self, call: Call) -> Any:
        """Spreads move as values do; constants that come in have none."""
        if call.name in _WRITES or not any(kept(call, t) is not None for t in call.active):
            return None
        moved = call.evaluate(lambda t: spread_of(call, t) if _varies(call, t) else t.detach())
        if call.name in _VIEWS:
            return moved
        with torch.no_grad():
            offset = call.evaluate(lambda t: torch.zeros_like(t) if _varies(call, t) else t.detach())
        if isinstance(moved, Tensor):
            return _less(moved, offset)
        return [_less(m, o) for m, o in zip(moved, offset, strict=True)]

    def _added(self, call: Call) -> Tensor | None:
        """Spreads add up, also those of what is subtracted."""
        name, active = call.name, call.active
        beside = any(kept(call, t) is not None for t in active)
        if name in ("neg", "positive"):
            return kept(call, active[0])
        if self.genomics and not beside:
            return None
        if name in _AVERAGES and len(active) == 1:
            return call.evaluate(lambda t: spread_of(call, t) if t is active[0] else t.detach())
        if name not in ("add", "sub") or (len(active) == 1 and not beside):
            return None
        total = torch.zeros((), dtype=active[0].dtype, device=active[0].device)
        for operand, factor in ((call.args[0], 1), (call.argument(1, "other"), abs(call.kwargs.get("alpha", 1)))):
            if isinstance(operand, Tensor) and _varies(call, operand):
                total = total + spread_of(call, operand) * factor
        return total

    def _mixed(self, call: Call) -> Tensor | None:
        """What is added up has parts by the sign of each product: |W| |Δx|."""
        if len(call.active) != 1 or (self.genomics and call.name.startswith("conv")):
            return None
        x = call.active[0]
        affine = as_affine(call)
        if affine is not None and affine.weight is not None:
            return affine.apply(_size(call, x), affine.weight.abs(), None)
        if call.name in _PRODUCTS:
            return call.evaluate(lambda t: _size(call, t) if t is x else _without_sign(t))
        return None

    def _scaled(self, call: Call) -> Tensor | None:
        """A constant factor or divisor scales the spread by its size."""
        first, second = call.args[0], call.argument(1, "other")
        if len(call.active) != 1 or call.argument(2, "rounding_mode") is not None:
            return None
        top = call.active[0] is first
        wide = kept(call, call.active[0])
        if wide is None or (call.name == "div" and not top):
            return None
        factor = second if top else first
        size = _without_sign(factor) if isinstance(factor, Tensor) else abs(factor)
        return wide / size if call.name == "div" else wide * size

    def _normed(self, call: Call) -> Tensor | None:
        affine = as_affine(call)
        wide = None if affine is None else kept(call, call.active[0])
        if affine is None or affine.weight is None or wide is None:
            return None
        return affine.apply(wide, affine.weight.abs(), None)

    def _dropped(self, call: Call) -> Tensor | None:
        trains = call.argument(2, "training", True) and call.argument(1, "p", 0.5) != 0
        return None if trains else kept(call, call.active[0])

    def relu(self, call: Call) -> Any:
        """An activation like others, when it has a spread."""
        return self._activation(call) if self._reveals(call) else super().relu(call)

    def elementwise(self, call: Call) -> Any:
        """Activations answer both parts; other functions follow Rescale."""
        return self._activation(call) if self._reveals(call) else super().elementwise(call)

    @staticmethod
    def _reveals(call: Call) -> bool:
        active = call.active
        return (
            len(active) == 1
            and call.name in _ACTIVATIONS
            and same_conditions(call)
            and kept(call, active[0]) is not None
        )

    def _activation(self, call: Call) -> Any:
        """Both parts of Δy, each the mean over the two orders of adding the parts of Δx."""
        x = call.active[0]
        spread = spread_of(call, x)
        here, there, wide = x.detach(), call.mode.twin(x), spread.detach()
        delta = here - there
        up, down = (delta + wide) / 2, (delta - wide) / 2

        def at(point: Tensor) -> Tensor:
            with torch.no_grad():
                return call.evaluate(lambda t: point if t is x else t.detach())

        value, start, high, low = at(here), call.twin_value(), at(there + up), at(there + down)
        both = value - start
        by_up = self._part_slope(call, up, (high - low + both) / 2)
        by_down = self._part_slope(call, down, (low - high + both) / 2)
        same, cross = (by_up + by_down) / 2, (by_up - by_down) / 2
        out, wider = route(lambda g, s: (g * same + s * cross, g * cross + s * same), (value, high - low), x, spread)
        out = call.settle(out, start)
        _keep(call, out, wider)
        return out

    def _part_slope(self, call: Call, run: Tensor, rise: Tensor) -> Tensor:
        """Answer / part; in the limit of a part too small to divide by, the mean derivative at both ends."""
        x = call.active[0]
        here, there = x.detach(), call.mode.twin(x)
        size = run.abs()
        eps = torch.finfo(run.dtype).eps
        near = (size < self.eps) | (size <= 8 * eps * (here.abs() + there.abs()))
        if call.operator.smooth:
            limit = eps ** (1 / 3)
            near |= size < (limit * torch.minimum(here.abs(), there.abs()) if call.name in STEEP else limit)
        slope = secant(rise, run, 0.0, 0.0)
        if not some(near):
            return slope
        ones = torch.ones_like(slope)
        ends = [derivative_at(call, [x], [end])(ones)[0] for end in (there + run / 2, here - run / 2)]
        return torch.where(near, (ends[0] + ends[1]) / 2, slope)


def _beside(plain: Callable[[Call], Any], spread: Callable[[Call], Any]) -> Callable[[Call], Any]:
    """A rule that also keeps the spread of what it gives, worked out before the call writes anything."""

    def rule(call: Call) -> Any:
        wide = spread(call) if call.active and same_conditions(call) else None
        out = plain(call)
        if isinstance(out, Tensor):
            _keep(call, out, wide)
        elif wide is not None:
            for part, beside in zip(out, wide, strict=True):
                _keep(call, part, beside)
        return out

    return rule


def _without_sign(constant: Tensor) -> Tensor:
    """|w| of a constant, which may be a mask."""
    return constant.detach() if constant.dtype is torch.bool else constant.detach().abs()


def _varies(call: Call, tensor: Tensor) -> bool:
    return any(tensor is t for t in call.active)


def _less(moved: Tensor, offset: Tensor) -> Tensor:
    """Spreads without the constants among them, which may be infinite."""
    return torch.where(offset == 0, moved, torch.where(offset.isfinite(), moved - offset, 0.0))


def kept(call: Call, tensor: Tensor) -> Tensor | None:
    """The spread that travels beside a tensor, unless its memory was written to since."""
    mark = call.mode.marks.get(tensor, call.mode)
    return None if mark is None else _of_mark(mark, tensor)


def _of_mark(mark: Mark, tensor: Tensor) -> Tensor | None:
    found: Any = mark.notes.get("spread")
    return found[1] if found is not None and found[0] == tensor._version else None  # no public name


def spread_of(call: Call, tensor: Tensor) -> Tensor:
    """The spread that travels beside a tensor, else |Δ|."""
    found = kept(call, tensor)
    return _size(call, tensor) if found is None else found


def _size(call: Call, tensor: Tensor) -> Tensor:
    """|Δ| as a function of the tensor, with derivative 0 where Δ = 0."""
    delta = tensor.detach() - call.mode.twin(tensor)
    sign = delta.sign()
    return route(lambda g: (g * sign,), delta.abs(), tensor)


def _keep(call: Call, tensor: Tensor, wide: Tensor | None) -> None:
    mark = call.mode.marks.get(tensor, call.mode)
    if mark is None or wide is None or not tensor.requires_grad:
        return
    mark.notes["spread"] = (tensor._version, wide.expand(tensor.shape))  # no public name


def run_reveal(
    comparison: Comparison, function: AtRuled, points: Tensors, twins: Tensors, rows: Rows, layers: Layers | None
) -> tuple[Pass, Tensors]:
    """One pass under RevealCancel: what it gives, and the contributions of the variables."""
    rules = RevealCancel(comparison.eps, genomics=comparison.rule == "genomics")
    mode = RuleMode(rules.table(), comparison.model, paired=True, on_unknown=comparison.on_unknown)
    with contextlib.closing(mode), torch.enable_grad():
        variables = tuple(leaf(p) for p in points)
        scores, values = run_forward(function, mode, (variables, twins), rows, layers)
        bases = tuple(mode.twin(v) for v in values)
        names = function.names if layers is None else ()
        contributions, slopes = _contributions(mode, scores, (values, bases), names)
        grads: list[Tensor] = []
        for part, slope, value, base in zip(contributions, slopes, values, bases, strict=True):
            run = value.detach() - base
            grads.append(torch.where((run.abs() >= comparison.eps) & (run != 0), secant(part, run, 0.0, 0.0), slope))
        covers = layers is None or not bypassed(scores, values, mode.leaves)
        plain = tuple(v.detach() for v in values)
        return Pass(scores.detach(), mode.twin(scores), plain, bases, tuple(grads), covers), tuple(contributions)


def _contributions(
    mode: RuleMode, scores: Tensor, ends: tuple[Tensors, Tensors], names: Sequence[str]
) -> tuple[list[Tensor], list[Tensor]]:
    """Σ of multiplier times difference over both parts of each value, and the mean of their multipliers."""
    values, bases = ends
    marks = [mode.marks.get(value, mode) for value in values]
    spreads = [None if m is None else _of_mark(m, v) for m, v in zip(marks, values, strict=True)]
    beside = [s for s in spreads if s is not None]
    grads = differentiate(scores, (*values, *beside), names)
    rest = iter(zip(grads[len(values) :], beside, strict=True))
    found: list[Tensor] = []
    for value, base, grad, spread in zip(values, bases, grads, spreads, strict=False):
        part = grad * (value.detach() - base)
        if spread is not None:
            by_spread, wide = next(rest)
            part = part + by_spread * wide.detach()
        found.append(part)
    return found, list(grads[: len(values)])
