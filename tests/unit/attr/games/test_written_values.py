"""Values of layers that the model writes over after the layer has run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum import attr
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
