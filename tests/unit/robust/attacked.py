"""Models and inputs of the tests of attacks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WEIGHT = torch.tensor([[1.0, -2.0, 3.0], [0.5, 1.0, -1.0]])
INPUTS = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])
CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")


def probabilities(x: Tensor) -> Tensor:
    return torch.softmax(x @ WEIGHT.T, 1)


def logits(x: Tensor) -> Tensor:
    return x @ WEIGHT.T


def deep() -> nn.Sequential:
    """A small network whose weights are sines."""
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        for place, weight in enumerate(model.parameters()):
            weight.copy_(torch.sin(torch.arange(weight.numel()).float() * 1.7 + place).view_as(weight))
    return model


def noisy(x: Tensor, scale: float) -> Tensor:
    return x + torch.randn_like(x) * scale
