"""Ablation, permutation, occlusion and Shapley values, re-derived with one call of the model per change."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from captum import attr
from captum.errors import LayerError
from tests.oracles.loops import chain
from tests.subjects import drawn

NET = chain()
X = drawn(3, 3, seed=4, dtype=torch.float64)
X0 = drawn(3, 3, seed=5, dtype=torch.float64)
MASK = torch.tensor([[0, 4, 4], [4, 0, 0], [2, 2, 0]])


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def without(x: Tensor, x0: Tensor, ids: Tensor, gone: set[int]) -> Tensor:
    """One row with the elements of some ids at the baseline."""
    out = x.clone()
    for place, i in enumerate(ids.tolist()):
        if i in gone:
            out[place] = x0[place]
    return out


def f(x: Tensor) -> Tensor:
    """The explained output of one row."""
    return NET(x[None])[0, 1].detach()


@pytest.mark.parametrize("per_eval", [1, 2, 7])
@pytest.mark.parametrize("mask", [None, MASK, MASK[:1], MASK[0]], ids=["none", "rows", "shared", "vector"])
def test_feature_ablation(mask: Tensor | None, per_eval: int) -> None:
    ids = torch.arange(3).expand(3, 3) if mask is None else mask.expand(3, 3)
    want = torch.zeros(3, 3, dtype=torch.float64)
    for row in range(3):
        for place in range(3):
            gone = {int(ids[row, place])}
            want[row, place] = f(X[row]) - f(without(X[row], X0[row], ids[row], gone))
    found = attr.FeatureAblation(NET).attribute(X, X0, 1, feature_mask=mask, perturbations_per_eval=per_eval)
    close(found, want)


@pytest.mark.parametrize("mask", [None, MASK], ids=["none", "rows"])
def test_shapley_values(mask: Tensor | None) -> None:
    ids = torch.arange(3).expand(3, 3) if mask is None else mask
    want = torch.zeros(3, 3, dtype=torch.float64)
    for row in range(3):
        players = sorted(set(ids.flatten().tolist()))
        orders = list(itertools.permutations(players))
        for order in orders:
            gone = set(players)
            before = f(without(X[row], X0[row], ids[row], gone))
            for player in order:
                gone.discard(player)
                after = f(without(X[row], X0[row], ids[row], gone))
                want[row][ids[row] == player] += (after - before) / len(orders)
                before = after
    close(attr.ShapleyValues(NET).attribute(X, X0, 1, feature_mask=mask), want)
    close(attr.KernelShap(NET).attribute(X, X0, 1, feature_mask=mask), want)
    sampled = attr.ShapleyValueSampling(NET).attribute(X, X0, 1, feature_mask=mask, n_samples=400, seed=1)
    torch.testing.assert_close(sampled, want, rtol=0, atol=0.1 * float(want.abs().max()))


def test_shapley_value_sampling_follows_the_drawn_orders() -> None:
    torch.manual_seed(11)
    found = attr.ShapleyValueSampling(NET).attribute(X, X0, 1, n_samples=4)
    torch.manual_seed(11)
    want = torch.zeros(3, 3, dtype=torch.float64)
    for _ in range(4):
        order = torch.randperm(3).tolist()
        for row in range(3):
            gone = {0, 1, 2}
            for player in order:
                before = f(without(X[row], X0[row], torch.arange(3), gone))
                gone.discard(player)
                want[row, player] += (f(without(X[row], X0[row], torch.arange(3), gone)) - before) / 4
    close(found, want)


@pytest.mark.parametrize("per_eval", [1, 3])
def test_occlusion_with_overlapping_and_cut_windows(per_eval: int) -> None:
    x = drawn(2, 2, 5, 4, seed=1, dtype=torch.float64)
    x0 = drawn(1, 2, 5, 4, seed=2, dtype=torch.float64)
    weight = drawn(2, 5, 4, seed=3, dtype=torch.float64)

    def score(v: Tensor) -> Tensor:
        return torch.tanh(v * weight).sum((1, 2, 3)) ** 2

    window, stride = (2, 3, 2), (1, 2, 1)
    total, count = torch.zeros_like(x), torch.zeros_like(x)
    starts = [range(0, -(-(s - w) // t) * t + 1, t) for s, w, t in zip(x.shape[1:], window, stride, strict=True)]
    for c, i, j in itertools.product(*starts):
        part = (slice(None), slice(c, c + 2), slice(i, i + 3), slice(j, j + 2))
        changed = x.clone()
        changed[part] = x0.expand_as(x)[part]
        total[part] += (score(x) - score(changed))[:, None, None, None]
        count[part] += 1
    found = attr.Occlusion(score).attribute(x, window, stride, x0, perturbations_per_eval=per_eval)
    close(found, total / count)


def test_occlusion_of_three_inputs_of_different_sizes() -> None:
    xs = (drawn(2, 4, seed=1), drawn(2, 3, 3, seed=2), drawn(2, 1, 2, 5, seed=3))

    def score(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return a.sum(1) * b.sum((1, 2)) + c.square().sum((1, 2, 3)) * a[:, 0]

    found = attr.Occlusion(score).attribute(xs, ((2,), (1, 3), (1, 2, 3)), (1, (1, 3), (1, 1, 2)))
    for number, (window, stride) in enumerate((((2,), 1), ((1, 3), (1, 3)), ((1, 2, 3), (1, 1, 2)))):
        for row in range(2):

            def alone(v: Tensor, n: int = number, r: int = row) -> Tensor:
                others = [x[r : r + 1].expand(len(v), *x.shape[1:]) for x in xs]
                return score(*others[:n], v, *others[n + 1 :])

            want = attr.Occlusion(alone).attribute(xs[number][row : row + 1], window, stride)
            torch.testing.assert_close(found[number][row : row + 1], want)


def test_occlusion_at_its_ends() -> None:
    """A window of one element is ablation; a window over everything gives the whole difference everywhere."""
    torch.testing.assert_close(
        attr.Occlusion(NET).attribute(X, (1,), target=0), attr.FeatureAblation(NET).attribute(X, target=0)
    )
    whole = (NET(X) - NET(torch.zeros_like(X)))[:, 0]
    close(attr.Occlusion(NET).attribute(X, (3,), target=0), whole[:, None].expand(3, 3).detach())


def test_feature_permutation() -> None:
    torch.manual_seed(3)
    found = attr.FeaturePermutation(NET).attribute(X, 1, feature_mask=MASK[:1])
    torch.manual_seed(3)
    want = torch.zeros(3, 3, dtype=torch.float64)
    for player in (0, 4):
        order = torch.randperm(3)
        while torch.equal(order, torch.arange(3)):
            order = torch.randperm(3)
        changed = X.clone()
        for place in range(3):
            if int(MASK[0, place]) == player:
                changed[:, place] = X[order, place]
        difference = (NET(X) - NET(changed))[:, 1].detach()
        for place in range(3):
            if int(MASK[0, place]) == player:
                want[:, place] = difference
    close(found, want)


def test_a_permuted_group_keeps_its_rows_together_across_tensors() -> None:
    """The product of two tensors that move together is a permutation of the products."""
    a, b = torch.arange(1.0, 7.0)[:, None], torch.arange(1.0, 7.0)[:, None] * 10
    mask = (torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))
    found = attr.FeaturePermutation(lambda a, b: (a * b)[:, 0]).attribute((a, b), feature_mask=mask, seed=0)
    moved = (a * b)[:, 0] - found[0][:, 0]
    torch.testing.assert_close(moved.sort().values, (a * b)[:, 0])
    torch.testing.assert_close(found[0], found[1])


def test_layers_and_neurons() -> None:
    """A layer is ablated like an input of the rest; a neuron is explained like an output."""
    y = NET.layer(X).detach()
    found = attr.LayerFeatureAblation(NET, NET.layer).attribute(X, target=[0, 1, 1], perturbations_per_eval=2)
    close(found, attr.FeatureAblation(NET.head).attribute(y, target=[0, 1, 1]))
    torch.manual_seed(0)
    found = attr.LayerFeaturePermutation(NET, NET.layer).attribute(X, target=1)
    torch.manual_seed(0)
    close(found, attr.FeaturePermutation(NET.head).attribute(y, target=1))
    neuron = attr.NeuronFeatureAblation(NET, NET.layer)
    close(neuron.attribute(X, 1, X0), attr.FeatureAblation(lambda x: NET.layer(x)[:, 1]).attribute(X, X0))
    both = neuron.attribute(X, (slice(0, 2),), X0)
    close(both, neuron.attribute(X, 0, X0) + neuron.attribute(X, 1, X0))


def test_a_neuron_is_one_number() -> None:
    convolution = torch.nn.Conv1d(1, 2, 2).double()
    neuron = attr.NeuronFeatureAblation(torch.nn.Sequential(convolution, torch.nn.Flatten()), convolution)
    with pytest.raises(LayerError, match="leaves several neurons"):
        neuron.attribute(X[:, None], 1)
    found = neuron.attribute(X[:, None], (1, 0))
    close(found[:, 0, :2], convolution.weight[1, 0].detach() * X[:, :2])
    assert not found[:, 0, 2].any()
