"""DeepLIFT's RevealCancel rule: positive and negative parts of every difference have multipliers of their own.

Beside each tensor x on the path travel Δx⁺ and Δx⁻ with x = x₀ + Δx⁺ + Δx⁻, as tensors of the graph. Affine operators map
them through positive and negative weights apart; an activation f gives

Δy⁺ = ½ (f(x₀ + Δx⁺) − f(x₀)) + ½ (f(x) − f(x₀ + Δx⁻)),   Δy⁻ = ½ (f(x₀ + Δx⁻) − f(x₀)) + ½ (f(x) − f(x₀ + Δx⁺)),

so that contributions that cancel in the sum are revealed. Other operators see the sum, under the Rescale rule.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum._engine.calls import Call, route
from captum._engine.derivative import differentiate, leaf
from captum._engine.drive import AtInputs
from captum._engine.operators import Kind
from captum._engine.place import Layers
from captum._engine.rows import Rows
from captum._engine.ruled import Pass, Tensors, bypassed, run_forward
from captum._engine.rules import RuleMode, Table
from captum.attr.backprop.affine import Affine, as_affine
from captum.attr.backprop.rescale_rules import Rescale
from captum.attr.backprop.slopes import derivative_at, detached, same_conditions, secant

if TYPE_CHECKING:
    from captum.attr.backprop.contrast import Comparison

Parts = tuple[Tensor, Tensor]
#: Linear operators all of whose weights are ≥ 0.
_POSITIVE = {
    "add", "sum", "mean", "cumsum", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_avg_pool3d",
}  # fmt: skip
_DENSE = {"linear", "matmul", "mm", "addmm", "bmm", "mv"}


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
        """The Rescale table with rules for parts where operators have them."""
        table = super().table()
        table.kinds[Kind.STRUCTURAL] = self._apart
        table.kinds[Kind.LINEAR] = self._sum
        table.kinds[Kind.BILINEAR] = self._product
        table.kinds[Kind.ELEMENTWISE] = self._activation
        table.names |= {
            "relu": self._activation,
            "dropout": self._dropout,
            "batch_norm": self._norm,
            "pow": self._power,
        }
        return table

    def _apart(self, call: Call) -> Any:
        """Moves and sums: each part moves by itself."""
        if not self._splits(call):
            return self.linear(call)
        parts = [self._of_parts(call, which) for which in (0, 1)]
        if not isinstance(parts[0], Tensor):
            return self._several(call, parts)
        return self._join(call, call.evaluate(detached), (parts[0], parts[1]))

    def _splits(self, call: Call) -> bool:
        """Whether parts can be followed through a call."""
        return (
            bool(call.active)
            and same_conditions(call)
            and call.name not in ("setitem", "copy", "_pack_padded_sequence")
        )

    def _of_parts(self, call: Call, which: int, flipped: Tensor | None = None) -> Any:
        """A linear operator of one part of every operand, without what its constants add."""

        def pick(t: Tensor) -> Tensor:
            if not t.requires_grad or not any(t is a for a in call.active):
                return t.detach()
            return parts_of(call, t)[1 - which if t is flipped else which]

        def nothing(t: Tensor) -> Tensor:
            return torch.zeros_like(t) if any(t is a for a in call.active) else t.detach()

        moved = call.evaluate(pick)
        with torch.no_grad():
            offset = call.evaluate(nothing)
        if isinstance(moved, Tensor):
            return moved - offset
        return [m - o for m, o in zip(moved, offset, strict=True)]

    def _several(self, call: Call, parts: list[Any]) -> Any:
        values, twins = call.evaluate(detached), call.twin_value()
        outs = [route(lambda g: (g, g), v.clone(), p, n) for v, p, n in zip(values, parts[0], parts[1], strict=True)]
        result = tuple(outs) if isinstance(values, tuple) else outs
        call.mode.mark_all(result, twins)
        for out, p, n in zip(outs, parts[0], parts[1], strict=True):
            _keep(call, out, (p, n), _origin(call))
        return result

    def _sum(self, call: Call) -> Any:
        if call.name in _POSITIVE and call.kwargs.get("alpha", 1) > 0:
            return self._apart(call)
        if call.name == "neg" and self._splits(call):
            return self._join(call, call.evaluate(detached), (self._of_parts(call, 1), self._of_parts(call, 0)))
        if call.name == "sub" and self._splits(call) and len(call.active) <= 2 and call.kwargs.get("alpha", 1) > 0:
            second = call.args[1]
            if len(call.active) == 1 or call.args[0] is not second:
                flipped = second if isinstance(second, Tensor) else None
                parts = self._of_parts(call, 0, flipped), self._of_parts(call, 1, flipped)
                return self._join(call, call.evaluate(detached), parts)
        return self.linear(call)

    def _product(self, call: Call) -> Any:
        """Constant weights: positive and negative ones apart."""
        if not self._splits(call):
            return self.bilinear(call)
        affine = as_affine(call)
        if affine is not None:
            return self._affine(call, affine)
        if call.name == "mul" and len(call.active) == 1:
            x = call.active[0]
            other = call.args[1] if call.args[0] is x else call.args[0]
            factor = (
                other.detach() if isinstance(other, Tensor) else torch.full((), other, dtype=x.dtype, device=x.device)
            )
            return self._affine(call, Affine(lambda t, w, _b: t * w, factor, None))
        return self.bilinear(call)

    def _affine(self, call: Call, affine: Affine) -> Any:
        p, n = parts_of(call, call.active[0])
        weight = affine.weight if affine.weight is not None else torch.ones((), dtype=p.dtype, device=p.device)
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        apply = affine.apply
        parts = apply(p, up, None) + apply(n, down, None), apply(p, down, None) + apply(n, up, None)
        kind = "conv" if call.name.startswith("conv") else "dense" if call.name in _DENSE else _origin(call)
        return self._join(call, call.evaluate(detached), parts, kind)

    def _norm(self, call: Call) -> Any:
        affine = as_affine(call) if call.active else None
        if affine is None:
            return Rescale.table(self).names["batch_norm"](call)
        return self._affine(call, affine)

    def _dropout(self, call: Call) -> Any:
        trains = call.argument(2, "training", True) and call.argument(1, "p", 0.5) != 0
        return self.dropout(call) if trains else self._apart(call)

    def _power(self, call: Call) -> Any:
        return self._activation(call) if len(call.active) == 1 else self.power(call)

    def _activation(self, call: Call) -> Any:
        """Both parts of Δy, each the mean over the two orders of adding the parts of Δx."""
        if len(call.active) != 1 or not same_conditions(call):
            return self.elementwise(call)
        x = call.active[0]
        p, n = parts_of(call, x)
        if self.genomics and _origin(call) == "conv":
            value, other = call.evaluate(detached), call.twin_value()
            slope = self._slope(call, x, value, other)
            return self._join(call, value, (p * slope, n * slope))

        def at(point: Tensor) -> Tensor:
            with torch.no_grad():
                return call.evaluate(lambda t: point if t is x else t.detach())

        x0, up, down = call.mode.twin(x), p.detach(), n.detach()
        value, start = call.evaluate(detached), call.twin_value()
        with_up, with_down = at(x0 + up), at(x0 + down)
        rises = (with_up - start + value - with_down) / 2, (with_down - start + value - with_up) / 2
        own = derivative_at(call, [x], [x.detach()])(torch.ones_like(value))[0]
        slopes = [self._part_slope(r, d, own) for r, d in zip(rises, (up, down), strict=True)]
        return self._join(call, value, (p * slopes[0], n * slopes[1]))

    def _part_slope(self, rise: Tensor, run: Tensor, own: Tensor) -> Tensor:
        return torch.where(run.abs() >= max(self.eps, torch.finfo(run.dtype).tiny), secant(rise, run, 0.0, 0.0), own)

    def _join(self, call: Call, value: Tensor, parts: Parts, origin: str | None = None) -> Any:
        """Finish a call: the value, as the sum of the parts in the graph, and the parts beside it."""
        origin = origin or _origin(call)
        out = route(lambda g: (g, g), value.clone() if value._is_view() else value, *parts)  # a view has an owner
        twin = call.twin_value()
        if call.mutates:
            _forget(call, call.args[0])
        out = call.settle(out, twin)
        _keep(call, out, parts, origin)
        return out


def parts_of(call: Call, tensor: Tensor) -> Parts:
    """Δ⁺ and Δ⁻ of a tensor: those that travel beside it, else by the sign of the difference."""
    mark = call.mode.marks.get(tensor, call.mode)
    found: Any = None if mark is None else mark.notes.get("parts")
    if found is not None:
        return found
    delta = tensor.detach() - call.mode.twin(tensor)
    rest = (delta == 0) / 2
    parts: list[Tensor] = []
    for part, mask in ((delta.clamp(min=0), delta > 0), (delta.clamp(max=0), delta < 0)):
        weight = mask + rest
        parts.append(route(lambda g, w=weight: (g * w,), part, tensor))
    return parts[0], parts[1]


def _keep(call: Call, tensor: Tensor, parts: Parts, origin: str | None) -> None:
    mark = call.mode.marks.get(tensor, call.mode)
    if mark is not None and tensor.requires_grad:
        mark.notes.update(parts=parts, origin=origin)


def _origin(call: Call) -> str | None:
    """The kind of the last operator with weights before a call."""
    for tensor in call.active:
        mark = call.mode.marks.get(tensor, call.mode)
        if mark is not None and mark.notes.get("origin"):
            return mark.notes["origin"]
    return None


def _forget(call: Call, target: Tensor) -> None:
    """In-place code changes what other views of a memory show: their parts are worked out anew when needed."""
    memory = target.untyped_storage().data_ptr()
    for tensor in call.mode.marks:
        if tensor.untyped_storage().data_ptr() == memory:
            mark = call.mode.marks.get(tensor, call.mode)
            if mark is not None:
                mark.notes.pop("parts", None)


def run_reveal(
    comparison: Comparison, function: AtInputs, points: Tensors, twins: Tensors, rows: Rows, layers: Layers | None
) -> tuple[Pass, Tensors]:
    """One pass under RevealCancel: what it gives, and the contributions of the variables."""
    rules = RevealCancel(comparison.eps, genomics=comparison.rule == "genomics")
    mode = RuleMode(rules.table(), comparison.model, paired=True, on_unknown=comparison.on_unknown)
    with contextlib.closing(mode), torch.enable_grad():
        variables = tuple(leaf(p) for p in points)
        scores, values = run_forward(function, mode, (variables, twins), rows, layers)
        bases = [mode.twin(v) for v in values]
        contributions, slopes = _contributions(mode, scores, values, bases)
        grads: list[Tensor] = []
        for part, slope, value, base in zip(contributions, slopes, values, bases, strict=True):
            run = value.detach() - base
            grads.append(torch.where((run.abs() >= comparison.eps) & (run != 0), secant(part, run, 0.0, 0.0), slope))
        covers = layers is None or not bypassed(scores, values, variables)
        plain = tuple(v.detach() for v in values)
        return Pass(scores.detach(), mode.twin(scores), plain, tuple(bases), tuple(grads), covers), tuple(contributions)


def _contributions(
    mode: RuleMode, scores: Tensor, values: Tensors, bases: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Σ of multiplier times difference over the parts of each value, and the mean of both multipliers."""
    parts: list[Tensor] = []
    deltas: list[Tensor] = []
    for value, base in zip(values, bases, strict=True):
        mark = mode.marks.get(value, mode)
        found: Any = None if mark is None else mark.notes.get("parts")
        parts += [value, value] if found is None else list(found)
        half = (value.detach() - base) / 2
        deltas += [half, half] if found is None else [f.detach() for f in found]
    grads = differentiate(scores, parts)
    quads = list(zip(grads[::2], deltas[::2], grads[1::2], deltas[1::2], strict=True))
    return [a * b + c * d for a, b, c, d in quads], [(a + c) / 2 for a, _, c, _ in quads]
