"""Occlusion by increments equals occlusion with whole images, or says why it does not try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from captum.attr import Occlusion
from captum.attr.games import incremental
from captum.attr.games.fills import Background, Blur, Mean
from captum.errors import CaptumWarning, InputError, TargetError

SIZE = 40


class Residual(nn.Module):
    """Two convolutions with batch norm and a skip; activations in place."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)
        self.conv2, self.norm2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.skip = nn.Conv2d(inside, outside, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        y += self.skip(x)
        return self.relu(y)


class MobileBlock(nn.Module):
    """Expand, depthwise, squeeze and excite, project."""

    def __init__(self, width: int, excite: bool) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.BatchNorm2d(2 * width), nn.SiLU(inplace=True))
        self.depth = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 3, 1, 1, groups=2 * width), nn.Hardswish())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2 * width, 2 * width, 1), nn.Sigmoid())
        self.excite = excite
        self.project = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depth(self.expand(x))
        return x + self.project(y * self.gate(y) if self.excite else y)


class DenseLayer(nn.Module):
    """What it makes is put beside what it got."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inside), nn.Conv2d(inside, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class Functional(nn.Module):
    """Functions rather than modules; reads shapes; a head that multiplies matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 3, 5, 5) * 0.2)
        self.head = nn.Parameter(torch.randn(6, 5))

    def forward(self, x: Tensor, scale: Any = 1.0) -> Tensor:
        n, c, h, w = x.shape
        grid = torch.linspace(-1, 1, w, device=x.device).expand(h, w)
        y = F.pad(F.gelu(F.conv2d(x + grid, self.weight, stride=(2, 1))), (1, 1, 1, 1))
        y = F.max_pool2d(torch.clamp(y, max=3) / 2, 2).tanh()
        y = F.avg_pool2d(y * y.sigmoid(), 3, 2, 1)
        pooled = y.mean((2, 3)).view(n, -1) @ self.head
        return pooled * (scale.view(n, 1) if isinstance(scale, Tensor) else scale) + c


class Patches(nn.Module):
    """A small vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x).flatten(2).transpose(1, 2)).mean(1))


def head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)]


def stem(stride: int = 2) -> list[nn.Module]:
    return [nn.Conv2d(3, 8, 5, stride, 2), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]


NETS: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: nn.Sequential(
        *stem(), nn.MaxPool2d(3, 2, 1), Residual(8, 8, 1), Residual(8, 12, 2), Residual(12, 12, 1), *head(12)
    ),
    "plain": lambda: nn.Sequential(
        *[nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)],
        *[nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)],
        *[nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.Linear(300, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5)],
    ),
    "mobile": lambda: nn.Sequential(*stem(), MobileBlock(8, False), MobileBlock(8, False), *head(8)),
    "excited": lambda: nn.Sequential(*stem(), MobileBlock(8, False), MobileBlock(8, True), *head(8)),
    "dense": lambda: nn.Sequential(*stem(), DenseLayer(8), DenseLayer(12), nn.AvgPool2d(2), DenseLayer(16), *head(20)),
    "functional": Functional,
}


def build(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = NETS[name]()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.randn(module.num_features)
                module.running_var = torch.rand(module.num_features) + 0.5
    return net.eval()


def images(count: int = 1, height: int = SIZE, width: int = SIZE) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(4))


def agree(net: Any, x: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Explain in both ways, compare, and give the maps."""
    occlusion = Occlusion(net)
    fast, plain = occlusion.attribute(x, *args, incremental=True, **kwargs), occlusion.attribute(x, *args, **kwargs)
    with torch.no_grad():
        constants = kwargs.get("additional_forward_args", ())
        scale = net(x, *(constants if isinstance(constants, tuple) else (constants,))).abs().max()
    assert fast.shape == plain.shape
    assert fast.dtype == plain.dtype
    assert plain.abs().max() > 1e-4 * scale
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5 * float(scale))
    return fast


@pytest.mark.parametrize("name", NETS)
def test_equals_whole_images(name: str) -> None:
    agree(build(name), images(), (3, 7, 7), (3, 5, 5), target=2)


@pytest.mark.parametrize(
    ("window", "strides"),
    [
        ((3, 7, 4), (3, 6, 3)),
        ((1, 6, 6), (1, 6, 6)),
        ((2, 5, 5), (1, 5, 5)),
        ((3, 40, 3), (3, 40, 2)),
        ((3, 1, 1), (3, 1, 1)),
        ((3, 30, 30), 1),
    ],
    ids=["oblong", "one channel", "two channels", "whole columns", "pixels", "large"],
)
def test_windows(window: Any, strides: Any) -> None:
    x = images(1, 40, 33) if window[1] > 1 else images(1, 12, 11)
    if strides == 1:
        strides = (3, 5, 3)
    agree(build("residual"), x, window, strides, target=1)


def test_batches_targets_and_constants() -> None:
    net, x = build("functional"), images(5)
    scale = torch.tensor([1.0, 2.0, -1.0, 0.5, 3.0])
    fast = agree(net, x, (3, 8, 8), (3, 8, 8), target=[0, 1, 2, 3, 4], additional_forward_args=(scale,))
    alone = Occlusion(net).attribute(
        x[2:3], (3, 8, 8), (3, 8, 8), target=2, additional_forward_args=(scale[2:3],), incremental=True
    )
    torch.testing.assert_close(fast[2:3], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("baselines", [0.5, Mean(), Blur(2.0), images(3)[:, :, :1, :1], images(1)])
def test_baselines(baselines: Any) -> None:
    agree(build("residual"), images(3), (3, 8, 8), (3, 8, 8), target=0, baselines=baselines)


@pytest.mark.parametrize("per_eval", [2, 3, 500])
def test_perturbations_per_eval(per_eval: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    net = build("residual")
    net.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    Occlusion(net).attribute(
        images(2), (3, 8, 8), (3, 8, 8), target=0, perturbations_per_eval=per_eval, incremental=True
    )
    assert max(rows) <= max(4, per_eval * 2)
    agree(net, images(2), (3, 8, 8), (3, 8, 8), target=0, perturbations_per_eval=per_eval)


def test_groups_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incremental, "KEPT_ELEMENTS", 60_000)
    monkeypatch.setattr(incremental, "MOST_ROWS", 7)
    agree(build("residual"), images(5), (3, 8, 8), (3, 8, 8), target=0)


def test_several_numbers_per_row_and_one_channel() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    x = images(2)[:, :1]
    fast = Occlusion(net).attribute(x, (1, 9, 9), (1, 9, 9), target=1, incremental=True)
    plain = Occlusion(net).attribute(x, (1, 9, 9), (1, 9, 9), target=1)
    assert fast.shape == plain.shape
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


def test_double_precision() -> None:
    net = build("residual").double()
    x = images(1).double()
    fast = Occlusion(net).attribute(x, (3, 9, 9), (3, 5, 5), target=1, incremental=True)
    plain = Occlusion(net).attribute(x, (3, 9, 9), (3, 5, 5), target=1)
    torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)


def test_less_is_computed() -> None:
    """Boxes, not images: a tenth of the operations, where maps grow fast in a small net."""
    net, x = build("residual"), images(1, 24, 360)
    operations: list[int] = []
    for incremental_ in (False, True):
        with FlopCounterMode(display=False) as counter:
            Occlusion(net).attribute(x, (3, 6, 6), (3, 6, 6), target=0, incremental=incremental_)
        operations.append(counter.get_total_flops())
    assert operations[1] < operations[0] / 8


def refused(net: Any, x: Any, why: str, *args: Any, **kwargs: Any) -> None:
    """A warning tells why, and the result is the plain one."""
    with pytest.warns(CaptumWarning, match=why) as caught:
        fast = Occlusion(net).attribute(x, *args, incremental=True, **kwargs)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    plain = Occlusion(net).attribute(x, *args, **kwargs)
    torch.testing.assert_close(fast, plain)


def test_a_transformer_is_refused() -> None:
    torch.manual_seed(0)
    refused(Patches().eval(), images(), "flatten needs whole maps", (3, 8, 8), (3, 8, 8), target=1)


def test_what_does_not_fit_is_refused() -> None:
    windows = {"sliding_window_shapes": (3, 9, 9), "strides": (3, 9, 9)}
    net = build("residual")
    refused(lambda x: net(x)[:, 0].sum(), images(2), "one entry per row", **windows)
    refused(net, images(), "the same for every window", target=0, baselines=Background(images(3)), **windows)
    refused(nn.Linear(6, 1), torch.randn(1, 6), "batch of images", (2,), (2,))
    two = ((3, 9, 9), (3, 9, 9))
    refused(lambda x, y: net(x + y), (images(), images()), "batch of images", two, two, target=0)


def test_other_scores_are_noticed() -> None:
    net, calls = build("residual"), [0]

    def restless(x: Tensor) -> Tensor:
        calls[0] += 1
        return net(x) + calls[0]

    with pytest.warns(CaptumWarning, match="differ from those of whole images"):
        Occlusion(restless).attribute(images(), (3, 9, 9), (3, 9, 9), target=0, incremental=True)


def test_mistakes_raise_as_ever() -> None:
    net, windows = build("residual"), ((3, 9, 9), (3, 9, 9))
    with pytest.raises(InputError, match="perturbations_per_eval"):
        Occlusion(lambda x: net(x).sum()).attribute(images(), *windows, perturbations_per_eval=2, incremental=True)
    with pytest.raises(TargetError):
        Occlusion(build("residual")).attribute(images(), (3, 9, 9), (3, 9, 9), target=9, incremental=True)


@pytest.mark.parametrize("call", range(5))
def test_errors_of_the_model_come_out(call: int) -> None:
    class OwnError(Exception):
        pass

    net, calls = build("residual"), [0]

    def failing(x: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == call + 1:
            raise OwnError
        return net(x)

    with pytest.raises(OwnError):
        Occlusion(failing).attribute(images(), (3, 9, 9), (3, 9, 9), target=0, incremental=True)


def test_training_mode_is_refused() -> None:
    net = build("residual").train()
    refused(net, images(3), "one entry per row", (3, 9, 9), (3, 9, 9), target=0)


def test_nothing_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = build("residual"), images().requires_grad_()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    kept = x.detach().clone()
    out = Occlusion(net).attribute(x, (3, 9, 9), (3, 9, 9), target=0, incremental=True)
    assert not out.is_inference()
    assert x.grad is None
    assert torch.equal(x.detach(), kept)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    net(x)[0, 0].backward()


def test_what_a_module_keeps_is_an_ordinary_tensor() -> None:
    class Keeper(nn.Module):
        last: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            self.last = self.conv(x)
            return self.norm(self.last).relu().mean((2, 3))

    net = Keeper().eval()
    agree(net, images(), (3, 9, 9), (3, 9, 9), target=0)
    Occlusion(net).attribute(images(), (3, 9, 9), (3, 9, 9), target=0, incremental=True)
    assert net.last.device.type == "cpu"
    assert not net.last.is_inference()
    assert net.last.shape[1:] == (4, 38, 38)


def test_memory_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    net = build("residual")

    def limited(_: Any, args: Any) -> None:
        if len(args[0]) > 6:
            message = "out of memory"
            raise torch.OutOfMemoryError(message)

    net.register_forward_pre_hook(limited)
    agree(net, images(), (3, 10, 10), (3, 10, 10), target=0)


@pytest.mark.parametrize("kind", ["sum", "gate", "norm"])
def test_convolutions_that_are_used_in_another_way_later(kind: str) -> None:
    """A single image shows a convolution before a batch norm; packs use its result in other ways too."""
    conv, norm, other = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.BatchNorm2d(6, eps=1.0)
    net = nn.Sequential(conv, norm, other).eval()

    def body(x: Tensor) -> Tensor:
        y = conv(x)
        if len(x) > 1:
            y = {
                "sum": lambda: norm(y) + y,
                "gate": lambda: norm(y) * y.mean((2, 3), keepdim=True),
                "norm": lambda: other(y),
            }[kind]()
        else:
            y = norm(y)
        return net[1](y).relu().mean((2, 3))

    x = images(2)
    fast = Occlusion(body).attribute(x, (3, 9, 9), (3, 9, 9), target=1, incremental=True)
    plain = Occlusion(body).attribute(x, (3, 9, 9), (3, 9, 9), target=1)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:incremental=True has no effect")
@pytest.mark.parametrize("kind", ["numpy", "stride"])
def test_code_that_looks_at_memory_gets_whole_maps(kind: str) -> None:
    net = build("residual")

    def body(x: Tensor) -> Tensor:
        factor = torch.from_numpy(x.numpy()).amax() * 0 + 2 if kind == "numpy" else float(x.stride(3))
        return net(x) * factor

    fast = Occlusion(body).attribute(images(), (3, 9, 9), (3, 9, 9), target=1, incremental=True)
    plain = Occlusion(body).attribute(images(), (3, 9, 9), (3, 9, 9), target=1)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
