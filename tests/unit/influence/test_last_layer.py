"""TracIn by the last layer against TracIn on that weight, and against published numbers."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from captum.errors import InputError, InputTypeError, LayerError, MissingDependencyError
from captum.influence import TracInCP, TracInCPFast, TracInCPFastRandProj
from captum.influence.last_layer import LayerRows
from captum.influence.neighbors import AnnoyNearestNeighbors, ExactNearestNeighbors
from tests.unit.influence.parts import (
    CHECKPOINTS,
    DATA,
    TEST,
    X,
    Y,
    as_it_is,
    cross_entropy,
    gradients,
    load,
    net,
    state,
)


def by_loops(test_loss: nn.Module | None = None) -> Tensor:
    total = torch.zeros(2, 7, dtype=torch.float64)
    loss = cross_entropy("sum")
    for checkpoint in CHECKPOINTS:
        model = net()
        rate = load(model, checkpoint)
        tests = gradients(model, ["2.weight"], test_loss or loss, *TEST)
        total += rate * tests @ gradients(model, ["2.weight"], loss, X, Y).T
    return total


def fast(reduction: str = "sum", layer: str = "2", **kwargs: object) -> TracInCPFast:
    return TracInCPFast(net(), layer, DATA, CHECKPOINTS, load, cross_entropy(reduction), 3, **kwargs)


def projected(**kwargs: object) -> TracInCPFastRandProj:
    return TracInCPFastRandProj(net(), "2", DATA, CHECKPOINTS, load, cross_entropy("sum"), 3, **kwargs)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_scores_are_inner_products_of_gradients_of_the_weight(reduction):
    torch.testing.assert_close(fast(reduction).influence(TEST), by_loops())
    loader = DataLoader(TensorDataset(*TEST), batch_size=1)
    torch.testing.assert_close(fast(reduction).influence(loader), by_loops())
    best = fast(reduction).influence(loader, k=3, proponents=False)
    torch.testing.assert_close(best.influence_scores, by_loops().topk(3, largest=False).values)


def test_published_numbers():
    """What captum 0.9.0 returns for the same calls."""
    first = torch.tensor([-0.261270, 0.313686, 0.128141, -0.036121, 0.276549, 0.684100, -0.137783]).double()
    torch.testing.assert_close(fast().influence(TEST)[0], first, rtol=0, atol=1e-6)
    alone = torch.tensor([0.358841, 1.090256, 2.707474, 0.128959, 0.865775, 1.361661, 0.070267]).double()
    torch.testing.assert_close(fast().self_influence(), alone, rtol=0, atol=1e-6)
    found = projected(projection_dim=9, seed=3)
    first = torch.tensor([-0.326419, 0.371541, 0.048834, -0.403569, 0.459357, 0.060376, -0.204107, 0.232321, 0.030536])
    vectors = found.compute_intermediate_quantities(TEST)
    torch.testing.assert_close(vectors[0, :9], first.double(), rtol=0, atol=1e-6)
    indices, scores = found.influence(TEST, k=2)
    assert indices.tolist() == [[5, 4], [0, 2]]
    wanted = torch.tensor([[1.031566, 0.349945], [0.935296, 0.354762]]).double()
    torch.testing.assert_close(scores, wanted, rtol=0, atol=1e-6)


class Sequence(nn.Module):
    """The last layer sees several positions, runs twice, and what it gives is changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.last = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.last(torch.tanh(self.first(x)))
        hidden.relu_()
        return self.last(hidden).mean(1)


def test_several_positions_and_calls():
    torch.manual_seed(0)
    model, x = Sequence().double(), torch.sin(torch.arange(84.0).double()).reshape(7, 4, 3)
    data = TensorDataset(x, Y)
    model.requires_grad_(False)
    before = state(model)
    found = TracInCPFast(model, model.last, data, [1], as_it_is, cross_entropy("mean"), 3)
    scores, alone = found.influence((x[:2], Y[:2])), found.self_influence()
    assert state(model) == before
    rows = gradients(model.requires_grad_(True), ["last.weight"], cross_entropy("none"), x, Y)
    torch.testing.assert_close(scores, rows[:2] @ rows.T)
    torch.testing.assert_close(alone, rows.square().sum(1))


@pytest.mark.parametrize("size", [1, 20])
def test_products_by_factors_and_by_matrices(size):
    torch.manual_seed(0)
    one, other = (LayerRows(torch.randn(n, 3, size).double(), torch.randn(n, 3, 2).double()) for n in (4, 5))
    torch.testing.assert_close(one.dot(other), one.matrix() @ other.matrix().T)
    torch.testing.assert_close(one.squares(), one.matrix().square().sum(1))


def test_sequences_of_different_lengths():
    torch.manual_seed(0)
    model = Sequence().double()
    x = torch.sin(torch.arange(84.0).double()).reshape(7, 4, 3)
    batches = DataLoader([((x[i, : 2 + i % 3]), Y[i]) for i in range(7)], batch_size=1)
    found = TracInCPFast(model, "last", batches, [1], as_it_is, cross_entropy("mean")).influence(batches)
    rows = torch.cat(
        [
            gradients(model, ["last.weight"], cross_entropy("none"), x[i : i + 1, : 2 + i % 3], Y[i : i + 1])
            for i in range(7)
        ]
    )
    torch.testing.assert_close(found, rows @ rows.T)


def test_vectors_without_projection_give_the_same():
    torch.testing.assert_close(projected().influence(TEST, k=None), by_loops())
    torch.testing.assert_close(projected(projection_dim=12).influence(TEST, k=None), by_loops())
    best = projected().influence(TEST)
    torch.testing.assert_close(best.influence_scores, by_loops().topk(5).values)
    assert projected().influence(TEST, k=50).indices.shape == (2, 7)
    worst = projected().influence(TEST, k=3, proponents=False)
    values, places = by_loops().topk(3, largest=False)
    torch.testing.assert_close(worst.influence_scores, values)
    assert worst.indices.tolist() == places.tolist()


def test_training_vectors_are_of_the_training_loss():
    other = nn.MultiMarginLoss(reduction="sum")
    found = projected(test_loss_fn=other)
    torch.testing.assert_close(found.influence(TEST, k=None), by_loops(other))
    torch.testing.assert_close(fast(test_loss_fn=other).influence(TEST), by_loops(other))
    plain = projected().compute_intermediate_quantities(TEST)
    torch.testing.assert_close(found.compute_intermediate_quantities(TEST, test=False), plain)


def test_projections_keep_inner_products_on_average():
    wanted = by_loops()
    found = [projected(projection_dim=4, seed=s).influence(TEST, k=None) for s in range(40)]
    spread = torch.stack(found).std(0) / 40**0.5
    assert bool(((torch.stack(found).mean(0) - wanted).abs() < 4.5 * spread).all())


def test_nothing_is_left_behind():
    model = net()
    torch.manual_seed(3)
    before = state(model)
    method = TracInCPFastRandProj(model, "2", DATA, CHECKPOINTS, load, cross_entropy("sum"), 3, projection_dim=4)
    method.influence(TEST)
    TracInCPFast(model, "2", DATA, CHECKPOINTS, load, cross_entropy("sum"), 3).self_influence()
    assert state(model) == before
    broken = (torch.zeros(2, 3).double(), torch.tensor([0, 9]))
    with pytest.raises(IndexError):
        method.influence(broken)
    assert state(model) == before


def test_the_same_as_tracin_on_a_layer_without_bias():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3, bias=False)).double()
    one = TracInCPFast(model, model[2], DATA, [1], as_it_is, cross_entropy("sum"), 3)
    other = TracInCP(model, DATA, [1], as_it_is, ["2"], cross_entropy("none"), 3)
    torch.testing.assert_close(one.influence(TEST), other.influence(TEST))
    torch.testing.assert_close(one.self_influence(TEST), other.self_influence(TEST))


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="'nope'"):
        fast(layer="nope")
    with pytest.raises(InputTypeError, match="Linear"):
        fast(layer="1")
    with pytest.raises(InputError, match="not part of it"):
        TracInCPFast(net(), nn.Linear(4, 3), DATA, [1], as_it_is, cross_entropy("sum"))
    with pytest.raises(AssertionError, match="loss_fn"):
        TracInCPFast(net(), "2", DATA, [1], as_it_is)
    with pytest.raises(AssertionError, match="reduction 'sum' or 'mean'"):
        fast("none")
    with pytest.raises(AssertionError, match="test_loss_fn"):
        fast(test_loss_fn=cross_entropy("none"))
    with pytest.raises(NotImplementedError, match="TracInCPFast"):
        projected().self_influence()
    with pytest.raises(AssertionError, match="self_influence"):
        projected().influence()
    with pytest.raises(InputError, match="projection_dim"):
        projected(projection_dim=0)
    with pytest.raises(InputTypeError, match="nearest_neighbors"):
        projected(nearest_neighbors=3)
    with pytest.raises(InputError, match="negative"):
        TracInCPFastRandProj(net(), "2", DATA, [1], lambda m, c: -1.0, cross_entropy("sum"))


def test_a_layer_that_does_not_run_is_told():
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Linear(3, 3)
            self.unused = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    method = TracInCPFast(Skips().double(), "unused", DATA, [1], as_it_is, cross_entropy("sum"))
    with pytest.raises(LayerError, match="final_fc_layer"):
        method.influence(TEST)


def test_neighbors_are_those_with_the_largest_products():
    search = ExactNearestNeighbors()
    with pytest.raises(InputError, match="setup"):
        search.get_nearest_neighbors(X, 1)
    search.setup(X)
    places, scores = search.get_nearest_neighbors(X[:2], 3)
    values, wanted = (X[:2] @ X.T).topk(3)
    assert places.tolist() == wanted.tolist()
    torch.testing.assert_close(scores, values)


class Index:
    """Stands in for annoy's index."""

    def __init__(self, size: int, metric: str) -> None:
        assert metric == "dot"
        self.size, self.items, self.trees = size, {}, 0

    def add_item(self, place: int, vector: list[float]) -> None:
        assert len(vector) == self.size
        self.items[place] = torch.tensor(vector)

    def build(self, trees: int) -> None:
        self.trees = trees

    def get_nns_by_vector(self, vector: list[float], k: int) -> list[int]:
        assert self.trees
        products = torch.stack([self.items[i] for i in range(len(self.items))]) @ torch.tensor(vector)
        return products.topk(k).indices.flip(0).tolist() if self.trees > 1 else [0]


def test_annoy(monkeypatch):
    monkeypatch.setitem(sys.modules, "annoy", None)
    with pytest.raises(MissingDependencyError, match="pip install annoy"):
        AnnoyNearestNeighbors()
    module = ModuleType("annoy")
    module.AnnoyIndex = Index
    monkeypatch.setitem(sys.modules, "annoy", module)
    with pytest.raises(InputError, match="setup"):
        AnnoyNearestNeighbors().get_nearest_neighbors(X, 1)
    found = projected(nearest_neighbors=AnnoyNearestNeighbors()).influence(TEST, k=3)
    torch.testing.assert_close(found.influence_scores, by_loops().topk(3).values)
    assert found.indices.tolist() == by_loops().topk(3).indices.tolist()
    with pytest.raises(InputError, match="num_trees"):
        projected(nearest_neighbors=AnnoyNearestNeighbors(1)).influence(TEST, k=3)


class Centred(nn.Module):
    """Subtracts the mean of the batch, by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x - x.mean(0))


@pytest.mark.parametrize("kind", [TracInCPFast, TracInCPFastRandProj])
def test_examples_that_influence_each_other_are_told(kind):
    data = TensorDataset(torch.randn(6, 3), torch.zeros(6, dtype=torch.int64))
    test = (torch.randn(2, 3), torch.zeros(2, dtype=torch.int64))
    loss = nn.CrossEntropyLoss(reduction="sum")
    with pytest.raises(InputError, match="influence each other"):
        kind(Centred().eval(), "last", data, [1], lambda model, _: 1.0, loss, 3).influence(test)
    kind(Centred().eval(), "last", data, [1], lambda model, _: 1.0, loss, 1).influence((test[0][:1], test[1][:1]))
