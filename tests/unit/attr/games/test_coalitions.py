"""The public face of a game."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from captum.attr import ShapleyValues, games
from captum.attr.games.exact import exact_shapley
from captum.errors import InputError
from tests.subjects import drawn

X, B = drawn(3, 5, seed=1, dtype=torch.float64), drawn(3, 5, seed=2, dtype=torch.float64)
MASK = torch.tensor([[0, 1, 7, 7, 9]])


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def test_scores_are_those_of_filled_inputs() -> None:
    model = net()
    game = games.CoalitionGame(model, X, B, target=1, feature_mask=MASK)
    every = torch.tensor(list(itertools.product([True, False], repeat=game.players)))
    elements = every[:, [0, 1, 2, 2, 3]]
    want = torch.stack([model(torch.where(e, X, B))[:, 1] for e in elements]).detach()
    torch.testing.assert_close(game(every), want)
    own = every[torch.arange(48).reshape(16, 3) % 16]
    want = torch.stack([model(torch.where(e[:, [0, 1, 2, 2, 3]], X, B))[:, 1] for e in own]).detach()
    torch.testing.assert_close(game(own), want)


def test_an_estimator_is_played_and_written_on_the_elements() -> None:
    model = net()
    game = games.CoalitionGame(model, X, B, target=1, feature_mask=MASK)
    found = game.attributions(game.play(exact_shapley(game.players)).values)
    torch.testing.assert_close(found, ShapleyValues(model).attribute(X, B, target=1, feature_mask=MASK))


def test_pairs_whose_interaction_is_known() -> None:
    game = games.CoalitionGame(lambda a, b: a[:, 0] * a[:, 1] + 5 * b[:, 0], (X[:, :2], X[:, 2:3]))
    scores = game(torch.tensor(list(itertools.product([True, False], repeat=3)))).reshape(2, 2, 2, 3)
    both = (scores[0, 0] - scores[0, 1] - scores[1, 0] + scores[1, 1]).mean(0)
    torch.testing.assert_close(both, X[:, 0] * X[:, 1])
    assert [tuple(a.shape) for a in game.attributions(torch.ones(3, 3))] == [(3, 2), (3, 1)]


def test_shapes_of_other_outputs() -> None:
    model = net()
    assert games.CoalitionGame(model, X).attributions(torch.ones(5, 9)).shape == (3, 3, 5)
    total = games.CoalitionGame(lambda x: model(x).sum(), X)
    assert total(torch.ones(2, 5, dtype=torch.bool)).shape == (2, 1)
    assert total.attributions(torch.ones(5, 1)).shape == (1, 5)


@pytest.mark.parametrize(
    "coalitions",
    [[[True] * 5], torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 5), torch.ones(0, 5, dtype=torch.bool)],
)
def test_what_is_no_coalition_is_told(coalitions: Tensor) -> None:
    with pytest.raises(InputError, match=r"bool Tensor \(K, 5\)"):
        games.CoalitionGame(net(), X, target=0)(coalitions)


def test_values_of_another_shape_are_told() -> None:
    with pytest.raises(InputError, match=r"Expected values \(5, 3\)"):
        games.CoalitionGame(net(), X, target=0).attributions(torch.ones(5, 7))


def test_a_fill_with_draws_of_its_own() -> None:
    class Shifted(games.Ready):
        draws = 3

        def replace(self, values: games.fills.Tensors, keep: games.fills.Tensors, rows: object, draws: Tensor):
            shift = (draws - 1.0).reshape(-1, *[1] * values[0].dim())
            return tuple(torch.where(k, v, v + shift) for k, v in zip(keep, values, strict=True))

    class Shift(games.Fill):
        def ready(self, inputs: object) -> games.Ready:
            return Shifted()

    game = games.CoalitionGame(lambda x: (x**2).sum(1), X, Shift())
    nobody = torch.zeros(1, 5, dtype=torch.bool)
    torch.testing.assert_close(game(nobody)[0], (X**2).sum(1) + 5 * 2 / 3)
    assert math.isclose(float(game(~nobody)[0, 0]), float((X[0] ** 2).sum()))
