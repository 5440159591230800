"""Packed convolutions: torch's own numbers in both directions, and torch's own way wherever somebody follows it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.grad import conv2d_input
from torch.utils.checkpoint import checkpoint

from captum._engine.convolutions import Convolution, versions
from captum._engine.packing import Options, Packed, PackedConvolution, packs
from captum.attr import FeatureAblation, IntegratedGradients, Saliency

Case = tuple[int, int, tuple[int, int], Options]
CASES: dict[str, Case] = {
    "dense": (16, 24, (3, 3), ((1, 1), (1, 1), (1, 1), 1)),
    "pointwise, strided": (16, 32, (1, 1), ((2, 2), (0, 0), (1, 1), 1)),
    "strided, ends unread": (16, 16, (3, 3), ((2, 2), (1, 1), (1, 1), 1)),
    "uneven": (16, 16, (3, 5), ((2, 3), (0, 2), (1, 2), 1)),
    "dilated": (16, 16, (3, 3), ((1, 1), (2, 2), (2, 2), 1)),
    "grouped": (16, 32, (3, 3), ((1, 1), (1, 1), (1, 1), 4)),
    "depthwise": (32, 32, (5, 5), ((2, 2), (2, 2), (1, 1), 32)),
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def packed(case: Case, bias: bool = True) -> tuple[Packed, Tensor, Tensor | None, Options]:
    inside, outside, size, options = case
    weight = drawn(outside, inside // options[3], *size, seed=1).contiguous(memory_format=torch.channels_last)
    shift = drawn(outside, seed=2) if bias else None
    return Packed(lambda: (weight, shift), size, options), weight, shift, options


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("bias", [True, False])
def test_results_are_those_of_torch_for_any_number_of_rows(name: str, bias: bool) -> None:
    pack, weight, shift, options = packed(CASES[name], bias)
    for rows in (5, 1, 2):
        x = drawn(rows, weight.shape[1] * options[3], 15, 18, seed=rows)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            out = pack.of(x)
        assert out.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(out, torch.conv2d(x, weight, shift, *options), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_torch(name: str) -> None:
    pack, weight, _, options = packed(CASES[name])
    for rows in (4, 1):
        x = drawn(rows, weight.shape[1] * options[3], 15, 18, seed=rows).requires_grad_()
        out = PackedConvolution.apply(x, pack)
        above = drawn(*out.shape, seed=9)
        (grad,) = torch.autograd.grad(out, x, above)
        torch.testing.assert_close(grad, conv2d_input(x.shape, weight, above, *options), rtol=1e-5, atol=1e-4)


def test_a_gradient_can_be_differentiated_again() -> None:
    pack, weight, _, options = packed(CASES["dense"])
    x = drawn(2, 16, 6, 6).requires_grad_()
    (slope,) = torch.autograd.grad(PackedConvolution.apply(x, pack).tanh().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), x)
    (wanted,) = torch.autograd.grad(
        torch.conv2d(x, weight, packed(CASES["dense"])[2], *options).tanh().sum(), x, create_graph=True
    )
    torch.testing.assert_close(slope, wanted)
    torch.testing.assert_close(second, torch.autograd.grad(wanted.square().sum(), x)[0], rtol=1e-4, atol=1e-4)


def test_one_packed_weight_serves_all_numbers_of_rows_but_not_all_shapes() -> None:
    weight = drawn(16, 16, 3, 3)
    convolution = Convolution(weight, None, versions((weight, None)))
    for rows, side in ((6, 12), (5, 12), (6, 14), (1, 12)):
        call = {"input": drawn(rows, 16, side, side), "weight": weight, "padding": 1}
        torch.testing.assert_close(convolution.run(call), torch.conv2d(call["input"], weight, None, 1, 1))
    first, other, alone = convolution.packs.values()
    assert first is not None
    assert other is not None
    assert other is not first
    assert alone in (first, None)  # with one thread torch runs a single row without oneDNN


def test_without_onednn_and_for_padding_by_name_torch_runs() -> None:
    weight, x = drawn(16, 16, 3, 3), drawn(3, 16, 12, 12)
    convolution = Convolution(weight, None, versions((weight, None)))
    call = {"input": x, "weight": weight, "padding": "same"}
    torch.testing.assert_close(convolution.run(call), torch.conv2d(x, weight, None, 1, "same"))
    assert not convolution.packs


def test_packs_follows_what_torch_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, options = drawn(32, 32, 3, 3), ((1, 1), (1, 1), (1, 1), 1)
    x = drawn(20, 32, 24, 24)
    assert packs(x, weight, options)
    assert not packs(x[:0], weight, options)
    monkeypatch.setattr("captum._engine.packing._NEEDED", ("an_operator_of_another_torch",))
    assert not packs(x, weight, options)


class Net(nn.Module):
    """Convolutions with a batch norm; ``around`` runs their block."""

    def __init__(self, around: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 16, 3, 2, 1)
            self.block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU())
            self.head = nn.Linear(16, 3)
        self.around = around
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.around(self.block, self.stem(x)).mean((2, 3)))


def plainly(block: nn.Module, x: Tensor) -> Tensor:
    return block(x)


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(block, x, use_reentrant=False)


def with_a_tangent(block: nn.Module, x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        primal, tangent = forward_ad.unpack_dual(block(forward_ad.make_dual(x, torch.ones_like(x))))
    assert tangent is not None
    return primal


def with_a_penalty(block: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        inside = x if x.requires_grad else x.detach().requires_grad_()
        out = block(inside)
        (slope,) = torch.autograd.grad(out.sum(), inside, create_graph=True)
    return out + 0 * slope.square()


@pytest.mark.parametrize("around", [checkpointed, with_a_tangent, with_a_penalty])
def test_models_that_watch_or_differentiate_inside_get_their_gradients(
    around: Callable[[nn.Module, Tensor], Tensor],
) -> None:
    x = drawn(1, 3, 20, 20)
    wanted = IntegratedGradients(Net(plainly)).attribute(x, target=1, n_steps=9, internal_batch_size=2)
    got = IntegratedGradients(Net(around)).attribute(x, target=1, n_steps=9, internal_batch_size=2)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_weights_that_change_between_calls_count() -> None:
    net, x = Net(plainly), drawn(2, 3, 20, 20)
    mask = torch.arange(100).reshape(10, 10).repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None]
    before = FeatureAblation(net).attribute(x, target=1, feature_mask=mask)
    with torch.no_grad():
        for parameter in net.block.parameters():
            parameter.mul_(0.5)
    after = FeatureAblation(net).attribute(x, target=1, feature_mask=mask)
    once = FeatureAblation(Net(plainly)).attribute(x, target=1, feature_mask=mask)
    torch.testing.assert_close(before, once)
    assert not torch.allclose(before, after)
    assert Saliency(net).attribute(x, target=1).shape == x.shape
