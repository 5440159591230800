"""Borders of drive and paths: what cannot be explained is refused with a reason, before any number is returned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captum.attr import IntegratedGradients, LayerConductance, LayerIntegratedGradients, Saliency
from captum.errors import BaselineError, InputError, InputTypeError, LayerError


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def test_a_layer_that_runs_again_in_the_backward_pass_is_refused() -> None:
    net, x = _net(), torch.randn(2, 4)

    def forward(z: Tensor) -> Tensor:
        return checkpoint(net, z, use_reentrant=False)

    with pytest.raises(LayerError, match="checkpoint"):
        LayerIntegratedGradients(forward, net[0]).attribute(x, target=1)
    assert not net[0]._forward_pre_hooks
    conductance = lambda f: LayerConductance(f, net[0]).attribute(x, target=1)  # noqa: E731
    for explain in (conductance, lambda f: Saliency(f).attribute(x, 1)):
        torch.testing.assert_close(explain(forward), explain(net))


def test_checkpoints_behind_the_layer_are_fine() -> None:
    net, head, x = _net(), nn.Linear(4, 4), torch.randn(2, 4)
    got = LayerIntegratedGradients(lambda z: checkpoint(net, head(z), use_reentrant=False), head).attribute(x, target=1)
    torch.testing.assert_close(got, LayerIntegratedGradients(lambda z: net(head(z)), head).attribute(x, target=1))


@pytest.mark.parametrize("baselines", [1.5, torch.full((2, 3), 0.5), 99, -1])
def test_baselines_of_tokens_are_tokens(baselines: Any) -> None:
    table, net, ids = nn.Embedding(10, 4), _net(), torch.randint(0, 10, (2, 3))
    explainer = IntegratedGradients(lambda i: net(table(i).sum(1)))
    with pytest.raises(BaselineError, match="token"):
        explainer.attribute(ids, baselines=baselines, target=0)
    whole = explainer.attribute(ids, baselines=torch.zeros(2, 3), target=0)
    torch.testing.assert_close(whole, explainer.attribute(ids, baselines=0, target=0))


def test_ids_that_no_embedding_reads_are_refused() -> None:
    table, ids = torch.randn(10, 4), torch.randint(0, 10, (2, 3))
    with pytest.raises(InputTypeError, match="no embedding reads"):
        Saliency(lambda i: table[i].sum(1)).attribute(ids, target=0)


@pytest.mark.parametrize("n_steps", [2.0, "many", True, None])
def test_steps_are_counted_in_ints(n_steps: Any) -> None:
    with pytest.raises(InputError, match="n_steps as an int"):
        IntegratedGradients(_net()).attribute(torch.randn(2, 4), target=0, n_steps=n_steps)


def test_numpy_counts_are_counts() -> None:
    net, x = _net(), torch.randn(2, 4)
    got = IntegratedGradients(net).attribute(x, target=0, n_steps=np.int64(5))
    torch.testing.assert_close(got, IntegratedGradients(net).attribute(x, target=0, n_steps=5))


@pytest.mark.parametrize("tol", ["x", None, True, 0])
def test_a_tolerance_is_a_number(tol: Any) -> None:
    with pytest.raises(InputError, match="tol"):
        IntegratedGradients(_net()).attribute(torch.randn(2, 4), target=0, n_steps="auto", tol=tol)


class Counting(nn.Module):
    """A head that reads what comes before the layer again, or counts its rows."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.layer, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        early = torch.tanh(self.first(x))
        y = torch.tanh(self.layer(early))
        if self.how == "skip":
            y = y + early
        if self.how == "reshape":
            y = y.reshape(x.shape[0], -1, 6).sum(1)
        return self.head(y)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("how", ["plain", "skip", "reshape"])
def test_what_comes_before_a_layer_may_be_read_behind_it(how: str, batch: int) -> None:
    net, x = Counting(how).eval(), torch.randn(batch, 4)
    explainer = LayerIntegratedGradients(net, net.layer)
    small = explainer.attribute(x, target=1, n_steps=20, internal_batch_size=7)
    torch.testing.assert_close(small, explainer.attribute(x, target=1, n_steps=20, internal_batch_size=1000))
