"""The toy model of the getting-started guide and where each golden number comes from.

Run as a script to print every golden value this folder holds, next to what the installed package computes:

    python -m tests.golden.toy

Sources: the numbers marked ``published`` are those of the guide's README sequence or of the single calls listed in the
behaviour contract (captum 0.9.0, CPU, float32, tolerance 1e-4). Those marked ``closed form`` are derived in
``tests/golden/closed_forms.py``, because the published ones carry a known error.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from captum import attr


class ToyModel(nn.Module):
    """3 -> 3 -> 2 with weights that count upwards."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(3, 3)
        self.relu = nn.ReLU()
        self.lin2 = nn.Linear(3, 2)
        with torch.no_grad():
            self.lin1.weight.copy_(torch.arange(-4.0, 5.0).view(3, 3))
            self.lin1.bias.zero_()
            self.lin2.weight.copy_(torch.arange(-3.0, 3.0).view(2, 3))
            self.lin2.bias.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.relu(self.lin1(x)))


MODEL = ToyModel().eval()
X = torch.tensor([[0.29611194, 0.51656228, 0.25167108], [0.68855751, 0.07397449, 0.86651969]])
ZEROS = torch.zeros(2, 3)


def seed_all(seed: int = 123) -> None:
    """Seed every global stream, as before each single call of the contract."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the stream the methods read
    random.seed(seed)


def cloud() -> Tensor:
    """The baseline distribution of the single calls: ``randn(10, 3) * 0.001`` after seed 7."""
    return torch.randn(10, 3, generator=torch.Generator().manual_seed(7)) * 0.001


@dataclass(frozen=True)
class Golden:
    """A call, the value it must give, and where the value comes from."""

    name: str
    call: Callable[[], object]
    value: list[list[float]]
    source: str = "published"


def _tunnel(nt_type: str) -> Callable[[], object]:
    method = attr.NoiseTunnel(attr.Saliency(MODEL))
    return lambda: method.attribute(X, nt_type=nt_type, nt_samples=5, stdevs=0.2, target=0)


_IG = [[-0.59222, -1.54969, -1.00668], [0.0, -0.22192, -5.19913]]
_AT_LIN1 = [[0.0, 0.0, -3.14859], [0.0, -0.35593, -5.06512]]
_SHAP = {"n_samples": 5, "stdevs": 0.1}

SINGLE_CALLS = (
    Golden("Saliency", lambda: attr.Saliency(MODEL).attribute(X, 0), [[2, 3, 4], [0, 3, 6]]),
    Golden("InputXGradient", lambda: attr.InputXGradient(MODEL).attribute(X, 0), _IG),
    Golden("IntegratedGradients", lambda: attr.IntegratedGradients(MODEL).attribute(X, ZEROS, 0), _IG),
    Golden(
        "GradientShap",
        lambda: attr.GradientShap(MODEL).attribute(X, cloud(), target=0, **_SHAP),
        [[-0.20350, -1.69329, -1.50451], [0.0, -0.41336, -5.19475]],
    ),
    Golden(
        "LayerGradientShap",
        lambda: attr.LayerGradientShap(MODEL, MODEL.lin1).attribute(X, cloud(), target=0, **_SHAP),
        [[0.0, -0.08269, -3.31861], [0.0, -0.51133, -5.09678]],
    ),
    Golden(
        "NeuronGradientShap",
        lambda: attr.NeuronGradientShap(MODEL, MODEL.lin1).attribute(X, 1, cloud(), **_SHAP),
        [[-0.26705, 0.0, 0.27281], [-0.61013, 0.0, 0.86579]],
    ),
    Golden("NoiseTunnel smoothgrad", _tunnel("smoothgrad"), [[0.8, 3, 5.2], [0, 3, 6]]),
    Golden("NoiseTunnel smoothgrad_sq", _tunnel("smoothgrad_sq"), [[1.6, 9, 28], [0, 9, 36]]),
    Golden("NoiseTunnel vargrad", _tunnel("vargrad"), [[0.96, 0, 0.96], [0, 0, 0]]),
    Golden(
        "InternalInfluence",
        lambda: attr.InternalInfluence(MODEL, MODEL.lin1).attribute(X, ZEROS, 0),
        [[0, 0, -1], [0, -2, -1]],
    ),
    Golden(
        "LayerIntegratedGradients relu",
        lambda: attr.LayerIntegratedGradients(MODEL, MODEL.relu).attribute(X, ZEROS, 0),
        _AT_LIN1,
    ),
    Golden(
        "LayerGradientXActivation", lambda: attr.LayerGradientXActivation(MODEL, MODEL.lin1).attribute(X, 0), _AT_LIN1
    ),
    Golden(
        "LayerActivation",
        lambda: attr.LayerActivation(MODEL, MODEL.lin1).attribute(X),
        [[-3.23748, -0.04444, 3.14859], [-4.70919, 0.17797, 5.06512]],
    ),
    Golden(
        "NeuronIntegratedGradients",
        lambda: attr.NeuronIntegratedGradients(MODEL, MODEL.lin1).attribute(X, 1, ZEROS),
        [[-0.29611, 0, 0.25167], [-0.68856, 0, 0.86652]],
    ),
    Golden(
        "LayerConductance",
        lambda: attr.LayerConductance(MODEL, MODEL.lin1).attribute(X, ZEROS, 0),
        _AT_LIN1,
        "closed form: layer_conductance",
    ),
    Golden(
        "NeuronConductance",
        lambda: attr.NeuronConductance(MODEL, MODEL.lin1).attribute(X, 1, ZEROS, 0, method="gausslegendre"),
        [[0.0, 0.0, 0.0], [1.37711, 0.0, -1.73304]],
        "closed form: neuron_conductance",
    ),
    Golden(
        "NeuronConductance trapezoid",
        lambda: attr.NeuronConductance(MODEL, MODEL.lin1).attribute(X, 1, ZEROS, 0),
        [[0.0, 0.0, 0.0], [1.36306, 0.0, -1.71535]],
        "closed form: neuron_conductance, less the half weight 1/98 of the node 0, where the ReLU is off",
    ),
)  # fmt: skip


def main() -> None:
    """Print every golden value next to the computed one."""
    for row in SINGLE_CALLS:
        seed_all()
        print(f"{row.name} ({row.source})\n  golden   {row.value}\n  computed {row.call().tolist()}")  # noqa: T201


if __name__ == "__main__":
    main()
