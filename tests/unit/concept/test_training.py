"""The default classifier, training on stored activations, and training in several processes."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from captum.concept import TCAV, Classifier, Concept, DefaultClassifier
from captum.concept.concept import concepts_to_str
from captum.concept.data import CustomIterableDataset, dataset_to_dataloader
from captum.concept.tcav import LabelledDataset, train_cav
from captum.errors import InputError, InputTypeError, MissingDependencyError
from tests.unit.concept.examples import Means, Net, three


def clouds(count: int = 60, classes: tuple[int, ...] = (3, 5), spread: float = 0.3):
    torch.manual_seed(0)
    labels = torch.tensor(classes).repeat_interleave(count // len(classes))
    places = torch.tensor([[4.0, 0], [0, 4], [-4, -4]])
    index = torch.tensor([classes.index(int(label)) for label in labels])
    return list(zip((torch.randn(len(labels), 2) * spread + places[index]).split(7), labels.split(7), strict=True))


@pytest.mark.parametrize("classes", [(3, 5), (5, 3), (9, 2, 4)])
def test_accuracy_and_weights(classes):
    classifier = DefaultClassifier()
    found = classifier.train_and_eval(clouds(classes=classes), seed=0)
    assert float(found["accs"]) == 1.0
    assert classifier.classes() == sorted(classes)
    weights = classifier.weights()
    for place, concept in zip(torch.tensor([[4.0, 0], [0, 4], [-4, -4]]), classes, strict=False):
        others = [i for i in range(len(classes)) if i != sorted(classes).index(concept)]
        own = weights[sorted(classes).index(concept)] @ place
        assert all(own > weights[i] @ place for i in others)
    if len(classes) == 2:
        assert torch.equal(weights[0], -weights[1])


def test_the_accuracy_is_that_of_the_held_out_rows():
    """Against the estimator itself on the same split."""
    from sklearn.linear_model import SGDClassifier

    batches = clouds(spread=4.0)
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    for ratio in (0.33, 0.5):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        found = DefaultClassifier().train_and_eval(batches, test_split_ratio=ratio)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        order = list(range(60))
        random.shuffle(order)
        held = int(ratio * 60)
        train, test = order[held:], order[:held]
        own = SGDClassifier(alpha=0.01, max_iter=1000, tol=1e-3).fit(x[train].double().numpy(), y[train].numpy())
        accuracy = own.score(x[test].double().numpy(), y[test].numpy())
        assert 0.5 < accuracy < 1
        assert float(found["accs"]) == pytest.approx(accuracy)


def test_seeds_and_generators():
    batches = clouds(spread=4.0)

    def weights(**options):
        classifier = DefaultClassifier()
        classifier.train_and_eval(batches, **options)
        return classifier.weights()

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    first = weights(seed=4)
    assert torch.equal(first, weights(seed=4))
    assert torch.equal(first, weights(generator=torch.Generator().manual_seed(4)))
    assert not torch.equal(first, weights(seed=5))
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    with pytest.raises(InputError, match="both"):
        weights(seed=4, generator=torch.Generator())


def test_arguments_of_the_estimator():
    classifier = DefaultClassifier()
    classifier.train_and_eval(clouds(), seed=0)
    mild = classifier.weights().norm()
    classifier.train_and_eval(clouds(), seed=0, alpha=10.0)
    assert classifier.weights().norm() < mild / 3
    with pytest.raises(InputTypeError, match="nonsense"):
        classifier.train_and_eval(clouds(), nonsense=1)


def test_rows_that_cannot_be_told_apart_are_told():
    with pytest.raises(AssertionError, match="call train_and_eval first"):
        DefaultClassifier().weights()
    with pytest.raises(InputError, match="call train_and_eval first"):
        DefaultClassifier().classes()
    with pytest.raises(ValueError, match="number of classes is 1"):
        DefaultClassifier().train_and_eval(clouds(classes=(3,)))
    with pytest.raises(InputError, match="no batch"):
        DefaultClassifier().train_and_eval([])
    for share in (1.0, -0.1):
        with pytest.raises(InputError, match="test_split_ratio"):
            DefaultClassifier().train_and_eval(clouds(), test_split_ratio=share)
    few = [(torch.randn(4, 2), torch.tensor([1, 1, 1, 2]))]
    with pytest.raises(InputError, match=r"No example .* ids \[2\]"):
        DefaultClassifier().train_and_eval(few, test_split_ratio=0.5, seed=1)


def test_nothing_held_out():
    found = DefaultClassifier().train_and_eval(clouds(), test_split_ratio=0.0, seed=0)
    assert found["accs"].isnan()


def test_missing_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match="scikit-learn"):
        DefaultClassifier().train_and_eval(clouds())


def test_a_classifier_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Classifier()


def test_labelled_batches():
    data = LabelledDataset([[torch.zeros(2, 3), torch.ones(1, 3)], [], [torch.full((3, 3), 2.0)]], [7, 8, 9])
    assert len(data) == 3
    assert [(float(x[0, 0]), y.tolist()) for x, y in (data[i] for i in range(3))] == [
        (0.0, [7, 7]),
        (1.0, [7]),
        (2.0, [9, 9, 9]),
    ]
    assert data[-1][1].tolist() == [9, 9, 9]
    for outside in (3, -4):
        with pytest.raises(IndexError, match="below 3"):
            data[outside]
    with pytest.raises(InputError, match="label for each"):
        LabelledDataset([[]], [])


def test_training_by_itself(tmp_path):
    a, b, _ = three()
    tcav = TCAV(Net(), ["lin", "relu"], classifier=Means(), save_path=str(tmp_path))
    expected = tcav.compute_cavs([[b, a]])["1-0"]
    found = train_cav("default_model_id", [b, a], ["lin", "relu"], Means(), str(tmp_path), {})["1-0"]
    assert list(found) == ["lin", "relu"]
    for layer, cav in found.items():
        assert torch.equal(cav.stats["weights"], expected[layer].stats["weights"])
        assert cav.stats["classes"] == [1, 0]
        assert cav.fingerprint == expected[layer].fingerprint


def test_processes_give_the_same_whatever_their_number(tmp_path):
    concepts = three()
    a, b, c = concepts
    sets = [[a, b], [b, c], [a, b, c]]
    found = []
    for count in (2, 3):
        random.seed(8)
        tcav = TCAV(Net(), ["lin", "relu"], save_path=str(tmp_path / str(count)))
        found.append(tcav.compute_cavs(sets, processes=count))
        assert list(found[-1]) == [concepts_to_str(s) for s in sets]
        later = TCAV(Net(), ["lin", "relu"], save_path=str(tmp_path / str(count)))
        assert later.load_cavs([a, b]) == ([], {})
    for key, layers in found[0].items():
        for layer, cav in layers.items():
            assert torch.equal(cav.stats["weights"], found[1][key][layer].stats["weights"])
            assert cav.stats["accs"] == found[1][key][layer].stats["accs"]
            assert [concept.data_iter is not None for concept in cav.concepts] == [True] * len(cav.concepts)


def test_processes_give_what_one_gives_without_draws(tmp_path):
    a, b, c = three()
    alone = TCAV(Net(), ["lin"], save_path=str(tmp_path / "1"), seed=2).compute_cavs([[a, b], [a, c]])
    apart = TCAV(Net(), ["lin"], save_path=str(tmp_path / "2"), seed=2).compute_cavs([[a, b], [a, c]], processes=2)
    for key in alone:
        assert torch.equal(alone[key]["lin"].stats["weights"], apart[key]["lin"].stats["weights"])


def test_mistakes_in_processes_reach_the_caller(tmp_path):
    a, b, _ = three()
    with pytest.raises(InputTypeError, match="nonsense"):
        TCAV(Net(), ["lin"], save_path=str(tmp_path), nonsense=1).compute_cavs([[a, b]], processes=2)


def test_examples_from_files(tmp_path):
    for name in ("b.txt", "a.txt", ".hidden", "c[1].txt"):
        (tmp_path / name).write_text(str(len(name)))

    def read(path: str) -> torch.Tensor:
        return torch.full((2,), float(Path(path).read_text(encoding="utf-8")))

    for place in (f"{tmp_path}/", str(tmp_path)):
        data = CustomIterableDataset(read, place)
        assert [float(x[0]) for x in data] == [5.0, 5.0, 8.0]
        assert [float(x[0]) for x in data] == [5.0, 5.0, 8.0]
    one = CustomIterableDataset(lambda path: iter(read(path)), str(tmp_path / "a.txt"))
    assert [float(x) for x in one] == [5.0, 5.0]
    loader = dataset_to_dataloader(data, batch_size=2)
    assert [tuple(batch.shape) for batch in loader] == [(2, 2), (1, 2)]
    assert dataset_to_dataloader(data).batch_size == 64
    assert Concept(4, "from files", loader).identifier == "from files-4"
