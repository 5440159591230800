"""Gradients of single examples by hooks, against a pass for each example."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum.errors import InputError, InputTypeError
from captum.influence.sample_gradients import SUPPORTED_MODULES, LossMode, SampleGradientWrapper, linear_param_grads

CONVOLUTIONS = [
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(4, 6, (2, 3), stride=(2, 1), padding=1, dilation=(1, 2), groups=2, bias=False),
    nn.Conv2d(4, 4, 3, padding="same", groups=4, padding_mode="reflect"),
    nn.Conv2d(4, 6, 2, padding="same", dilation=2),
]


def check(model: nn.Module, x: Tensor, mode: str) -> None:
    wrapper = SampleGradientWrapper(model)
    wrapper.add_hooks()
    losses = model(x).flatten(1).tanh().sum(1)
    wrapper.compute_param_sample_gradients(losses.mean() if mode == "mean" else losses.sum(), mode)
    wrapper.remove_hooks()
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())
    for i in range(len(x)):
        alone = torch.autograd.grad(model(x[i : i + 1]).flatten(1).tanh().sum(), list(model.parameters()))
        for p, wanted in zip(model.parameters(), alone, strict=True):
            torch.testing.assert_close(p.sample_grad[i], wanted)


@pytest.mark.parametrize("mode", ["mean", "sum"])
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=range(len(CONVOLUTIONS)))
def test_convolutions(layer, mode):
    torch.manual_seed(0)
    check(nn.Sequential(layer, nn.ReLU(inplace=True)).double(), torch.randn(3, 4, 8, 7).double(), mode)


def test_linear_layers_that_run_twice():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(inplace=True), layer, nn.Linear(3, 2)).double()
    check(model, torch.randn(4, 3).double(), "mean")
    check(model, torch.randn(2, 5, 3).double(), "sum")


def test_gradients_add_up_until_they_are_reset():
    layer, x, slopes = nn.Linear(3, 2), torch.rand(4, 3), torch.rand(4, 2)
    linear_param_grads(layer, x, slopes)
    linear_param_grads(layer, x, slopes)
    torch.testing.assert_close(layer.weight.sample_grad, 2 * slopes[:, :, None] * x[:, None])
    linear_param_grads(layer, x, slopes, reset=True)
    torch.testing.assert_close(layer.bias.sample_grad, slopes)


def test_mistakes_are_told():
    with pytest.raises(InputTypeError, match="linear or convolutional"):
        SampleGradientWrapper(nn.Sequential(nn.ReLU()))
    wrapper = SampleGradientWrapper(nn.Linear(2, 2))
    with pytest.raises(InputError, match="add_hooks"):
        wrapper.compute_param_sample_gradients(torch.zeros(()))
    with pytest.raises(InputError, match="'nope'"):
        wrapper.compute_param_sample_gradients(torch.zeros(()), "nope")
    assert [m.value for m in LossMode] == [0, 1]
    assert set(SUPPORTED_MODULES) == {nn.Linear, nn.Conv2d}
