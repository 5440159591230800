"""One model in several threads: a call sees and changes its own runs of a layer only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from captum import attr


class Meeting(nn.Module):
    """In the middle of a call something else is done with the model, in another thread."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Callable[[], Tensor]] = []
        self.found: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.meanwhile:
            with ThreadPoolExecutor(1) as pool:
                self.found.append(pool.submit(self.meanwhile.pop()).result())
        return x


CALLS: dict[str, Callable[[nn.Sequential, Tensor], Tensor]] = {
    "plain": lambda m, x: m(x).detach(),
    "activation": lambda m, x: attr.LayerActivation(m, m[1]).attribute(x),
    "gradient": lambda m, x: attr.LayerGradientXActivation(m, m[1]).attribute(x, 0),
    "integrated": lambda m, x: attr.LayerIntegratedGradients(m, m[1]).attribute(x, target=0, n_steps=8),
    "conductance": lambda m, x: attr.LayerConductance(m, m[1]).attribute(x, target=0, n_steps=8),
    "ablation": lambda m, x: attr.LayerFeatureAblation(m, m[1]).attribute(x, target=0),
    "neuron": lambda m, x: attr.NeuronGradient(m, m[1]).attribute(x, 0),
    "deep lift": lambda m, x: attr.LayerDeepLift(m, m[1]).attribute(x, target=0),
}


@pytest.mark.parametrize("mine", [name for name in CALLS if name != "plain"])
@pytest.mark.parametrize("theirs", ["plain", "integrated", "activation"])
def test_calls_in_other_threads_do_not_meet(mine: str, theirs: str) -> None:
    torch.manual_seed(0)
    meeting = Meeting()
    model = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), meeting, nn.Linear(4, 2)).eval()
    x, y = torch.rand(2, 3), torch.rand(3, 3)
    wanted = CALLS[mine](model, x), CALLS[theirs](model, y)
    meeting.meanwhile = [lambda: CALLS[theirs](model, y)]
    torch.testing.assert_close(CALLS[mine](model, x), wanted[0])
    torch.testing.assert_close(meeting.found, [wanted[1]])
    assert not model[1]._forward_hooks
    assert not model[1]._forward_pre_hooks
