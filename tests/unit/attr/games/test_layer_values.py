"""Values of layers in games: those that the model writes over later, and integers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum import attr
from captum.errors import LayerError
from tests.subjects import drawn

X = drawn(3, 4, seed=2, dtype=torch.float64)


class Branches(nn.Module):
    """A shortcut reads a tensor, and the branch beside it writes into that tensor."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.stem, self.short, self.long = nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(3, 2)
        self.same, self.relu = nn.Identity(), nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        short = self.short(y) * self.same(y).sum(1, keepdim=True)
        return (short + self.long(self.relu(y))).tanh()


def branches() -> tuple[Branches, Branches]:
    torch.manual_seed(0)
    careful = Branches(inplace=False).double()
    writes = Branches(inplace=True).double()
    writes.load_state_dict(careful.state_dict())
    return careful, writes


@pytest.mark.parametrize(("name", "at_input"), [("short", True), ("same", True), ("relu", True), ("same", False)])
def test_the_value_of_a_layer_is_what_it_was_when_the_layer_ran(name: str, at_input: bool) -> None:
    (here, layer), (there, written) = ((model, model.get_submodule(name)) for model in branches())
    torch.testing.assert_close(
        attr.LayerActivation(there, written).attribute(X, attribute_to_layer_input=at_input),
        attr.LayerActivation(here, layer).attribute(X, attribute_to_layer_input=at_input),
    )
    torch.testing.assert_close(
        attr.LayerFeatureAblation(there, written).attribute(X, target=1, attribute_to_layer_input=at_input),
        attr.LayerFeatureAblation(here, layer).attribute(X, target=1, attribute_to_layer_input=at_input),
    )
    torch.testing.assert_close(
        attr.NeuronFeatureAblation(there, written).attribute(X, 1, attribute_to_neuron_input=at_input),
        attr.NeuronFeatureAblation(here, layer).attribute(X, 1, attribute_to_neuron_input=at_input),
    )


class Words(nn.Module):
    """Ids go through a module before they are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.ids, self.words, self.last = nn.Identity(), nn.Embedding(9, 3), nn.Linear(3, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.last(self.words(self.ids(ids)).tanh().mean(1))


def test_layers_of_integers_are_ablated_and_permuted() -> None:
    torch.manual_seed(0)
    model, ids = Words().double(), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [2, 4, 6, 8]])
    mask = torch.tensor([[0, 0, 1, 2]])
    want = attr.FeatureAblation(model).attribute(ids, 1, [0, 1, 1], feature_mask=mask)
    for layer, at_input in ((model.ids, False), (model.ids, True), (model.words, True)):
        found = attr.LayerFeatureAblation(model, layer).attribute(
            ids, 1, [0, 1, 1], layer_mask=mask, attribute_to_layer_input=at_input
        )
        torch.testing.assert_close(found, want)
    want = attr.FeaturePermutation(model).attribute(ids, 1, seed=3)
    found = attr.LayerFeaturePermutation(model, model.ids).attribute(ids, 1, seed=3)
    torch.testing.assert_close(found, want)
    with pytest.raises(LayerError, match="floating-point"):
        attr.LayerGradientXActivation(model, model.ids).attribute(ids, 1)
