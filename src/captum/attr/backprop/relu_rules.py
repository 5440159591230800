"""Rules of guided backpropagation and deconvolution: what passes a ReLU on the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum._engine.calls import Call, reduce_to, route, route_in_place
from captum._engine.operators import OPERATORS, Kind
from captum._engine.rules import Table
from captum.attr.backprop.slopes import derivative_at, detached
from captum.errors import InputError


def _cap(call: Call) -> float:
    """For a call that computes min(max(x, 0), c), c, ∞ for ReLU itself; for other calls 0.

    ``relu``, ``relu6``, ``hardtanh(0, c)``, ``clamp(0)``, ``clamp(0, c)``, ``threshold(0, 0)`` and ``maximum`` with a
    constant of zeros are such calls.
    """
    match call.name:
        case "maximum" | "max" | "fmax":
            other = call.argument(1, "other")
            pair = [t for t in (call.args[0], other) if isinstance(t, Tensor) and all(t is not a for a in call.active)]
            return math.inf if isinstance(other, Tensor) and len(pair) == 1 and _is_zero(pair[0]) else 0.0
        case "relu":
            return math.inf
        case "relu6":
            return 6.0
        case "threshold":
            starts = call.argument(1, "threshold") == 0 and call.argument(2, "value") == 0
            return math.inf if starts else 0.0
        case "hardtanh":
            low, high = call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0)
        case "clamp" | "clamp_min":
            low, high = call.argument(1, "min"), call.argument(2, "max")
        case _:
            return 0.0
    if isinstance(low, Tensor):
        low = 0 if _is_zero(low) else 1
    if not isinstance(low, (int, float)) or low != 0:
        return 0.0
    return math.inf if high is None else float(high) if isinstance(high, (int, float)) else 0.0


def _is_zero(constant: Tensor) -> bool:
    return not constant.requires_grad and not constant.is_meta and not bool(constant.any())


class ReluRules:
    """What passes an activation on the way back.

    Guided backpropagation passes ``max(g, 0) · max(f'(x), 0)``, deconvolution ``max(g, 0)``; f' of ReLU is 1 where x >
    0, and f' of a ReLU that ends at c, as ReLU6 does, is 1 where 0 < x < c.

    Args:
        deconvolution: which of the two.
        activations: names of the operators that are treated as activations.
    """

    def __init__(self, deconvolution: bool, activations: Sequence[str]) -> None:
        self.deconvolution = deconvolution
        self.activations = tuple(activations)
        self.applied = 0
        for name in self.activations:
            known = OPERATORS.get(name)
            if known is None or known.kind is not Kind.ELEMENTWISE:
                options = ", ".join(sorted(n for n, o in OPERATORS.items() if o.kind is Kind.ELEMENTWISE))
                message = (
                    f"Expected activations to be names of element-wise operators, got {name!r}; choose from: {options}."
                )
                raise InputError(message)

    def table(self) -> Table:
        """Rules of the activations; everything else keeps its derivative."""
        opens = ("rnn_relu",) if self.activations == ("relu",) else ("rnn_", "lstm", "gru", "glu")
        keeps = {n for n, o in OPERATORS.items() if o.kind is Kind.COMPOSITE and not n.startswith(opens)}
        names = dict.fromkeys(keeps, Call.native)
        names |= dict.fromkeys(
            ("relu6", "hardtanh", "clamp", "clamp_min", "threshold", "maximum", "max", "fmax"), self._perhaps
        )
        names |= dict.fromkeys(self.activations, self._gate)
        return Table(names, {}, fallback=Call.native)

    def _perhaps(self, call: Call) -> Any:
        return self._gate(call) if "relu" in self.activations and _cap(call) > 0 else call.native()

    def _gate(self, call: Call) -> Any:
        if not call.active:
            return call.native()
        self.applied += 1
        x = call.active[0]
        if not self.deconvolution and call.name == "relu" and call.overwrites:
            value = x.detach().relu_()
            open_ = value > 0
            return route_in_place(lambda g: (g.clamp(min=0) * open_,), x)
        value = call.evaluate(detached)
        like = x.detach()
        gate = self._gate_of(call, x, value)
        if gate is None:
            return call.settle(route(lambda g: (g.clamp(min=0),), value, x))
        return call.settle(route(lambda g: (reduce_to(g.clamp(min=0) * gate, like),), value, x))

    def _gate_of(self, call: Call, x: Tensor, value: Tensor) -> Tensor | None:
        if self.deconvolution:
            return None
        cap = _cap(call)
        if cap > 0:
            return value > 0 if cap == math.inf else (value > 0) & (value < cap)
        return derivative_at(call, [x], [x.detach()])(torch.ones_like(value))[0].clamp(min=0)
