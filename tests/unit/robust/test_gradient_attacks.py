"""FGSM and PGD against closed forms, plain loops, and what captum 0.9.0 returns for the same calls."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from captum.errors import CaptumWarning, InputError, InputTypeError, MaskError, OutputError, TargetError
from captum.robust import FGSM, PGD, Perturbation
from tests.unit.robust.attacked import CROSS_ENTROPY, INPUTS, WEIGHT, deep, logits, probabilities

CLASSES = torch.tensor([0, 1])
#: The direction in which the loss of classes 0 and 1 grows: towards the other class.
AWAY = torch.sign(torch.stack([WEIGHT[1] - WEIGHT[0], WEIGHT[0] - WEIGHT[1]]))


def test_a_step_on_a_linear_model():
    for target in (CLASSES, [0, 1], CLASSES.numpy()):
        torch.testing.assert_close(FGSM(probabilities).perturb(INPUTS, 0.1, target), INPUTS + 0.1 * AWAY)
        torch.testing.assert_close(FGSM(probabilities)(INPUTS, 0.1, target, targeted=True), INPUTS - 0.1 * AWAY)
    found = FGSM(logits, CROSS_ENTROPY).perturb(INPUTS, 0.1, CLASSES)
    torch.testing.assert_close(found, INPUTS + 0.1 * AWAY)
    one = FGSM(probabilities).perturb(INPUTS, 0.1, 1)
    torch.testing.assert_close(one, INPUTS + 0.1 * AWAY[1])
    torch.testing.assert_close(FGSM(lambda x: x[:, 0].exp()).perturb(INPUTS, 0.1, None)[:, 0], INPUTS[:, 0] - 0.1)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_may_be_reduced(reduction):
    found = FGSM(logits, nn.CrossEntropyLoss(reduction=reduction)).perturb(INPUTS, 0.1, CLASSES)
    torch.testing.assert_close(found, INPUTS + 0.1 * AWAY)
    column = FGSM(logits, lambda out, _: out[:, :1]).perturb(INPUTS, 0.1, None)
    torch.testing.assert_close(column, INPUTS + 0.1 * torch.sign(WEIGHT[0]))


def test_masks_bounds_and_small_gradients():
    mask = torch.tensor([1, 0, 1])
    found = FGSM(probabilities, lower_bound=-0.95, upper_bound=2.95).perturb(INPUTS, 0.1, CLASSES, None, True, mask)
    wanted = torch.clamp(INPUTS - 0.1 * AWAY * mask, -0.95, 2.95)
    torch.testing.assert_close(found, wanted)
    rows = torch.tensor([[True], [False]])
    torch.testing.assert_close(FGSM(probabilities)(INPUTS, 0.1, 0, mask=rows)[1], INPUTS[1])
    lowest = torch.tensor([2.0, -torch.inf, -torch.inf])
    assert FGSM(probabilities, lower_bound=lowest).perturb(INPUTS, 0.1, 0)[:, 0].tolist() == [2.0, 2.0]
    weak = torch.tensor([1e-7, 1.0, 2e-6])
    found = FGSM(lambda x: x * weak, lambda out, _: out.sum(1)).perturb(INPUTS, 0.5, None)
    torch.testing.assert_close(found - INPUTS, torch.tensor([0.0, 0.5, 0.5]).expand(2, 3))


def test_sizes_per_row_and_per_input():
    sizes = torch.tensor([[0.1], [0.2]])
    torch.testing.assert_close(FGSM(probabilities).perturb(INPUTS, sizes, CLASSES), INPUTS + sizes * AWAY)
    both = FGSM(lambda a, b: probabilities(a + b)).perturb((INPUTS, INPUTS), (0.1, 0.3), CLASSES)
    torch.testing.assert_close(both[0], INPUTS + 0.1 * AWAY)
    torch.testing.assert_close(both[1], INPUTS + 0.3 * AWAY)
    found = PGD(probabilities).perturb(INPUTS, sizes, 0.15, 5, CLASSES)
    torch.testing.assert_close(found, INPUTS + sizes * AWAY)
    found = PGD(probabilities).perturb(INPUTS, sizes, 0.15, 20, CLASSES, norm="L2")
    torch.testing.assert_close((found - INPUTS).norm(dim=1), sizes[:, 0])


def by_loops(norm: str, targeted: bool) -> Tensor:
    """PGD for one row after the other."""
    model, found = deep(), INPUTS.clone()
    for row in range(2):
        x = INPUTS[row]
        at = x.clone()
        for _ in range(6):
            at.requires_grad_()
            loss = nn.functional.cross_entropy(model(at), CLASSES[row])
            (slope,) = torch.autograd.grad(loss, at)
            change = (at - (0.1 if targeted else -0.1) * slope.sign()).detach() - x
            if norm == "Linf":
                change = torch.stack([max(min(c, torch.tensor(0.25)), torch.tensor(-0.25)) for c in change])
            elif float(change.norm()) > 0.25:
                change = change / change.norm() * 0.25
            at = torch.clamp(x + change, -0.9, 3.1)
        found[row] = at
    return found


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_steps_in_a_ball(norm, targeted):
    attack = PGD(deep(), CROSS_ENTROPY, -0.9, 3.1)
    found = attack.perturb(INPUTS, 0.25, 0.1, 6, CLASSES, None, targeted, norm=norm)
    torch.testing.assert_close(found, by_loops(norm, targeted), rtol=1e-5, atol=1e-6)


def test_published_numbers_under_a_seed():
    """What captum 0.9.0 returns for the same calls."""
    attack = PGD(deep(), CROSS_ENTROPY)
    torch.manual_seed(0)
    found = attack.perturb(INPUTS, 0.3, 0.1, 4, CLASSES, random_start=True)
    wanted = torch.tensor([[0.7, 1.76093, 3.15309], [-0.82078, 0.78445, 1.7]])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    torch.manual_seed(0)
    found = attack.perturb(INPUTS[:1], 0.3, 0.1, 1, CLASSES[:1], random_start=True, norm="L2")
    torch.testing.assert_close(found, torch.tensor([[1.0325, 1.87477, 2.91266]]), rtol=0, atol=1e-5)
    two = PGD(lambda a, b: deep()(a + b), CROSS_ENTROPY)
    torch.manual_seed(0)
    found = two.perturb((INPUTS[:1], INPUTS[1:]), 0.3, 0.1, 0, CLASSES[:1], random_start=True, norm="L2")
    torch.testing.assert_close(found[0], torch.tensor([[1.1325, 1.97477, 2.81266]]), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], torch.tensor([[-0.89488, 0.61969, 2.04605]]), rtol=0, atol=1e-5)
    torch.manual_seed(0)
    found = PGD(logits).perturb(INPUTS[:1].double(), 0.15, 0.1, 0, 0, random_start=True, norm="L2")
    wanted = torch.tensor([[1.0662509489648129, 1.9873848198860664, 2.906328858726723]]).double()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    clipped = PGD(deep(), CROSS_ENTROPY, 0.0, 2.5).perturb(INPUTS, 0.3, 0.1, 4, CLASSES, None, True, norm="L2")
    wanted = torch.tensor([[1.08884, 1.93183, 2.5], [0.0, 0.45047, 2.04953]])
    torch.testing.assert_close(clipped, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(400, 3), (300, 2, 3, 3), (300, 300)])
def test_random_starts_fill_the_ball_of_each_row(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    attack = PGD(lambda t: t.flatten(1))
    moved = attack.perturb(x, 0.5, 0.1, 0, 0, random_start=True, norm="L2", seed=4) - x
    lengths = moved.flatten(1).norm(dim=1)
    assert float(lengths.max()) <= 0.5 + 1e-6
    shares = (lengths / 0.5) ** moved[0].numel()  # uniform
    assert abs(float(shares.mean()) - 0.5) < 0.06
    assert abs(float(shares.std()) - 12**-0.5) < 0.04
    cube = attack.perturb(x, 0.5, 0.1, 0, 0, random_start=True, seed=4) - x
    assert float(cube.abs().max()) <= 0.5 + 1e-6
    assert abs(float(cube.std()) - 12**-0.5) < 0.02


def test_one_source_of_randomness():
    attack = PGD(probabilities)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    for norm in ("Linf", "L2"):
        first, second, third = (
            attack.perturb(INPUTS, 0.5, 0.1, 2, 0, random_start=True, norm=norm, **source)
            for source in ({"seed": 1}, {"generator": torch.Generator().manual_seed(1)}, {"seed": 2})
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(InputError, match="pass one"):
        attack.perturb(INPUTS, 0.5, 0.1, 2, 0, seed=1, generator=torch.Generator())
    start = attack.perturb(INPUTS, 0.5, 0.1, 0, 0, random_start=True, mask=torch.tensor([1, 0, 1]), seed=1)
    assert torch.equal(start[:, 1], INPUTS[:, 1])
    assert bool((start[:, 0] != INPUTS[:, 0]).all())


def test_success_is_told_per_row():
    found, success = FGSM(logits, CROSS_ENTROPY).perturb(INPUTS, 10.0, CLASSES, return_success=True)
    assert torch.equal(success, logits(found).argmax(1) != CLASSES)
    assert success.tolist() == [True, True]
    assert FGSM(logits, CROSS_ENTROPY)(INPUTS, 0.0, CLASSES, return_success=True)[1].tolist() == [False, True]
    attack = PGD(probabilities)
    assert attack(INPUTS, 3.0, 1.0, 9, 1, targeted=True, return_success=True)[1].tolist() == [True, True]
    assert attack(INPUTS, 3.0, 1.0, 9, -2, targeted=False, return_success=True)[1].tolist() == [True, True]
    with pytest.raises(TargetError, match="return_success"):
        FGSM(lambda x: x[:, 0].exp()).perturb(INPUTS, 0.1, None, return_success=True)


@dataclass
class Pair:
    left: Tensor
    ids: Tensor


@pytest.mark.parametrize("structure", ["tuple", "dict", "dataclass"])
def test_inputs_of_any_structure(structure):
    ids = torch.tensor([0, 1])
    build = {"tuple": lambda a, b: (a, b), "dict": lambda a, b: {"left": a, "ids": b}, "dataclass": Pair}[structure]

    def model(*args: object, **named: Tensor) -> dict[str, object]:
        pair = args[0] if args else None
        left, kind = (pair.left, pair.ids) if isinstance(pair, Pair) else (*args, *named.values())
        return {"logits": logits(left) * (1 - 2 * kind[:, None]), "kind": kind}

    for attack, sizes in ((FGSM(model, CROSS_ENTROPY), (0.1,)), (PGD(model, CROSS_ENTROPY), (0.1, 0.1, 1))):
        found = attack(build(INPUTS, ids), *sizes, CLASSES)
        assert type(found) is type(build(INPUTS, ids))
        left, same = (
            (found.left, found.ids)
            if isinstance(found, Pair)
            else tuple(dict(found).values())
            if (isinstance(found, dict))
            else found
        )
        torch.testing.assert_close(left, INPUTS + 0.1 * AWAY * torch.tensor([[1.0], [-1.0]]))
        assert torch.equal(same, ids)


def test_masks_belong_to_inputs():
    def model(a: Tensor, b: Tensor) -> Tensor:
        return probabilities(a + b)

    pair = (INPUTS, INPUTS * -0.5)
    first, second = FGSM(model).perturb(pair, 0.1, CLASSES, mask=(torch.zeros(1), None))
    assert torch.equal(first, INPUTS)
    torch.testing.assert_close(second, INPUTS * -0.5 + 0.1 * AWAY)
    with pytest.raises(MaskError, match="2 input"):
        FGSM(model).perturb(pair, 0.1, 0, mask=torch.zeros(1))


def test_constants_and_fixed_predictions():
    seen: list[object] = []

    def loss(out: Tensor, target: object) -> Tensor:
        seen.append(target)
        return out.sum(1)

    FGSM(lambda x, by, name: x * by, loss).perturb(INPUTS, 0.1, "a label", (torch.ones(2, 1), "name"))
    assert seen == ["a label"]
    PGD(logits, CROSS_ENTROPY).perturb(INPUTS, 9.0, 9.0, 1, "argmax")
    best = logits(INPUTS).argmax(1)
    found = PGD(logits, CROSS_ENTROPY).perturb(INPUTS, 9.0, 3.0, 5, "argmax")
    torch.testing.assert_close(found, PGD(logits, CROSS_ENTROPY).perturb(INPUTS, 9.0, 3.0, 5, best))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(dtype):
    x = INPUTS.to(dtype)
    for norm in ("Linf", "L2"):
        attack = PGD(lambda t: logits(t.float()).to(dtype), CROSS_ENTROPY)
        found = attack.perturb(x, 0.1, 0.1, 2, CLASSES, random_start=True, norm=norm, mask=torch.ones(3))
        assert found.dtype == dtype
        assert float((found - x).float().abs().max()) > 0
    assert FGSM(lambda t: t.float().softmax(1)).perturb(x, 0.1, 0).dtype == dtype


def test_nothing_is_left_behind():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))

    def writes(x: Tensor) -> Tensor:
        return model(x.add_(1))

    x, kept = INPUTS.clone(), INPUTS.clone()
    plain = FGSM(lambda t: model(t + 1), CROSS_ENTROPY).perturb(INPUTS, 0.1, CLASSES)
    for mode in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with mode:
            found = FGSM(writes, CROSS_ENTROPY).perturb(x, 0.1, CLASSES)
            assert torch.equal(found, plain)
            assert found.grad_fn is None
            same = PGD(writes, CROSS_ENTROPY).perturb(x, 0.1, 0.1, 1, CLASSES)
            torch.testing.assert_close(same, plain)
            still = PGD(writes, CROSS_ENTROPY).perturb(x, 0.1, 0.1, 0, CLASSES)
            assert torch.equal(still, x)
            assert still.data_ptr() != x.data_ptr()
    assert torch.equal(x, kept)
    assert not x.requires_grad
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    x.requires_grad_()
    found = FGSM(model, CROSS_ENTROPY).perturb(x, 0.1, CLASSES)
    assert found.requires_grad
    assert found.is_leaf
    assert not PGD(model, CROSS_ENTROPY).perturb(x, 0.1, 0.1, 1, CLASSES).requires_grad

    def fails(t: Tensor) -> Tensor:
        raise RuntimeError("broken")

    y = INPUTS.clone()
    with pytest.raises(RuntimeError, match="broken"):
        FGSM(fails).perturb(y, 0.1, 0)
    assert not y.requires_grad


def test_compiled_models_and_tensors_of_inference_mode():
    model = deep()
    plain = PGD(model, CROSS_ENTROPY).perturb(INPUTS, 0.3, 0.1, 3, CLASSES)
    with torch.inference_mode():
        made = INPUTS * 1
    for forward in (model, torch.compile(model, backend="eager")):
        assert torch.equal(PGD(forward, CROSS_ENTROPY).perturb(made, 0.3, 0.1, 3, CLASSES), plain)


def test_logits_without_a_loss_are_told():
    """−log of a negative output has a gradient, but no meaning."""
    with pytest.warns(CaptumWarning, match="return probabilities") as notes:
        found = PGD(logits).perturb(-INPUTS, 0.3, 0.1, 3, 0)
    assert len(notes) == 1
    torch.testing.assert_close(found, -INPUTS + 0.3 * torch.tensor([[1.0, -1.0, 1.0], [1.0, -1.0, 1.0]]))


def test_a_perturbation_needs_its_method():
    with pytest.raises(NotImplementedError, match="Mine defines no perturb"):
        type("Mine", (Perturbation,), {})()(INPUTS)


@pytest.mark.parametrize(
    ("change", "fault", "message"),
    [
        ({"inputs": INPUTS.long()}, InputTypeError, "floating-point input to perturb"),
        ({"inputs": [INPUTS]}, InputTypeError, "pass a tuple"),
        ({"inputs": INPUTS[:0]}, InputError, "empty"),
        ({"radius": -0.1}, InputError, "of at least 0"),
        ({"radius": "0.1"}, InputError, "Expected radius"),
        ({"radius": float("nan")}, InputError, "Expected radius"),
        ({"radius": torch.ones(2, 3), "norm": "L2"}, InputError, "for each row"),
        ({"radius": torch.ones(3)}, InputError, "Expected radius"),
        ({"step_size": (0.1, 0.1)}, InputError, "step_size for 1 input"),
        ({"step_size": True}, InputError, "Expected step_size"),
        ({"step_num": 1.5}, InputError, "step_num"),
        ({"step_num": -1}, InputError, "step_num"),
        ({"norm": "L1", "step_num": 0}, InputError, "'Linf', 'L2'"),
        ({"mask": torch.ones(2)}, MaskError, r"broadcasts to its shape \(2, 3\)"),
        ({"mask": 1}, MaskError, "a tensor of 0 and 1"),
        ({"target": None}, TargetError, "target is needed"),
        ({"target": 2}, TargetError, "outside"),
    ],
)
def test_mistakes_are_told(change, fault, message):
    arguments = {"inputs": INPUTS, "radius": 0.1, "step_size": 0.1, "step_num": 1, "target": 0, **change}
    with pytest.raises(fault, match=message):
        PGD(probabilities).perturb(**arguments)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda out, _: out, "one value per row"),
        (lambda out, _: 3.0, "one value per row"),
        (lambda out, _: out.detach().sum(), "does not depend"),
    ],
)
def test_losses_that_cannot_be_used_are_told(loss, message):
    with pytest.raises(OutputError, match=message):
        FGSM(logits, loss).perturb(INPUTS, 0.1, 0)
    with pytest.raises(InputError, match="lower_bound <= upper_bound"):
        FGSM(logits, lower_bound=1.0, upper_bound=0.0)
    with pytest.raises(InputTypeError, match="as numbers or tensors"):
        PGD(logits, lower_bound="0")
