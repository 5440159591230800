"""Exact values from every coalition that counts: Shapley values, and Owen values on a hierarchy of features.

Both are linear in the scores: φ = Wᵀ v. So blocks of coalitions are scored and folded, and never kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor

from captum.attr.games.play import Estimate, Estimator, block_rows, everyone
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


def exact_shapley(players: int) -> Estimator[Estimate]:
    """Shapley values from all ``2**players`` coalitions."""
    weights = shapley_weights(players)
    full = coalition_range(players, 0, 1)
    scores = yield full
    total = _shapley_part(full, scores, weights)
    count, start = 2**players, 1
    block = block_rows(players, scores.shape[1])
    while start < count:
        coalitions = coalition_range(players, start, min(count, start + block))
        scores = yield coalitions
        total += _shapley_part(coalitions, scores, weights)
        start += block
    return Estimate(total, torch.zeros_like(total), count)


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
        weights: double ``(K, M)``.
    """

    def __init__(self, groups: Hierarchy, players: int, limit: int = 1 << 20) -> None:
        self._players = players
        self._limit = limit
        self._count = 0
        self._rows: list[Tensor] = []
        self._leaf: list[Tensor] = []
        self._sign: list[Tensor] = []
        self._visit(groups, torch.zeros((1, players), dtype=torch.bool), torch.ones(1, dtype=torch.float64))
        self.coalitions, self.weights = self._merge()

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
        self._rows += [after, here]
        self._leaf += [torch.full((2 * len(here),), leaf)]
        self._sign += [factor, -factor]

    def _merge(self) -> tuple[Tensor, Tensor]:
        """Each coalition once, the full one first."""
        full = everyone(self._players)
        if not self._rows:
            return full, torch.zeros((1, self._players), dtype=torch.float64)
        rows = torch.cat([full, *self._rows])
        coalitions, index = torch.unique(~rows, dim=0, return_inverse=True)
        weights = torch.zeros(coalitions.shape, dtype=torch.float64)
        weights.index_put_((index[1:], torch.cat(self._leaf)), torch.cat(self._sign), accumulate=True)
        return ~coalitions, weights


def exact_owen(plan: OwenPlan) -> Estimator[Estimate]:
    """Owen values from the coalitions of a plan."""
    count, players = plan.coalitions.shape
    scores = yield plan.coalitions[:1]
    total = plan.weights[:1].T @ scores
    block, start = block_rows(players, scores.shape[1]), 1
    while start < count:
        part = slice(start, start + block)
        scores = yield plan.coalitions[part]
        total += plan.weights[part].T @ scores
        start += block
    return Estimate(total, torch.zeros_like(total), count)
