"""How many samples: a number, or as many as an error needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor

from captum._engine.draws import one_generator
from captum.errors import InputError

Samples = int | Literal["auto"]

DEFAULT_TOLERANCE = 0.02
DEFAULT_EVALUATIONS = 16_384
#: Half the width of a 95 % interval, in standard errors that are known well.
NORMAL = 1.959964
#: How many samples more a variance that all players share counts for.
COMMON = 4


@dataclass(frozen=True, slots=True)
class Stopping:
    """When to stop drawing.

    Attributes:
        samples: number of samples, or None for as many as are needed.
        tolerance: relative error that is good enough: ‖standard errors‖ ≤ tolerance · ‖values‖ for every output.
        evaluations: most coalitions to score.
    """

    samples: int | None
    tolerance: float
    evaluations: int | None

    def satisfied(self, values: Tensor, errors: Tensor) -> bool:
        """Tell whether values ``(M, n)`` are known well enough."""
        size, error = torch.linalg.vector_norm(values, dim=0), torch.linalg.vector_norm(errors, dim=0)
        return bool((error <= self.tolerance * size + 1e-12).logical_or(size.isnan()).all())


def small_sample(count: int) -> float:
    """How much wider than for many samples a 95 % interval is for ``count`` ≥ 2: Student's quantile over 1.96.

    Exact for 2 and 3 samples, else by the expansion in powers of the inverse degrees of freedom.
    """
    freedom, normal = count - 1, NORMAL
    if freedom < 3:
        return (12.706205, 4.302653)[freedom - 1] / normal
    odd = [normal**power for power in (1, 3, 5, 7)]
    terms = (
        (odd[1] + odd[0]) / 4,
        (5 * odd[2] + 16 * odd[1] + 3 * odd[0]) / 96,
        (3 * odd[3] + 19 * odd[2] + 17 * odd[1] - 15 * odd[0]) / 384,
    )
    return 1 + sum(term / freedom**power for power, term in enumerate(terms, 1)) / normal


def moderated(variances: Tensor, freedom: int) -> Tensor:
    """Variances ``(M, n)``, none below its blend with the mean over the players, which counts for some samples more.

    A player whose few samples happen to agree would be taken as known exactly (as G. Smyth, 2004, for few replicates).
    """
    blend = (freedom * variances + COMMON * variances.mean(0)) / (freedom + COMMON)
    return torch.maximum(variances, blend)


def parse_stopping(n_samples: object, tol: float | None, max_evals: int | None) -> Stopping:
    """Read ``n_samples``, ``tol`` and ``max_evals``."""
    n_samples = int(n_samples) if isinstance(n_samples, np.integer) else n_samples
    if max_evals is not None and not _counts(max_evals):
        message = f"Expected max_evals to be None or an int of at least 1, got {max_evals!r}."
        raise InputError(message)
    if tol is not None and (isinstance(tol, (bool, str)) or not tol > 0):
        message = f"Expected tol to be None or a positive number (relative error), got {tol!r}."
        raise InputError(message)
    if n_samples == "auto":
        return Stopping(None, tol or DEFAULT_TOLERANCE, max_evals or DEFAULT_EVALUATIONS)
    if not _counts(n_samples):
        message = f"Expected n_samples to be an int of at least 1 or 'auto', got {n_samples!r}."
        raise InputError(message)
    if tol is not None:
        return Stopping(None, tol, max_evals or DEFAULT_EVALUATIONS)
    return Stopping(n_samples, 0.0, max_evals)


def _counts(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def parse_generator(generator: torch.Generator | None, seed: int | None) -> torch.Generator | None:
    """The generator to draw from, on the CPU: the given one, a fresh one with ``seed``, or None for torch's global one.

    A generator of another device gives the seed for one on the CPU, where coalitions are drawn.
    """
    return on_host(one_generator(generator, seed))


def on_host(generator: torch.Generator | None) -> torch.Generator | None:
    """The generator, or one on the CPU that it gives the seed for."""
    if generator is None or generator.device.type == "cpu":
        return generator
    drawn = torch.randint(1 << 62, (), generator=generator, device=generator.device)
    return torch.Generator("cpu").manual_seed(int(drawn))
