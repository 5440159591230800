"""Game: coalitions → scores, packed into full forward passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from captum._engine.layout import Layout
from captum._engine.rows import Chunk, Rows
from captum._engine.sweep import ran_out_of_memory, release_memory
from captum.attr.games.features import Features
from captum.attr.games.fills import Ready
from captum.attr.games.mixing import MANY, among_far, examples_to_look_at, mixes, most_telling, rounding
from captum.attr.games.packs import Batches, Packs
from captum.attr.games.patches import patched
from captum.attr.games.variable import Tensors, Variable
from captum.errors import InputError, OutputError

#: What code that is written for one batch size raises at another; other errors are the user's own.
SHAPE_ERRORS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)
REFUSALS = (*SHAPE_ERRORS, ArithmeticError, KeyError)
#: What torch says to code that differentiates, or meets tensors made for training, in inference mode.
NEEDS_GRAPH = ("nference", "does not require grad", "does not have a grad_fn")
#: How the output relates to the batch: an entry per row; a fixed number per batch that adds up; or a result per call.
Form = Literal["rows", "batches", "once"]


class Game:
    """Scores of coalitions: absent features are filled, (coalition × example) pairs are packed into chunks.

    Called with bool ``(K, M)``, or ``(K, B, M)`` for other coalitions in each example; returns double ``(K, n)`` on the
    CPU, where ``n`` counts the elements of the output. The first coalition of all is evaluated alone, on the whole
    batch; the next ones show whether the output grows with the batch. If it does not, coalitions go one by one.

    Args:
        variable: what is varied.
        features: the players.
        fill: what stands in for absent ones.
        per_eval: coalitions per forward pass, None or 1 to plan it.
        advance: called with the number of coalitions after each chunk, for progress bars.

    Attributes:
        shape: shape of the output for the batch, after the first call.
        dtype: its dtype.
    """

    def __init__(
        self,
        variable: Variable,
        features: Features,
        fill: Ready,
        per_eval: int | None = None,
        advance: Callable[[float], object] = lambda _: None,
    ) -> None:
        self.variable = variable
        self.features = features
        self.fill = fill
        self.batch = variable.batch
        self.players = features.players
        self.shape: tuple[int, ...] = ()
        self.dtype = torch.get_default_dtype()
        self.form: Form | None = None
        self._explicit = per_eval is not None and per_eval > 1
        self._limit = per_eval * self.batch if per_eval is not None and per_eval > 1 else None
        self.advance = advance
        self._layout = Layout(variable.modules)
        self._device = variable.values[0].device
        self._repeats = Rows(self.batch)
        self._started = False
        self._opened = self._opening = torch.zeros((0, 0), device="cpu")
        self._plan: Batches | None = None
        self._inference = True

    def __call__(self, coalitions: Tensor) -> Tensor:
        """Scores of coalitions."""
        draws = self.fill.draws
        variants = coalitions.repeat_interleave(draws, 0) if draws > 1 else coalitions
        try:
            with self._running():
                scores = self._score(variants)
        except RuntimeError as fault:
            if not self._inference or not any(sign in str(fault) for sign in NEEDS_GRAPH):
                raise
            # the model's code differentiates, or keeps tensors that were made for training
            self._inference = self._started = False
            return self(coalitions)
        finally:
            thaw(self.variable.modules)
        scores = scores.clone()
        return scores if draws == 1 else scores.reshape(len(coalitions), draws, -1).mean(1)

    def _score(self, variants: Tensor) -> Tensor:
        parts: list[Tensor] = []
        if not self._started:
            parts.append(self._first(variants))
        rest = variants[len(parts) :]
        if len(rest) and self.form is None:
            parts.append(self._alone(rest[:1], len(parts)) if len(rest) == 1 else self._probe(rest, len(parts)))
        done = sum(map(len, parts))
        if done < len(variants):
            whole = self._one_by_one if self.form == "once" else self._packed
            parts.append(whole(variants[done:], done))
        return torch.cat(parts)

    def _first(self, variants: Tensor) -> Tensor:
        """The first coalition: notes the output's shape, and decides where one look is enough."""
        self._started = True
        try:
            out = self._evaluate(variants[:1], 0)
        except (RuntimeError, MemoryError) as fault:
            if self.batch == 1 or self.fill.whole or not ran_out_of_memory(fault):
                raise
            # the batch does not fit: its rows must be scored apart
            release_memory()
            self.form = "rows"
            return self._packed(variants[:1], 0)
        self.shape, self.dtype = tuple(out.shape), out.dtype
        if not out.numel():
            message = f"Expected at least one number from the model, got an output of shape {self.shape}."
            raise OutputError(message)
        if out.dim() == 0 or self.variable.trains_batch_norm():
            self.form = "once"
            if self._explicit and out.dim() == 0:
                raise self._does_not_grow(2, tuple(out.shape))
        self._opened, self._opening = variants[:1].clone(), self._flat(out, 1)
        return self._opening

    def _alone(self, variants: Tensor, first: int) -> Tensor:
        out = self._evaluate(variants, first)
        if tuple(out.shape) != self.shape:
            message = (
                f"The output changes its shape between calls: {self.shape}, then {tuple(out.shape)}, for the same "
                f"{self.batch} row(s). Return one value per row, or one result of fixed shape per batch."
            )
            raise OutputError(message)
        return self._flat(out, 1)

    def _probe(self, variants: Tensor, first: int) -> Tensor:
        """Evaluate some coalitions together and see whether the output grows with them."""
        count = min(len(variants), max(2, self._planned().size(len(variants) * self.batch) // self.batch))
        try:
            tensors, repeats = self.filled(variants[:count], first)
            out = self._output(tensors, repeats)
        except Exception as fault:
            if ran_out_of_memory(fault):
                return self._smaller(variants, first, count, fault)
            if self._explicit or type(fault) not in SHAPE_ERRORS:
                raise
            # code around the model that is written for this batch size: then each coalition goes alone
            self.form = "once"
            return self._one_by_one(variants[:1], first)
        rows = self.shape[0]
        if tuple(out.shape) == (count * rows, *self.shape[1:]):
            scores = _wide(out).reshape(count, -1)
            if self._explicit or not self._mixes(variants, first, tensors, scores):
                self.form = "rows" if rows == self.batch and not self.fill.whole else "batches"
                self._plan = None
                return self._flat(out, count)
        elif self._explicit:
            raise self._does_not_grow(count, tuple(out.shape))
        # a result per batch, one that grows along other dims, as of models with time first, or rows that mix
        self.form = "once"
        return self._one_by_one(variants[:1], first)

    def _mixes(self, variants: Tensor, first: int, tensors: Tensors, scores: Tensor) -> bool:
        """Whether rows influence each other: beside other rows a coalition gets another score, and gets it again.

        Args:
            variants: the coalitions; the first ones were scored together.
            first: number of coalitions before them.
            tensors: what the model was run with; code that writes into its inputs has changed it.
            scores: the scores.
        """
        if scores.is_meta:
            return False
        tolerance = rounding(scores, self.dtype, self.variable.modules)
        told = most_telling(scores, self._opening)

        def source(variant: int, fresh: bool) -> Tensors:
            if variant < 0:
                return self.filled(self._opened)[0]
            if fresh:
                return self.filled(variants[variant : variant + 1], first + variant)[0]
            return tuple(t[variant * self.batch : (variant + 1) * self.batch] for t in tensors)

        def alone(fresh: bool) -> Tensor:
            return _wide(self._output(source(told[0], fresh), Rows(self.batch))).reshape(1, -1)

        places = examples_to_look_at(self.batch if self.shape[0] == self.batch else 0)

        def among(fresh: bool) -> Tensor:
            rows, index = among_far([source(v, fresh) for v in (*told[::-1], -1)], places)
            out = _wide(self._output(rows, Rows(self.batch, index)))
            return torch.stack(out.chunk(len(told) + 3)[1:-1]).reshape(1, -1)

        def together() -> Tensor:
            known = torch.cat([scores[told[::-1]], self._opening]).reshape(len(told) + 1, self.shape[0], -1)
            return (known if places is None else known[:, places]).reshape(1, -1)

        try:
            with np.errstate(all="ignore"):
                mixed = mixes(among, together(), tolerance)
        except REFUSALS:  # of values that are far from those of the inputs, or of few rows
            return bool(mixes(alone, scores[told[:1]], tolerance))
        if mixed is False and len(variants) >= MANY:
            mixed = mixes(alone, scores[told[:1]], tolerance)
        return bool(mixed)

    def _smaller(self, variants: Tensor, first: int, count: int, fault: BaseException) -> Tensor:
        """Memory ran out while probing: probe with two, or take it that rows can be scored apart."""
        release_memory()
        if count > 2:
            return self._probe(variants[:2], first)
        if self.shape[0] != self.batch or self.fill.whole:
            raise fault
        self.form, self._plan = "rows", None
        return self._packed(variants[:count], first)

    def _does_not_grow(self, count: int, shape: tuple[int, ...]) -> InputError:
        return InputError(
            f"perturbations_per_eval > 1 needs an output that grows with the batch: it is {self.shape} for "
            f"{self.batch} row(s) and {shape} for {count * self.batch}. Use perturbations_per_eval=1."
        )

    def _one_by_one(self, variants: Tensor, first: int) -> Tensor:
        return torch.cat([self._alone(variants[i : i + 1], first + i) for i in range(len(variants))])

    def _packed(self, variants: Tensor, first: int) -> Tensor:
        """All pairs of variants and examples, in chunks that fit."""
        sweep = Packs(self.batch, len(variants), self._planned())
        # one tensor for all scores: small ones that stay between chunks would keep the memory of these in pieces
        scores = torch.empty(0, device="cpu")
        done = 0
        for chunk, out in sweep.run(lambda c: self._chunk(variants, c, first)):
            rows = chunk.count if self.form == "rows" else chunk.count // self.batch * self.shape[0]
            if not self.shape:
                self.shape, self.dtype = (self.batch, *out.shape[1:]), out.dtype
            if tuple(out.shape) != (rows, *self.shape[1:]):
                message = (
                    f"The output changes its shape between calls: expected {(rows, *self.shape[1:])}, got "
                    f"{tuple(out.shape)}."
                )
                raise OutputError(message)
            found = _wide(out).reshape(rows, -1)
            if not done:
                scores = found.new_empty((len(variants) * self.shape[0], found.shape[1]))
            scores[done : done + rows] = found
            done += rows
            del out, found
            self.advance(chunk.count / self.batch / self.fill.draws)
        return scores.reshape(len(variants), -1)

    def _planned(self) -> Batches:
        """The plan of the game; what it learned about chunks stays for the next block."""
        if self._plan is None:
            self._plan = Batches(self._limit, self.variable, self.form != "rows")
        return self._plan

    def _chunk(self, variants: Tensor, chunk: Chunk, first: int) -> Tensor:
        """The output for a chunk: of whole variants, or of some rows of one."""
        start, rows = chunk.start // self.batch, chunk.rows
        if rows.index is None:
            return self._evaluate(variants[start : start + chunk.count // self.batch], first + start)
        part = slice(chunk.start % self.batch, chunk.start % self.batch + chunk.count)
        members = variants[start : start + 1, None] if variants.dim() == 2 else variants[start : start + 1, part]
        keep = self.features.keep(members.to(self._device), rows)
        values = tuple(v[part] if len(v) == self.batch else rows.pick(v) for v in self.variable.values)
        draw = torch.tensor([(first + start) % self.fill.draws], device="cpu")
        filled = self.fill.replace(values, keep, rows, draw)
        return self._output(self.variable.as_given(tuple(f[0] for f in filled)), rows)

    def _evaluate(self, variants: Tensor, first: int) -> Tensor:
        """The output for whole variants, ``(k · rows, …)``."""
        return self._output(*self.filled(variants, first))

    def filled(self, variants: Tensor, first: int = 0) -> tuple[Tensors, Rows]:
        """The tensors to run variants ``(k, M)`` or ``(k, B, M)`` with: ``(k · B, *)``, and whose rows they are."""
        count = len(variants)
        filled = patched(self.features, self.fill, self.variable.values, variants, self.batch)
        if filled is None:
            members = (variants[:, None] if variants.dim() == 2 else variants).to(self._device)
            keep = self.features.keep(members, None)
            draws = torch.arange(first, first + count, device="cpu") % self.fill.draws
            filled = self.fill.replace(self.variable.values, keep, None, draws)
        flat = self.variable.as_given(
            tuple(f.expand(count, self.batch, *f.shape[2:]).reshape(count * self.batch, *f.shape[2:]) for f in filled)
        )
        if count == 1:
            return flat, Rows(self.batch)
        if self._repeats.count != count * self.batch:
            self._repeats = Rows(self.batch, torch.arange(self.batch, device="cpu").repeat(count))
        return flat, self._repeats

    def _output(self, tensors: Tensors, rows: Rows) -> Tensor:
        return self._layout.run(tensors, lambda t: self.variable.evaluate(t, rows))

    def _flat(self, out: Tensor, count: int) -> Tensor:
        """Scores ``(count, n)`` of an output for ``count`` whole variants."""
        self.advance(count / self.fill.draws)
        return _wide(out).reshape(count, -1)

    @contextlib.contextmanager
    def _running(self) -> Generator[None]:
        """The state of torch that evaluations need: no graph, and what the model asks for."""
        with contextlib.ExitStack() as stack:
            if self.variable.score.needs_context():
                stack.enter_context(self.variable.score.running())
            stack.enter_context(torch.inference_mode() if self._inference else torch.no_grad())
            yield


def thaw(modules: list[nn.Module]) -> None:
    """Make ordinary tensors of those that modules kept from inference mode, such as a mask: they may train later."""
    for module in modules:
        for values in (module.__dict__, module._buffers):
            found = [(k, v) for k, v in values.items() if isinstance(v, Tensor) and v.is_inference()]
            for name, value in found:
                setattr(module, name, value.clone())


def _wide(out: Tensor) -> Tensor:
    """In double precision on the CPU, where estimators work; tensors without data stay where they are."""
    return out.to("cpu" if out.device.type != "meta" else out.device, torch.float64)
