"""AttackComparator against plain loops, what captum 0.9.0 returns, and what users get wrong."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from captum.errors import CaptumWarning, InputError, InputTypeError, NameInUseError, OutputError
from captum.robust import FGSM, PGD, AttackComparator
from captum.robust.comparator import ORIGINAL_KEY, AttackInfo, agg_metric
from tests.unit.robust.attacked import CROSS_ENTROPY, INPUTS, deep, logits, noisy, probabilities

CLASSES = torch.tensor([0, 1])


class Result(NamedTuple):
    accuracy: Tensor
    top: Tensor


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    return output.argmax(1) == target


def compared(model: nn.Module) -> AttackComparator:
    compare = AttackComparator(model, CROSS_ENTROPY)
    compare.add_attack(noisy, "noise", num_attempts=3, attack_kwargs={"scale": 0.5})
    sizes = {"radius": 0.3, "step_size": 0.1, "step_num": 2, "random_start": True}
    attack = PGD(model, CROSS_ENTROPY)
    compare.add_attack(attack, num_attempts=2, attack_kwargs=sizes, additional_attack_arg_names=["target"])
    return compare


@pytest.mark.parametrize("together", [1, 3, 100, None])
def test_published_numbers_under_a_seed(together):
    """What captum 0.9.0 returns for the same calls."""
    compare = compared(deep())
    torch.manual_seed(0)
    found = compare.evaluate(INPUTS, None, together, target=CLASSES)
    compare.evaluate(INPUTS[:1], None, together, target=CLASSES[1:])
    wanted = {
        "Original": [0.20684, 0.75963],
        "noise": {"mean": [0.09749, 0.83435], "min": [0.02165, 0.62527], "max": [0.15821, 1.22422]},
        "PGD": {"mean": [0.29863, 0.96162], "min": [0.26051, 0.84608], "max": [0.33675, 1.07716]},
    }
    near(found, wanted)
    summary = {
        "Original": {"mean": 1.08034},
        "noise Mean Attempt": {"mean": 1.18445},
        "noise Min Attempt": {"mean": 0.98988},
        "noise Max Attempt": {"mean": 1.53556},
        "PGD Mean Attempt": {"mean": 1.33249},
        "PGD Min Attempt": {"mean": 1.17189},
        "PGD Max Attempt": {"mean": 1.49310},
    }
    near(compare.summary(), summary)
    compare.reset()
    assert compare.summary() == {}
    assert list(compare.attacks) == ["noise", "PGD"]


def near(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, dict):
            near(found[name], value)
        else:
            torch.testing.assert_close(found[name], torch.tensor(value), rtol=0, atol=2e-5)


def test_what_is_measured():
    compare = AttackComparator(lambda x: 2 * x, lambda out: Result((out > 3).all(1), out.max()))
    compare.add_attack(lambda x, by: x + by, additional_attack_arg_names=["by"])
    # numbers for the metric too: the arguments of evaluate go to both
    compare.metric = lambda out, by: Result((out > 3).all(1), out.max() + by)
    found = compare.evaluate(torch.tensor([[1.0, 2.0], [2.0, 3.0]]), by=2)
    assert type(found[ORIGINAL_KEY]) is Result
    assert found[ORIGINAL_KEY].accuracy.tolist() == [0.0, 1.0]
    assert float(found[ORIGINAL_KEY].top) == 8
    assert found["function"]["mean"].accuracy.tolist() == [1.0, 1.0]
    assert float(found["function"]["mean"].top) == 12
    compare.evaluate(torch.tensor([[2.0, 2.0]]), by=0)
    total = compare.summary()
    assert float(total[ORIGINAL_KEY]["mean"].accuracy) == 0.75
    assert float(total[ORIGINAL_KEY]["mean"].top) == 6
    assert float(total["function"]["mean"].top) == 8


@pytest.mark.parametrize(
    ("metric", "mean", "most"),
    [
        (lambda out: float(out.sum()), 14.5, 16.0),
        (lambda out: int(out.sum()), 14.5, 16.0),
        (lambda out: out.sum().long(), 14.5, 16.0),
        (lambda out: bool(out[0, 0] > 3), 0.5, 1.0),
        (lambda out: (out > 3)[0, 0], 0.5, 1.0),
        (lambda out: out.double().sum(), 14.5, 16.0),
    ],
)
def test_metrics_are_numbers_of_any_kind(metric, mean, most):
    steps = iter([1.0, 2.0])
    compare = AttackComparator(lambda x: x, metric)
    compare.add_attack(lambda x: x + next(steps), "step", num_attempts=2)
    found = compare.evaluate(torch.tensor([[2.0, 3.0, 5.0]]))["step"]
    assert (float(found["mean"]), float(found["max"])) == (mean, most)
    nested = AttackComparator(lambda x: x, lambda out: {"a": [metric(out), (out.sum(), 2)]})
    nested.add_attack(lambda x: x, "none")
    found = nested.evaluate(INPUTS)["none"]["mean"]
    assert float(found["a"][1][0]) == float(INPUTS.sum())
    assert float(found["a"][1][1]) == 2


def test_preprocessing_before_or_after():
    seen: list[object] = []

    def ready(text: str) -> Tensor:
        seen.append(text)
        return torch.tensor([[float(len(text))]])

    compare = AttackComparator(lambda x: x * 10, lambda out: out.sum(), ready)
    compare.add_attack(lambda text: text + "!!", "longer")
    compare.add_attack(lambda x: x + 0.5, "more", apply_before_preproc=False)
    for together in (1, 2, None):
        found = compare.evaluate("four", perturbations_per_eval=together)
        assert (float(found["Original"]), float(found["longer"]["mean"]), float(found["more"]["mean"])) == (40, 60, 45)
    assert seen == ["four", "four!!"] * 3
    plain = AttackComparator(len, lambda out: out)
    plain.add_attack(lambda text: text + "!", "longer")
    assert float(plain.evaluate("four", perturbations_per_eval=3)["longer"]["mean"]) == 5


def test_batches_are_taken_apart_again():
    rows: list[tuple[int, ...]] = []

    def model(x: Tensor, offset: Tensor, name: str) -> dict[str, Tensor]:
        rows.append(tuple(x.shape))
        assert name == "name"
        return {"logits": x + offset, "twice": 2 * x}

    def metric(out: dict[str, Tensor]) -> Tensor:
        assert len(out["logits"]) == 2
        return out["logits"].sum(1) + out["twice"].sum(1)

    offset = torch.tensor([[1.0], [2.0]])
    results: list[dict[str, object]] = []
    for together in (1, 3, None):
        rows.clear()
        step = iter(range(1, 6))
        compare = AttackComparator(model, metric)
        compare.add_attack(lambda x, step=step: x + next(step), "step", num_attempts=4)
        results.append(compare.evaluate(INPUTS, (offset, "name"), together))
        assert rows == {1: [(2, 3)] * 5, 3: [(6, 3), (4, 3)], None: [(10, 3)]}[together]
    for found in results:
        want = 3 * INPUTS.sum(1) + 3 * offset[:, 0]
        torch.testing.assert_close(found["Original"], want)
        torch.testing.assert_close(found["step"]["max"], want + 36)
        torch.testing.assert_close(found["step"]["mean"], want + 22.5)


def test_inputs_of_other_shapes_run_alone():
    shapes: list[tuple[int, ...]] = []
    compare = AttackComparator(lambda x: shapes.append(tuple(x.shape)) or x, lambda out: out.sum())
    compare.add_attack(lambda x: x[:, :2], "cut", num_attempts=2)
    compare.add_attack(lambda x: torch.cat([x, x]), "double")
    found = compare.evaluate(INPUTS, perturbations_per_eval=4)
    assert shapes == [(2, 3), (4, 2), (4, 3)]
    assert float(found["double"]["mean"]) == 2 * float(INPUTS.sum())


def test_outputs_without_rows():
    compare = AttackComparator(lambda x: x.sum(), lambda out: out)
    compare.add_attack(lambda x: x + 1, "one", num_attempts=2)
    alone, planned = compare.evaluate(INPUTS), compare.evaluate(INPUTS, perturbations_per_eval=None)
    assert float(alone["one"]["mean"]) == float(planned["one"]["mean"]) == float(INPUTS.sum()) + 6
    with pytest.raises(InputError, match="perturbations_per_eval=1"):
        compare.evaluate(INPUTS, perturbations_per_eval=2)


def test_memory_that_runs_out_is_met_with_smaller_batches():
    rows: list[int] = []

    def model(x: Tensor) -> Tensor:
        rows.append(len(x))
        if len(x) > 5:
            raise torch.OutOfMemoryError("out of memory")
        return x

    compare = AttackComparator(model, lambda out: out.sum())
    compare.add_attack(lambda x: x + 1, "one", num_attempts=7)
    assert float(compare.evaluate(INPUTS, perturbations_per_eval=8)["one"]["max"]) == float(INPUTS.sum()) + 6
    assert rows == [16, 8, 4, 4, 4, 4]


def test_the_form_of_the_inputs():
    def two(a: Tensor, b: Tensor) -> Tensor:
        return a + 2 * b

    pair = (INPUTS, INPUTS + 1)
    want = float((INPUTS + 2 * (INPUTS + 1)).sum())
    for model, inputs in (
        (two, pair),
        (lambda both: two(*both), pair),
        (two, {"b": pair[1], "a": pair[0]}),
        (lambda named: two(**named), {"a": pair[0], "b": pair[1]}),
        (lambda both: two(*both), list(pair)),
    ):
        for together in (1, 2):
            compare = AttackComparator(model, lambda out: out.sum())
            compare.add_attack(lambda x: x, "none", num_attempts=2)
            found = compare.evaluate(inputs, perturbations_per_eval=together)
            assert float(found["Original"]) == float(found["none"]["min"]) == pytest.approx(want)
    optional = AttackComparator(lambda a, b=None: a.sum(), lambda out: out)
    with pytest.raises(AttributeError) as fault:
        optional.evaluate(pair)
    assert "as one argument" in fault.value.__notes__[0]
    assert float(optional.evaluate({"a": INPUTS, "b": None})["Original"]) == float(INPUTS.sum())
    closed = AttackComparator(lambda: INPUTS, lambda out: out.sum())
    assert float(closed.evaluate(None)["Original"]) == float(INPUTS.sum())


def test_no_graph_and_no_harm():
    """Code that writes into what it is given changes nothing of the user's; results hold no graph."""

    def spoil(x: Tensor) -> Tensor:
        return x.mul_(2) if not x.requires_grad else x.detach().mul_(2)

    modes: list[bool] = []
    model = nn.Sequential(nn.Linear(3, 2))

    def writes(x: Tensor) -> Tensor:
        modes.append(torch.is_grad_enabled())
        return model(x.mul_(0.5))

    compare = AttackComparator(writes, lambda out: out[:, 0], spoil)
    compare.add_attack(spoil, "before")
    compare.add_attack(spoil, "after", apply_before_preproc=False, num_attempts=2)
    for x in (INPUTS.clone(), INPUTS.clone().requires_grad_()):
        found = compare.evaluate(x)
        with torch.no_grad():
            torch.testing.assert_close(found["Original"], model(INPUTS)[:, 0])
            torch.testing.assert_close(found["before"]["mean"], model(2 * INPUTS)[:, 0])
            torch.testing.assert_close(found["after"]["max"], model(2 * INPUTS)[:, 0])
        assert not found["after"]["mean"].requires_grad
        assert torch.equal(x, INPUTS)
    assert not any(modes)
    attack = FGSM(probabilities)
    within = AttackComparator(probabilities, lambda out, target: out[:, 0])
    within.add_attack(attack, attack_kwargs={"epsilon": 0.1}, additional_attack_arg_names=["target"])
    with torch.no_grad():
        found = within.evaluate(INPUTS, target=0)
    torch.testing.assert_close(found["FGSM"]["mean"], probabilities(attack(INPUTS, 0.1, 0))[:, 0])


def test_attacks_are_named_once():
    compare = AttackComparator(logits, accuracy)
    compare.add_attack(noisy)
    info = compare.attacks["function"]
    assert info == AttackInfo(noisy, "function", 1, True, {}, [])
    with pytest.raises(NameInUseError, match="'function' is in use"):
        compare.add_attack(lambda x: x)
    with pytest.raises(RuntimeError, match="'Original' is in use"):
        compare.add_attack(noisy, "Original")


def test_arguments_that_are_missing_are_told():
    compare = AttackComparator(logits, lambda out: out.sum())
    compare.add_attack(lambda x, by=1: x * by, "scale", additional_attack_arg_names=["by"])
    with pytest.warns(CaptumWarning, match=r"'scale' names the arguments \['by'\]"):
        found = compare.evaluate(INPUTS)
    assert float(found["scale"]["mean"]) == float(found["Original"])


def test_a_failing_batch_does_not_count():
    compare = AttackComparator(logits, accuracy)
    with pytest.raises(TypeError, match="target"):
        compare.evaluate(INPUTS)
    assert compare.summary() == {}


def test_mistakes_are_told():
    compare = AttackComparator(logits, accuracy)
    for change, message in (
        ({"num_attempts": 0}, "num_attempts"),
        ({"attack": 3}, "attack to be a function"),
        ({"attack_kwargs": {"by": 1}, "additional_attack_arg_names": ["by"]}, r"\['by'\] either"),
    ):
        with pytest.raises(InputError, match=message):
            compare.add_attack(**{"attack": noisy, **change})
    for together in (0, 1.5, True):
        with pytest.raises(InputError, match="perturbations_per_eval"):
            compare.evaluate(INPUTS, None, together, target=CLASSES)
    with pytest.raises(InputTypeError, match="metric to be a function"):
        AttackComparator(logits, 3)
    with pytest.raises(InputTypeError, match="Expected metric to return"):
        AttackComparator(logits, lambda out: "good").evaluate(INPUTS)
    growing = iter(range(1, 9))
    uneven = AttackComparator(logits, lambda out: torch.zeros(next(growing)))
    uneven.add_attack(lambda x: x, "none", num_attempts=2)
    with pytest.raises(OutputError, match="same structure and shapes"):
        uneven.evaluate(INPUTS)


def test_means_over_rows():
    pair = Result(torch.tensor([1.0, 3.0]), torch.tensor([[1.0, 2.0]]))
    assert [part.tolist() for part in agg_metric(pair)] == [2.0, [1.0, 2.0]]
    assert type(agg_metric(pair)) is Result
    assert agg_metric((torch.tensor([1.0, 3.0]), 2)) == (torch.tensor(2.0), 2)
    assert agg_metric(torch.tensor([True, False])).item() == 0.5
    assert agg_metric(3) == 3
