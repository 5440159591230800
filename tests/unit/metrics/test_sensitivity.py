"""Sensitivity against its formula in plain loops, closed forms, and what users get wrong."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

import captum.metrics.samples
from captum.attr import FeatureAblation, IntegratedGradients, Saliency
from captum.errors import InputError, InputTypeError, OutputError
from captum.metrics import sensitivity_max
from captum.metrics.sensitivity import default_perturb_func

INPUTS = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])


def squares(x: Tensor) -> Tensor:
    return x * x


@pytest.mark.parametrize(("order", "power"), [("fro", 2), (2, 2), (1, 1), (float("inf"), float("inf"))])
def test_it_is_the_largest_relative_change(order, power):
    torch.manual_seed(5)
    found = sensitivity_max(squares, INPUTS, perturb_radius=0.3, n_perturb_samples=6, norm_ord=order)
    torch.manual_seed(5)
    noise = torch.empty(12, 3).uniform_(-0.3, 0.3).reshape(2, 6, 3)
    expected = []
    for row, x in enumerate(INPUTS):
        moves = [torch.linalg.vector_norm((x + step) ** 2 - x**2, power) for step in noise[row]]
        expected.append(max(moves) / torch.linalg.vector_norm(x**2, power))
    torch.testing.assert_close(found, torch.stack(expected))


def test_published_numbers_under_a_seed():
    """What captum 0.9.0 returns for the same call."""
    torch.manual_seed(1)
    torch.testing.assert_close(sensitivity_max(squares, INPUTS), torch.tensor([0.0111, 0.0187]), rtol=0, atol=6e-5)
    torch.manual_seed(1)
    in_pairs = sensitivity_max(squares, INPUTS, max_examples_per_batch=5)
    torch.testing.assert_close(in_pairs, torch.tensor([0.0117, 0.0139]), rtol=0, atol=6e-5)


def test_gradients_of_a_linear_model_do_not_move():
    saliency = Saliency(nn.Linear(3, 2))
    assert sensitivity_max(saliency.attribute, INPUTS, target=1).tolist() == [0.0, 0.0]
    bent = Saliency(lambda x: x.pow(3).sum(1))
    assert float(sensitivity_max(bent.attribute, INPUTS).min()) > 0.005


def test_an_explanation_of_zero_is_divided_by_one():
    found = sensitivity_max(lambda x: (x - 1).relu(), torch.zeros(1, 2), lambda x: x + 1.5)
    torch.testing.assert_close(found, torch.tensor([0.5**0.5]))


def test_arguments_follow_their_examples():
    seen: list[dict[str, object]] = []

    def explain(x: Tensor, **arguments: object) -> Tensor:
        seen.append(arguments)
        return x

    target, base = torch.tensor([0, 1]), torch.tensor([[1.0], [2.0]])
    sensitivity_max(
        explain,
        INPUTS,
        n_perturb_samples=2,
        target=target,
        baselines=(base, 0.5),
        additional_forward_args=("text", base, torch.zeros(3)),
        feature_mask=base.long(),
        n_steps=7,
    )
    plain, repeated = seen
    assert plain["target"] is target
    assert repeated["target"].tolist() == [0, 0, 1, 1]
    assert repeated["baselines"][0].tolist() == [[1.0], [1.0], [2.0], [2.0]]
    assert repeated["baselines"][1] == 0.5
    text, rows, constant = repeated["additional_forward_args"]
    assert (text, rows.tolist(), constant.tolist()) == ("text", [[1.0], [1.0], [2.0], [2.0]], [0.0, 0.0, 0.0])
    assert repeated["feature_mask"].tolist() == [[1], [1], [2], [2]]
    assert repeated["n_steps"] == 7


@pytest.mark.parametrize("target", [[0, 1], [(0,), (1,)], torch.tensor([0, 1]), (0,), 0])
def test_targets_of_every_form(target):
    method = IntegratedGradients(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    found = sensitivity_max(method.attribute, INPUTS, target=target, n_steps=4)
    assert found.shape == (2,)
    assert bool((found > 0).all())
    assert bool((found < 0.5).all())


def test_rows_of_a_batch_are_measured_apart():
    method = FeatureAblation(lambda x: x.prod(1))

    def shift(x: Tensor) -> Tensor:
        return x + 0.1

    both = sensitivity_max(method.attribute, INPUTS, shift, n_perturb_samples=1)
    each = [sensitivity_max(method.attribute, x[None], shift, n_perturb_samples=1) for x in INPUTS]
    torch.testing.assert_close(both, torch.cat(each))


@pytest.mark.parametrize("given", [INPUTS, (INPUTS,), (INPUTS, INPUTS[:, :1]), {"a": INPUTS, "b": INPUTS[:, :1]}])
def test_explanations_get_inputs_in_the_form_that_the_user_gave(given):
    kinds: list[type] = []

    def explain(x: object) -> object:
        kinds.append(type(x))
        return x

    assert bool((sensitivity_max(explain, given) > 0).all())
    assert kinds == [type(given)] * 2


def test_the_radius_goes_to_functions_with_a_second_parameter():
    found = sensitivity_max(lambda x: x, torch.ones(1, 4), lambda x, radius: x + radius, 0.25)
    torch.testing.assert_close(found, torch.tensor([0.25]))
    generator = torch.Generator().manual_seed(0)
    before = torch.get_rng_state()
    own = functools.partial(default_perturb_func, generator=generator)
    assert float(sensitivity_max(squares, INPUTS, own).min()) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_huge_inputs_are_explained_in_groups(monkeypatch):
    monkeypatch.setattr(captum.metrics.samples, "MOST_ELEMENTS", 20)
    counts: list[int] = []

    def explain(x: Tensor) -> Tensor:
        counts.append(len(x))
        return squares(x)

    torch.manual_seed(0)
    found = sensitivity_max(explain, INPUTS)
    assert counts == [2, 6, 6, 6, 2]
    assert bool((found > 0).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(dtype):
    assert sensitivity_max(squares, INPUTS.to(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("change", "fault", "message"),
    [
        ({"explanation_func": Saliency(nn.Linear(3, 1))}, InputTypeError, "attribute"),
        ({"explanation_func": lambda x: x.sum()}, OutputError, "row for each of 2"),
        ({"explanation_func": lambda x: x[:, : 1 + len(x) // 4]}, OutputError, "numbers per row"),
        ({"perturb_func": lambda x: x[:2]}, InputError, "that it was given"),
        ({"norm_ord": "nuc"}, InputError, "norm_ord"),
        ({"n_perturb_samples": 0}, InputError, "n_perturb_samples"),
        ({"target": "argmax"}, InputError, "pass the classes"),
        ({"inputs": INPUTS.long()}, InputTypeError, "floating-point inputs to add noise"),
    ],
)
def test_mistakes_are_told(change, fault, message):
    arguments = {"explanation_func": squares, "inputs": INPUTS, **change}
    with pytest.raises(fault, match=message):
        sensitivity_max(**arguments)
