"""Draws of complementary coalitions, without replacement, stratified by size."""

from __future__ import annotations

import math
from itertools import chain, combinations
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Weighting = Literal["leverage", "kernel"]
Keys = np.ndarray[tuple[int], np.dtype[np.void]]

#: Sizes with fewer coalitions are listed and shuffled; of those with more some are drawn, and repeats dropped.
LISTED = 20_000


class _Stratum:
    """Coalitions of one size in random order, each at most once.

    Args:
        players: number of players.
        size: members per coalition.
        generator: source of randomness.
    """

    def __init__(self, players: int, size: int, generator: torch.Generator | None) -> None:
        self.players = players
        self.size = size
        self.halved = 2 * size == players
        self.total = _count(players, size) // (2 if self.halved else 1)
        self.taken = 0
        self._generator = generator
        self._listed: Tensor | None = None
        self._skipped = 0
        self._seen = _keys(torch.zeros((0, players), dtype=torch.bool))

    def take(self, count: int) -> Tensor:
        """The next ``count`` coalitions, bool ``(count, M)``."""
        count = min(count, self.total - self.taken)
        if self._listed is None and self.total <= max(LISTED, 2 * (self.taken + count)):
            self._listed = self._unseen(self._list())
            self._skipped = self.taken
        start = self.taken - self._skipped
        out = self._random(count) if self._listed is None else self._listed[start : start + count]
        self.taken += count
        return out

    def _list(self) -> Tensor:
        """All coalitions of this size (of two complementary ones, the one with player 0), shuffled."""
        if self.halved:
            rest = combinations(range(1, self.players), self.size - 1)
            flat = np.fromiter(chain.from_iterable(rest), np.int64, self.total * (self.size - 1))
            members = torch.from_numpy(flat).reshape(self.total, self.size - 1)
            members = torch.cat([torch.zeros((self.total, 1), dtype=torch.int64), members], 1)
        else:
            every = combinations(range(self.players), self.size)
            members = torch.from_numpy(np.fromiter(chain.from_iterable(every), np.int64, self.total * self.size))
            members = members.reshape(self.total, self.size)
        order = torch.randperm(self.total, generator=self._generator)
        return self._as_mask(members[order])

    def _unseen(self, coalitions: Tensor) -> Tensor:
        if not len(self._seen):
            return coalitions
        return coalitions[torch.from_numpy(~np.isin(_keys(coalitions), self._seen))]

    def _random(self, count: int) -> Tensor:
        """Random coalitions that were not taken yet; repeats are rare here and drawn again."""
        parts: list[Tensor] = []
        missing = count
        while missing:
            keys = torch.rand((missing, self.players), generator=self._generator)
            drawn = self._as_mask(keys.topk(self.size, 1).indices)
            if self.halved:
                drawn = drawn ^ ~drawn[:, :1]
            parts.append(drawn[self._new(_keys(drawn))])
            missing -= len(parts[-1])
        return torch.cat(parts) if parts else torch.zeros((0, self.players), dtype=torch.bool)

    def _new(self, keys: Keys) -> Tensor:
        """The places of coalitions that were not drawn before, each once."""
        keys_once, places = np.unique(keys, return_index=True)
        fresh = ~np.isin(keys_once, self._seen)
        self._seen = np.concatenate([self._seen, keys_once[fresh]])
        return torch.from_numpy(np.sort(places[fresh]))

    def _as_mask(self, members: Tensor) -> Tensor:
        return torch.zeros((len(members), self.players), dtype=torch.bool).scatter_(1, members, True)


class PairSampler:
    """Pairs of a coalition and its complement: small sizes completely, the others in part, none twice.

    Args:
        players: number of players M ≥ 2.
        weighting: how to spread draws over sizes: ``"leverage"`` (each size alike; Musco & Witter, arXiv:2410.01917),
            or ``"kernel"`` (like the mass of the Shapley kernel; arXiv:1705.07874).
        generator: source of randomness; None for torch's global one.

    Attributes:
        pairs: number of all pairs, ``2**(M−1) − 1``.
        drawn: coalitions drawn so far, bool ``(K, M)``; their complements are implied.
    """

    def __init__(self, players: int, weighting: Weighting, generator: torch.Generator | None) -> None:
        self.players = players
        self.pairs = 2 ** (players - 1) - 1
        self._strata = [_Stratum(players, k, generator) for k in range(1, players // 2 + 1)]
        half = torch.tensor([0.5 if s.halved else 1.0 for s in self._strata], dtype=torch.float64)
        size = torch.arange(1, len(self._strata) + 1, dtype=torch.float64)
        self._mass = half * (players - 1) / (size * (players - size))
        self._odds = half if weighting == "leverage" else self._mass
        self._caps = torch.tensor([float(s.total) for s in self._strata], dtype=torch.float64)
        self._expected = torch.zeros_like(self._caps)
        self._offset = float(torch.rand((), generator=generator, dtype=torch.float64))
        self._stratum = torch.zeros(0, dtype=torch.int64)
        self.drawn = torch.zeros((0, players), dtype=torch.bool)

    def extend(self, pairs: int) -> Tensor:
        """Draw until there are ``pairs`` of them; return the new coalitions."""
        self._expected = allot(min(pairs, self.pairs), self._odds, self._caps)
        edges = torch.cat([torch.zeros(1, dtype=torch.float64), self._lacking().cumsum(0)])
        marks = torch.floor(edges + self._offset + 1e-9)
        counts = (marks[1:] - marks[:-1]).long().tolist()
        new = [(i, self._strata[i].take(n)) for i, n in enumerate(counts) if n > 0]
        self._stratum = torch.cat([self._stratum, *(torch.full((len(rows),), i) for i, rows in new)])
        fresh = torch.cat([self.drawn[:0], *(rows for _, rows in new)])
        self.drawn = torch.cat([self.drawn, fresh])
        return fresh

    def _lacking(self) -> Tensor:
        """How many to draw of each size: what is expected and not there, though not more in all than are to be drawn.

        Sizes of which earlier draws took one by chance that are expected less often leave less to the others, except to
        sizes of which all are expected.
        """
        if not len(self.drawn):
            return self._expected
        taken = torch.tensor([float(s.taken) for s in self._strata], dtype=torch.float64)
        lacking = (self._expected - taken).clamp(min=0.0)
        complete = self._expected >= self._caps
        left = self._expected.sum() - taken.sum() - lacking[complete].sum()
        share = (left / lacking[~complete].sum().clamp(min=1e-12)).clamp(0.0, 1.0)
        return torch.where(complete, lacking, lacking * share)

    def weights(self) -> Tensor:
        """Weight of each drawn pair in the regression: the kernel mass of its size over the number drawn of it."""
        return (self._mass / self._expected)[self._stratum]

    def missed(self) -> Tensor:
        """For each drawn pair, the share of pairs of its size that were not drawn: 0 where all are known."""
        return (1.0 - self._expected / self._caps).clamp(min=0.0)[self._stratum]


def _keys(coalitions: Tensor) -> Keys:
    """The bits of each of some coalitions ``(K, M)`` as one value."""
    packed = np.packbits(coalitions.numpy(), axis=1)
    return np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").reshape(len(packed))


def _count(players: int, size: int) -> int:
    """Number of coalitions of a size; numbers that nobody could draw from anyway are cut to ``2**62``."""
    bits = (math.lgamma(players + 1) - math.lgamma(size + 1) - math.lgamma(players - size + 1)) / math.log(2)
    return math.comb(players, size) if bits < 62 else 1 << 62


def allot(count: int, odds: Tensor, caps: Tensor) -> Tensor:
    """Share ``count`` draws in the ratio of ``odds``, none more than its cap; the others get what a full one leaves."""
    shares = torch.zeros_like(caps)
    free = torch.ones_like(caps, dtype=torch.bool)
    for _ in range(len(caps)):
        rest = max(0.0, count - float(caps[~free].sum()))
        scale = rest / float(odds[free].sum())
        shares = torch.where(free, odds * scale, caps)
        full = free & (shares >= caps)
        free &= ~full
        if not bool(full.any()) or not bool(free.any()):
            break
    return torch.minimum(shares, caps)
