"""Folding of batch norms while chunks run: only where nothing but the batch norm reads the convolution, else never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum._engine.folding import Image, Pending
from captum._engine.layout import Layout
from captum._engine.strided import gradient_by_input, split_phases
from captum.attr import (
    FeatureAblation,
    IntegratedGradients,
    InternalInfluence,
    LayerConductance,
    LayerIntegratedGradients,
    NoiseTunnel,
    Saliency,
)

SIDE = 18


class Net(nn.Module):
    """Two convolutions with batch norms; what happens between the first pair is up to the case."""

    def __init__(self, between: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.norm = nn.BatchNorm2d(16)
        self.other = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.last = nn.BatchNorm2d(16, affine=False)
        self.head = nn.Linear(16, 3)
        self.between = between
        self.kept: list[Tensor] = []
        for norm in (self.norm, self.other, self.last):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.3, 3)
        for parameter in (*self.norm.parameters(), *self.other.parameters()):
            nn.init.uniform_(parameter, 0.5, 1.5)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.between(self, self.first(x)), inplace=False)
        y = self.last(self.second(y)).tanh_()
        return self.head(F.adaptive_avg_pool2d(y, 1).flatten(1))


def plain(net: Net, y: Tensor) -> Tensor:
    """The usual order."""
    return net.norm(y)


def skipped(net: Net, y: Tensor) -> Tensor:
    """The convolution's result is read twice."""
    return net.norm(y) + 0.5 * y


def twice(net: Net, y: Tensor) -> Tensor:
    """Normalised twice, the first in place afterwards."""
    return net.norm(y).relu_() + net.norm(y)


def two_norms(net: Net, y: Tensor) -> Tensor:
    """Two batch norms read it."""
    return net.norm(y) + net.other(y)


def changing(net: Net, y: Tensor) -> Tensor:
    """Another batch norm from the second forward pass on."""
    net.kept.append(torch.zeros(1))
    return net.norm(y) if len(net.kept) < 2 else net.other(y)


def later_read(net: Net, y: Tensor) -> Tensor:
    """Read once more from the second forward pass on."""
    net.kept.append(torch.zeros(1))
    return net.norm(y) if len(net.kept) < 2 else net.norm(y) + y


def swallowed(net: Net, y: Tensor) -> Tensor:
    """Like :func:`later_read`, in code that catches whatever goes wrong."""
    net.kept.append(torch.zeros(1))
    if len(net.kept) < 2:
        return net.norm(y)
    try:
        return net.norm(y + 1)
    except Exception:  # noqa: BLE001  # what some models do
        return net.norm(y)


def stored(net: Net, y: Tensor) -> Tensor:
    """The model keeps the result for its user."""
    net.kept.append(y)
    return net.norm(y)


def scripted(net: Net, y: Tensor) -> Tensor:
    """Compiled code reads it too."""
    return net.norm(y) + _double(y)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 2 * gradient


def custom(net: Net, y: Tensor) -> Tensor:
    """A custom function reads it too."""
    return net.norm(y) + _Doubled.apply(y)


def batch_statistics(net: Net, y: Tensor) -> Tensor:
    """Batch norm in train mode in one place, over one row at a time."""
    return torch.cat([F.batch_norm(row, None, None, training=True) for row in y.split(1)])


def shared(net: Net, y: Tensor) -> Tensor:
    """One weight, two batch norms."""
    return net.norm(y) + net.other(net.second(net.other(net.second(net.norm(y)))))


def questions(net: Net, y: Tensor) -> Tensor:
    """Only the shape is asked for in between."""
    return net.norm(y).reshape(y.shape[0], y.size(1), *y.shape[2:])


@torch.jit.script
def _double(x: Tensor) -> Tensor:
    return 2 * x


CASES = [
    plain, skipped, twice, two_norms, changing, later_read, swallowed, stored, scripted, custom, batch_statistics,
    shared,
    questions,
]  # fmt: skip


def by_hand(net: Net, x: Tensor, steps: int) -> Tensor:
    """Integrated gradients with the midpoint rule, one point at a time."""
    total = torch.zeros_like(x)
    for step in range(steps):
        point = (x * ((step + 0.5) / steps)).requires_grad_()
        total += torch.autograd.grad(net(point)[:, 1].sum(), point)[0]
    return x * total / steps


@pytest.mark.parametrize("between", CASES, ids=lambda f: f.__name__)
def test_whatever_stands_between_the_numbers_stay(between: Callable[[Net, Tensor], Tensor]) -> None:
    net, x = Net(between), torch.randn(1, 3, SIDE, SIDE)
    if between in (changing, later_read, swallowed):
        net(x), net(x)  # by hand the later way of the first pass counts, so both see that one
        want, limit = by_hand(net, x, 12), 2
        net.kept.clear()
        got = IntegratedGradients(net).attribute(
            x, target=1, n_steps=12, method="riemann_middle", internal_batch_size=limit
        )
        net.kept.clear()
        net.kept.append(torch.zeros(1))
        first = torch.cat([x * ((s + 0.5) / 12) for s in range(2)]).requires_grad_()
        net.kept.clear()
        early = torch.autograd.grad(net(first)[:, 1].sum(), first)[0].sum(0, keepdim=True)
        late = torch.autograd.grad(net(first)[:, 1].sum(), first)[0].sum(0, keepdim=True)
        want = want + x * (early - late) / 12
    else:
        want = by_hand(net, x, 12)
        got = IntegratedGradients(net).attribute(
            x, target=1, n_steps=12, method="riemann_middle", internal_batch_size=2
        )
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6 * float(want.abs().max()) + 1e-7)


def test_a_kept_result_stays_usable() -> None:
    net, x = Net(stored), torch.randn(1, 3, SIDE, SIDE)
    IntegratedGradients(net).attribute(x, target=1, n_steps=8, internal_batch_size=2)
    assert not any(isinstance(t, Pending) for t in net.kept)


def test_a_users_hook_sees_the_convolutions_own_result() -> None:
    net, x, seen = Net(plain), torch.randn(1, 3, SIDE, SIDE), []
    net.first.register_forward_hook(lambda _m, _a, out: seen.append(out))
    IntegratedGradients(net).attribute(x, target=1, n_steps=8, internal_batch_size=2)
    assert not any(isinstance(t, Pending) for t in seen)
    assert len(seen) == 4


def test_folding_happens_at_all() -> None:
    net, x, kinds = Net(plain), torch.randn(1, 3, SIDE, SIDE), []
    net.norm.register_forward_pre_hook(lambda _m, args: kinds.append(type(args[0])))
    IntegratedGradients(net).attribute(x, target=1, n_steps=8, internal_batch_size=2)
    assert kinds == [Tensor, Pending, Pending, Pending]


@pytest.mark.parametrize("layer", ["first", "norm", "second", "last"])
def test_layers_beside_a_folded_pair_keep_their_values(layer: str) -> None:
    net, x = Net(plain), torch.randn(2, 3, SIDE, SIDE)
    module = net.get_submodule(layer)
    for method in (LayerConductance(net, module), LayerIntegratedGradients(net, module)):
        small = method.attribute(x, target=1, n_steps=6, internal_batch_size=3)
        whole = method.attribute(x, target=1, n_steps=6, internal_batch_size=100)
        torch.testing.assert_close(small, whole, rtol=1e-4, atol=1e-6 * float(whole.abs().max()))


def test_one_layout_serves_all_draws_of_a_tunnel() -> None:
    net, x, kinds = Net(plain), torch.randn(1, 3, SIDE, SIDE), []
    net.norm.register_forward_pre_hook(lambda _m, args: kinds.append(type(args[0])))
    tunnel = NoiseTunnel(Saliency(net))
    parts = tunnel.attribute(x, nt_samples=8, nt_samples_batch_size=2, target=1, seed=0)
    assert Pending in kinds
    whole = tunnel.attribute(x, nt_samples=8, nt_samples_batch_size=8, target=1, seed=0)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6 * float(whole.abs().max()))


def test_games_fold_too() -> None:
    net, x = Net(plain), torch.randn(1, 3, SIDE, SIDE)
    mask = torch.arange(9).reshape(3, 3).repeat_interleave(6, 0).repeat_interleave(6, 1)[None, None]
    got = FeatureAblation(net).attribute(x, target=1, feature_mask=mask, perturbations_per_eval=2)
    with torch.no_grad():
        want = torch.stack([(net(x) - net(torch.where(mask == i, 0.0, x)))[0, 1] for i in range(9)])
    torch.testing.assert_close(got[0, 0, ::6, ::6].flatten(), want, rtol=1e-4, atol=1e-6)


def test_weights_that_change_between_chunks_are_used() -> None:
    net, x = Net(plain), torch.randn(1, 3, SIDE, SIDE)
    layout = Layout(list(net.modules()))
    body = lambda tensors: net(tensors[0].clone())  # noqa: E731
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(layout.run((x,), body), net(x), rtol=1e-5, atol=1e-6)
            net.first.weight.mul_(1.5)
            net.norm.running_mean.add_(0.1)


def test_behind_the_first_convolution_there_is_no_image() -> None:
    net, x, kinds = Net(plain), torch.randn(2, 3, SIDE, SIDE), []
    net.first.register_forward_pre_hook(lambda _m, args: kinds.append(type(args[0])))
    start = torch.randn(2, 3, SIDE, SIDE)
    small = IntegratedGradients(net).attribute(x, start, target=1, n_steps=12, internal_batch_size=4)
    assert kinds == [Tensor] + [Image] * 5
    whole = IntegratedGradients(net).attribute(x, start, target=1, n_steps=12, internal_batch_size=100)
    torch.testing.assert_close(small, whole, rtol=1e-4, atol=1e-6 * float(whole.abs().max()))


class Reader(nn.Module):
    """A net whose input is read somewhere else too."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.net = Net(plain)
        self.how = how
        self.seen: list[Tensor] = []
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        if self.how == "mean":
            return self.net(x) * x.mean((1, 2, 3))[:, None]
        if self.how == "scaled":
            return self.net(2 * x)
        if self.how == "in_place":
            return self.net(x.mul_(2))
        if self.how == "twice":
            return self.net(x) + self.net(x)
        if self.how == "kept":
            self.seen.append(x)
            return self.net(x)
        if self.how == "scripted":
            return self.net(x) + _double(x).mean((1, 2, 3))[:, None]
        self.seen.append(x.detach().clone())
        late = len(self.seen) > 2
        return self.net(x) * (x.mean((1, 2, 3))[:, None] if late else 1)


@pytest.mark.parametrize("how", ["mean", "scaled", "in_place", "twice", "kept", "scripted", "later"])
def test_a_model_that_reads_its_input_elsewhere_is_right(how: str) -> None:
    model, x = Reader(how), torch.randn(1, 3, SIDE, SIDE)
    steps = 12
    nodes = (torch.arange(steps) + 0.5) / steps
    points = (x * nodes[:, None, None, None]).requires_grad_()
    parts = [torch.autograd.grad(model(p.clone())[:, 1].sum(), p)[0] for p in points.split(2)]
    want = x * torch.cat(parts).mean(0, keepdim=True)
    model.seen.clear()
    got = IntegratedGradients(model).attribute(
        x, target=1, n_steps=steps, method="riemann_middle", internal_batch_size=2
    )
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6 * float(want.abs().max()))
    assert not any(isinstance(t, Image) for t in model.seen)


class Skip(nn.Module):
    """A layer whose input is read by a skip connection too, behind the first convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.block = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 3)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """The scores."""
        y = torch.tanh(self.first(x))
        return self.head((y + torch.sin(self.block(y))).mean((2, 3)))


@pytest.mark.parametrize("to_input", [False, True])
@pytest.mark.parametrize("layer", ["first", "block"])
@pytest.mark.parametrize("method", [LayerConductance, InternalInfluence])
@pytest.mark.parametrize("frozen", [False, True])
def test_layers_behind_the_first_convolution(method: Any, layer: str, to_input: bool, frozen: bool) -> None:
    net, x = Skip(), torch.randn(2, 3, SIDE, SIDE)
    net.requires_grad_(not frozen)
    explain = method(net, net.get_submodule(layer)).attribute
    small = explain(x, target=1, n_steps=9, internal_batch_size=2, attribute_to_layer_input=to_input)
    whole = explain(x, target=1, n_steps=9, internal_batch_size=100, attribute_to_layer_input=to_input)
    torch.testing.assert_close(small, whole, rtol=1e-4, atol=1e-6 * float(whole.abs().max()))


@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("padding", [0, 1, 2, 3])
@pytest.mark.parametrize(("kernel", "side"), [((3, 3), 17), ((7, 7), 20), ((4, 2), 19), ((1, 1), 9), ((5, 8), 16)])
def test_phases_give_the_gradient_by_the_input(stride: int, padding: int, kernel: tuple[int, int], side: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, side, side + 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, *kernel, dtype=torch.float64)
    out = torch.conv2d(x, weight, None, stride, padding)
    gradient = torch.randn_like(out)
    (want,) = torch.autograd.grad(out, x, gradient)
    got = gradient_by_input(gradient, split_phases(weight, stride), stride, padding, (side, side + 3))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
