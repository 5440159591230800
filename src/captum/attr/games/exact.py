"""Exact values from every coalition that counts: Shapley values, and Owen values on a hierarchy of features.

Scores that fit in one block are subtracted pair by pair, so that who changes nothing gets exactly 0. Of larger games,
since values are linear in the scores, φ = Wᵀ v, blocks are scored and folded, and never kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor

from captum._engine.values import describe
from captum.attr.games.play import HOST, Estimate, Estimator, block_rows, everyone
from captum.errors import MaskError

#: A hierarchy of players: an int is a player, a sequence is a group whose members join together.
Hierarchy = Sequence[Union[int, "Hierarchy"]]


def coalition_range(players: int, start: int, stop: int) -> Tensor:
    """Coalitions ``start`` to ``stop`` of all ``2**players``, bool ``(stop − start, M)``; number 0 is the full one."""
    codes = torch.arange(start, stop, dtype=torch.int64)
    return ((codes[:, None] >> torch.arange(players)) & 1) == 0


def shapley_weights(players: int) -> tuple[Tensor, Tensor]:
    """Weight of a coalition of size ``0…M`` in the value of a member, and (negative) of somebody outside."""
    inside = [0.0, *(1.0 / (players * math.comb(players - 1, s - 1)) for s in range(1, players + 1))]
    outside = [*(1.0 / (players * math.comb(players - 1, s)) for s in range(players)), 0.0]
    return torch.tensor(inside, dtype=torch.float64), -torch.tensor(outside, dtype=torch.float64)


def exact_shapley(players: int, again: bool = False) -> Estimator[Estimate]:
    """Shapley values from all ``2**players`` coalitions.

    Args:
        players: number of players.
        again: score the full coalition once more next to the others: the same rounding, so that an unused feature gets
            exactly 0.
    """
    full = coalition_range(players, 0, 1)
    scores = yield full
    count = 2**players
    block = block_rows(players, scores.shape[1])
    if 1 < count <= block:
        rest = yield coalition_range(players, 0 if again else 1, count)
        total = _shares(rest if again else torch.cat([scores, rest]), players)
        return Estimate(total, torch.zeros_like(total), count + again)
    weights = shapley_weights(players)
    total = _shapley_part(full, scores, weights)
    start = 1
    while start < count:
        coalitions = coalition_range(players, start, min(count, start + block))
        scores = yield coalitions
        total += _shapley_part(coalitions, scores, weights)
        start += block
    return Estimate(total, torch.zeros_like(total), count)


def _shares(scores: Tensor, players: int) -> Tensor:
    """Values ``(M, n)`` from the scores ``(2**M, n)`` of all coalitions: weighted changes when a player joins."""
    size = coalition_range(players, 0, 2**players).sum(1)
    weight = -shapley_weights(players)[1][size]
    shares: list[Tensor] = []
    for player in range(players):
        present, absent = scores.reshape(-1, 2, 1 << player, scores.shape[1]).unbind(1)
        change = (present - absent).reshape(-1, scores.shape[1])
        shares.append(weight.reshape(-1, 2, 1 << player)[:, 1].reshape(-1) @ change)
    return torch.stack(shares)


def _shapley_part(coalitions: Tensor, scores: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """What these coalitions add to the values, ``(M, n)``."""
    size = coalitions.sum(1)
    inside, outside = weights
    return torch.where(coalitions, inside[size][:, None], outside[size][:, None]).T @ scores


def check_hierarchy(groups: Hierarchy, players: int) -> None:
    """Require that the leaves of ``groups`` are the players ``0…M−1``, each once."""
    leaves = sorted(_leaves(groups))
    if leaves != list(range(players)):
        message = (
            f"Expected groups that hold each of the {players} feature numbers 0…{players - 1} once, got {len(leaves)} "
            "leaves; nest lists of feature numbers, such as [[0, 1], [2, [3, 4]]]."
        )
        raise MaskError(message)


def _leaves(group: Union[int, Hierarchy]) -> list[int]:  # noqa: UP007  # the alias is recursive
    if isinstance(group, int):
        return [group]
    if isinstance(group, str) or not isinstance(group, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]  # users
        message = (
            "Expected groups as nested lists of feature numbers, such as [[0, 1], [2, [3, 4]]], got "
            f"{describe(group)} among them."
        )
        raise MaskError(message)
    return [leaf for part in group for leaf in _leaves(part)]


class OwenPlan:
    """The coalitions that decide Owen values on a hierarchy, and their weights.

    A group joins as a whole: at each level of the tree the members of a group arrive in random order, each with all
    that is in it. The value of a leaf is its mean contribution over these orders.

    Args:
        groups: the hierarchy.
        players: number of players M.
        limit: largest number of marginal contributions to plan.

    Attributes:
        coalitions: bool ``(K, M)``, each once; row 0 is the full one.
        changes: for each contribution the numbers of the coalitions with and without the leaf, LongTensor ``(2, P)``.
        leaves: the leaf of each contribution, LongTensor ``(P,)``.
        shares: the weight of each contribution, double ``(P,)``.
    """

    def __init__(self, groups: Hierarchy, players: int, limit: int = 1 << 20) -> None:
        self._players = players
        self._limit = limit
        self._count = 0
        self._rows: list[Tensor] = []
        self._leaf: list[Tensor] = []
        self._share: list[Tensor] = []
        with HOST:
            self._visit(groups, torch.zeros((1, players), dtype=torch.bool), torch.ones(1, dtype=torch.float64))
            self.coalitions, self.changes = self._merge()
            self.leaves = torch.cat([torch.zeros(0, dtype=torch.int64), *self._leaf])
            self.shares = torch.cat([torch.zeros(0, dtype=torch.float64), *self._share])

    def _visit(self, group: Hierarchy, context: Tensor, weight: Tensor) -> None:
        """Add the contributions of all leaves below ``group``, given who is there already and with which weight."""
        members = [_leaves(part) for part in group]
        count = len(members)
        if len(context) << max(count - 1, 0) > self._limit:
            message = (
                f"Exact Owen values on this hierarchy need more than {self._limit} contributions: give n_samples, or "
                f"split the group of {count} members into smaller ones."
            )
            raise MaskError(message)
        inside = torch.zeros((count, self._players), dtype=torch.bool)
        for position, leaves in enumerate(members):
            inside[position, leaves] = True
        subsets = ~coalition_range(max(count - 1, 0), 0, 2 ** max(count - 1, 0))
        share = torch.tensor([1.0 / (count * math.comb(count - 1, s)) for s in range(count)], dtype=torch.float64)
        for position, part in enumerate(group):
            others = torch.cat([inside[:position], inside[position + 1 :]])
            joined = (subsets.double() @ others.double()) > 0
            here = (context[:, None] | joined).reshape(-1, self._players)
            factor = (weight[:, None] * share[subsets.sum(1)]).reshape(-1)
            if isinstance(part, int):
                self._add(here, part, factor)
            else:
                self._visit(part, here, factor)

    def _add(self, here: Tensor, leaf: int, factor: Tensor) -> None:
        self._count += len(here)
        if self._count > self._limit:
            message = f"Exact Owen values on this hierarchy need more than {self._limit} contributions: give n_samples."
            raise MaskError(message)
        after = here.clone()
        after[:, leaf] = True
        self._rows.append(torch.stack([after, here]))
        self._leaf.append(torch.full((len(here),), leaf))
        self._share.append(factor)

    def _merge(self) -> tuple[Tensor, Tensor]:
        """Each coalition once, the full one first; and which of them make the contributions."""
        full = everyone(self._players)
        if not self._rows:
            return full, torch.zeros((2, 0), dtype=torch.int64)
        pairs = torch.cat(self._rows, 1)
        coalitions, index = torch.unique(~torch.cat([full, pairs.flatten(0, 1)]), dim=0, return_inverse=True)
        return ~coalitions, index[1:].reshape(2, -1)

    def contributions(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each player: the numbers of the coalitions with and without it, and how much their difference counts."""
        order = self.leaves.argsort(stable=True)
        sizes = self.leaves.bincount(minlength=self._players).tolist()
        return list(zip(*(t.split(sizes) for t in (*self.changes[:, order], self.shares[order])), strict=True))

    def weights(self) -> Tensor:
        """How much the score of each coalition counts for each player, double ``(K, M)``."""
        weights = torch.zeros(self.coalitions.shape, dtype=torch.float64)
        for sign, numbers in zip((1, -1), self.changes, strict=True):
            weights.index_put_((numbers, self.leaves), sign * self.shares, accumulate=True)
        return weights


def exact_owen(plan: OwenPlan, again: bool = False) -> Estimator[Estimate]:
    """Owen values from the coalitions of a plan; ``again`` as for :func:`exact_shapley`."""
    count, players = plan.coalitions.shape
    scores = yield plan.coalitions[:1]
    block = block_rows(players, scores.shape[1])
    if 1 < count <= block:
        rest = yield plan.coalitions[0 if again else 1 :]
        scores = rest if again else torch.cat([scores, rest])
        shares = [share @ (scores[after] - scores[before]) for after, before, share in plan.contributions()]
        total = torch.stack(shares)
        return Estimate(total, torch.zeros_like(total), count + again)
    weights = plan.weights()
    total, start = weights[:1].T @ scores, 1
    while start < count:
        part = slice(start, start + block)
        scores = yield plan.coalitions[part]
        total += weights[part].T @ scores
        start += block
    return Estimate(total, torch.zeros_like(total), count)
