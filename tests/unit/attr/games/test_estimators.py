"""Estimators against games with known answers; no model, no tensors to fill."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.futures import Future

from captum.attr.games.exact import OwenPlan, check_hierarchy, exact_owen, exact_shapley
from captum.attr.games.marginals import (
    Moments,
    global_orders,
    hierarchical_orders,
    leave_one_out,
    random_orders,
    seeded_orders,
)
from captum.attr.games.pairs import PairSampler, allot
from captum.attr.games.play import play, play_later
from captum.attr.games.regression import paired_regression
from captum.attr.games.stopping import parse_generator, parse_stopping
from captum.errors import InputError, MaskError
from tests.unit.attr.games.toy import by_orders, network


def fixed(samples: object):
    return parse_stopping(samples, None, None)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Counted:
    """A game that counts and keeps the coalitions it is asked for."""

    def __init__(self, game) -> None:
        self.game = game
        self.asked = []

    def __call__(self, coalitions):
        self.asked.append(coalitions)
        return self.game(coalitions)

    @property
    def rows(self):
        return torch.cat(self.asked)


@pytest.mark.parametrize("players", [0, 1, 2, 5])
def test_exact_values_are_the_mean_over_all_orders(players):
    game = network(players, 3, outputs=2) if players else lambda z: torch.ones(len(z), 2, dtype=torch.float64)
    counted = Counted(game)
    found = play(exact_shapley(players), counted)
    assert found.values.shape == (players, 2)
    if players:
        torch.testing.assert_close(found.values, by_orders(players, game))
    assert len(counted.rows) == found.evaluations == 2**players
    assert counted.asked[0].all()
    assert bool((found.errors == 0).all())


def test_every_estimator_asks_for_the_full_coalition_alone_first():
    draw = seeded_orders(7, generator(0))
    for body in (
        exact_shapley(7),
        exact_owen(OwenPlan([[0, 1, 2], [3, 4], 5, 6], 7)),
        leave_one_out(7),
        random_orders(7, draw, fixed(3), True),
        paired_regression(7, fixed(40), "kernel", None),
    ):
        first = next(body)
        assert first.shape == (1, 7)
        assert bool(first.all())


def test_leave_one_out():
    game = network(6, 1, outputs=3)
    whole = torch.ones(1, 6, dtype=torch.bool)
    expected = torch.cat([game(whole) - game(whole & (torch.arange(6) != i)) for i in range(6)])
    torch.testing.assert_close(play(leave_one_out(6), game).values, expected)


def test_orders_of_the_global_stream_are_one_randperm_each():
    torch.manual_seed(5)
    expected = torch.stack([torch.randperm(9) for _ in range(4)])
    torch.manual_seed(5)
    assert torch.equal(global_orders(9)(4), expected)


@pytest.mark.parametrize("players", [5, 18])
def test_random_orders_against_a_plain_walk(players):
    game = network(players, 2)
    draw = seeded_orders(players, generator(1))
    found = play(random_orders(players, draw, fixed(7), antithetic=False), game)
    orders = seeded_orders(players, generator(1))(7)
    walks = torch.zeros(7, players, 1, dtype=torch.float64)
    for w, order in enumerate(orders.tolist()):
        present = torch.zeros(1, players, dtype=torch.bool)
        for player in order:
            before = game(present)
            present[0, player] = True
            walks[w, player] = (game(present) - before)[0]
    torch.testing.assert_close(found.values, walks.mean(0))
    student = 2.446912 / 1.959964  # 6 degrees of freedom
    spread = torch.maximum(walks.var(0), (6 * walks.var(0) + 4 * walks.var(0).mean(0)) / 10)
    torch.testing.assert_close(found.errors, (spread / 7).sqrt() * student, rtol=1e-3, atol=0)


def test_antithetic_orders_come_with_their_reverse():
    game = network(18, 2)
    counted = Counted(game)
    found = play(random_orders(18, seeded_orders(18, generator(1)), fixed(3), antithetic=True), counted)
    both = [o for order in seeded_orders(18, generator(1))(2) for o in (order, order.flip(0))]
    expected = play(random_orders(18, lambda count: torch.stack(both), fixed(4), antithetic=False), game)
    torch.testing.assert_close(found.values, expected.values)
    assert found.evaluations == 3 + 4 * 17 == len(counted.rows)


def test_small_games_score_no_coalition_twice():
    counted = Counted(network(4, 0))
    found = play(random_orders(4, seeded_orders(4, generator(0)), fixed(50), antithetic=False), counted)
    codes = (torch.cat(counted.asked[1:]) * 2 ** torch.arange(4)).sum(1)
    assert len(codes) == len(codes.unique()) == 16 == found.evaluations - 1


@pytest.mark.parametrize("coalitions", [1, 7, 19, 45])  # parts of a walk, one walk, two walks
def test_blocks_do_not_change_the_walk(monkeypatch, coalitions):
    game = network(20, 4)
    whole = play(random_orders(20, seeded_orders(20, generator(3)), fixed(6), True), game)
    monkeypatch.setattr("captum.attr.games.play.BLOCK_ENTRIES", 20 * coalitions)
    pieces = play(random_orders(20, seeded_orders(20, generator(3)), fixed(6), True), game)
    torch.testing.assert_close(pieces.values, whole.values)
    torch.testing.assert_close(pieces.errors, whole.errors)


def test_moments_in_pieces_are_those_of_the_whole():
    samples = torch.randn(23, 3, 2, dtype=torch.float64, generator=generator(0))
    moments = Moments()
    for part in samples.split([1, 10, 5, 7]):
        moments.add(part)
    torch.testing.assert_close(moments.mean, samples.mean(0))
    student = 2.073873 / 1.959964  # 22 degrees of freedom
    torch.testing.assert_close(moments.error(), samples.std(0) / 23**0.5 * student, rtol=1e-5, atol=0)


@pytest.mark.parametrize("players", [2, 3, 6])
def test_regression_is_exact_when_the_budget_covers_all(players):
    game = network(players, 8, outputs=2)
    found = play(paired_regression(players, fixed(2**players), "leverage", None), game)
    torch.testing.assert_close(found.values, by_orders(players, game))
    assert found.evaluations == 2**players


@pytest.mark.parametrize("adjusted", [False, True])
@pytest.mark.parametrize("weighting", ["leverage", "kernel"])
def test_regression_on_all_pairs_is_exact_too(weighting, adjusted):
    """One pair short of everything the values are nearly exact; with everything drawn they are."""
    game = network(8, 5)
    exact = play(exact_shapley(8), game).values
    found = play(paired_regression(8, fixed(252), weighting, generator(0), adjusted), game)
    assert found.evaluations <= 252
    assert float((found.values - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("budget", [2, 3, 5, 12, 40])
def test_regression_is_efficient_at_any_budget(budget):
    game = network(10, 5, outputs=2)
    found = play(paired_regression(10, fixed(budget), "leverage", generator(0), with_errors=True), game)
    ends = game(torch.stack([torch.ones(10), torch.zeros(10)]).bool())
    torch.testing.assert_close(found.values.sum(0), ends[0] - ends[1])
    assert found.evaluations <= budget
    if budget < 4:
        torch.testing.assert_close(found.values, ((ends[0] - ends[1]) / 10).expand(10, -1))
    if budget <= 12:
        assert bool(found.errors.isinf().all())


def test_regression_recovers_additive_and_three_way_games():
    """The surrogate holds products of up to three players, so these come out right far below 2**M evaluations."""
    generator_ = generator(0)
    single = torch.randn(14, generator=generator_, dtype=torch.float64)
    triples = torch.tensor(list(itertools.combinations(range(14), 3)))[::20]

    def game(z):
        signs = 2 * z.double() - 1
        return (z.double() @ single + 0.1 * signs[:, triples].prod(2).sum(1))[:, None]

    exact = play(exact_shapley(14), game).values
    found = play(paired_regression(14, fixed(900), "leverage", generator(1)), game).values
    plain = play(paired_regression(14, fixed(900), "leverage", generator(1), adjusted=False), game).values
    assert float((found - exact).norm()) < 0.2 * float((plain - exact).norm())
    additive = play(
        paired_regression(14, fixed(60), "leverage", generator(1)), lambda z: (z.double() @ single)[:, None]
    )
    torch.testing.assert_close(additive.values[:, 0], single, atol=1e-5, rtol=0)


def test_regression_against_the_textbook_weighted_least_squares():
    """Minimise Σ w (v(z) − v(0) − z·φ)² under Σφ = v(1) − v(0) over the very pairs that were drawn."""
    game = network(9, 7)
    sampler = PairSampler(9, "kernel", generator(4))
    sampler.extend(60)
    z = torch.cat([sampler.drawn, ~sampler.drawn]).double()
    w = torch.cat([sampler.weights()] * 2)
    ends = game(torch.stack([torch.ones(9), torch.zeros(9)]))[:, 0]
    y = game(z)[:, 0] - ends[1]
    system = torch.zeros(10, 10, dtype=torch.float64)
    system[:9, :9] = z.T @ (w[:, None] * z)
    system[9, :9] = system[:9, 9] = 1
    right = torch.cat([z.T @ (w * y), (ends[0] - ends[1])[None]])
    expected = torch.linalg.solve(system, right)[:9]
    found = play(paired_regression(9, fixed(122), "kernel", generator(4), adjusted=False), game)
    torch.testing.assert_close(found.values[:, 0], expected)


@pytest.mark.parametrize("weighting", ["leverage", "kernel"])
@pytest.mark.parametrize(("players", "pairs"), [(7, 63), (10, 200), (19, 500), (40, 100), (300, 64), (20_000, 20)])
def test_pairs_are_distinct_and_proper(players, pairs, weighting):
    sampler = PairSampler(players, weighting, generator(0))
    sampler.extend(pairs // 3)
    sampler.extend(pairs)
    rows = torch.cat([sampler.drawn, ~sampler.drawn])
    assert len(torch.unique(rows, dim=0)) == len(rows)
    assert bool((sampler.drawn.sum(1) >= 1).all())
    assert bool((sampler.drawn.sum(1) <= players // 2).all())
    assert abs(len(sampler.drawn) - min(pairs, sampler.pairs)) <= max(2, min(players, 300) // 2)
    assert len(sampler.weights()) == len(sampler.missed()) == len(sampler.drawn)


def test_pair_weights_estimate_kernel_sums_without_bias():
    """Σ weight · f over draws has the mean of the whole kernel sum, for f the number of pairs of each kind."""
    players, total = 8, torch.zeros(4, dtype=torch.float64)
    for seed in range(400):
        sampler = PairSampler(players, "leverage", generator(seed))
        sampler.extend(9)
        size = sampler.drawn.sum(1)
        total += torch.stack([sampler.weights()[size == k].sum() for k in range(1, 5)])
    expected = torch.tensor([7 / (k * (8 - k)) * (0.5 if k == 4 else 1) for k in range(1, 5)], dtype=torch.float64)
    torch.testing.assert_close(total / 400, expected, rtol=0.06, atol=0)


def test_allotments_respect_caps_and_ratios():
    shares = allot(20, torch.tensor([1.0, 1.0, 2.0]), torch.tensor([3.0, 50.0, 50.0]))
    torch.testing.assert_close(shares, torch.tensor([3.0, 17 / 3, 34 / 3]))
    torch.testing.assert_close(allot(99, torch.ones(2), torch.tensor([3.0, 4.0])), torch.tensor([3.0, 4.0]))


def test_auto_stops_when_the_error_is_small_enough():
    game = network(20, 0)
    loose = play(paired_regression(20, parse_stopping("auto", 0.1, None), "leverage", generator(0)), game)
    tight = play(paired_regression(20, parse_stopping("auto", 0.01, None), "leverage", generator(0)), game)
    assert loose.evaluations < tight.evaluations < 2**14
    assert float(tight.errors.norm() / tight.values.norm()) <= 0.01
    capped = play(paired_regression(20, parse_stopping("auto", 1e-9, 300), "leverage", generator(0)), game)
    assert capped.evaluations <= 300
    orders = play(random_orders(20, seeded_orders(20, generator(0)), parse_stopping("auto", 0.1, None), True), game)
    assert float(orders.errors.norm() / orders.values.norm()) <= 0.1
    few = play(random_orders(20, seeded_orders(20, generator(0)), parse_stopping("auto", 1e-9, 500), True), game)
    assert few.evaluations <= 500


GROUPS = [[0, 1, 2], [3, [4, 5], 6], 7, 8]
BODIES = {
    "regression": lambda source: paired_regression(9, fixed(128), "leverage", source, True, True),
    "kernel": lambda source: paired_regression(9, fixed(128), "kernel", source, True, True),
    "plain": lambda source: paired_regression(9, fixed(128), "leverage", source, False, True),
    "orders": lambda source: random_orders(9, seeded_orders(9, source), fixed(60), True),
    "a few orders": lambda source: random_orders(9, seeded_orders(9, source), fixed(25), True),
    "five orders": lambda source: random_orders(9, seeded_orders(9, source), fixed(5), False),
    "unpaired orders": lambda source: random_orders(9, seeded_orders(9, source), fixed(60), False),
    "groups": lambda source: random_orders(9, hierarchical_orders(GROUPS, source), fixed(120), True),
}


@pytest.mark.parametrize("kind", BODIES)
def test_intervals_cover(kind):
    """Of 200 seeded runs at 95 %, at least 93 % of the values lie within 1.96 standard errors."""
    games = [network(9, seed, "relu") for seed in range(10)]
    exact = [
        play(exact_owen(OwenPlan(GROUPS, 9)) if kind == "groups" else exact_shapley(9), game).values for game in games
    ]
    inside, count = 0.0, 0
    for seed in range(200):
        found = play(BODIES[kind](generator(seed)), games[seed % 10])
        inside += float(((found.values - exact[seed % 10]).abs() <= 1.96 * found.errors).double().sum())
        count += 9
    assert inside / count >= 0.93


def test_nan_scores_stay_in_their_own_output():
    game = network(8, 0, outputs=2)

    def spoiled(z):
        scores = game(z)
        scores[:, 1] = torch.where(z[:, 0] & z[:, 3], torch.nan, scores[:, 1])
        return scores

    right = play(paired_regression(8, fixed(100), "leverage", generator(0)), game).values
    found = play(paired_regression(8, fixed(100), "leverage", generator(0)), spoiled).values
    torch.testing.assert_close(found[:, 0], right[:, 0])
    assert bool(found[:, 1].isnan().any())


def test_owen_values_against_orders_that_keep_groups_together():
    groups = [[0, 1], [2, [3, 4]], 5]
    game = network(6, 9)
    expected, count = torch.zeros(6, 1, dtype=torch.float64), 0
    for order in itertools.permutations(range(6)):
        place = {p: i for i, p in enumerate(order)}
        spans = [[0, 1], [2, 3, 4], [3, 4]]
        if any(max(place[p] for p in s) - min(place[p] for p in s) >= len(s) for s in spans):
            continue
        present = torch.zeros(1, 6, dtype=torch.bool)
        for player in order:
            before = game(present)
            present[0, player] = True
            expected[player] += (game(present) - before)[0]
        count += 1
    plan = OwenPlan(groups, 6)
    found = play(exact_owen(plan), game)
    torch.testing.assert_close(found.values, expected / count)
    assert found.evaluations == len(torch.unique(plan.coalitions, dim=0)) < 64
    sampled = play(random_orders(6, hierarchical_orders(groups, generator(0)), fixed(400), True), game)
    assert bool(((sampled.values - found.values).abs() <= 4 * sampled.errors + 1e-12).all())


def test_owen_values_without_groups_are_shapley_values():
    game = network(6, 2)
    flat = play(exact_owen(OwenPlan([0, 1, 2, 3, 4, 5], 6)), game)
    torch.testing.assert_close(flat.values, play(exact_shapley(6), game).values)


def test_hierarchies_must_hold_every_player_once():
    check_hierarchy([[1], [0, 2]], 3)
    for wrong in ([[0, 1]], [[0, 1], [1, 2]], [0, 1, 2, 3], "012", [0, [1, 2.0]], [0, None]):
        with pytest.raises(MaskError, match="groups"):
            check_hierarchy(wrong, 3)
    with pytest.raises(MaskError, match="n_samples"):
        OwenPlan(list(range(30)), 30)


@pytest.mark.parametrize("late", [False, True])
def test_futures_drive_the_same_body(late):
    game = network(5, 6)
    waiting = []

    def ask(coalitions):
        answer = Future()
        if late:
            waiting.append((answer, coalitions))
        else:
            answer.set_result(game(coalitions))
        return answer

    result = play_later(exact_shapley(5), ask)
    while waiting:
        answer, coalitions = waiting.pop()
        answer.set_result(game(coalitions))
    torch.testing.assert_close(result.value().values, play(exact_shapley(5), game).values)


def test_futures_carry_failures():
    def ask(coalitions):
        answer = Future()
        answer.set_exception(ValueError("the model is away"))
        return answer

    with pytest.raises(ValueError, match="away"):
        play_later(exact_shapley(3), ask).wait()


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "many", None])
def test_wrong_sample_counts(wrong):
    with pytest.raises(InputError, match="n_samples"):
        parse_stopping(wrong, None, None)


def test_wrong_stopping_and_generators():
    with pytest.raises(InputError, match="tol"):
        parse_stopping("auto", 0.0, None)
    with pytest.raises(InputError, match="max_evals"):
        parse_stopping("auto", None, 0)
    with pytest.raises(InputError, match="both"):
        parse_generator(generator(0), 3)
