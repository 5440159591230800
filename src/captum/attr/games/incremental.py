"""Occlusion by increments: only what a window changes is computed again, layer after layer.

S. Nakandala, A. Kumar, Y. Papakonstantinou, "Incremental and approximate inference for faster occlusion-based deep CNN
explanations" (Krypton), SIGMOD 2019; here the exact part, on operators rather than layers.
"""

from __future__ import annotations

import contextlib
import math
import operator
import warnings
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from captum._engine.boxes import Places, Span
from captum._engine.convolutions import Convolution
from captum._engine.folding import Diverged, Folded, Probe
from captum._engine.increment_mode import NOTHING_KNOWN, IncrementMode, NotLocalError, leave_values
from captum._engine.increments import Increment, Unchanged
from captum._engine.rows import Rows
from captum._engine.sweep import ran_out_of_memory, release_memory
from captum.attr.games.fills import ConstantReady
from captum.attr.games.game import SHAPE_ERRORS, Game, thaw
from captum.attr.games.setting import quiet
from captum.attr.games.windows import Windows
from captum.errors import CaptumWarning

#: Elements of the largest map of a pack, and of the unchanged maps that are kept for a group of examples.
PACK_ELEMENTS = 1 << 21
KEPT_ELEMENTS = 1 << 26
#: Most rows of a pack, and most examples of a group.
MOST_ROWS = 256
#: What code raises at tensors that hold no data, or are other than it expects.
FAULTS = (*SHAPE_ERRORS, NotLocalError, AttributeError, NotImplementedError, KeyError)
#: How far scores may be from those of the plain way, as a share of their scale, and in units of the precision.
TOLERANCE = 1e-5
ROUNDINGS = 32


class IncrementalGame:
    """Answers for coalitions that lack one window at most, by increments; the plain game answers for the rest.

    The first windows are scored in both ways. When they differ, or when the model's operators leave nothing to save,
    the plain game answers for all, and a warning says why.

    Args:
        game: the game that is played.
        windows: its players.
        per_eval: windows per forward pass, 1 to plan it.
    """

    def __init__(self, game: Game, windows: Windows, per_eval: int | None = 1) -> None:
        self._game = game
        self._windows = windows
        self._limit = per_eval * game.batch if per_eval and per_eval > 1 else MOST_ROWS
        self._rows = self._group = 0
        self._convolutions = NOTHING_KNOWN
        self._why = ""

    def __call__(self, coalitions: Tensor) -> Tensor:
        """See :class:`~captum.attr.games.game.Game`."""
        lacking = (~coalitions).numpy()
        if len(coalitions) < 3 or lacking.ndim != 2 or lacking.sum(1).max() > 1 or self._why:
            return self._game(coalitions)
        self._why = self._misfit()
        found = None if self._why else self._answer(np.where(lacking.any(1), lacking.argmax(1), -1))
        if found is not None:
            return found
        message = f"incremental=True has no effect, windows are scored with whole images: {self._why}."
        warnings.warn(message, CaptumWarning, stacklevel=6)
        return self._game(coalitions)

    def _misfit(self) -> str:
        """Why this call is none of images with windows."""
        values, fill = self._game.variable.values, self._game.fill
        if len(values) != 1 or values[0].dim() != 4 or not values[0].dtype.is_floating_point or values[0].is_meta:
            return f"it needs one batch of images (B, C, H, W), got {[tuple(v.shape) for v in values]}"
        if not isinstance(fill, ConstantReady) or fill.bases[0].dtype != values[0].dtype:
            return f"it needs baselines that are the same for every window, got {type(fill).__name__}"
        return ""

    def _answer(self, chosen: Places) -> Tensor | None:
        """Scores without each of these windows, or None and the reason."""
        sample = None if self._rows else self._sample(chosen)
        try:
            if sample is not None:
                self._prepare(*sample)
            return self._scores(chosen)
        except Exception as fault:
            # the plain way is right, or raises the user's error again; errors of other kinds are the user's own
            if type(fault) not in FAULTS and not ran_out_of_memory(fault):
                raise
            release_memory()
            self._why = str(fault) if isinstance(fault, NotLocalError) else f"{type(fault).__name__}: {fault}"
        finally:
            leave_values(self._game.variable.modules)
            thaw(self._game.variable.modules)
        return None

    def _sample(self, chosen: Places) -> tuple[int, Tensor]:
        """A window, and the scores of the images and of those without it, in the plain way, ``(2, n)``."""
        window = int(chosen[chosen >= 0][len(chosen) // 2 - 1])
        members = torch.ones((2, self._game.players), dtype=torch.bool, device="cpu")
        members[1, window] = False
        return window, self._game(members)

    def _prepare(self, window: int, plain: Tensor) -> None:
        """Score a window by increments, compare, and learn how many rows a pack may have."""
        game = self._game
        if game.form != "rows" or game.shape[:1] != (game.batch,):
            message = "the output does not have one entry per row of the batch"
            raise NotLocalError(message)
        unchanged = Unchanged(lambda: game.variable.values[0][:1])
        self._convolutions = self._watched(unchanged)
        found, mode = self._run(unchanged, np.array([-1, window]), 0)
        if mode.wide > mode.local:
            message = f"{mode.spread} needs whole maps, and most of the work comes after it"
            raise NotLocalError(message)
        expected = plain.reshape(2, game.batch, -1)[:, 0]
        precision = torch.finfo(game.dtype).eps if game.dtype.is_floating_point else 0.0
        scale = float(expected.abs().nan_to_num(0.0, 0.0, 0.0).max())
        close = max(TOLERANCE, ROUNDINGS * precision) * scale
        if not torch.allclose(found[:, 0], expected, rtol=0.0, atol=close, equal_nan=True):
            message = "its scores differ from those of whole images"
            raise NotLocalError(message)
        self._rows = min(self._limit, MOST_ROWS, max(1, PACK_ELEMENTS // max(mode.largest, 1)))
        kept = max(1, KEPT_ELEMENTS // max(unchanged.total(), 1))
        self._group = min(game.batch, kept, self._rows)

    def _scores(self, chosen: Places) -> Tensor:
        """Scores ``(K, n)`` of all examples without each of these windows; -1 stands for none."""
        game = self._game
        scores = torch.empty((len(chosen), game.batch, math.prod(game.shape[1:])), dtype=torch.float64, device="cpu")
        for first in range(0, game.batch, self._group):
            group = slice(first, min(first + self._group, game.batch))
            unchanged = Unchanged(partial(operator.getitem, game.variable.values[0], group))
            waiting = list(self._packs(chosen, group.stop - group.start))[::-1]
            while waiting:
                pack = waiting.pop()
                fits = len(pack) <= max(1, self._rows // (group.stop - group.start))
                found = self._try(unchanged, chosen[pack], first) if fits else None
                if found is None:
                    waiting += [pack[len(pack) // 2 :], pack[: len(pack) // 2]]
                    continue
                scores[torch.from_numpy(pack), group] = found
                game.advance(len(pack) * found.shape[1] / game.batch)
        return scores.reshape(len(chosen), -1)

    def _try(self, unchanged: Unchanged, chosen: Places, first: int) -> Tensor | None:
        """The scores of a pack, or None when memory ran out and half of it can be tried."""
        try:
            return self._run(unchanged, chosen, first)[0]
        except (RuntimeError, MemoryError) as fault:
            if len(chosen) == 1 or not ran_out_of_memory(fault):
                raise
            release_memory()
            self._rows = max(1, len(chosen) * len(unchanged.value()) // 2)
            return None
        finally:
            unchanged.trim()

    def _packs(self, chosen: Places, examples: int) -> Iterator[Places]:
        """Places of windows that are scored together: those equally far from the border, whose boxes grow alike."""
        count = max(1, self._rows // examples)
        y, x = (np.minimum(d.low, d.size - d.high) for d in self._boxes(chosen)[1:])
        strips = max(1, round(math.sqrt(len(chosen) / count)))
        for strip in np.array_split(np.argsort(y, kind="stable"), strips):
            ordered = strip[np.argsort(x[strip], kind="stable")]
            yield from np.array_split(ordered, -(-len(ordered) // count))

    def _boxes(self, chosen: Places) -> tuple[Span, Span, Span]:
        """The channels, rows and columns that windows cover; for none, those of the first window."""
        spans = zip(self._windows.bounds(np.maximum(chosen, 0)), self._game.variable.values[0].shape[1:], strict=True)
        channels, y, x = (Span(low, high, size) for (low, high), size in spans)
        return channels, y, x

    def _watched(self, unchanged: Unchanged) -> Mapping[int, Convolution]:
        """The convolutions of the model, to run with weights in the best format and with batch norms folded in."""
        variable, probe = self._game.variable, Probe()
        with quiet(variable.score), torch.inference_mode():
            image = unchanged.value().clone()
            with probe:
                variable.evaluate((image,), Rows(self._game.batch, torch.zeros(1, dtype=torch.long, device="cpu")))
        return NOTHING_KNOWN if probe.noticed else probe.found()

    def _run(self, unchanged: Unchanged, chosen: Places, first: int) -> tuple[Tensor, IncrementMode]:
        """Scores ``(k, b, …)`` without windows, for the examples of ``unchanged``; the first is number ``first``."""
        mode = IncrementMode(convolutions=self._convolutions)
        with quiet(self._game.variable.score), torch.inference_mode():
            if not self._convolutions:
                return self._evaluated(mode, unchanged, chosen, first), mode
            folded = Folded(dict(self._convolutions))
            with contextlib.suppress(Diverged), folded:
                scores = self._evaluated(mode, unchanged, chosen, first)
                if folded.settled():
                    return scores, mode
        # the code uses a convolution's result otherwise than it did: from here on nothing is folded
        self._convolutions = NOTHING_KNOWN
        return self._run(unchanged, chosen, first)

    def _evaluated(self, mode: IncrementMode, unchanged: Unchanged, chosen: Places, first: int) -> Tensor:
        game = self._game
        count = len(unchanged.value())
        example = np.tile(np.arange(count), len(chosen))
        stand_in = mode.begin(self._covered(unchanged, np.repeat(chosen, count), example, first))
        with mode:
            output = game.variable.evaluate((stand_in,), Rows(game.batch, torch.from_numpy(example + first)))
        output = mode.end(output)
        if not isinstance(output, Tensor) or tuple(output.shape) != (len(example), *game.shape[1:]):
            message = "the output changes its shape between calls"
            raise NotLocalError(message)
        return output.to("cpu", torch.float64).reshape(len(chosen), count, -1).clone()

    def _covered(self, unchanged: Unchanged, chosen: Places, example: Places, first: int) -> Increment:
        """The inputs with a window at the baseline in each row."""
        channels, y, x = self._boxes(chosen)
        values = unchanged.value()
        size = (y.size, x.size)
        fill = self._game.fill
        base = fill.bases[0] if isinstance(fill, ConstantReady) else values
        whole = Unchanged(lambda: base.expand(len(base), *values.shape[1:]))
        shown = unchanged.region(example, y.reach, x.reach, size)
        hidden = whole.region(example + first if len(base) > 1 else np.zeros_like(example), y.reach, x.reach, size)
        ys, xs, cs = y.reach.places(), x.reach.places(), np.arange(channels.size)[None]
        inside = [(p >= s.low[:, None]) & (p < s.high[:, None]) for p, s in ((ys, y), (xs, x), (cs, channels))]
        inside[0] &= (chosen >= 0)[:, None]
        covered = inside[0][:, :, None, None] & inside[1][:, None, :, None] & inside[2][:, None, None, :]
        return Increment(
            unchanged, torch.where(torch.from_numpy(covered).to(shown.device), hidden, shown), y, x, example
        )
