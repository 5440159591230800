"""Games with known answers, and the exact answer by every order of the players."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

Game = Callable[[Tensor], Tensor]


def network(players: int, seed: int, kind: str = "tanh", outputs: int = 1) -> Game:
    """A random network of two hidden layers at a random input, absent players at 0; scores ``(K, outputs)``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    first, second, last = normal(players, 32) / math.sqrt(players), normal(32, 32) / math.sqrt(32), normal(32, outputs)
    shifts, x = normal(2, 32) / 10, normal(players)
    squash = torch.tanh if kind == "tanh" else torch.relu

    def game(coalitions: Tensor) -> Tensor:
        hidden = squash((coalitions.double() * x) @ first + shifts[0])
        return squash(hidden @ second + shifts[1]) @ last / math.sqrt(32)

    return game


def by_orders(players: int, game: Game) -> Tensor:
    """Shapley values ``(M, n)`` as the mean over all ``M!`` orders, in plain loops."""
    total, count = 0.0, 0
    for order in itertools.permutations(range(players)):
        present = torch.zeros(1, players, dtype=torch.bool)
        before = game(present)
        change = torch.zeros(players, before.shape[1], dtype=torch.float64)
        for player in order:
            present[0, player] = True
            after = game(present)
            change[player] = (after - before)[0]
            before = after
        total, count = total + change, count + 1
    return total / count
