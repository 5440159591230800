"""Stochastic gates: their distributions, the numbers of the published package, masks, training and mistakes."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from captum.errors import InputError, InputTypeError, MaskError
from captum.module import BinaryConcreteStochasticGates, GaussianStochasticGates, StochasticGatesBase

KINDS = [GaussianStochasticGates, BinaryConcreteStochasticGates]
INPUTS = torch.arange(8.0).reshape(2, 4) + 1
MASK = torch.tensor([[0, 0], [1, 2]])

PUBLISHED = {
    GaussianStochasticGates: (
        [[0.8461, 1.2611, 1.5272, 3.2654], [1.4473, 2.4840, 0.0, 5.5722]],
        [[0.5154, 0.9941, 1.4346, 2.0227], [2.5770, 2.9824, 3.3475, 4.0455]],
        [0.8487, 0.8399, 0.8306, 0.8441],
    ),
    BinaryConcreteStochasticGates: (
        [[0.9197, 0.2649, 0.9578, 3.5501], [0.0, 5.7959, 2.1645, 7.3066]],
        [[0.5046, 0.9982, 1.4804, 2.0068], [2.5231, 2.9947, 3.4542, 4.0136]],
        [0.8340, 0.8314, 0.8288, 0.8326],
    ),
}


def seeded(kind: type, *args: object, **options: object) -> StochasticGatesBase:
    torch.manual_seed(0)
    return kind(*args, **options)


def value(gates: StochasticGatesBase) -> nn.Parameter:
    return next(gates.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_published_numbers_under_a_seed(kind):
    """What captum 0.9.0 returns for the same calls."""
    training, evaluation, active = PUBLISHED[kind]
    gates = seeded(kind, 4)
    torch.manual_seed(1)
    gated, cost = gates(INPUTS)
    torch.testing.assert_close(gated.detach(), torch.tensor(training), rtol=0, atol=1e-4)
    torch.testing.assert_close(gates.eval()(INPUTS)[0].detach(), torch.tensor(evaluation), rtol=0, atol=1e-4)
    torch.testing.assert_close(gates.get_gate_active_probs(), torch.tensor(active), rtol=0, atol=1e-4)
    torch.testing.assert_close(float(cost.detach()), sum(active), rtol=0, atol=3e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [-1.0, 0.2, 1.5])
def test_gates_are_open_as_often_as_they_say(kind, level):
    gates = kind._from_pretrained(torch.full((3,), level))
    torch.manual_seed(0)
    drawn = gates(torch.ones(40_000, 3))[0].detach()
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 1
    share = (drawn > 0).double().mean(0)
    expected = gates.get_gate_active_probs().double()
    assert bool(((share - expected).abs() <= 4.5 * (expected * (1 - expected) / 40_000).sqrt() + 1e-4).all())


def test_noise_of_gaussian_gates_has_its_deviation():
    gates = GaussianStochasticGates._from_pretrained(torch.full((2,), 0.5), std=0.05)
    torch.manual_seed(0)
    drawn = gates(torch.ones(20_000, 2))[0].detach()
    torch.testing.assert_close(drawn.mean(0), torch.full((2,), 0.5), rtol=0, atol=2e-3)
    torch.testing.assert_close(drawn.std(0), torch.full((2,), 0.05), rtol=0.03, atol=0)


def test_hard_concrete_gates_follow_their_distribution():
    """P(z <= t) = sigmoid(T · logit(s) − log α) for t = s (ζ − γ) + γ."""
    gates = BinaryConcreteStochasticGates._from_pretrained(torch.tensor([0.7]), temperature=0.4)
    torch.manual_seed(0)
    drawn = gates(torch.ones(40_000, 1))[0].detach()
    for at in (0.1, 0.5, 0.9):
        inner = (at + 0.1) / 1.2
        expected = torch.sigmoid(torch.tensor(0.4 * math.log(inner / (1 - inner)) - 0.7))
        assert abs(float((drawn <= at).double().mean()) - float(expected)) < 0.012


@pytest.mark.parametrize("kind", KINDS)
def test_elements_of_one_gate_share_its_value(kind):
    gates = seeded(kind, 3, mask=MASK)
    gated = gates(torch.ones(5, 3, 2, 2))[0]
    assert torch.equal(gated[:, :, 0, 0], gated[:, :, 0, 1])
    assert torch.equal(gated, gated[:, :1].expand_as(gated))
    assert not torch.equal(gated[0], gated[1])
    fixed = gates.eval()(torch.ones(2, 2, 2))[0]
    torch.testing.assert_close(fixed[0], gates.get_gate_values()[MASK])


@pytest.mark.parametrize("kind", KINDS)
def test_masks_may_differ_between_the_rows(kind):
    gates = seeded(kind, 3, mask=MASK).eval()
    gated = gates(torch.ones(2, 2))[0]
    torch.testing.assert_close(gated.detach(), gates.get_gate_values()[MASK])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("reduction", "expected"), [("sum", 6.0), ("mean", 2.0), ("none", [2.0, 2.0, 2.0])])
def test_the_regulariser_is_reduced(kind, reduction, expected):
    gates = kind._from_pretrained(torch.full((3,), 50.0), reg_weight=2.0, reg_reduction=reduction)
    torch.testing.assert_close(gates(torch.ones(1, 3))[1].detach(), torch.tensor(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_training_finds_the_features_that_count(kind):
    torch.manual_seed(0)
    x = torch.randn(400, 6)
    y = 3 * x[:, 0] - 2 * x[:, 3]
    gates, line = kind(6, reg_weight=0.3), nn.Linear(6, 1)
    optimizer = torch.optim.Adam([*gates.parameters(), *line.parameters()], lr=0.03)
    for _ in range(400):
        gated, cost = gates(x)
        loss = (line(gated)[:, 0] - y).square().mean() + cost
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    kept = gates.get_gate_active_probs() > 0.5
    assert kept.tolist() == [True, False, False, True, False, False]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_detached_and_a_copy(kind):
    gates = kind._from_pretrained(torch.tensor([-3.0, 0.4, 3.0]))
    for found in (gates.get_gate_values(), gates.get_gate_values(clamp=False), gates.get_gate_active_probs()):
        assert not found.requires_grad
        found.zero_()
    assert value(gates).tolist() == pytest.approx([-3.0, 0.4, 3.0])
    low, _, high = gates.get_gate_values().tolist()
    assert (low, high) == (0.0, 1.0) if kind is GaussianStochasticGates else (low >= 0.0 and high <= 1.0)
    raw = gates.get_gate_values(clamp=False)
    assert float(raw.min()) < 0 or kind is BinaryConcreteStochasticGates


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_saved_copied_and_moved_like_modules(kind):
    gates = seeded(kind, 3, mask=MASK)
    assert list(gates.state_dict()) == [*dict(gates.named_parameters()), "mask"]
    assert list(seeded(kind, 3).state_dict()) == list(dict(gates.named_parameters()))
    other = kind(3, mask=MASK)
    other.load_state_dict(gates.state_dict())
    twin = copy.deepcopy(gates).double()
    assert torch.equal(value(other), value(gates))
    assert twin.eval()(torch.ones(1, 2, 2, dtype=torch.float64))[0].dtype == torch.float64
    assert twin.mask is not None
    assert twin.mask.dtype == torch.int64
    meta = copy.deepcopy(gates).to("meta")
    assert meta(torch.ones(2, 2, 2, device="meta"))[0].shape == (2, 2, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_draws_and_gradients_are_finite_in_every_dtype(kind, dtype):
    gates = kind(4).to(dtype)
    gated, cost = gates(torch.ones(20_000, 4, dtype=dtype))
    (gated.mean() + cost).backward()
    assert gated.dtype == dtype
    assert bool(gated.isfinite().all())
    grad = value(gates).grad
    assert grad is not None
    assert bool(grad.isfinite().all())


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch_has_no_gates(kind):
    assert kind(4)(torch.ones(0, 4))[0].shape == (0, 4)
    assert kind(3, mask=MASK)(torch.ones(0, 2, 2))[0].shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_gates": 0}, "n_gates"),
        ({"n_gates": 2.5}, "n_gates"),
        ({"mask": torch.tensor([0, 1])}, r"ids 0…2 in mask, .*; got 0…1"),
        ({"mask": torch.tensor([0, 3])}, r"got 0…3"),
        ({"mask": torch.tensor([-1, 2])}, r"got -1…2"),
        ({"mask": torch.tensor([0.0, 2.0])}, "integer Tensor"),
        ({"reg_reduction": "max"}, "none, mean, sum"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_arguments_out_of_range_are_told(kind, options, message):
    with pytest.raises(AssertionError, match=message):
        kind(**{"n_gates": 3, **options})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (GaussianStochasticGates, {"std": 0}),
        (GaussianStochasticGates, {"std": -1.0}),
        (BinaryConcreteStochasticGates, {"temperature": 0.0}),
        (BinaryConcreteStochasticGates, {"temperature": 1.0}),
        (BinaryConcreteStochasticGates, {"lower_bound": 0.0}),
        (BinaryConcreteStochasticGates, {"upper_bound": 1.0}),
        (BinaryConcreteStochasticGates, {"eps": 0.5}),
    ],
)
def test_shapes_of_distributions_out_of_range_are_told(kind, options):
    with pytest.raises(InputError, match=next(iter(options))):
        kind(3, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_do_not_fit_are_told(kind):
    with pytest.raises(InputError, match="batch in dim 0"):
        kind(4)(torch.ones(4))
    with pytest.raises(InputError, match="4 elements per example, one for each gate, got 5"):
        kind(4)(torch.ones(2, 5))
    with pytest.raises(InputError, match="broadcasts"):
        kind(3, mask=MASK)(torch.ones(2, 3))
    with pytest.raises(InputTypeError, match="n_gates"):
        kind._from_pretrained(torch.ones(2, 2))


def test_a_kind_of_your_own_needs_three_methods():
    class Switch(StochasticGatesBase):
        def _sample_gate_values(self, batch_size: int) -> Tensor:
            return (torch.rand(batch_size, self.n_gates) < 0.5).float()

        def _get_gate_values(self) -> Tensor:
            return torch.full((self.n_gates,), 0.5)

        def _get_gate_active_probs(self) -> Tensor:
            return torch.full((self.n_gates,), 0.5)

    gated, cost = Switch(3, mask=MASK)(torch.ones(8, 2, 2))
    assert set(gated.flatten().tolist()) == {0.0, 1.0}
    assert float(cost.detach()) == 1.5
    with pytest.raises(TypeError, match="abstract"):
        StochasticGatesBase(3)  # pyright: ignore[reportAbstractUsage]


def test_mask_errors_are_input_errors():
    assert issubclass(MaskError, InputError)
