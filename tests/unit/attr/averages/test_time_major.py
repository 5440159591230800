"""Noise over layers whose batch is not dim 0: the rows are found, also where sizes could mislead."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import captum
from captum import attr

SAMPLES = 4


class TimeMajor(nn.Module):
    """Steps come first inside: values ``(T, B, 5)``, or ``(B, T, 5)`` where the layer is asked for batch first."""

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        self.inner, self.norm, self.head, self.batch_first = nn.GRU(3, 5), nn.Softplus(), nn.Linear(5, 2), batch_first

    def forward(self, x: Tensor) -> Tensor:
        steps = self.inner(x.transpose(0, 1))[0]
        if self.batch_first:
            return self.head(self.norm(steps.transpose(0, 1))[:, -1])
        return self.head(self.norm(steps)[-1])


def pair() -> tuple[TimeMajor, TimeMajor]:
    torch.manual_seed(0)
    model = TimeMajor()
    other = TimeMajor(batch_first=True)
    other.load_state_dict(model.state_dict())
    return model.eval(), other.eval()


METHODS: dict[str, Callable[[TimeMajor], attr.Attribution]] = {
    "activation": lambda m: attr.LayerActivation(m, m.norm),
    "gradient": lambda m: attr.LayerGradientXActivation(m, m.norm),
    "integrated": lambda m: attr.LayerIntegratedGradients(m, m.norm),
    "conductance": lambda m: attr.LayerConductance(m, m.norm),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("steps", [4, 2 * SAMPLES], ids=["steps", "as many steps as noisy rows"])
@pytest.mark.parametrize("size", [None, 1])
def test_noise_over_a_time_major_layer(name: str, steps: int, size: int | None) -> None:
    x = torch.rand(2, steps, 3)
    target = {} if name == "activation" else {"target": 0}
    found, wanted = (
        attr.NoiseTunnel(METHODS[name](model)).attribute(
            x, "smoothgrad_sq", SAMPLES, size, stdevs=0.3, seed=1, **target
        )
        for model in pair()
    )
    assert found.shape == (steps, 2, 5)
    torch.testing.assert_close(found.transpose(0, 1), wanted)


@pytest.mark.parametrize("method", ["layer_activation", "layer_gradient_x_activation"])
def test_rows_of_an_explanation_when_there_are_as_many_steps(method: str) -> None:
    x = torch.rand(4, 4, 3)
    found, wanted = (captum.explain(model, x, method, 0, layer="norm").attributions for model in pair())
    torch.testing.assert_close(found, wanted)
