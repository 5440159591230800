"""The classifier of means against its formula, and TCAV with it."""

from __future__ import annotations

import sys

import pytest
import torch

from captum.concept import TCAV, MeanClassifier
from captum.errors import InputError, InputTypeError
from tests.unit.concept.examples import INPUTS, Net, three


def clouds(spread: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    labels = torch.tensor([4, 2, 9]).repeat(40)
    places = torch.tensor([[3.0, 0, 0], [0, 3, 0], [0, 0, 3]]).repeat(40, 1)
    return list(zip((places + torch.randn(120, 3) * spread).split(13), labels.split(13), strict=True))


def test_weights_point_from_the_mean_of_means():
    batches = clouds(1.0)
    classifier = MeanClassifier()
    found = classifier.train_and_eval(batches, test_split_ratio=0.0)
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    means = [x[y == number].mean(0) for number in (2, 4, 9)]
    assert classifier.classes() == [2, 4, 9]
    torch.testing.assert_close(classifier.weights(), torch.stack([m - sum(means) / 3 for m in means]))
    assert found["accs"].isnan()


def test_accuracy_of_held_out_rows():
    batches = clouds(2.0)
    classifier = MeanClassifier()
    found = classifier.train_and_eval(batches, test_split_ratio=0.4, seed=3)
    source = torch.Generator().manual_seed(3)
    held = torch.cat([torch.rand(len(x), generator=source) < 0.4 for x, _ in batches])
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    means = torch.stack([x[~held & (y == number)].mean(0) for number in (2, 4, 9)])
    nearest = [min(range(3), key=lambda i: float((row - means[i]).norm())) for row in x[held]]
    right = [(2, 4, 9)[i] == int(label) for i, label in zip(nearest, y[held], strict=True)]
    assert 0.5 < sum(right) / len(right) < 1
    assert float(found["accs"]) == pytest.approx(sum(right) / len(right))
    torch.testing.assert_close(classifier.weights(), means - means.mean(0))


def test_draws_come_from_one_generator():
    before = torch.get_rng_state()
    found = [MeanClassifier() for _ in range(3)]
    found[0].train_and_eval(clouds(1.0), seed=1)
    found[1].train_and_eval(clouds(1.0), generator=torch.Generator().manual_seed(1))
    found[2].train_and_eval(clouds(1.0), seed=2)
    torch.set_rng_state(before)
    assert torch.equal(found[0].weights(), found[1].weights())
    assert not torch.equal(found[0].weights(), found[2].weights())


def test_half_precision_means_do_not_drift():
    rows = torch.full((5000, 1), 1.001953125, dtype=torch.float16)
    batches = [(rows, torch.zeros(5000, dtype=torch.int64)), (rows - 1, torch.ones(5000, dtype=torch.int64))]
    classifier = MeanClassifier()
    classifier.train_and_eval(batches, 0.0)
    assert classifier.weights().dtype is torch.float16
    torch.testing.assert_close(classifier.weights(), torch.tensor([[0.5], [-0.5]], dtype=torch.float16))


def test_in_tcav_without_scikit_learn(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    a, b, _ = three()
    options = {"test_split_ratio": 0.0}
    tcav = TCAV(Net(), "lin", classifier=MeanClassifier(), save_path=str(tmp_path), **options)
    found = tcav.interpret(INPUTS, [[a, b]], target=0)["0-1"]["lin"]
    means = [torch.cat(concept.data_iter.batches).mean(0) @ Net().lin.weight.T for concept in (a, b)]
    hidden = Net().lin(INPUTS).detach()
    grads = (hidden > 0) * Net().head.weight[0].detach()
    products = grads @ (means[0] - means[1]).detach() / 2
    torch.testing.assert_close(found["magnitude"], torch.stack([products.mean(), -products.mean()]))


def test_mistakes_are_told():
    with pytest.raises(InputError, match="call train_and_eval"):
        MeanClassifier().weights()
    with pytest.raises(InputError, match="no batch"):
        MeanClassifier().train_and_eval([])
    one = [(torch.ones(2, 2), torch.tensor([1, 1]))]
    with pytest.raises(InputError, match="number of classes is 1"):
        MeanClassifier().train_and_eval(one)
    with pytest.raises(InputError, match="test_split_ratio"):
        MeanClassifier().train_and_eval(clouds(1.0), test_split_ratio=1.0)
    with pytest.raises(InputTypeError, match="alpha"):
        MeanClassifier().train_and_eval(clouds(1.0), alpha=1.0)
