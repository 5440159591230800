"""How relevance flows back through every kind of operator; affine ones ask a composite for their rule."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.calls import MARK, Call, Mark, reduce_to, route, route_in_place
from captum._engine.module_stack import ModuleStack, carried
from captum._engine.operators import Kind
from captum._engine.rules import Table
from captum.attr.backprop.affine import Affine, as_affine, pooling
from captum.attr.backprop.composites import Composite, Site
from captum.attr.backprop.relevance_products import adds_up, attention, linearised, summand
from captum.attr.backprop.relevance_rules import EpsilonRule, PassRule, PropagationRule, propagated, stabilised
from captum.attr.backprop.relevance_softmax import (
    Shift,
    Shifts,
    logits_of,
    note_exponent,
    note_shift,
    note_total,
    taylor,
    written_out,
)
from captum.attr.backprop.slopes import bends, detached, distinct, widened

_GATES = {"sigmoid", "hardsigmoid"}
_NORMALISERS = {"rsqrt", "reciprocal"}
#: Operators with a rule of their own that shifts pass through, or end at.
_FOLLOWED = ("mul", "div", "exp", "softmax", "log_softmax", "logsumexp")


class RelevanceFlow:
    """The rules of one pass of layer-wise relevance propagation.

    Args:
        model: the model.
        composite: which rule goes where.
        report: called with a line for each affine operator, or None.
    """

    def __init__(self, model: nn.Module, composite: Composite, report: Callable[[str], object] | None = None) -> None:
        self.composite = composite
        self.stack = ModuleStack(model, self._pass_module if composite.passes else None)
        self.report = report
        self.model = model
        self.asked: set[int] = set()
        self.shifts = Shifts()

    def table(self) -> Table:
        """Rules by operator and kind."""
        kinds = {
            Kind.STRUCTURAL: self._structural,
            Kind.LINEAR: self._linear,
            Kind.BILINEAR: self._bilinear,
            Kind.ELEMENTWISE: self._elementwise,
            Kind.EXTREME: self._extreme,
        }
        passing = ("layer_norm", "rms_norm", "group_norm", "instance_norm", "dropout", "log_softmax", "neg", "positive")
        names = dict.fromkeys((*passing, "dropout1d", "dropout2d", "dropout3d", "feature_dropout"), self._pass)
        names |= {"softmax": self._softmax, "logsumexp": self._structural, "div": self._quotient, "mul": self._product}
        names |= {"batch_norm": self._batch_norm, "pow": self._power, "sub": self._difference}
        names |= {"exp": self._exponential, "sum": self._sum, "grid_sample": self._sampled}
        if self.composite.softmax == "taylor":
            names["scaled_dot_product_attention"] = self._attention
        names |= {name: self.shifts.followed(names[name]) for name in _FOLLOWED}
        kinds |= {kind: self.shifts.followed(kinds[kind]) for kind in (Kind.STRUCTURAL, Kind.ELEMENTWISE)}
        names |= dict.fromkeys(self.composite.stops, self._stop)
        return Table(names, kinds)

    def _pass_module(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """An activation written out: relevance of the output is relevance of the input."""
        if type(module).__name__ not in self.composite.passes or not isinstance(output, Tensor) or not args:
            return None
        x: object = args[0]
        mark: Mark | None = getattr(x, MARK, None)
        if not isinstance(x, Tensor) or mark is None or not x.requires_grad or output.shape != x.shape:
            return None
        out = route(lambda r: (r,), output.detach(), x)
        mark.mode.marks.set(out, Mark(mark.mode, live=True)).notes["depth"] = mark.notes.get("depth", 0)
        return out

    def _structural(self, call: Call) -> Any:
        """Elements move, and take their relevance along: the derivative of a move is the move back."""
        if adds_up(call):
            return self._linear(call)
        out = call.native()
        depth = _depth(call)
        if isinstance(out, Tensor) and out.requires_grad:
            _note(call, out, depth=depth, role=_role(call.active[0], call) if len(call.active) == 1 else None)
        elif depth:
            for part in out if isinstance(out, (list, tuple)) else ():
                if isinstance(part, Tensor) and part.requires_grad:
                    _note(call, part, depth=depth)
        return out

    def _pass(self, call: Call, role: str | None = None) -> Any:
        """Relevance of the output is relevance of the only input."""
        if not call.active:
            return call.native()
        if len(call.active) > 1:
            call.mode.complain(call.function, f"{call.name} of {len(call.active)} tensors that vary")
        x = call.active[0]
        like = x.detach()
        depth = _depth(call)
        if call.name == "relu" and call.overwrites:
            call.mode.protect(x)
            like.relu_()
            out = route_in_place(lambda r: (r,), x)
        else:
            out = call.settle(route(lambda r: (reduce_to(r, like),), call.evaluate(detached), x))
        _note(call, out, depth=depth, role=role)
        return out

    def _elementwise(self, call: Call) -> Any:
        """Activations pass relevance on; what they are is noted, for products."""
        if call.name in self.composite.stops:
            return self._stop(call)
        role = "gate" if call.name in _GATES else "normaliser" if call.name in _NORMALISERS else None
        return self._pass(call, role)

    def _power(self, call: Call) -> Any:
        """``a ** b`` with both varying is exp(b log a)."""
        if len(call.active) < 2:
            return self._elementwise(call)
        with call.mode:
            out = torch.exp(call.argument(1, "exponent") * torch.log(call.args[0]))
        return call.settle(out) if call.mutates else out

    def _stop(self, call: Call) -> Any:
        """The result is taken for a constant."""
        value = call.evaluate(detached)
        if not call.mutates:
            return value
        out = call.settle(value)
        mark = call.mode.marks.get(out, call.mode)
        if mark is not None:
            mark.beside = call.mode.besides = True
        return out

    def _softmax(self, call: Call) -> Any:
        """Pass, constant, or R_i = x_i (R_i − y_i Σ R)."""
        if self.composite.softmax == "stop":
            return self._stop(call)
        if self.composite.softmax == "identity" or not call.active:
            return self._pass(call)
        x = call.active[0]
        return taylor(call, x, logits_of(call, x), call.argument(1, "dim", -1))

    def _difference(self, call: Call) -> Any:
        """Shared in proportion, but for the largest of some logits before an exponential: a shift gets nothing."""
        shift = self.shifts.begin(call)
        if shift is None:
            return self._linear(call)
        out = self._shared(call, None, self._stabiliser(), shift)
        note_shift(call, shift, out)
        return out

    def _exponential(self, call: Call) -> Any:
        """Passed; its logits are noted, for quotients that are a softmax."""
        logits = logits_of(call, call.active[0]) if call.active and self.composite.softmax != "identity" else None
        out = self._elementwise(call)
        if logits is not None:
            note_exponent(call, logits, out)
        return out

    def _sum(self, call: Call) -> Any:
        """Shared in proportion; what was summed is noted, for quotients that are a softmax."""
        out = self._linear(call)
        if self.composite.softmax != "identity":
            note_total(call, out)
        return out

    def _attention(self, call: Call) -> Any:
        """Two products and a softmax at once."""
        depth = _depth(call)
        out = attention(call, getattr(self.composite.default, "epsilon", 1e-9))
        _note(call, out, depth=depth)
        return out

    def _quotient(self, call: Call) -> Any:
        """All to the numerator; a denominator normalises, and gets nothing."""
        top = call.args[0]
        softmax = written_out(call)
        if softmax is not None:
            return self._stop(call) if self.composite.softmax == "stop" else taylor(call, top, *softmax)
        if isinstance(top, Tensor) and top.requires_grad and any(top is t for t in call.active):
            return self._only(call, top)
        return self._pass(call)

    def _only(self, call: Call, winner: Tensor) -> Any:
        """All relevance to one operand of an element-wise product or quotient."""
        like = winner.detach()
        out = call.settle(route(lambda r: (reduce_to(r, like),), call.evaluate(detached), winner))
        _note(call, out, depth=_depth(call))
        return out

    def _product(self, call: Call) -> Any:
        """With constants relevance passes; of two factors gates and normalisers get nothing, or both get half."""
        active = call.active
        if not active:
            return call.native()
        if len(active) == 1:
            return self._only(call, active[0])
        passive = self._passive(call)
        if passive is not None:
            return self._only(call, active[1] if passive is active[0] else active[0])
        likes = [t.detach() for t in active]
        halves = route(lambda r: tuple(reduce_to(r / 2, t) for t in likes), call.evaluate(detached), *active)
        out = call.settle(halves)
        _note(call, out, depth=_depth(call))
        return out

    def _passive(self, call: Call) -> Tensor | None:
        """The factor that only scales the other one."""
        roles = {"normaliser", "gate"} if self.composite.products == "gate" else {"normaliser"}
        found = [t for t in call.active if _role(t, call) in roles]
        return found[0] if len(found) == 1 else None

    def _bilinear(self, call: Call) -> Any:
        """With constant weights an affine operator; factors that vary get equal parts, what is added its own."""
        active = call.active
        if len(active) <= 1:
            return self._linear(call)
        added = summand(call)
        if added is not None and sum(t is added for t in active) > 1:  # it is a factor too
            with call.mode:
                out = call.function(added.clone(), *call.args[1:], **call.kwargs)
            return call.settle(out) if call.mutates else out
        factors = sum(t is not added for t in active)
        parts = [1.0 if t is added else 1 / factors for t in distinct(active)]
        return self._shared(call, parts, self._stabiliser())

    def _linear(self, call: Call) -> Any:
        """Ask for the rule of an operator with parameters; sums and means share in proportion to values."""
        if not call.active:
            return call.native()
        affine = as_affine(call)
        if affine is not None:
            return self._affine(call, affine)
        pool = pooling(call)
        own = None if pool is None else self._own()
        if pool is not None and own is not None:
            return self._ruled(call, pool, own)
        return self._shared(call, None, self._stabiliser())

    def _stabiliser(self) -> EpsilonRule:
        """ε as the composite has it by default."""
        return EpsilonRule(getattr(self.composite.default, "epsilon", 1e-9))

    def _sampled(self, call: Call) -> Any:
        """Shared in proportion at points that are constants."""
        return call.native() if bends(call) else self._linear(call)

    def _own(self) -> PropagationRule | None:
        """The rule that the running module carries."""
        module = self.stack.current
        found = carried(module, "rule")
        if not isinstance(found, PropagationRule):
            return None
        self.asked.add(id(module))
        return found

    def unused(self) -> list[str]:
        """Paths of modules whose rules no operator asked for, other than rules that do as activations do."""
        named = ((name, m, carried(m, "rule")) for name, m in self.model.named_modules())
        return [
            name
            for name, module, rule in named
            if isinstance(rule, PropagationRule)
            and not isinstance(rule, (EpsilonRule, PassRule))
            and id(module) not in self.asked
        ]

    def _affine(self, call: Call, affine: Affine) -> Any:
        site = Site(call.name, self.stack.current, self.stack.path(), _depth(call))
        rule = self._own() or self.composite.rule(site)
        if self.report is not None:
            kind = "" if site.module is None else f" ({type(site.module).__name__})"
            self.report(f"{site.operator} in {site.path or 'the model'}{kind}: {rule!r}")
        depth = site.depth + 1
        x = call.active[0]
        saved = None if type(rule) is EpsilonRule or call.mutates else call.mode.save(x)
        out = self._ruled(call, affine, rule)
        if saved is not None:
            _note(call, out, source=(affine, x, saved, rule))
        _note(call, out, depth=depth)
        return out

    def _ruled(self, call: Call, affine: Affine, rule: PropagationRule) -> Any:
        """One rule for one operator."""
        if type(rule) is EpsilonRule:
            return self._shared(call, None, rule)
        x = call.active[0]
        saved, depth = call.mode.save(x), _depth(call)
        out = call.settle(route(lambda r: (propagated(rule, saved.tensor, affine, r),), call.evaluate(detached), x))
        _note(call, out, depth=depth)
        return out

    def _extreme(self, call: Call) -> Any:
        """The largest or smallest take all, unless a pooling module carries a rule."""
        affine = pooling(call)
        own = None if affine is None else self._own()
        return self._structural(call) if affine is None or own is None else self._ruled(call, affine, own)

    def _batch_norm(self, call: Call) -> Any:
        """Merged into the affine operator before it, if that has a rule for which this matters; else affine itself."""
        affine = as_affine(call)
        if affine is None or affine.weight is None or affine.bias is None:
            return self._pass(call)
        own = self._own()
        if own is not None:
            return self._ruled(call, affine, own)
        mark = call.mode.marks.get(call.active[0], call.mode)
        source: Any = None if mark is None else mark.notes.get("source")
        if source is None or source[0].scaled is None:
            return self._shared(call, None, self._stabiliser())
        merged = source[0].scaled(affine.weight, affine.bias)
        _, x, saved, rule = source
        out = call.settle(route(lambda r: (propagated(rule, saved.tensor, merged, r),), call.evaluate(detached), x))
        _note(call, out, depth=_depth(call))
        return out

    def _shared(self, call: Call, parts: list[float] | None, rule: PropagationRule, shift: Shift | None = None) -> Any:
        """R_in = part · x ⊙ Jᵀ(R / z) for every operand that varies, z the output; parts are 1 if None."""
        active = distinct(call.active)
        saved = [call.mode.save(t) for t in active]
        dtypes = [t.dtype for t in active]
        value, back = linearised(call, active)
        z = call.mode.save(value)
        alone = len(active) == 1 and (call.name == "linear" or call.name.startswith("conv"))  # nobody else holds g

        def pull(relevance: Tensor) -> tuple[Tensor, ...]:
            ratio = stabilised(widened(z.tensor), rule.epsilon)
            torch.div(relevance, ratio, out=ratio)
            if parts is not None and len({*parts}) == 1:
                ratio.mul_(parts[0])
            grads = back(ratio)
            if alone:
                return (grads[0].mul_(saved[0].tensor).to(dtypes[0]),)
            shares = [g * s.tensor for g, s in zip(grads, saved, strict=True)]
            if parts is not None and len({*parts}) > 1:
                shares = [r * part for r, part in zip(shares, parts, strict=True)]
            return tuple(r.to(dtype) for r, dtype in zip(shares, dtypes, strict=True))

        chosen = pull if shift is None else shift.pull(pull, active, call.args[0])
        out = call.settle(route(chosen, value, *active))
        _note(call, out, depth=_depth(call))
        return out


def _depth(call: Call) -> int:
    """Number of affine operators with parameters on the longest way to a call."""
    deepest = 0
    for tensor in call.active:
        mark = call.mode.marks.get(tensor, call.mode)
        if mark is not None:
            deepest = max(deepest, mark.notes.get("depth", 0))
    return deepest


def _role(tensor: Tensor, call: Call) -> str | None:
    mark = call.mode.marks.get(tensor, call.mode)
    return None if mark is None else mark.notes.get("role")


def _note(call: Call, out: Tensor, **notes: Any) -> None:
    mark = call.mode.marks.get(out, call.mode)
    if mark is not None:
        mark.notes.update({k: v for k, v in notes.items() if v is not None})


def to_stdout(line: str) -> None:
    """Print one line."""
    sys.stdout.write(line + "\n")
