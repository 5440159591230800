"""Layers whose values are written into, and functions that close over their inputs."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import (
    IntegratedGradients,
    InternalInfluence,
    LayerConductance,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    NeuronGradient,
    Saliency,
)
from captum.errors import InputError, LayerError


class _ReadsAgain(nn.Module):
    """An in-place activation whose overwritten input is read under its old name."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.activation, self.head = nn.Linear(4, 4), activation, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        active = self.activation(hidden)
        return self.head(hidden * hidden + active)


@pytest.mark.parametrize("side", [False, True])
def test_what_an_in_place_layer_wrote_is_read_under_both_names(side: bool) -> None:
    torch.manual_seed(0)
    model, x = _ReadsAgain(nn.ReLU(inplace=True)).double(), torch.randn(3, 4, dtype=torch.float64)
    inner = model.first(x).detach().requires_grad_()
    active = inner.relu()
    score = model.head(active * active + active)[:, 0].sum()
    (want,) = torch.autograd.grad(score, inner if side else active)
    got = LayerGradientXActivation(model, model.activation, multiply_by_inputs=False).attribute(
        x, 0, attribute_to_layer_input=side
    )
    torch.testing.assert_close(got, want)
    for kind in (LayerIntegratedGradients, LayerConductance):
        _, delta = kind(model, model.activation).attribute(
            x, target=0, attribute_to_layer_input=side, return_convergence_delta=True, n_steps=400
        )
        assert delta.abs().max() < 1e-3


def test_a_layer_that_writes_in_secret_is_refused_at_its_input() -> None:
    class Secret(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu_()

    model = _ReadsAgain(Secret())
    with pytest.raises(LayerError, match="writes into its input"):
        LayerGradientXActivation(model, model.activation).attribute(torch.randn(2, 4), 0, attribute_to_layer_input=True)
    got = LayerGradientXActivation(model, model.activation, multiply_by_inputs=False).attribute(torch.randn(2, 4), 0)
    assert got.shape == (2, 4)


def test_a_closure_is_differentiated_at_its_own_inputs() -> None:
    x = torch.randn(2, 3, requires_grad=True)
    want = 2 * x.detach().abs()
    torch.testing.assert_close(Saliency(lambda: (x**2).sum(1)).attribute(x), want)
    bound = functools.partial(lambda y: (y**2).sum(1), x)
    torch.testing.assert_close(Saliency(bound).attribute(x), want)
    for steps in (1, 50):
        with pytest.raises(InputError, match="closure"):
            IntegratedGradients(lambda: (x**2).sum(1)).attribute(x, n_steps=steps)
    plain = torch.ones(2, 3)
    with pytest.raises(InputError, match="closure"):
        Saliency(lambda: (plain**2).sum(1)).attribute(plain)


def test_one_hot_is_a_look_up() -> None:
    torch.manual_seed(0)
    weight, ids = torch.randn(7, 3), torch.randint(0, 7, (2, 4))

    def model(tokens: Tensor) -> Tensor:
        return (F.one_hot(tokens, 7).float() @ weight).tanh().sum(1)

    got, delta = IntegratedGradients(model).attribute(ids, target=1, return_convergence_delta=True)
    want = (weight[ids].tanh() - weight[0].tanh())[..., 1]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
    assert delta.abs().max() < 1e-5


@pytest.mark.parametrize("selector", [np.int64(1), torch.tensor(1), (1,), [1], (np.int32(-3),), slice(1, 2)])
def test_a_neuron_is_a_whole_number_of_any_kind(selector: object) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(3, 3)
    want = NeuronGradient(model, model[0]).attribute(x, 1)
    torch.testing.assert_close(NeuronGradient(model, model[0]).attribute(x, selector), want)


class Biased(nn.Module):
    """A block that hands on what all rows share beside its own value, as those of T5 do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.bias = nn.Linear(3, 3), nn.Parameter(torch.ones(1, 5))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(x), self.bias


@pytest.mark.parametrize("method", [LayerIntegratedGradients, LayerConductance, InternalInfluence])
def test_values_that_rows_share_are_told_from_the_layers_own(method: type) -> None:
    block = Biased()

    def score(x: Tensor) -> Tensor:
        own, shared = block(x)
        return own.sum(1) * shared.sum()

    x = torch.rand(2, 3)
    with pytest.raises(LayerError, match=r"output of Biased; one of 2 values is \(1, 5\), which rows share.*inside"):
        method(score, block).attribute(x)
    assert method(score, block.inner).attribute(x).shape == (2, 3)
