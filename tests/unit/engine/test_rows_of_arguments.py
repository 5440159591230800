"""Arguments that follow the rows of a chunk, and layers that do not keep them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum import attr
from captum.errors import CaptumError


class Squares(nn.Module):
    """Two inputs by keyword."""

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        return (u**2).sum(1) + v.sum(1)


@pytest.mark.parametrize("together", [None, 1, 2])
def test_baselines_of_keyword_inputs_follow_the_noise(together: int | None) -> None:
    inputs = {"u": torch.ones(2, 2), "v": torch.ones(2, 2)}
    baselines = {"u": torch.tensor([[0.0, 0.0], [5.0, 5.0]]), "v": torch.zeros(2, 2)}
    method = attr.IntegratedGradients(Squares())
    found = attr.NoiseTunnel(method).attribute(
        inputs, baselines=baselines, stdevs=0.0, nt_samples=2, nt_samples_batch_size=together
    )
    torch.testing.assert_close(found, method.attribute(inputs, baselines))


def test_a_list_among_the_constants_is_no_list_of_rows() -> None:
    seen: list[int] = []

    def forward(x: Tensor, sizes: list[int]) -> Tensor:
        seen.append(len(sizes))
        return x[:, : sizes[0]].sum(1)

    attr.NoiseTunnel(attr.Saliency(forward)).attribute(torch.ones(2, 4), additional_forward_args=([1, 3],))
    assert set(seen) == {2}


def test_targets_of_numpy_follow_the_noise() -> None:
    model = nn.Linear(4, 3)
    tunnel = attr.NoiseTunnel(attr.Saliency(model))
    found = tunnel.attribute(torch.ones(2, 4), target=np.array([2, 0]), nt_samples=3)
    torch.testing.assert_close(found, model.weight.detach()[[2, 0]].abs())


def test_nested_baselines_go_by_name() -> None:
    def forward(z: dict[str, Tensor], w: Tensor) -> Tensor:
        return z["p"].sum(1) + 2 * z["q"].sum(1) + 3 * w.sum(1)

    inputs = {"z": {"p": torch.ones(1, 2), "q": torch.full((1, 2), 2.0)}, "w": torch.ones(1, 2)}
    baselines = {"w": torch.zeros(1, 2), "z": {"q": torch.full((1, 2), 5.0), "p": torch.zeros(1, 2)}}
    found = attr.IntegratedGradients(forward).attribute(inputs, baselines)
    want = {"z": {"p": torch.full((1, 2), 1.0), "q": torch.full((1, 2), -6.0)}, "w": torch.full((1, 2), 3.0)}
    torch.testing.assert_close(found, want)


def test_a_learned_baseline_leaves_attributions_detached() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    x, learned = torch.ones(2, 4), torch.zeros(2, 4, requires_grad=True)
    assert not attr.IntegratedGradients(model).attribute(x, learned, target=0).requires_grad
    assert not attr.NeuronConductance(model, model[0]).attribute(x, 0, learned, target=0).requires_grad
    assert attr.IntegratedGradients(model).attribute(x, learned, target=0, create_graph=True).requires_grad


def test_a_layer_without_rows_is_refused_with_the_remedy() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places, self.head = nn.Embedding(5, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x + self.places(torch.arange(5))).tanh().mean(1)

    model, x = Shared(), torch.randn(2, 5, 4)
    calls = [
        lambda: attr.InternalInfluence(model, model.places).attribute(x, target=0),
        lambda: attr.LayerGradientShap(model, model.places).attribute(x, x * 0, target=0),
        lambda: attr.LayerConductance(model, model.places).attribute(x, target=0),
        lambda: attr.LayerIntegratedGradients(model, model.places).attribute(x, target=0),
    ]
    for call in calls:
        with pytest.raises(CaptumError, match="which rows share"):
            call()


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), 0.5])
def test_a_baseline_is_a_number_of_any_kind(number: object) -> None:
    x = torch.tensor([[1.0, 2.0]])
    method, want = attr.IntegratedGradients(lambda x: (x**2).sum(1)), x**2 - 0.25
    torch.testing.assert_close(method.attribute(x, number), want)
    torch.testing.assert_close(method.attribute((x,), (number,)), (want,))
    torch.testing.assert_close(method.attribute({"x": x}, number), {"x": want})
    torch.testing.assert_close(method.attribute({"x": x}, {"x": number}), {"x": want})
