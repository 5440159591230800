"""Estimators that add up marginal contributions: leave one out, and random orders (permutation sampling)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from captum.attr.games.exact import Hierarchy
from captum.attr.games.play import BLOCK_ENTRIES, Estimate, Estimator, block_rows, everyone, nobody
from captum.attr.games.stopping import Stopping, moderated, small_sample

#: Draws ``count`` orders of the players, LongTensor ``(count, M)``.
DrawOrders = Callable[[int], Tensor]

#: Coalitions of games this small are remembered, so that none is scored twice.
REMEMBERED_PLAYERS = 16
REMEMBERED_ENTRIES = 1 << 24


def leave_one_out(players: int) -> Estimator[Estimate]:
    """What the score loses when one player leaves: ``v(all) − v(all but i)``.

    The full coalition is scored again next to the others: the same rounding, so that an unused feature gets exactly 0.
    """
    full = yield everyone(players)
    block = block_rows(players, full.shape[1])
    parts = [full[:0]]
    for start in range(0, players, block):
        count = min(block, players - start)
        coalitions = torch.ones((count + 1, players), dtype=torch.bool)
        coalitions[1:].diagonal(start).fill_(False)
        scores = yield coalitions
        parts.append(scores[:1] - scores[1:])
    values = torch.cat(parts)
    return Estimate(values, torch.zeros_like(values), players + len(parts))


def global_orders(players: int) -> DrawOrders:
    """Orders from torch's global stream, one ``torch.randperm(M)`` each."""
    return lambda count: torch.stack([torch.randperm(players) for _ in range(count)])


def seeded_orders(players: int, generator: torch.Generator) -> DrawOrders:
    """Orders from one generator only."""
    return lambda count: torch.stack(
        [torch.randperm(players, generator=generator, device=generator.device).cpu() for _ in range(count)]
    )


def hierarchical_orders(groups: Hierarchy, generator: torch.Generator | None) -> DrawOrders:
    """Random orders in which the members of every group stay together."""

    def order(group: Hierarchy) -> list[int]:
        out: list[int] = []
        for position in torch.randperm(len(group), generator=generator).tolist():
            part = group[position]
            out += [part] if isinstance(part, int) else order(part)
        return out

    return lambda count: torch.tensor([order(groups) for _ in range(count)])


@dataclass(slots=True)
class Moments:
    """Mean and spread of the samples of a value, folded one batch of samples at a time (Chan's update)."""

    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, samples: Tensor) -> None:
        """Fold ``samples`` ``(s, *)``."""
        new = len(samples)
        mean = samples.mean(0)
        off = samples - mean
        squares = off.mul_(off).sum(0)
        if self.count == 0:
            self.count, self.mean, self.squares = new, mean, squares
            return
        step = mean - self.mean
        total = self.count + new
        self.mean = self.mean + step * (new / total)
        self.squares = self.squares + squares + step.square() * (self.count * new / total)
        self.count = total

    def error(self, alike: bool = False) -> Tensor:
        """Standard error of the mean, widened for few samples, so that 1.96 of them either way make a 95 % interval.

        Infinite after a single sample.

        Args:
            alike: whether what varies along the first dim is much alike, so that few samples of one tell of another.
        """
        if self.count < 2:
            return torch.full_like(self.mean, torch.inf)
        variances = self.squares / (self.count * (self.count - 1))
        return (moderated(variances, self.count - 1) if alike else variances).sqrt() * small_sample(self.count)


class _Memory:
    """Scores of the coalitions of a small game, by their code."""

    def __init__(self, players: int, outputs: int) -> None:
        self.on = players <= REMEMBERED_PLAYERS and (outputs << players) <= REMEMBERED_ENTRIES
        self._powers = 2 ** torch.arange(players if self.on else 0)
        self._place = torch.full((1 << players if self.on else 0,), -1)
        self._scores = torch.zeros((0, outputs), dtype=torch.float64)

    def unknown(self, coalitions: Tensor) -> Tensor:
        """The coalitions that have no score yet, each once."""
        codes = (coalitions * self._powers).sum(1).unique()
        codes = codes[self._place[codes] < 0]
        return (codes[:, None] & self._powers) != 0

    def learn(self, coalitions: Tensor, scores: Tensor) -> None:
        """Keep scores."""
        codes = (coalitions * self._powers).sum(1)
        self._place[codes] = torch.arange(len(self._scores), len(self._scores) + len(codes))
        self._scores = torch.cat([self._scores, scores])

    def recall(self, coalitions: Tensor) -> Tensor:
        """Scores of known coalitions."""
        return self._scores[self._place[(coalitions * self._powers).sum(1)]]


class _Walk:
    """Walks along orders of the players from nobody to everybody, and credits each change to the player who joined."""

    def __init__(self, players: int, outputs: int) -> None:
        self.players = players
        self.outputs = outputs
        self.ends = torch.cat([nobody(players), everyone(players)])
        self.memory = _Memory(players, outputs)
        self.evaluations = 1

    def score(self, coalitions: Tensor) -> Estimator[Tensor]:
        """Score coalitions, remembering those of small games."""
        if not self.memory.on:
            self.evaluations += len(coalitions)
            return (yield coalitions)
        fresh = self.memory.unknown(coalitions)
        if len(fresh):
            self.evaluations += len(fresh)
            self.memory.learn(fresh, (yield fresh))
        return self.memory.recall(coalitions)

    def contributions(self, orders: Tensor) -> Estimator[Tensor]:
        """Marginal contributions ``(P, M, n)`` of the players in each of ``orders`` ``(P, M)``.

        The two ends are scored with the first steps: the same rounding, so that an unused feature gets exactly 0.
        """
        count, players = orders.shape
        rank = orders.argsort(1)
        block = block_rows(players, self.outputs)
        walks, sizes = max(1, block // (players - 1)), torch.arange(1, players).split(block)
        scores = torch.empty((count, players + 1, self.outputs), dtype=torch.float64)
        ends = self.ends
        for start, size in itertools.product(range(0, count, walks), sizes):
            among = rank[start : start + walks]
            coalitions = (among[:, None] < size[:, None]).flatten(0, 1)
            found = yield from self.score(torch.cat([ends, coalitions]))
            steps = slice(int(size[0]), int(size[-1]) + 1)
            scores[start : start + walks, steps] = found[len(ends) :].view(len(among), len(size), -1)
            if len(ends):
                scores[:, 0], scores[:, players] = found[0], found[1]
            ends = ends[:0]
        change = scores[:, 1:] - scores[:, :-1]
        places = rank + players * torch.arange(count)[:, None]
        return change.flatten(0, 1).index_select(0, places.flatten()).view_as(change)


def random_orders(players: int, draw: DrawOrders, stopping: Stopping, antithetic: bool) -> Estimator[Estimate]:
    """Shapley values as the mean contribution over random orders of joining (Castro 2009).

    Args:
        players: number of players.
        draw: draws orders.
        stopping: number of orders, or the error to reach.
        antithetic: follow every order by its reverse (Mitchell 2022); the two make one sample, so an odd count is
            rounded up.
    """
    full = yield everyone(players)
    if players < 2:
        empty = yield nobody(players)
        values = (full - empty).expand(players, -1)
        return Estimate(values, torch.zeros_like(values), 2)
    walk = _Walk(players, full.shape[1])
    repeats = 2 if antithetic else 1
    moments = Moments()
    per_round = max(1, block_rows(players * players, walk.outputs * players) // repeats)
    planned = _planned(stopping, players, repeats)
    goal = planned if stopping.samples is not None else min(planned, 16)
    while moments.count < goal:
        count = min(per_round, goal - moments.count, _affordable(stopping, walk, repeats))
        if not count and moments.count:
            break
        orders = draw(max(1, count))
        if antithetic:
            orders = torch.stack([orders, orders.flip(1)], 1).reshape(-1, players)
        marginal = yield from walk.contributions(orders)
        moments.add(marginal if repeats == 1 else marginal.reshape(-1, repeats, players, walk.outputs).mean(1))
        enough = stopping.samples is not None or stopping.satisfied(moments.mean, moments.error(alike=True))
        if moments.count >= goal and not enough:
            goal = min(planned, 2 * goal)
    return Estimate(moments.mean, moments.error(alike=True), walk.evaluations)


def _affordable(stopping: Stopping, walk: _Walk, repeats: int) -> int:
    """How many samples the evaluations that are left allow, with the two ends scored once more."""
    if stopping.evaluations is None:
        return BLOCK_ENTRIES
    return max(0, stopping.evaluations - walk.evaluations - 2) // ((walk.players - 1) * repeats)


def _planned(stopping: Stopping, players: int, repeats: int) -> int:
    """Most samples to draw: the number asked for, within the most evaluations."""
    wanted = stopping.samples
    most = None if stopping.evaluations is None else max(1, (stopping.evaluations - 3) // ((players - 1) * repeats))
    if wanted is None:
        return most or 1
    wanted = -(-wanted // repeats)
    return wanted if most is None else min(wanted, most)
