"""What a layer received, where the model writes into that tensor after the layer has run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum import attr
from tests.subjects import drawn

X = drawn(3, 4, seed=2, dtype=torch.float64)
METHODS: dict[str, dict[str, Any]] = {
    "LayerActivation": {},
    "LayerGradientXActivation": {"target": 1},
    "LayerIntegratedGradients": {"target": 1, "n_steps": 4},
    "LayerConductance": {"target": 1, "n_steps": 4},
    "InternalInfluence": {"target": 1, "n_steps": 4},
    "LayerDeepLift": {"target": 1},
    "LayerLRP": {"target": 1},
    "LayerGradCam": {"target": 1},
}


class Branches(nn.Module):
    """A shortcut reads a tensor, and the branch beside it writes into that tensor."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.stem, self.short, self.long = nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(3, 2)
        self.relu = nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.short(y) + self.long(self.relu(y))


class Start(nn.Module):
    """The layer receives the input of the model, which writes into it."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.short, self.long, self.inplace = nn.Linear(4, 2), nn.Linear(4, 2), inplace

    def forward(self, x: Tensor) -> Tensor:
        short = self.short(x)
        x = x.mul_(3) if self.inplace else x * 3
        return short + self.long(x)


class TimeFirst(Branches):
    """The rows are dim 1 of what the layer receives."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).expand(5, -1, -1).contiguous()
        return (self.short(y) + self.long(self.relu(y))).sum(0)


def pair(kind: type[nn.Module]) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    careful, writes = kind(False).double(), kind(True).double()
    writes.load_state_dict(careful.state_dict())
    torch.testing.assert_close(careful(X), writes(X.clone()), rtol=0, atol=0)
    return careful, writes


@pytest.mark.parametrize("kind", [Branches, Start, TimeFirst])
@pytest.mark.parametrize("name", METHODS)
def test_layers_received_what_they_received(name: str, kind: type[nn.Module]) -> None:
    method = getattr(attr, name)
    want, found = (
        method(model, model.get_submodule("short")).attribute(X, attribute_to_layer_input=True, **METHODS[name])
        for model in pair(kind)
    )
    for one, other in zip(*(r if isinstance(r, tuple) else (r,) for r in (want, found)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", [Branches, Start])
@pytest.mark.parametrize("name", ["NeuronGradient", "NeuronIntegratedGradients", "NeuronConductance", "NeuronDeepLift"])
def test_neurons_received_what_they_received(name: str, kind: type[nn.Module]) -> None:
    options = {"target": 1} if name == "NeuronConductance" else {}
    want, found = (
        getattr(attr, name)(model, model.get_submodule("short")).attribute(
            X, 1, attribute_to_neuron_input=True, **options
        )
        for model in pair(kind)
    )
    torch.testing.assert_close(found, want)


@pytest.mark.parametrize("name", ["LayerGradCam", "LayerDeepLift", "LayerConductance"])
def test_values_that_nobody_can_write_into(name: str) -> None:
    class Expanded(TimeFirst):
        def forward(self, x: Tensor) -> Tensor:
            return self.short(self.stem(x).expand(5, -1, -1)).sum(0)

    torch.manual_seed(0)
    model = Expanded(inplace=False).double()
    found = getattr(attr, name)(model, model.short).attribute(X, attribute_to_layer_input=True, target=1)
    assert bool(found.isfinite().all())
