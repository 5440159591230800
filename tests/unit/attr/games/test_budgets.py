"""Budgets: no more is evaluated than allowed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum.attr.games.marginals import random_orders, seeded_orders
from captum.attr.games.play import play
from captum.attr.games.regression import paired_regression
from captum.attr.games.stopping import parse_stopping
from tests.unit.attr.games.toy import network


@pytest.mark.parametrize("players", [5, 20])
@pytest.mark.parametrize("budget", [60, 500, 1111])
@pytest.mark.parametrize("samples", ["auto", 10_000])
def test_no_more_is_evaluated_than_allowed(players: int, budget: int, samples: object) -> None:
    """However many rounds it takes; and nearly as much as allowed, where coalitions do not recur."""
    stopping = parse_stopping(samples, 1e-9 if samples == "auto" else None, budget)
    score = network(players, 0)
    for body in (
        random_orders(players, seeded_orders(players, torch.Generator().manual_seed(0)), stopping, True),
        random_orders(players, seeded_orders(players, torch.Generator().manual_seed(0)), stopping, False),
        paired_regression(players, stopping, "leverage", torch.Generator().manual_seed(0)),
    ):
        asked: list[int] = []

        def game(coalitions: Tensor, asked: list[int] = asked) -> Tensor:
            asked.append(len(coalitions))
            return score(coalitions)

        play(body, game)
        assert sum(asked) <= budget
        assert players == 5 or sum(asked) >= budget - 2 * players - 20
