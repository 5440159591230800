"""TCAV against its formula by hand, published numbers, planted concepts, and what users get wrong."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from captum.attr import LayerIntegratedGradients
from captum.concept import TCAV, Concept, DefaultClassifier
from captum.errors import InputError, InputTypeError, LayerError
from tests.unit.concept.examples import HEAD, HIDDEN, INPUTS, Means, Net, batches, three

# what captum 0.9.0 returns under random.seed(3) and numpy.random.seed(3): sign counts, magnitudes
PUBLISHED = {
    ("0-1", "lin"): ([0.6, 0.4], [1.41101, -1.41101]),
    ("0-1", "relu"): ([1.0, 0.0], [5.67374, -5.67374]),
    ("2-0", "lin"): ([0.4, 0.6], [-1.39558, 1.39558]),
    ("2-0", "relu"): ([0.0, 1.0], [-5.55823, 5.55823]),
    ("0-1-2", "lin"): ([0.6, 1.0, 0.6], [0.82009, 0.20689, 0.0638]),
    ("0-1-2", "relu"): ([1.0, 0.0, 0.0], [5.93177, -0.36874, -6.03389]),
}


def test_published_numbers_under_seeds(tmp_path):
    a, b, c = three()
    tcav = TCAV(Net(), ["lin", "relu"], save_path=str(tmp_path))
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state()
    scores = tcav.interpret(INPUTS, [[a, b], [c, a], [a, b, c]], target=0)
    assert torch.equal(before, torch.get_rng_state())
    assert [(key, layer) for key, found in scores.items() for layer in found] == list(PUBLISHED)
    for (key, layer), (signs, means) in PUBLISHED.items():
        torch.testing.assert_close(scores[key][layer]["sign_count"], torch.tensor(signs))
        torch.testing.assert_close(scores[key][layer]["magnitude"], torch.tensor(means), atol=1e-4, rtol=0)


def test_scores_are_products_of_gradients_and_weights(tmp_path):
    """At the ReLU's input the gradient is the head's row where the ReLU is open."""
    a, b, c = three()
    tcav = TCAV(Net(), "lin", classifier=Means(), save_path=str(tmp_path))
    scores = tcav.interpret(INPUTS, [[b, a, c]], target=1)["1-0-2"]["lin"]
    bias = torch.tensor([0.1, -0.2, 0.3, 0])
    for place, concept in enumerate((b, a, c)):
        mean = (torch.cat(concept.data_iter.batches) @ HIDDEN.T + bias).mean(0)
        products = []
        for x in INPUTS:
            opened = (HIDDEN @ x + bias > 0).float()
            products.append(float((HEAD[1] * opened * mean).sum()))
        assert float(scores["magnitude"][place]) == pytest.approx(sum(products) / 5, rel=1e-5)
        assert float(scores["sign_count"][place]) == pytest.approx(sum(p > 0 for p in products) / 5)


def test_a_planted_concept_is_found(tmp_path):
    """The score is the third feature: examples with more of it raise the score, those with another feature do not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(6) * 0.2)
        model[2].weight.copy_(torch.eye(6)[2:3])
    planted, other = (
        Concept(i, "x", [torch.randn(60, 6) + 4 * torch.eye(6)[column]]) for i, column in ((0, 2), (1, 4))
    )
    plain = Concept(2, "plain", [torch.randn(60, 6)])
    tcav = TCAV(model, "1", save_path=str(tmp_path), seed=0)
    scores = tcav.interpret(torch.randn(30, 6), [[planted, plain], [other, plain]], target=0)
    assert scores["0-2"]["1"]["sign_count"].tolist() == [1.0, 0.0]
    assert float(scores["0-2"]["1"]["magnitude"][0]) > 5 * abs(float(scores["1-2"]["1"]["magnitude"][0]))
    assert float(tcav.cavs["0-2"]["1"].stats["accs"]) >= 0.95


def test_inputs_of_layers(tmp_path):
    """The input of the ReLU is the output of the layer before it."""
    a, b, _ = three()
    before = TCAV(Net(), "lin", classifier=Means(), save_path=str(tmp_path / "1")).interpret(INPUTS, [[a, b]], target=0)
    tcav = TCAV(Net(), "relu", classifier=Means(), attribute_to_layer_input=True, save_path=str(tmp_path / "2"))
    at_input = tcav.interpret(INPUTS, [[a, b]], target=0)
    torch.testing.assert_close(at_input["0-1"]["relu"], before["0-1"]["lin"])


def test_other_attributions_get_their_arguments_and_keep_their_layer(tmp_path):
    a, b, _ = three()
    net = Net()
    method = LayerIntegratedGradients(net, net.head)
    tcav = TCAV(net, ["lin"], classifier=Means(), layer_attr_method=method, save_path=str(tmp_path))
    found = tcav.interpret(INPUTS, [[a, b]], target=0, n_steps=7)["0-1"]["lin"]
    expected = LayerIntegratedGradients(net, net.lin).attribute(INPUTS, target=0, n_steps=7)
    cav = tcav.cavs["0-1"]["lin"].stats
    products = expected @ cav["weights"].flip(0).T  # Means gives its classes in falling order
    torch.testing.assert_close(found["magnitude"], products.mean(0))
    assert method.layer is net.head
    with pytest.raises(TypeError):
        tcav.interpret(INPUTS, [[a, b]], target=0, nonsense=7)
    assert method.layer is net.head


def test_layers_whose_batch_is_their_second_dim(tmp_path):
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.turn, self.rnn, self.head = nn.Identity(), nn.RNN(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.rnn(self.turn(x.transpose(0, 1)))[0][-1])

    torch.manual_seed(1)
    net = Recurrent()
    data = [torch.randn(6, 5, 3) + shift for shift in (1, -1)]
    concepts = [Concept(i, "x", list(x.split(3))) for i, x in enumerate(data)]
    tcav = TCAV(net, "turn", classifier=Means(), save_path=str(tmp_path))
    x = torch.randn(4, 5, 3)
    found = tcav.interpret(x, [concepts], target=1)["0-1"]["turn"]
    x.requires_grad_()
    (grads,) = torch.autograd.grad(net(x)[:, 1].sum(), x)
    products = torch.stack([(grads * examples.mean(0)).sum((1, 2)) for examples in data], 1)
    torch.testing.assert_close(found["magnitude"], products.mean(0))


def test_other_forms_of_examples(tmp_path):
    class Named(Net):
        def forward(self, x, scale=None):
            return super().forward(x if scale is None else x * scale)

    plain = TCAV(Named(), "lin", classifier=Means(), save_path=str(tmp_path / "1"))
    parts = batches(1.0), batches(0.0)
    bare = plain.interpret(INPUTS, [[Concept(i, "x", part) for i, part in enumerate(parts)]], target=0)
    pairs = [Concept(i, "x", [(x, torch.zeros(len(x))) for x in part]) for i, part in enumerate(parts)]
    named = [
        Concept(i, "x", [{"x": x / 2, "scale": torch.full((len(x), 1), 2.0)} for x in p]) for i, p in enumerate(parts)
    ]
    for number, concepts in enumerate((pairs, named)):
        tcav = TCAV(Named(), "lin", classifier=Means(), save_path=str(tmp_path / f"other{number}"))
        torch.testing.assert_close(tcav.interpret(INPUTS, [concepts], target=0), bare)


def test_nothing_is_left_behind_and_inference_mode_is_taken(tmp_path):
    a, b, _ = three()
    net = Net()
    net.train()
    x = INPUTS.clone()
    with torch.inference_mode():
        tcav = TCAV(net, ["lin", "relu"], classifier=Means(), save_path=str(tmp_path))
        scores = tcav.interpret(x, [[a, b]], target=0)
    outside = TCAV(net, ["lin", "relu"], classifier=Means(), save_path=str(tmp_path / "2"))
    torch.testing.assert_close(outside.interpret(x, [[a, b]], target=0), scores)
    assert not x.requires_grad
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert not scores["0-1"]["lin"]["magnitude"].requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_kept_and_weights_are_not_rounded(dtype):
    """In half precision the two weights would be equal and the scores zero."""
    net = nn.Sequential(nn.Identity(), nn.Linear(2, 1, bias=False)).to(dtype)
    with torch.no_grad():
        net[1].weight.fill_(1.0)

    class Fixed(Means):
        def weights(self):
            return torch.tensor([[1.0 + 2.0**-12, -1.0], [-1.0 - 2.0**-12, 1.0]], dtype=torch.float64)

    concepts = [Concept(i, "x", [torch.ones(3, 2, dtype=dtype)]) for i in (1, 0)]
    tcav = TCAV(net, "0", classifier=Fixed(), save_path=None)
    found = tcav.interpret(torch.ones(5, 2, dtype=dtype), [concepts], target=0)["1-0"]["0"]
    torch.testing.assert_close(found["magnitude"], torch.tensor([2.0**-12, -(2.0**-12)], dtype=dtype))
    torch.testing.assert_close(found["sign_count"], torch.tensor([1.0, 0.0], dtype=dtype))


def test_token_ids_and_several_tensors_at_one_layer():
    """Activations of a recurrent layer are its outputs and its states, each with the examples' own rows."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.words, self.rnn, self.head = nn.Embedding(9, 4), nn.GRU(4, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, ids):
            return self.head(self.rnn(self.words(ids))[0][:, -1])

    net = Reader()
    data = [torch.randint(start, start + 4, (8, 5), generator=torch.Generator().manual_seed(1)) for start in (0, 5)]
    tcav = TCAV(net, ["words", "rnn"], classifier=Means(), save_path=None)
    ids = torch.arange(15).reshape(3, 5) % 9
    scores = tcav.interpret(ids, [[Concept(i, "x", list(x.split(4))) for i, x in enumerate(data)]], target=1)["0-1"]
    (grads,) = torch.autograd.grad(
        net.head(net.rnn(e := net.words(ids).detach().requires_grad_())[0][:, -1])[:, 1].sum(), e
    )
    products = [(grads * net.words(x).mean(0)).sum((1, 2)).mean() for x in data]
    torch.testing.assert_close(scores["words"]["magnitude"], torch.stack(products))
    values = [torch.cat([net.rnn(net.words(x))[0].flatten(1), net.rnn(net.words(x))[1][0]], 1).mean(0) for x in data]
    by_output = torch.zeros(5 * 3 + 3)
    by_output[12:15] = net.head.weight[1].detach()  # the last step is read, the states are not
    torch.testing.assert_close(scores["rnn"]["magnitude"], torch.stack([by_output @ v for v in values]))


def test_modules_as_layers_and_files_that_go_with_the_object():
    a, b, _ = three()
    net = Net()
    tcav = TCAV(net, [net.lin, "relu"], classifier=Means(), save_path=None)
    scores = tcav.interpret(INPUTS, [[a, b]], target=0)
    assert set(scores["0-1"]) == {"lin", "relu"}
    with pytest.raises(KeyError):
        scores["1-0"]
    from pathlib import Path

    place = Path(tcav.save_path)
    assert place.exists()
    del tcav
    assert not place.exists()


def test_two_concepts_with_one_id_are_refused_and_the_object_stays_usable(tmp_path):
    a, b, _ = three()
    tcav = TCAV(Net(), "lin", classifier=Means(), save_path=str(tmp_path))
    twin = Concept(0, "twin", batches(0.5))
    for sets in ([[a, twin]], [[a, b], [twin, b]], [[a, a]]):
        with pytest.raises(InputError, match="id 0"):
            tcav.compute_cavs(sets)
        assert not tcav.concepts
    assert set(tcav.interpret(INPUTS, [[a, b]], target=0)) == {"0-1"}
    with pytest.raises(AssertionError, match="id 0"):
        tcav.compute_cavs([[twin, b]])
    assert set(tcav.interpret(INPUTS, [[a, b]], target=0)) == {"0-1"}


def test_mistakes_are_told(tmp_path):
    a, b, _ = three()
    place = {"save_path": str(tmp_path)}
    with pytest.raises(InputError, match="model_id"):
        TCAV(Net(), "lin", model_id="", **place)
    with pytest.raises(InputTypeError, match="Module"):
        TCAV(lambda x: x, "lin", **place)
    with pytest.raises(LayerError, match="'nope'"):
        TCAV(Net(), ["lin", "nope"], **place)
    with pytest.raises(LayerError, match="not a part"):
        TCAV(Net(), nn.Linear(1, 1), **place)
    tcav = TCAV(Net(), "lin", classifier=Means(), **place)
    with pytest.raises(AssertionError, match="constructor"):
        tcav.interpret(INPUTS, [[a, b]], target=0, attribute_to_layer_input=False)
    with pytest.raises(InputTypeError, match="lists of Concepts"):
        tcav.compute_cavs([a, b])
    with pytest.raises(InputError, match="at least one concept"):
        tcav.compute_cavs([[]])
    for wrong in (0, -2, True):
        with pytest.raises(InputError, match="processes"):
            tcav.compute_cavs([[a, b]], processes=wrong)
    with pytest.raises(InputError, match="has no examples"):
        tcav.compute_cavs([[a, Concept(5, "empty", [])]])
    with pytest.raises(InputTypeError, match="data_iter"):
        tcav.compute_cavs([[a, Concept(6, "none", None)]])
    assert tcav.compute_cavs([]) == {}
    with pytest.raises(InputTypeError, match="whole number"):
        Concept("a", "b", [])
    with pytest.raises(InputError, match="number of classes"):
        TCAV(Net(), "lin", model_id="one", **place).compute_cavs([[a]])


def test_inputs_of_another_size_than_the_examples_are_told(tmp_path):
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    concepts = [Concept(i, "x", [torch.randn(4, 1, 9)]) for i in range(2)]
    tcav = TCAV(net, "0", classifier=Means(), save_path=str(tmp_path))
    with pytest.raises(InputError, match=r"14 weights per concept.* 10 elements"):
        tcav.interpret(torch.randn(2, 1, 7), [concepts], target=0)


@pytest.mark.parametrize(
    ("weights", "classes", "told"),
    [
        (torch.ones(2, 4), [0, 3], "ids of the concepts"),
        (torch.ones(4), [0, 1], r"\(2, F\)"),
        ([[1.0]], [0, 1], r"\(2, F\)"),
    ],
)
def test_classifiers_that_do_not_fit_are_told(tmp_path, weights, classes, told):
    class Wrong(Means):
        def weights(self):
            return weights

        def classes(self):
            return classes

    a, b, _ = three()
    with pytest.raises(InputError, match=told):
        TCAV(Net(), "lin", classifier=Wrong(), save_path=str(tmp_path)).compute_cavs([[a, b]])


def test_defaults():
    tcav = TCAV(Net(), ["lin"], save_path=None)
    assert type(tcav.classifier) is DefaultClassifier
    assert not tcav.layer_attr_method.multiplies_by_inputs
    assert tcav.layer_attr_method.layer is None
