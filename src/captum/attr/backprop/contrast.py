"""Comparison of an input with baselines under DeepLIFT's rules: pairs, chunks, means, and the completeness check."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from captum._engine.place import Layers
from captum._engine.rows import Chunk, fold
from captum._engine.ruled import Pass, Tensors, run_ruled
from captum._engine.ruled_inputs import AtRuled
from captum._engine.rules import OnUnknown, RuleMode
from captum._engine.sweep import Sweep, check_limit
from captum._engine.values import describe, parse_distribution
from captum.attr.backprop.rescale_rules import Rescale
from captum.attr.base import completeness_gap
from captum.errors import BaselineError, CaptumWarning, InputError, InputTypeError

RuleName = Literal["rescale", "reveal_cancel", "genomics"]
Custom = Callable[..., tuple[Tensor, ...]]
Take = Callable[[Chunk], Tensors]
RULES = ("rescale", "reveal_cancel", "genomics")


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a model is compared with its value at a baseline.

    Attributes:
        model: the model.
        multiply: whether attributions carry the factor (input − baseline).
        eps: below this difference of an element, the own gradient is used.
        rule: ``"rescale"``, ``"reveal_cancel"`` or ``"genomics"``.
        on_unknown: what to do at an operator without a rule.
    """

    model: nn.Module
    multiply: bool
    eps: float
    rule: RuleName
    on_unknown: OnUnknown

    def check(self) -> None:
        """Complain about settings that do not exist, and about random layers."""
        if self.rule not in RULES:
            message = f"Expected rule to be one of {RULES}, got {self.rule!r}."
            raise InputError(message)
        check_on_unknown(self.on_unknown)
        warn_of_training(self.model)

    def run(
        self, function: AtRuled, points: Tensors, twins: Tensors, chunk: Chunk, layers: Layers | None, graph: bool
    ) -> tuple[Pass, Tensors]:
        """One pass for the pairs of a chunk, and the contributions of the variable."""
        if self.rule != "rescale":
            from captum.attr.backprop.reveal_cancel import run_reveal

            return run_reveal(self, function, points, twins, chunk.rows, layers)
        mode = RuleMode(Rescale(self.eps).table(), self.model, paired=True, on_unknown=self.on_unknown)
        done = run_ruled(function, mode, (points, twins), chunk.rows, layers=layers, create_graph=graph)
        parts = [g * (v - t) for g, v, t in zip(done.grads, done.values, done.twins, strict=True)]
        if layers is not None:  # an entry that hides by −∞ does not differ from itself
            parts = [torch.where(v == t, 0.0, p) for p, v, t in zip(parts, done.values, done.twins, strict=True)]
        return done, tuple(parts)


def check_on_unknown(value: OnUnknown) -> None:
    """Complain about a way to treat unknown operators that does not exist."""
    if value not in ("raise", "warn", "linear"):
        message = f"Expected on_unknown to be 'raise', 'warn' or 'linear', got {value!r}."
        raise InputError(message)


def warn_of_training(model: nn.Module) -> None:
    """Warn when dropout or batch statistics are at work: rows then depend on chance or on each other."""
    found = [n for n, m in model.named_modules() if m.training and _depends_on_more(m)]
    if found:
        message = (
            f"Module {found[0]!r} is in training mode, so the result depends on chance or on the batch; call "
            "model.eval()."
        )
        warnings.warn(message, CaptumWarning, stacklevel=4)


def _depends_on_more(module: nn.Module) -> bool:
    """Whether a module in training mode draws numbers, or mixes the rows of a batch."""
    if isinstance(module, nn.modules.dropout._DropoutNd):  # torch has no public base
        return module.p > 0
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return module.dropout > 0
    return isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.RReLU))  # torch has no public base


def nothing_for_each(parts: Tensors, rows: int) -> Tensors:
    """Zeros for each row where a constant that all rows share, such as a table of angles, explains nothing."""
    return tuple(
        p.new_zeros((rows, *p.shape[1:])) if (p.dim() == 0 or len(p) != rows) and not p.is_meta and not p.any() else p
        for p in parts
    )


def check_custom(custom: Any) -> Custom | None:
    """A function of (multipliers), (multipliers, inputs) or (multipliers, inputs, baselines)."""
    if custom is None:
        return None
    if not callable(custom):
        message = f"Expected custom_attribution_func to be a function of 1 to 3 parameters, got {describe(custom)}."
        raise InputTypeError(message)
    count = len(inspect.signature(custom).parameters)
    if not 1 <= count <= 3:
        message = (
            "Expected custom_attribution_func to have 1 to 3 parameters, (multipliers, inputs, baselines), got "
            f"{count}."
        )
        raise InputError(message)

    def call(*tensors: Tensors) -> Tensors:
        out: Any = custom(*tensors[:count])
        return out if isinstance(out, tuple) else (out,)

    return call


class Contrast:
    """One call of DeepLIFT: every example against each of its baselines.

    Args:
        function: the score as a function of the inputs.
        comparison: the rules.
        layers: attribute to these layers instead of the inputs.
        custom: how contributions are made of multipliers, inputs and baselines; None for the product.
        create_graph: whether the result can be differentiated again.
    """

    def __init__(
        self,
        function: AtRuled,
        comparison: Comparison,
        layers: Layers | None = None,
        custom: Any = None,
        create_graph: bool = False,
    ) -> None:
        self.function = function
        self.comparison = comparison
        self.layers = layers
        self.custom = check_custom(custom)
        self.create_graph = create_graph
        self.worst = 0.0
        comparison.check()
        function.score.resolve()

    def mean(self, take: Take, count: int, limit: int | None, label: str | None) -> tuple[Tensors, Tensor]:
        """Mean attributions over ``count`` baselines ``(B, *)``; the delta of each pair ``(B·count,)``."""
        function = self.function
        sweep = Sweep(function.batch, count, function.plan(check_limit(limit)), order="example", label=label)
        totals: list[Tensor] = []
        deltas: list[Tensor] = []
        with function.running():
            for chunk, (parts, delta) in sweep.run(lambda c: self._pairs(c, take(c))):
                if not totals:
                    totals = [p.new_zeros((function.batch, *p.shape[1:])) for p in parts]
                self._require_rows(parts, chunk)
                totals = [fold(t, chunk, p / count) for t, p in zip(totals, parts, strict=True)]
                deltas.append(delta)
        self._complain()
        return tuple(totals), torch.cat(deltas)

    def _pairs(self, chunk: Chunk, twins: Tensors) -> tuple[Tensors, Tensor]:
        """Attributions of the pairs of a chunk, and how far they are from completeness."""
        points = tuple(chunk.rows.pick(v if self.create_graph else v.detach()) for v in self.function.values)
        done, parts = self.comparison.run(self.function, points, twins, chunk, self.layers, self.create_graph)
        parts = nothing_for_each(parts, chunk.count)
        self._require_rows(parts, chunk)
        gap = completeness_gap(parts, done.scores, done.twin_scores).detach()
        if done.covers:
            self._measure(gap, parts, done)
        if self.custom is not None:
            parts = self.custom(done.grads, done.values, done.twins)
        elif not self.comparison.multiply:
            parts = done.grads
        else:
            return parts, gap
        self._require_rows(parts, chunk)
        return parts, completeness_gap(parts, done.scores, done.twin_scores).detach()

    def _measure(self, gap: Tensor, parts: Tensors, done: Pass) -> None:
        """Keep the largest gap relative to what rounding can explain."""
        if gap.is_meta:
            return
        eps = torch.finfo(gap.dtype).eps
        if torch.is_autocast_enabled(gap.device.type):
            eps = torch.finfo(torch.bfloat16).eps
        sizes = torch.stack([p.detach().abs().reshape(len(p), -1).sum(1).to(gap.dtype) for p in parts]).sum(0)
        rise = (done.scores.detach() - done.twin_scores).abs().to(gap.dtype)
        ends = done.scores.detach().abs().to(gap.dtype) + done.twin_scores.abs()
        allowed = max(1e-3, 16 * eps) * rise + max(1e-5, 4 * eps) * sizes + 64 * eps * ends
        over = gap.abs() > allowed
        if bool(over.any()):
            self.worst = max(self.worst, float(gap.abs()[over].max()))

    def _complain(self) -> None:
        if self.worst:
            message = (
                f"Attributions miss the change of the score by up to {self.worst:.3g}: some of the change takes a way "
                "that no derivative follows (detached or rounded values, or on_unknown='linear')."
            )
            warnings.warn(message, CaptumWarning, stacklevel=4)

    def _require_rows(self, parts: Tensors, chunk: Chunk) -> None:
        for part in parts:
            if len(part) != chunk.count:
                message = (
                    f"Expected attributions with {chunk.count} rows in dim 0, got {describe(part)}. A layer must keep "
                    "the batch in dim 0 of all its tensors: choose one inside it. And custom_attribution_func must "
                    "return one tensor per input."
                )
                raise InputError(message)


class _All:
    """The source of draws that takes every row of a distribution in order, once for each example."""

    def __init__(self, batch: int) -> None:
        self._batch = batch

    def choice(self, size: int, count: int) -> Tensor:
        """Rows 0 … size − 1, again and again."""
        return torch.arange(size, device="cpu").repeat(count // size)


def of_baseline(function: AtRuled, baselines: Any, raw: Any) -> Take:
    """One baseline per example, from a value or from a function of the inputs."""
    values = function.baseline_values(call_baselines(baselines, raw))
    return lambda chunk: tuple(chunk.rows.pick(v) for v in values)


def call_baselines(baselines: Any, raw: Any) -> Any:
    """What a baselines function returns, given the inputs if it takes them; other values unchanged."""
    if not callable(baselines) or isinstance(baselines, Tensor):
        return baselines
    takes = sum(p.default is p.empty for p in inspect.signature(baselines).parameters.values())
    if takes > 1:
        message = f"Expected a baselines function with no parameter or one, the inputs; got one with {takes}."
        raise BaselineError(message)
    return baselines(raw) if takes else baselines()


def of_distribution(function: AtRuled, baselines: Any, raw: Any) -> tuple[Take, int]:
    """Several baselines per example, and how many.

    ``(N, *)`` serves all examples; ``(B, N, *)``, one dim more than the input, holds the baselines of each example.
    """
    found = call_baselines(baselines, raw)
    tensors = found if isinstance(found, tuple) else (found,)
    first, own = tensors[0], function.inputs.tensors[0]
    if isinstance(first, Tensor) and first.dim() == own.dim() + 1 and len(first) == len(own):
        return _own_baselines(function, tensors)
    distribution = parse_distribution(found, function.inputs, raw)
    count = len(distribution[0])
    if count < 2 or any(len(d) != count for d in distribution):
        counts = [len(d) for d in distribution]
        message = (
            f"Expected a distribution of at least 2 baselines per input, as many for each; got {counts}. For one, use "
            "DeepLift."
        )
        raise BaselineError(message)
    source: Any = _All(function.batch)
    samples = function.samples(found, raw, source, count)
    return lambda chunk: samples.take(chunk.start, chunk.stop), count


def _own_baselines(function: AtRuled, tensors: tuple[Any, ...]) -> tuple[Take, int]:
    count = tensors[0].shape[1]
    inputs = function.inputs.tensors
    fits = all(
        isinstance(t, Tensor) and t.shape[:2] == (len(x), count) and t.shape[2:] == x.shape[1:]
        for t, x in zip(tensors, inputs, strict=False)
    )
    if len(tensors) != len(inputs) or not fits or count < 2:
        message = (
            "Expected baselines of each example as (B, N, *) with N ≥ 2 per input; got "
            f"{', '.join(map(describe, tensors))}."
        )
        raise BaselineError(message)
    columns = [function.baseline_values(tuple(t[:, n] for t in tensors)) for n in range(count)]
    pools = [torch.stack([c[i] for c in columns], 1).flatten(0, 1) for i in range(len(columns[0]))]
    return lambda chunk: tuple(p[chunk.start : chunk.stop] for p in pools), count
