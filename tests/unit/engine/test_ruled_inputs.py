"""Token ids under rules: look-ups found inside the ruled pass, against look-ups found by a pass of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum._engine.drive import AtInputs
from captum._engine.ruled_inputs import AtRuled
from captum.attr import LRP, DeepLift, DeepLiftShap, GuidedBackprop, LayerDeepLift, LayerLRP, NeuronDeepLift
from captum.errors import InputError, UnknownOperatorError
from tests.unit.engine.test_lookups import WAYS, Read, Reader


class Counted(Reader):
    """A reader that counts its passes, with a layer that is a module."""

    def __init__(self, read: Read) -> None:
        super().__init__(read)
        self.passes = 0
        self.act = nn.Tanh()

    def forward(self, *ids: Tensor) -> Tensor:
        self.passes += 1
        vectors = self.read(self.table, *ids)
        return self.head(self.act(vectors * self.weights[: vectors.shape[1]]).sum(1))


METHODS: dict[str, Callable[[Counted, Tensor, Tensor], Any]] = {
    "lrp": lambda m, i, b: LRP(m).attribute(i, target=1),
    "guided": lambda m, i, b: GuidedBackprop(m, activations=("tanh",)).attribute(i, target=1),
    "deep lift": lambda m, i, b: DeepLift(m).attribute(i, b, target=1),
    "deep lift in chunks": lambda m, i, b: DeepLift(m).attribute(i, b, target=1, internal_batch_size=1),
    "deep lift by element": lambda m, i, b: DeepLift(m).attribute(i, b, target=1, embedding_reduce=None),
    "deep lift shap": lambda m, i, b: DeepLiftShap(m).attribute(i, torch.cat([b, i.flip(1)]), target=1),
    "reveal cancel": lambda m, i, b: DeepLift(m, rule="reveal_cancel").attribute(i, b, target=1),
    "of a neuron": lambda m, i, b: NeuronDeepLift(m, m.act).attribute(i, (1, 2), b),
    "of a layer": lambda m, i, b: LayerDeepLift(m, m.act).attribute(i, b, target=1),
    "of a layer, lrp": lambda m, i, b: LayerLRP(m, m.act).attribute(i, target=1),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("way", WAYS)
def test_found_inside_the_pass_as_before_it(way: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 1 + torch.randperm(15, generator=torch.Generator().manual_seed(0))
    ids, base = rows[:8].reshape(2, 4), rows[[9, 3, 12, 7, 0, 13, 2, 5]].reshape(2, 4)
    method, model = METHODS[name], Counted(WAYS[way])
    found = method(model, ids.clone(), base.clone())
    passes, model.passes = model.passes, 0
    monkeypatch.setattr(AtRuled, "_vary_integers", AtInputs._vary_integers)
    torch.testing.assert_close(found, method(model, ids.clone(), base.clone()))
    assert passes == (2 if "chunks" in name else 1) < model.passes


def test_a_mask_of_the_ids_stays_that_of_the_inputs() -> None:
    model = Counted(lambda e, i: e(i) * (i != 9)[..., None])
    ids, base = torch.tensor([[3, 9, 5, 2]]), torch.tensor([[9, 9, 9, 1]])
    scores, gap = DeepLift(model).attribute(ids, base, target=1, return_convergence_delta=True)
    assert not scores[0, 1]
    assert bool(scores[0, [0, 2, 3]].all())
    assert float(gap.abs()) < 1e-6


def test_ids_that_no_embedding_reads_are_floats() -> None:
    linear = nn.Linear(4, 2)
    model = nn.Sequential(Floats(), linear, nn.ReLU())
    ids = torch.tensor([[3, 1, 5, 2]])
    want = LRP(model).attribute(ids.float(), target=1)
    torch.testing.assert_close(LRP(model).attribute(ids, target=1), want)
    torch.testing.assert_close(
        DeepLift(model).attribute(ids, 1, target=1), DeepLift(model).attribute(ids.float(), 1.0, target=1)
    )
    layer = LayerDeepLift(model, linear)
    torch.testing.assert_close(layer.attribute(ids, 1, target=1), layer.attribute(ids.float(), 1.0, target=1))


class Floats(nn.Module):
    """Ids as numbers."""

    def forward(self, ids: Tensor) -> Tensor:
        return ids.to(torch.float32)


def test_one_hot_vectors_of_another_width_are_refused() -> None:
    model = OneHot()
    ids, base = torch.tensor([[3, 1, 5]]), torch.tensor([[1, 1, 2]])
    with pytest.raises(InputError, match="give it one width"):
        DeepLift(model).attribute(ids, base, target=1)


class OneHot(nn.Module):
    """One-hot vectors as wide as the largest id."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(8, 2))

    def forward(self, ids: Tensor) -> Tensor:
        vectors = F.one_hot(ids).to(torch.float32)
        return torch.tanh(vectors @ self.weights[: vectors.shape[-1]]).sum(1)


def test_a_branch_on_ids_that_the_baseline_would_not_take_is_refused() -> None:
    model = Counted(lambda e, i: e(i) if bool((i > 2).all()) else e(i) * 2)
    ids, base = torch.tensor([[3, 9, 5, 4]]), torch.tensor([[1, 9, 9, 1]])
    with pytest.raises(UnknownOperatorError, match="Python code reads a value that the baseline changes"):
        DeepLift(model).attribute(ids, base, target=1)
    assert bool(DeepLift(model).attribute(ids, base + 2, target=1).any())


def test_nothing_stays_on_the_ids_after_an_error() -> None:
    model = Counted(lambda e, i: e(i).cpu() + torch.linalg.pinv(e(i)[0])[None].mT)
    ids = torch.tensor([[3, 9, 5, 4]])
    with pytest.raises(UnknownOperatorError):
        DeepLift(model).attribute(ids, ids + 1, target=1)
    assert not vars(ids)
    assert not vars(model.table.weight)
