"""Memory format: channels last is fed where it is safe, and given up where the model's code could notice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum.attr import GradientShap, IntegratedGradients, LayerConductance


class _Net(nn.Module):
    def __init__(self, middle: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16 * 16 * 16, 2)
        self.middle = middle
        self.formats: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.formats.append(x.is_contiguous() if self.middle == "looks" else _channels_last(x))
        y = torch.relu(self.second(torch.relu(self.first(x))))
        if self.middle == "view":
            flat = y.view(len(y), -1)
        elif self.middle == "strided":
            flat = torch.as_strided(y, (len(y), 4096), (4096, 1))
        else:
            flat = y.flatten(1)
        return self.head(flat)


def _channels_last(x: Tensor) -> bool:
    return torch.ops.aten.is_contiguous.memory_format(x, memory_format=torch.channels_last)


def _by_hand(model: nn.Module, x: Tensor, steps: int) -> Tensor:
    nodes = (torch.arange(steps) + 0.5) / steps
    points = (x * nodes[:, None, None, None]).requires_grad_()
    (grads,) = torch.autograd.grad(model(points)[:, 1].sum(), points)
    return x * grads.mean(0, keepdim=True)


@pytest.mark.parametrize("middle", ["flatten", "view", "strided", "looks"])
def test_results_never_depend_on_the_format(middle: str) -> None:
    torch.manual_seed(0)
    model, x = _Net(middle), torch.randn(1, 3, 16, 16)
    want = _by_hand(model, x, 10)
    model.formats.clear()
    got = IntegratedGradients(model).attribute(x, target=1, n_steps=10, method="riemann_middle", internal_batch_size=3)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    if middle == "flatten":
        assert all(model.formats)
    elif middle in ("view", "strided"):
        assert model.formats[0]
        assert not any(model.formats[1:])


def test_the_users_model_keeps_its_format() -> None:
    model, x = _Net("flatten"), torch.randn(1, 3, 16, 16)
    before = [p.stride() for p in model.parameters()]
    IntegratedGradients(model).attribute(x, target=0, n_steps=4)
    GradientShap(model).attribute(x, torch.zeros_like(x), target=0)
    LayerConductance(model, model.first).attribute(x, target=0, n_steps=4)
    assert [p.stride() for p in model.parameters()] == before


def test_a_faulty_model_fails_with_its_own_error() -> None:
    class Broken(_Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) @ torch.ones(3, 3)

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        IntegratedGradients(Broken("flatten")).attribute(torch.randn(1, 3, 16, 16), target=0)
