"""The model and the data of the tests of influence, and gradients of single examples by plain autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

Loss = Callable[[Tensor, Tensor], Tensor]


def net() -> nn.Sequential:
    """A small network with weights that need no seed."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for shift, p in enumerate(model.parameters()):
            p.copy_(torch.sin(torch.arange(p.numel(), dtype=torch.float64) + shift).reshape(p.shape))
    return model


X = torch.cos(torch.arange(21, dtype=torch.float64) * 1.7).reshape(7, 3)
Y = torch.arange(7) % 3
TEST = (torch.sin(torch.arange(6, dtype=torch.float64) * 2.3).reshape(2, 3), torch.tensor([2, 0]))
DATA = TensorDataset(X, Y)
CHECKPOINTS = [1.0, 0.5]


def load(model: nn.Module, scale: float) -> float:
    """The network with its weights scaled; the learning rate is half of the scale."""
    model.load_state_dict({name: value * scale for name, value in net().state_dict().items()})
    return scale / 2


def as_it_is(model: nn.Module, checkpoint: object) -> float:
    """A load function that loads nothing."""
    return 1.0


def cross_entropy(reduction: str) -> nn.CrossEntropyLoss:
    return nn.CrossEntropyLoss(reduction=reduction)


def gradients(model: nn.Module, names: list[str], loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    """Gradients ``(n, P)``, each example in a pass of its own."""
    named = dict(model.named_parameters())
    parameters = [named[n] for n in names]
    rows = []
    for i in range(len(x)):
        value = loss(model(x[i : i + 1]), y[i : i + 1]).sum()
        found = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows)


def state(model: nn.Module) -> list[object]:
    """Everything that a call may not change."""
    found: list[object] = [torch.get_rng_state().tolist()]
    for name, module in model.named_modules():
        found.append((name, module.training, len(module._forward_hooks)))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        grad = None if tensor.grad is None else tensor.grad.tolist()
        found.append((name, id(tensor), tensor.tolist(), tensor.requires_grad, grad))
    return found
