"""Shapley values by regression on paired coalitions (kernel SHAP), adjusted by a surrogate with three-way products.

Only the odd part of a game matters: ``g(z) = (v(z) − v(not z)) / 2``. With ``c = 2z − 1`` the kernel SHAP estimate is
the weighted least-squares fit of ``g`` by ``c·φ/2`` under ``Σφ = v(all) − v(none)`` (arXiv:1705.07874): the Shapley
values, when all pairs are there. The adjustment (arXiv:2506.11849) first fits a surrogate whose Shapley values are
known in closed form, here a ridge regression on all products of one or three signs, and leaves its residual to the
sampled fit.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum.attr.games.exact import exact_shapley
from captum.attr.games.pairs import PairSampler, Weighting
from captum.attr.games.play import Estimate, Estimator, block_rows, everyone, nobody
from captum.attr.games.stopping import Stopping, moderated, small_sample

#: Prior precision of a three-way product over that of the noise. Between 10 and 100 it hardly matters.
RIDGE = 30.0
#: Prior precision of a single player: next to none.
LOOSE = 1e-6
#: Above this number of pairs the surrogate costs more than it saves.
MOST_ADJUSTED_PAIRS = 3000
#: Pairs × outputs that are fitted at once.
OUTPUT_ENTRIES = 1 << 21


@dataclass(frozen=True, slots=True)
class Pairs:
    """Scored pairs of complementary coalitions.

    Attributes:
        signs: double ``(K, M)``: 1 for members, −1 for the others.
        odd: double ``(K, n)``: ``(v(z) − v(not z)) / 2``.
        weights: double ``(K,)`` of the regression.
        missed: double ``(K,)``, the share of pairs of the same size that were not drawn.
        gain: double ``(n,)``: ``v(all) − v(none)``.
    """

    signs: Tensor
    odd: Tensor
    weights: Tensor
    missed: Tensor
    gain: Tensor


class Fit:
    """The constrained least-squares fit, of smallest norm when pairs are too few, as a linear map of what is fitted.

    ``φ = gain/M + A⁺ Xᵀ W (y − X·gain/M)`` where ``X`` are the halved signs less their mean: the correction sums to 0.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._signs = pairs.signs
        self.players = pairs.signs.shape[1]
        self._mean = 0.5 * pairs.signs.mean(1, keepdim=True)
        self._root = pairs.weights.sqrt()[:, None]
        self._short = len(pairs.signs) < self.players  # the inverse is of the smaller side
        if self._short:
            # that of the design, which is as large as all coalitions and is not made
            gram = (pairs.signs @ pairs.signs.T).mul_(0.25).sub_(self.players * (self._mean @ self._mean.T))
            gram.mul_(self._root).mul_(self._root.T)
        else:
            scaled = self._root * self.design
            gram = scaled.T @ scaled
        self._inverse = torch.linalg.pinv(gram, hermitian=True, rtol=1e-10)

    @functools.cached_property
    def design(self) -> Tensor:
        """The halved signs less their mean, ``(K, M)``."""
        return (0.5 * self._signs).sub_(self._mean)

    def __call__(self, odd: Tensor, gain: Tensor) -> Tensor:
        """Values ``(M, n)`` for the odd part ``(K, n)`` of a game that gains ``gain`` ``(n,)`` in all."""
        return gain / self.players + self._mapped(odd - self._mean * gain)

    def _mapped(self, residual: Tensor) -> Tensor:
        """The map applied to ``(K, n)``, without the map, which is as large as all coalitions."""
        if self._short:
            dual = self._root * (self._inverse @ (self._root * residual))
            return (self._signs.T @ dual).mul_(0.5).sub_((self._mean * dual).sum(0))
        return self._inverse @ (self.design.T @ (self._root.square() * residual))

    @functools.cached_property
    def map(self) -> Tensor:
        """The map itself, ``(M, K)``."""
        scaled = self._root * self.design
        product = scaled.T @ self._inverse if self._short else self._inverse @ scaled.T
        return product.mul_(self._root.T)

    def predict(self, values: Tensor) -> Tensor:
        """The odd part ``(K, n)`` of the additive game with these values."""
        return self.design @ values + self._mean * values.sum(0)

    def left_out(self, odd: Tensor, values: Tensor) -> Tensor:
        """The residual ``(K, n)`` of each pair in a fit without it."""
        leverage = torch.einsum("km,mk->k", self.design, self.map).clamp(max=1 - 1e-6)
        return (odd - self.predict(values)) / (1 - leverage)[:, None]


class Surrogate:
    """Ridge regression of the odd part on single players and three-way products, through its Gram matrix ``(K, K)``.

    The sum over all triples of ``c_i c_j c_k c'_i c'_j c'_k`` is a cubic in ``c·c'``, so any number of players will do.
    """

    def __init__(self, pairs: Pairs, leave_out: bool) -> None:
        signs, players = pairs.signs, pairs.signs.shape[1]
        self._signs = signs
        self._noise = pairs.weights.mean() / pairs.weights
        product = signs @ signs.T
        # product / LOOSE + (product³ − (3M − 2) product) / (6 RIDGE), in one more matrix
        gram = product.square().div_(6 * RIDGE).add_(1 / LOOSE - (3 * players - 2) / (6 * RIDGE)).mul_(product)
        gram.diagonal().add_(self._noise)
        self._factor = torch.linalg.cholesky(gram)
        self._spread = torch.cholesky_inverse(self._factor).diagonal() if leave_out else self._noise

    def solve(self, odd: Tensor) -> Tensor:
        """The fit to ``(K, n)``, as weights ``(K, n)`` of the pairs."""
        return torch.cholesky_solve(odd, self._factor)

    def residual(self, dual: Tensor) -> Tensor:
        """What a fit leaves of each pair."""
        return self._noise[:, None] * dual

    def left_out(self, dual: Tensor) -> Tensor:
        """What a fit without it would leave of each pair."""
        return dual / self._spread[:, None]

    def values(self, dual: Tensor) -> Tensor:
        """Shapley values ``(M, n)`` of a fit: a product of 1 or 3 signs gives its players 2 or 2/3 each."""
        signs, players = self._signs, self._signs.shape[1]
        others = signs.sum(1, keepdim=True) - signs
        couples = (others.square() - (players - 1)) / 2
        return (2 / LOOSE) * signs.T @ dual + (2 / (3 * RIDGE)) * (signs * couples).T @ dual


def regress(pairs: Pairs, adjusted: bool, with_errors: bool) -> tuple[Tensor, Tensor]:
    """Values ``(M, n)`` and standard errors ``(M, n)`` from scored pairs, some outputs at a time."""
    fit = Fit(pairs)
    rows, players = pairs.signs.shape
    adjusted = adjusted and players >= 4 and players <= rows <= MOST_ADJUSTED_PAIRS
    surrogate = Surrogate(pairs, with_errors) if adjusted else None
    count = max(1, OUTPUT_ENTRIES // rows)
    found = [
        _regress(replace(pairs, odd=odd, gain=gain), fit, surrogate, with_errors)
        for odd, gain in zip(pairs.odd.split(count, 1), pairs.gain.split(count), strict=True)
    ]
    return found[0] if len(found) == 1 else (torch.cat([v for v, _ in found], 1), torch.cat([e for _, e in found], 1))


def _regress(pairs: Pairs, fit: Fit, surrogate: Surrogate | None, with_errors: bool) -> tuple[Tensor, Tensor]:
    left_out: Tensor | None = None
    if surrogate is None:
        values = fit(pairs.odd, pairs.gain)
    else:
        dual = surrogate.solve(pairs.odd)
        known = surrogate.values(dual)
        values = known + fit(surrogate.residual(dual), pairs.gain - known.sum(0))
        left_out = surrogate.left_out(dual) if with_errors else None
    return values, _errors(pairs, fit, left_out) if with_errors else torch.full_like(values, torch.nan)


def _errors(pairs: Pairs, fit: Fit, adjusted: Tensor | None) -> Tensor:
    """Standard errors from the residual of each pair when it is left out, for sizes that were not drawn completely.

    With fewer pairs than products a surrogate may explain all that it saw, and little else: its errors are not taken to
    be below those of the fit without it, less and less as there are more pairs.

    Args:
        pairs: the pairs.
        fit: the fit without a surrogate.
        adjusted: the residuals ``(K, n)`` of the surrogate when pairs are left out, if there is one.
    """
    rows, players = pairs.signs.shape
    shape = (players, pairs.odd.shape[1])
    if not bool((pairs.missed > 0).any()):
        return torch.zeros(shape, dtype=torch.float64)
    free = rows - players
    if free < 1:
        return torch.full(shape, torch.inf, dtype=torch.float64)
    share = fit.map.square() * pairs.missed
    left_out = fit.left_out(pairs.odd, fit(pairs.odd, pairs.gain))
    variances = (share @ left_out.square()) * small_sample(free + 1) ** 2
    if adjusted is not None:
        crowded = 1 / (1 + (rows / (players + math.comb(players, 3))) ** 2)
        variances = torch.maximum((share @ adjusted.square()) * (rows / free), crowded**2 * variances)
    return moderated(variances, free).sqrt()


def paired_regression(
    players: int,
    stopping: Stopping,
    weighting: Weighting,
    generator: torch.Generator | None,
    adjusted: bool = True,
    with_errors: bool = False,
) -> Estimator[Estimate]:
    """Shapley values, exact when the budget covers all coalitions, else by regression on pairs without replacement.

    Args:
        players: number of players.
        stopping: number of evaluations (the full and the empty coalition count), or the error to reach.
        weighting: how draws spread over coalition sizes.
        generator: source of randomness.
        adjusted: fit the surrogate first.
        with_errors: compute standard errors.
    """
    budget = _budget(stopping)
    if players < 2 or (players < 62 and 2**players - 2 <= budget):
        return (yield from exact_shapley(players))
    full = yield everyone(players)
    empty = yield nobody(players)
    gain = (full - empty)[0]
    sampler = PairSampler(players, weighting, generator)
    odd = torch.zeros((0, full.shape[1]), dtype=torch.float64)
    most = max(0, (budget - 2) // 2)
    goal = most if stopping.samples is not None else min(most, max(64, 2 * players))
    while True:
        found = yield from _score_pairs(sampler.extend(goal), full.shape[1])
        odd = torch.cat([odd, found]) if len(odd) else found
        if not len(odd):
            values = (gain / players).expand(players, -1)
            return Estimate(values, torch.full_like(values, torch.inf), 2)
        signs = sampler.drawn.double().mul_(2.0).sub_(1.0)
        pairs = Pairs(signs, odd, sampler.weights(), sampler.missed(), gain)
        automatic = stopping.samples is None
        values, errors = regress(pairs, adjusted, with_errors or automatic)
        if goal >= most or (automatic and stopping.satisfied(values, errors)):
            return Estimate(values, errors, 2 + 2 * len(odd))
        goal = min(most, 2 * goal)


def _budget(stopping: Stopping) -> int:
    if stopping.samples is None:
        return stopping.evaluations or 2
    return stopping.samples if stopping.evaluations is None else min(stopping.samples, stopping.evaluations)


def _score_pairs(coalitions: Tensor, outputs: int) -> Estimator[Tensor]:
    """The odd part ``(K, n)`` of the scores of coalitions and their complements."""
    block = max(1, block_rows(coalitions.shape[1], outputs) // 2)
    odd = torch.empty((len(coalitions), outputs), dtype=torch.float64)
    for place, part in zip(odd.split(block), coalitions.split(block), strict=True):
        if len(part):
            scores = yield torch.cat([part, ~part])
            torch.sub(scores[: len(part)], scores[len(part) :], out=place).div_(2)
    return odd
