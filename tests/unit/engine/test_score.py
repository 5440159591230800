"""The score of a call: what is fixed before the first chunk."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captum import attr

Call = Callable[[nn.Sequential, Tensor, object], Tensor]

CALLS: dict[str, Call] = {
    "integrated gradients": lambda m, x, t: attr.IntegratedGradients(m).attribute(x, target=t, internal_batch_size=5),
    "layer integrated gradients": lambda m, x, t: attr.LayerIntegratedGradients(m, m[0]).attribute(
        x, target=t, internal_batch_size=5
    ),
    "influence": lambda m, x, t: attr.InternalInfluence(m, m[0]).attribute(x, target=t, internal_batch_size=5),
    "one sample": lambda m, x, t: attr.GradientShap(m).attribute(x, torch.zeros(2, 4), 1, target=t, seed=0),
}


@pytest.mark.parametrize("name", CALLS)
def test_argmax_is_fixed_at_the_inputs_although_a_chunk_holds_each_example_once(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(5, 4) * 3
    best = model(x).argmax(1)
    assert not torch.equal(best, model(x * 0.01).argmax(1))
    torch.testing.assert_close(CALLS[name](model, x, "argmax"), CALLS[name](model, x, best))
