"""Intervals of sampled values where few samples, or skewed games, tell little of how far values may be off."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from captum.attr.games.exact import exact_shapley
from captum.attr.games.marginals import random_orders, seeded_orders
from captum.attr.games.pairs import PairSampler, Weighting
from captum.attr.games.play import Estimate, Estimator, play
from captum.attr.games.regression import paired_regression
from captum.attr.games.stopping import moderated, parse_stopping
from tests.unit.attr.games.toy import network

PLAYERS = 8
RUNS = 200


def tabled(game: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same game from a table."""
    powers = 2 ** torch.arange(PLAYERS)
    table = game((torch.arange(2**PLAYERS)[:, None] & powers) != 0)
    return lambda coalitions: table[(coalitions * powers).sum(1)]


def largest(coalitions: Tensor) -> Tensor:
    """The largest of the players' numbers: a few coalitions decide."""
    numbers = torch.rand(PLAYERS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (coalitions * numbers).amax(1, keepdim=True)


def exponential(coalitions: Tensor) -> Tensor:
    """Skewed: contributions grow with every player who is there."""
    numbers = torch.randn(PLAYERS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.exp(coalitions.double() @ numbers * 0.7)[:, None]


GAMES = {
    "tanh": tabled(network(PLAYERS, 0)),
    "relu, three outputs": tabled(network(PLAYERS, 1, "relu", 3)),
    "largest": tabled(largest),
    "exponential": tabled(exponential),
}


def orders(count: int, antithetic: bool, seed: int) -> Estimator[Estimate]:
    source = torch.Generator().manual_seed(seed)
    return random_orders(PLAYERS, seeded_orders(PLAYERS, source), parse_stopping(count, None, None), antithetic)


def pairs(budget: int, adjusted: bool, seed: int) -> Estimator[Estimate]:
    source = torch.Generator().manual_seed(seed)
    weighting = "kernel" if seed % 2 else "leverage"
    return paired_regression(PLAYERS, parse_stopping(budget, None, None), weighting, source, adjusted, True)


BODIES = {
    "four orders": lambda seed: orders(4, True, seed),
    "eight orders": lambda seed: orders(8, False, seed),
    "16 orders": lambda seed: orders(16, True, seed),
    "25 orders": lambda seed: orders(25, True, seed),
    "11 pairs": lambda seed: pairs(24, True, seed),
    "15 pairs": lambda seed: pairs(32, True, seed),
    "31 pairs": lambda seed: pairs(64, True, seed),
    "11 pairs, plain": lambda seed: pairs(24, False, seed),
    "31 pairs, plain": lambda seed: pairs(64, False, seed),
}


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("kind", BODIES)
def test_intervals_cover_where_samples_tell_little(kind: str, game: str) -> None:
    """Of 200 seeded runs at 95 %, at least 93 % of the values lie within 1.96 standard errors; 90 % in skewed games."""
    score = GAMES[game]
    exact = play(exact_shapley(PLAYERS), score).values
    inside = 0.0
    for seed in range(RUNS):
        found = play(BODIES[kind](seed), score)
        inside += float(((found.values - exact).abs() <= 1.96 * found.errors).double().mean())
    assert inside / RUNS >= (0.90 if game in ("largest", "exponential") else 0.93)


def test_variances_are_blended_with_what_players_share() -> None:
    own = torch.tensor([[4.0], [0.0], [2.0]], dtype=torch.float64)
    torch.testing.assert_close(moderated(own, 4)[:, 0], torch.tensor([4.0, 1.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(moderated(own, 10**9), own, rtol=0, atol=1e-6)
    assert not moderated(torch.zeros(3, 2), 5).any()


@pytest.mark.parametrize("weighting", ["leverage", "kernel"])
@pytest.mark.parametrize(("players", "stages"), [(60, [128, 249]), (200, [400, 499]), (9, [1, 2, 3, 5, 9, 250, 255])])
def test_draws_in_stages_stay_within_their_number(weighting: Weighting, players: int, stages: list[int]) -> None:
    for seed in range(10):
        sampler = PairSampler(players, weighting, torch.Generator().manual_seed(seed))
        for pairs in stages:
            sampler.extend(pairs)
            assert len(sampler.drawn) == min(pairs, sampler.pairs)
        complete = sampler.missed() == 0
        sizes = torch.minimum(sampler.drawn.sum(1), (~sampler.drawn).sum(1))
        for size in sizes[complete].unique().tolist():
            number = math.comb(players, size) // (2 if 2 * size == players else 1)
            assert int((sizes == size).sum()) == number


def test_no_more_coalitions_are_scored_than_allowed() -> None:
    game = network(60, 0)
    weightings: tuple[Weighting, ...] = ("leverage", "kernel")
    for weighting in weightings:
        source = torch.Generator().manual_seed(3)
        stopping = parse_stopping("auto", 1e-9, 500)
        assert play(paired_regression(60, stopping, weighting, source), game).evaluations <= 500
