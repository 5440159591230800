"""Infidelity against its formula in plain loops, closed forms, and what users get wrong."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import captum.metrics.samples
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from captum.errors import CaptumWarning, InputError, InputTypeError, OutputError, TargetError
from captum.metrics import infidelity, infidelity_perturb_func_decorator

WEIGHT = torch.tensor([[1.0, -2.0, 3.0], [0.5, 1.0, -1.0]])
INPUTS = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])
MAPS = torch.tensor([[1.0, -4.0, 9.0], [2.0, 1.0, -1.0]])


def bent(x: Tensor) -> Tensor:
    return torch.tanh(x @ WEIGHT.T)


def noise(x: Tensor, scale: float = 0.1) -> tuple[Tensor, Tensor]:
    step = torch.randn_like(x) * scale
    return step, x - step


def by_loops(count: int, normalize: bool) -> list[float]:
    """The formula for one example after the other, with the draws of one call for all."""
    torch.manual_seed(3)
    steps = torch.randn(len(INPUTS) * count, 3).mul(0.1).reshape(len(INPUTS), count, 3).double()
    found: list[float] = []
    for row in range(len(INPUTS)):
        x, a = INPUTS[row].double(), MAPS[row].double()
        said = [float(step @ a) for step in steps[row]]
        weight = WEIGHT[1].double()
        done = [float(torch.tanh(x @ weight) - torch.tanh((x - step) @ weight)) for step in steps[row]]
        scale = sum(s * d for s, d in zip(said, done, strict=True)) / sum(s * s for s in said) if normalize else 1.0
        found.append(sum((scale * s - d) ** 2 for s, d in zip(said, done, strict=True)) / count)
    return found


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("count", [1, 7])
def test_it_is_the_mean_squared_difference(count, normalize):
    torch.manual_seed(3)
    found = infidelity(bent, noise, INPUTS, MAPS, target=1, n_perturb_samples=count, normalize=normalize)
    torch.testing.assert_close(found, torch.tensor(by_loops(count, normalize)), rtol=1e-3, atol=1e-9)


def test_published_numbers_under_a_seed():
    """What captum 0.9.0 returns for the same call."""
    torch.manual_seed(1)
    torch.testing.assert_close(
        infidelity(bent, noise, INPUTS, MAPS, target=1), torch.tensor([0.8030, 0.0426]), rtol=0, atol=6e-5
    )
    torch.manual_seed(1)
    in_pairs = infidelity(bent, noise, INPUTS, MAPS, target=1, max_examples_per_batch=5)
    torch.testing.assert_close(in_pairs, torch.tensor([0.8614, 0.0712]), rtol=0, atol=6e-5)
    torch.manual_seed(1)
    scaled = infidelity(bent, noise, INPUTS, MAPS, target=1, normalize=True)
    torch.testing.assert_close(scaled, torch.tensor([4.2921e-03, 2.6281e-05]), rtol=1e-3, atol=0)


def test_gradients_of_a_linear_model_are_faithful():
    model = nn.Linear(3, 2).double()
    x = INPUTS.double()
    gradients = Saliency(model).attribute(x, target=0, abs=False)
    assert float(infidelity(model, noise, x, gradients, target=0, n_perturb_samples=50).max()) < 1e-25
    assert float(infidelity(model, noise, x, gradients + 1, target=0, n_perturb_samples=50).min()) > 1e-4


def test_shares_of_a_linear_model_are_faithful_with_the_decorator():
    model = nn.Linear(3, 2).double()
    x, base = INPUTS.double(), torch.tensor([[0.3, -0.1, 0.2]]).double()
    shares = IntegratedGradients(model).attribute(x, base, target=0, n_steps=4)

    @infidelity_perturb_func_decorator(multiply_by_inputs=True)
    def moved(inputs: Tensor, baselines: Tensor) -> Tensor:
        return inputs + torch.randn_like(inputs) * (inputs != baselines)

    assert float(infidelity(model, moved, x, shares, base, target=0).max()) < 1e-25

    @infidelity_perturb_func_decorator(multiply_by_inputs=False)
    def stepped(inputs: Tensor) -> Tensor:
        return inputs + torch.randn_like(inputs)

    assert float(infidelity(model, stepped, x, shares, target=0).min()) > 1e-4


def test_the_decorator_divides_by_nothing():
    halve = infidelity_perturb_func_decorator()(lambda x: x - 1)
    change, perturbed = halve(torch.tensor([[2.0, 0.0]]))
    assert change[0].tolist() == [[0.5, 1.0]]
    assert perturbed[0].tolist() == [[1.0, -1.0]]
    with pytest.raises(InputTypeError, match="parentheses"):
        infidelity_perturb_func_decorator(noise)  # pyright: ignore[reportArgumentType]
    two = infidelity_perturb_func_decorator()(lambda xs: xs[0])
    with pytest.raises(InputError, match="perturbed inputs for 2"):
        two((INPUTS, INPUTS))


def test_scaling_attributions_changes_nothing_when_normalised():
    values: list[Tensor] = []
    for factor in (1.0, -7.0, 1e-4):
        torch.manual_seed(0)
        values.append(infidelity(bent, noise, INPUTS, factor * MAPS, target=0, normalize=True))
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(values[2], values[0])
    zero = infidelity(bent, noise, INPUTS, torch.zeros_like(MAPS), target=0, normalize=True)
    assert bool(zero.isfinite().all())
    assert bool((zero > 0).all())


def test_normalised_values_do_not_cancel():
    x = torch.full((1, 3), 1e3)
    for seed in range(5):
        torch.manual_seed(seed)
        found = infidelity(
            lambda x: 1e3 * x.double().sum(1), lambda x: noise(x, 1.0), x, torch.ones(1, 3), normalize=True
        )
        assert 0 < float(found) < 0.02  # what rounding of the perturbed inputs leaves of changes of 1,000


def test_examples_are_perturbed_in_a_row_and_constants_follow():
    shapes: list[tuple[int, ...]] = []

    def repeat(x: Tensor) -> tuple[Tensor, Tensor]:
        shapes.append(tuple(x.shape))
        assert torch.equal(x, INPUTS.repeat_interleave(4, 0))
        return torch.ones_like(x), x - 1

    def model(x: Tensor, offset: Tensor, scale: float) -> Tensor:
        return ((x + offset) * scale).sum(1)

    offset = torch.tensor([[10.0], [20.0]])
    maps = torch.full_like(INPUTS, 3.0)
    found = infidelity(model, repeat, INPUTS, maps, None, (offset, 3.0), n_perturb_samples=4)
    assert shapes == [(8, 3)]
    torch.testing.assert_close(found, torch.zeros(2))


def test_targets_of_the_rows_follow():
    maps = WEIGHT[[1, 0]]
    line = functools.partial(torch.nn.functional.linear, weight=WEIGHT)
    assert float(infidelity(line, noise, INPUTS, maps, target=[1, 0]).max()) < 1e-9
    assert float(infidelity(line, noise, INPUTS, maps, target=torch.tensor([0, 1])).min()) > 1e-3
    best = line(INPUTS).argmax(1)
    assert float(infidelity(line, noise, INPUTS, WEIGHT[best], target="argmax").max()) < 1e-9


def test_baselines_are_handed_on():
    seen: list[object] = []

    def perturb(x: object, baselines: object) -> tuple[object, object]:
        seen.append(baselines)
        return x, x

    two = (INPUTS, INPUTS[:, :1])

    def model(a: Tensor, b: Tensor) -> Tensor:
        return a.sum(1) + b.sum(1)

    infidelity(model, perturb, two, two, baselines=(0, torch.arange(2.0)[:, None]), n_perturb_samples=2)
    numbers, rows = seen[0]  # pyright: ignore[reportGeneralTypeIssues]
    assert numbers == 0
    assert rows.tolist() == [[0.0], [0.0], [1.0], [1.0]]
    infidelity(bent, perturb, INPUTS, MAPS, baselines=0.5, target=0)
    assert seen[1] == 0.5


@dataclass
class Pair:
    left: Tensor
    right: Tensor


@pytest.mark.parametrize("structure", ["tuple", "dict", "dataclass"])
def test_inputs_of_any_structure(structure):
    left, right = INPUTS, INPUTS.flip(0) * 2
    build = {"tuple": lambda a, b: (a, b), "dict": lambda a, b: {"left": a, "right": b}, "dataclass": Pair}[structure]

    def model(*args: object, **named: Tensor) -> Tensor:
        pair = args[0] if args else None
        a, b = (pair.left, pair.right) if isinstance(pair, Pair) else (*args, *named.values())
        return (2 * a - 3 * b).sum(1)

    def perturb(x: object) -> tuple[object, object]:
        a, b = (x.left, x.right) if isinstance(x, Pair) else x.values() if isinstance(x, dict) else x
        moved = {"right": b - 0.5, "left": a - 0.25} if isinstance(x, dict) else build(a - 0.25, b - 0.5)
        return build(torch.full_like(a, 0.25), torch.full_like(b, 0.5)), moved

    maps = build(torch.full_like(left, 2.0), torch.full_like(right, -3.0))
    found = infidelity(model, perturb, build(left, right), maps)
    torch.testing.assert_close(found, torch.zeros(2), atol=1e-9, rtol=0)


def test_standard_errors_cover_the_limit():
    """The expectation, from very many perturbations, lies within 1.96 standard errors in most runs."""
    torch.manual_seed(0)
    limit = infidelity(bent, noise, INPUTS, MAPS, target=1, n_perturb_samples=200_000).double()
    inside = torch.zeros(2)
    for seed in range(100):
        torch.manual_seed(seed)
        value, error = infidelity(bent, noise, INPUTS, MAPS, target=1, n_perturb_samples=200, return_std_error=True)
        inside += (value - limit).abs() <= 1.96 * error
    assert float(inside.min()) >= 85
    assert torch.isinf(
        infidelity(bent, noise, INPUTS, MAPS, target=1, n_perturb_samples=1, return_std_error=True)[1]
    ).all()


def test_huge_inputs_are_perturbed_in_groups(monkeypatch):
    monkeypatch.setattr(captum.metrics.samples, "MOST_ELEMENTS", 20)
    counts: list[int] = []

    def steps(x: Tensor) -> tuple[Tensor, Tensor]:
        counts.append(len(x))
        return torch.ones_like(x), x - 1

    found = infidelity(bent, steps, INPUTS, MAPS, target=1)
    assert counts == [6, 6, 6, 2]
    monkeypatch.undo()
    torch.testing.assert_close(found, infidelity(bent, steps, INPUTS, MAPS, target=1))


def test_the_dtype_is_kept_and_nothing_is_left_behind():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).double().eval()
    x = INPUTS.double().requires_grad_()
    maps = InputXGradient(model).attribute(x, target=1)
    found = infidelity(model, noise, x, maps, target=1)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    assert x.grad is None
    assert all(p.grad is None for p in model.parameters())
    half = nn.Linear(3, 1).to(torch.bfloat16)
    assert infidelity(half, noise, INPUTS.bfloat16(), MAPS.bfloat16()).dtype == torch.bfloat16


def test_models_that_write_into_their_inputs_do_no_harm():
    def writes(x: Tensor) -> Tensor:
        x *= 2
        return x.sum(1)

    x = INPUTS.clone()
    found = infidelity(writes, noise, x, torch.full_like(x, 2.0))
    torch.testing.assert_close(found, torch.zeros(2), atol=1e-9, rtol=0)
    assert torch.equal(x, INPUTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attributions": MAPS[:, :2]}, "attributions of input in its shape"),
        ({"attributions": (MAPS, MAPS)}, "attributions for 1 input"),
        ({"n_perturb_samples": 0}, "n_perturb_samples to be an int of at least 1"),
        ({"max_examples_per_batch": -1}, "max_examples_per_batch to be an int"),
        ({"perturb_func": lambda x: x}, "return .perturbation, perturbed inputs."),
        ({"perturb_func": lambda x: ((x, x), x)}, "perturbations for 1 input"),
        ({"perturb_func": lambda x: (x[:, :2], x)}, "was given"),
        ({"perturb_func": lambda x: (x[:3], x[:3])}, "was given"),
    ],
)
def test_mistakes_are_told(change, message):
    arguments = {"perturb_func": noise, "inputs": INPUTS, "attributions": MAPS, "target": 1, **change}
    with pytest.raises(AssertionError, match=message):
        infidelity(bent, **arguments)


def test_scores_that_are_no_number_per_row_are_told():
    with pytest.raises((TargetError, OutputError), match="target"):
        infidelity(bent, noise, INPUTS, MAPS)


@pytest.mark.parametrize(("most", "nearest"), [(1, 2), (100, 20)])
def test_a_batch_out_of_range_warns_and_takes_the_nearest(most, nearest):
    torch.manual_seed(0)
    with pytest.warns(CaptumWarning, match=r"outside 2 … 20"):
        found = infidelity(bent, noise, INPUTS, MAPS, target=1, max_examples_per_batch=most)
    torch.manual_seed(0)
    expected = infidelity(bent, noise, INPUTS, MAPS, target=1, max_examples_per_batch=nearest)
    torch.testing.assert_close(found, expected)
