"""Parts of a model that would run again in the backward pass follow rules, or are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captum.attr import LRP, DeepLift, GuidedBackprop, LayerDeepLift, LayerLRP
from captum.errors import UnknownOperatorError

X, X0 = (torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (1, 2))


class Net(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2, 1))
        self.dense = nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 8), nn.Tanh())
        self.head = nn.Linear(8, 3)
        self.reentrant = reentrant
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        for part in (self.conv, nn.Flatten(), self.dense):
            x = part(x) if self.reentrant is None else checkpoint(part, x, use_reentrant=self.reentrant)
        return self.head(x)


METHODS: dict[str, Callable[[Net], Tensor]] = {
    "rescale": lambda net: DeepLift(net).attribute(X, X0, target=1),
    "reveal_cancel": lambda net: DeepLift(net, rule="reveal_cancel").attribute(X, X0, target=1),
    "genomics": lambda net: DeepLift(net, rule="genomics").attribute(X, X0, target=1),
    "epsilon": lambda net: LRP(net).attribute(X, target=1),
    "gamma box": lambda net: LRP(net, composite="epsilon_gamma_box").attribute(X, target=1),
    "guided": lambda net: GuidedBackprop(net).attribute(X, target=1),
    "a layer inside": lambda net: LayerDeepLift(net, net.dense[1]).attribute(X, X0, target=1),
    "relevance of a layer inside": lambda net: LayerLRP(net, net.conv[2]).attribute(X, target=1),
}


@pytest.mark.parametrize("name", METHODS)
def test_checkpoints_change_nothing(name: str) -> None:
    torch.testing.assert_close(METHODS[name](Net(False)), METHODS[name](Net(None)))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's own, of a pass that only looks
@pytest.mark.parametrize("name", METHODS)
def test_checkpoints_that_hide_their_operators_are_refused(name: str) -> None:
    with pytest.raises(UnknownOperatorError, match="use_reentrant=False"):
        METHODS[name](Net(True))
