"""Differences that are meant: which cases, why, and what the published package's numbers become when mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

Arrays = list[np.ndarray]
Mend = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Known:
    """One meant difference.

    ``allows`` says what may differ: ``numbers``, ``dtype``, ``structure``, ``refused`` (the published package raises,
    here there is a result), ``refuses`` (the reverse), ``error`` (another kind of error). ``mend`` turns the published
    numbers into the right ones, which must then agree; without it they may differ by ``within`` of their scale.
    """

    name: str
    reason: str
    cases: tuple[str, ...]
    allows: frozenset[str] = frozenset({"numbers"})
    mend: Mend | None = None
    within: float = float("inf")

    def covers(self, case: str) -> bool:
        """Whether this difference is about a case."""
        return any(fnmatchcase(case, pattern) for pattern in self.cases)


def scaled(factor: float) -> Mend:
    """Attributions times a factor, with a last array of completeness residuals moved along."""

    def mend(arrays: Arrays) -> Arrays:
        values, residuals = (arrays[:-1], arrays[-1:]) if len(arrays) > 1 else (arrays, [])
        rows = sum((value.reshape(len(value), -1).sum(1) for value in values), np.zeros(len(values[0])))
        return [value * factor for value in values] + [delta + (factor - 1) * rows for delta in residuals]

    return mend


def example_major(rows: int, samples: int, chunk: int) -> Mend:
    """Residuals written chunk by chunk, put into row-by-row order."""

    def mend(arrays: Arrays) -> Arrays:
        sizes = [min(chunk, samples - start) for start in range(0, samples, chunk)]
        pieces, start = [], 0
        for size in sizes:
            pieces.append(arrays[-1][start : start + rows * size].reshape(rows, size))
            start += rows * size
        return [*arrays[:-1], np.concatenate(pieces, axis=1).reshape(-1)]

    return mend


KNOWN: tuple[Known, ...] = (
    Known(
        "trapezoid-weights",
        "The published trapezoid weights sum to (n-1)/n; here they sum to 1.",
        ("IntegratedGradients/*/riemann_trapezoid*",),
        mend=scaled(7 / 6),
    ),
    Known(
        "trapezoid-weights-neurons",
        "The same at neurons, where the trapezoid is the default.",
        tuple(f"NeuronConductance/{p}" for p in ("*]",)),
        mend=scaled(6 / 5),
    ),
    Known(
        "conductance-telescopes",
        "Published increments leave out the ends of the path; here they telescope to the whole change of the layer.",
        ("LayerConductance/*",),
        within=1.0,
    ),
    Known(
        "residuals-example-major",
        "With nt_samples_batch_size the published residuals come chunk by chunk; here row by row.",
        ("NoiseTunnel/IntegratedGradients/delta/chunk=2",),
        mend=example_major(4, 5, 2),
    ),
    Known(
        "inplace-after-layer",
        "An in-place operator on a replaced layer output is an error there.",
        ("LayerIntegratedGradients/conv_inplace/*",),
        frozenset({"refused"}),
    ),
    Known(
        "unused-input",
        "An input that the score does not use gets zeros here, an error of autograd there.",
        ("Neuron*/two_inputs/left*",),
        frozenset({"refused"}),
    ),
    Known(
        "dtype-kept",
        "Half precision in gives half precision out; there sums are float32 or the call fails.",
        ("*/dtype/float16", "*/dtype/bfloat16"),
        frozenset({"numbers", "dtype", "refused"}),
        within=0.05,
    ),
)


def known_for(case: str) -> list[Known]:
    """The meant differences that cover a case."""
    return [known for known in KNOWN if known.covers(case)]
