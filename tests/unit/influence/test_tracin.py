"""TracIn against gradients of single examples, and against published numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import captum.influence.tracin
from captum.errors import InputError, InputTypeError, OutputError
from captum.influence import DataInfluence, TracInCP, TracInCPBase
from captum.influence.results import KMostInfluentialResults
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

NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]


def by_loops(reduction: str = "none", test_loss: nn.Module | None = None) -> Tensor:
    total = torch.zeros(2, 7, dtype=torch.float64)
    loss = cross_entropy(reduction)
    for checkpoint in CHECKPOINTS:
        model = net()
        rate = load(model, checkpoint)
        tests = gradients(model, NAMES, test_loss or loss, *TEST)
        total += rate * tests @ gradients(model, NAMES, loss, X, Y).T
    return total


def tracin(reduction: str = "none", batch_size: int = 3, **kwargs: object) -> TracInCP:
    per_batch = reduction != "none"
    loss = cross_entropy(reduction)
    return TracInCP(
        net(), DATA, CHECKPOINTS, load, None, loss, batch_size, sample_wise_grads_per_batch=per_batch, **kwargs
    )


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_scores_are_inner_products_of_gradients(reduction, batch_size):
    found = tracin(reduction, batch_size).influence(TEST)
    torch.testing.assert_close(found, by_loops())


def test_published_numbers():
    """What captum 0.9.0 returns for the same calls."""
    found = tracin().influence(TEST)
    first = torch.tensor([-1.510255, 2.171763, 1.608676, -0.161961, 0.558190, 2.643244, -0.898833])
    torch.testing.assert_close(found[0], first.double(), rtol=0, atol=1e-6)
    alone = torch.tensor([1.396769, 6.430750, 5.483571, 0.269696, 5.762801, 3.530409, 0.485395])
    torch.testing.assert_close(tracin().self_influence(), alone.double(), rtol=0, atol=1e-6)
    indices, scores = tracin().influence(TEST, k=3, proponents=False)
    assert indices.tolist() == [[0, 6, 3], [1, 5, 4]]
    wanted = torch.tensor([[-1.510255, -0.898833, -0.161961], [-1.338676, -0.815968, -0.793832]])
    torch.testing.assert_close(scores, wanted.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("checkpoints", [[1.0], CHECKPOINTS])
@pytest.mark.parametrize("proponents", [True, False])
@pytest.mark.parametrize("k", [1, 4, 7, 20])
def test_the_best_are_those_of_the_whole_matrix(k, proponents, checkpoints):
    method = tracin()
    method.checkpoints = checkpoints
    whole = method.influence(TEST)
    best = method.influence(TEST, k=k, proponents=proponents)
    assert isinstance(best, KMostInfluentialResults)
    values, places = whole.topk(min(k, 7), largest=proponents)
    assert best.indices.tolist() == places.tolist()
    assert best.indices.dtype == torch.int64
    torch.testing.assert_close(best.influence_scores, values)


def test_a_loader_gives_what_a_tuple_gives():
    loader = DataLoader(TensorDataset(*TEST), batch_size=1)
    torch.testing.assert_close(tracin().influence(loader), by_loops())
    torch.testing.assert_close(tracin().influence(loader, k=2).influence_scores, by_loops().topk(2).values)
    torch.testing.assert_close(tracin().influence(list(TEST)), by_loops())
    of_batches = TracInCP(net(), DataLoader(DATA, batch_size=2), CHECKPOINTS, load, loss_fn=cross_entropy("none"))
    torch.testing.assert_close(of_batches.influence(TEST), by_loops())


@pytest.mark.parametrize("k", [None, 3])
def test_test_examples_that_do_not_fit_at_once_change_nothing(k, monkeypatch):
    wanted = tracin().influence(TEST, k=k)
    monkeypatch.setattr(captum.influence.tracin, "TEST_BUDGET", 1)
    torch.testing.assert_close(tuple(tracin().influence(TEST, k=k)), tuple(wanted))


def test_test_gradients_are_computed_once():
    calls = []

    class Watched(nn.CrossEntropyLoss):
        def forward(self, *args: Tensor) -> Tensor:
            calls.append(1)
            return super().forward(*args)

    method = tracin(batch_size=1, test_loss_fn=Watched(reduction="none"))
    method.influence(TEST)
    assert len(calls) <= 2 * len(CHECKPOINTS)


def test_scores_summed_over_examples():
    found = tracin().influence(TEST, aggregate=True)
    torch.testing.assert_close(found, by_loops().sum(0, keepdim=True))
    assert tracin().influence(TEST, k=2, aggregate=True).indices.shape == (1, 2)
    shuffled = DataLoader(TensorDataset(*TEST), batch_size=1, shuffle=True)
    torch.testing.assert_close(tracin().influence(shuffled, aggregate=True), found)


def test_influence_on_itself():
    of_all = TracInCP(net(), DATA, CHECKPOINTS, load, loss_fn=cross_entropy("none")).influence((X, Y)).diagonal()
    torch.testing.assert_close(tracin().self_influence(), of_all)
    torch.testing.assert_close(tracin().self_influence(outer_loop_by_checkpoints=True), of_all)
    torch.testing.assert_close(tracin().self_influence((X[2:5], Y[2:5])), of_all[2:5])
    other = tracin(test_loss_fn=nn.NLLLoss(reduction="none"))
    torch.testing.assert_close(other.self_influence(DataLoader(DATA, batch_size=2)), of_all)


def test_gradients_side_by_side():
    found = tracin().compute_intermediate_quantities(TEST)
    parts = []
    for checkpoint in CHECKPOINTS:
        model = net()
        rate = load(model, checkpoint)
        parts.append(rate * gradients(model, NAMES, cross_entropy("none"), *TEST))
    torch.testing.assert_close(found, torch.cat(parts, 1))
    summed = tracin().compute_intermediate_quantities(TEST, aggregate=True)
    torch.testing.assert_close(summed, found.sum(0, keepdim=True))


def test_another_loss_for_the_examples_to_explain():
    other = nn.MultiMarginLoss(reduction="none")
    torch.testing.assert_close(tracin(test_loss_fn=other).influence(TEST), by_loops("none", other))
    mean = nn.MultiMarginLoss(reduction="mean")
    torch.testing.assert_close(tracin("sum", test_loss_fn=mean).influence(TEST), by_loops("none", other))
    torch.testing.assert_close(
        tracin("sum", test_loss_fn=mean).influence(TEST, k=7).influence_scores,
        by_loops("none", other).sort(1, descending=True).values,
    )


def test_weights_and_ignored_labels_count_alike_under_every_reduction():
    labels = torch.tensor([0, -100, 1, 2, 2, 0, 1])
    found = []
    for reduction in ("none", "sum", "mean"):
        loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 0.5]).double(), reduction=reduction)
        method = TracInCP(net(), TensorDataset(X, labels), [1], as_it_is, None, loss, 4, None, reduction != "none")
        found.append(method.influence(TEST))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])
    assert bool((found[0][:, 1] == 0).all())


def test_several_losses_of_an_example():
    targets = torch.sin(torch.arange(21, dtype=torch.float64)).reshape(7, 3)
    data, tests = TensorDataset(X, targets), (TEST[0], targets[:2])
    summed = TracInCP(net(), data, [1], as_it_is, loss_fn=nn.MSELoss(reduction="none"), batch_size=3).influence(tests)
    mean = TracInCP(
        net(), data, [1], as_it_is, loss_fn=nn.MSELoss(), batch_size=3, sample_wise_grads_per_batch=True
    ).influence(tests)
    torch.testing.assert_close(mean * 9, summed)


def test_no_loss_means_the_outputs():
    found = TracInCP(net(), DATA, [1], as_it_is, batch_size=3).influence(TEST)
    model = net()
    wanted = gradients(model, NAMES, lambda o, y: o, *TEST) @ gradients(model, NAMES, lambda o, y: o, X, Y).T
    torch.testing.assert_close(found, wanted)


def test_any_function_may_be_the_loss():
    def loss(output: Tensor, label: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, label)

    found = TracInCP(net(), DATA, CHECKPOINTS, load, loss_fn=loss, batch_size=4).influence(TEST)
    torch.testing.assert_close(found, by_loops())


@pytest.mark.parametrize("layers", [["2"], ["0", "2"], ["2", "0", "0"]])
def test_chosen_layers(layers):
    model = net()
    model[2].weight.requires_grad_(False)
    before = state(model)
    method = TracInCP(model, DATA, [1], as_it_is, layers, cross_entropy("none"), 3)
    found = method.influence(TEST)
    assert state(model) == before
    names = [n for n in NAMES if n[0] in layers]
    reference = net()
    loss = cross_entropy("none")
    wanted = gradients(reference, names, loss, *TEST) @ gradients(reference, names, loss, X, Y).T
    torch.testing.assert_close(found, wanted)


def test_frozen_parameters_do_not_count():
    model = net()
    model[0].weight.requires_grad_(False)
    found = TracInCP(model, DATA, [1], as_it_is, None, cross_entropy("none"), 3).influence(TEST)
    reference, loss = net(), cross_entropy("none")
    wanted = gradients(reference, NAMES[1:], loss, *TEST) @ gradients(reference, NAMES[1:], loss, X, Y).T
    torch.testing.assert_close(found, wanted)
    model.requires_grad_(False)
    with pytest.raises(InputError, match="frozen"):
        TracInCP(model, DATA, [1], as_it_is, None, cross_entropy("none"), 3)


def test_nothing_is_left_behind():
    model = net()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    model[0].eval()
    torch.manual_seed(5)
    before = state(model)
    method = TracInCP(model, DATA, CHECKPOINTS, load, None, cross_entropy("none"), 3)
    method.influence(TEST)
    method.influence(TEST, k=2)
    method.self_influence()
    method.compute_intermediate_quantities(TEST)
    assert state(model) == before

    def fails(model: nn.Module, checkpoint: float) -> float:
        load(model, checkpoint)
        model.eval().zero_grad()
        model[0].weight = nn.Parameter(torch.zeros(4, 3))
        raise RuntimeError("no such file")

    with pytest.raises(RuntimeError, match="no such file"):
        TracInCP(model, DATA, [2.0], fails, None, cross_entropy("none"), 3).influence(TEST)
    assert state(model) == before


def test_inside_other_modes():
    with torch.no_grad():
        torch.testing.assert_close(tracin().influence(TEST), by_loops_outside)
    method = tracin()
    with torch.inference_mode():
        found = method.influence((TEST[0] * 1.0, TEST[1] * 1))
    torch.testing.assert_close(found.clone(), by_loops_outside)


by_loops_outside = by_loops()


def test_iterable_data():
    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter(zip(X, Y, strict=True))

    method = TracInCP(net(), DataLoader(Stream(), batch_size=3), CHECKPOINTS, load, None, cross_entropy("none"))
    torch.testing.assert_close(method.influence(TEST), by_loops())
    method.self_influence(show_progress=False)


def test_data_that_change_between_passes_are_told():
    class Shrinking(IterableDataset):
        left = 8

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            self.left -= 1
            return iter(list(zip(X, Y, strict=True))[: self.left])

    for k in (None, 2):
        method = TracInCP(net(), DataLoader(Shrinking(), batch_size=3), CHECKPOINTS, load, None, cross_entropy("none"))
        with pytest.raises(InputError, match="same training examples"):
            method.influence(TEST, k=k)


def test_progress_is_drawn(capsys):
    tracin().influence(TEST, show_progress=True)
    tracin().self_influence(show_progress=True)
    assert capsys.readouterr().err.count("TracInCP influence: 100%") == 2


def test_mistakes_are_told():
    loss = cross_entropy("none")
    with pytest.raises(InputError, match="reduction 'none', got 'mean'"):
        TracInCP(net(), DATA, [1], as_it_is, loss_fn=cross_entropy("mean"))
    with pytest.raises(InputError, match="reduction 'sum'"):
        TracInCP(net(), DATA, [1], as_it_is, loss_fn=loss, sample_wise_grads_per_batch=True)
    with pytest.raises(InputError, match="test_loss_fn with reduction"):
        TracInCP(net(), DATA, [1], as_it_is, loss_fn=loss, test_loss_fn=cross_entropy("sum"))
    with pytest.raises(AssertionError, match="self_influence"):
        tracin().influence(None)
    with pytest.raises(InputTypeError, match="labels"):
        tracin().influence(X)
    with pytest.raises(InputError, match="1 labels for 2"):
        tracin().influence((TEST[0], TEST[1][:1]))
    with pytest.raises(InputError, match="positive integer"):
        tracin().influence(TEST, k=0)
    for layers in ([], "0", [1]):
        with pytest.raises(AssertionError, match="layers"):
            TracInCP(net(), DATA, [1], as_it_is, layers=layers, loss_fn=loss)
    with pytest.raises(InputError, match="'nope'"):
        TracInCP(net(), DATA, [1], as_it_is, layers=["nope"], loss_fn=loss)
    with pytest.raises(InputTypeError, match="Module"):
        TracInCP(lambda x: x, DATA, [1], as_it_is)
    with pytest.raises(InputTypeError, match="learning rate"):
        TracInCP(net(), DATA, [1], lambda model, checkpoint: None, loss_fn=loss).influence(TEST)
    with pytest.raises(InputTypeError, match="train_dataset"):
        TracInCP(net(), 3, [1], as_it_is)
    with pytest.raises(InputError, match="batch_size"):
        TracInCP(net(), DATA, [1], as_it_is, batch_size=0)
    with pytest.raises(OutputError, match="loss_fn returns"):
        TracInCP(net(), DATA, [1], as_it_is, loss_fn=lambda o, y: 3.0).influence(TEST)


def test_loaders_that_shuffle_are_refused():
    shuffled = DataLoader(DATA, batch_size=2, shuffle=True)
    with pytest.raises(InputError, match="RandomSampler"):
        TracInCP(net(), shuffled, [1], as_it_is)
    with pytest.raises(InputError, match="inputs in a fixed order"):
        tracin().influence(shuffled)
    with pytest.raises(InputError, match="shuffle=False"):
        tracin().self_influence(shuffled)


def test_no_examples_are_told():
    class Empty(Dataset):
        def __len__(self) -> int:
            return 0

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            raise IndexError(i)

    with pytest.raises(InputError, match="empty"):
        TracInCP(net(), Empty(), [1], as_it_is, loss_fn=cross_entropy("none")).influence(TEST)
    with pytest.raises(InputError, match="none"):
        tracin().influence(DataLoader(Empty()))


def test_bases():
    assert issubclass(TracInCP, TracInCPBase)
    assert issubclass(TracInCPBase, DataInfluence)
    assert TracInCP.get_name() == "TracInCP"
    with pytest.raises(TypeError, match="abstract"):
        TracInCPBase(net(), DATA, [1])
