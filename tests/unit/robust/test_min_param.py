"""MinParamPerturbation against brute force, and the grid of its values."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from captum.errors import InputError, OutputError, TargetError
from captum.robust import PGD, MinParamPerturbation
from captum.robust.min_param import MinParamPerturbationMode, default_correct_fn, drange
from tests.unit.robust.attacked import CROSS_ENTROPY, INPUTS, deep, logits, noisy

X = torch.tensor([[1.0, 0.0]])


class Shift:
    """Adds to the second of two outputs, and remembers by how much."""

    def __init__(self) -> None:
        self.tried: list[float] = []

    def __call__(self, x: Tensor, by: float) -> Tensor:
        self.tried.append(by)
        return x + torch.tensor([0.0, by])


@pytest.mark.parametrize("mode", ["linear", "binary", "LINEAR", MinParamPerturbationMode.BINARY])
@pytest.mark.parametrize("start", [0.0, 1.0, 2.0])
def test_it_is_the_least_that_fails(mode, start):
    for limit in torch.arange(-0.5, 4.5, 0.33).tolist():
        attack = Shift()
        search = MinParamPerturbation(lambda x: x, attack, "by", start, 4.0, 0.25, mode)
        values = [start + 0.25 * i for i in range(100) if start + 0.25 * i < 4]
        wanted = next((v for v in values if v > limit), None)
        attacked, found = search.evaluate(torch.tensor([[limit, 0.0]]), target=0)
        assert found == wanted
        if wanted is None:
            assert attacked is None
        else:
            torch.testing.assert_close(attacked, torch.tensor([[limit, wanted]]))
        if search.mode is MinParamPerturbationMode.BINARY:
            assert len(attack.tried) <= len(values).bit_length()
            assert len(set(attack.tried)) == len(attack.tried)
        else:
            assert attack.tried == values[: len(attack.tried)]


def test_values_are_bisected_in_the_published_order():
    """As captum 0.9.0 does, without its last evaluation, which is of a value that was tried."""
    attack = Shift()
    search = MinParamPerturbation(lambda x: x, attack, "by", 0, 100, 1, mode="binary")
    assert search.evaluate(X * 50, target=0)[1] == 51
    assert attack.tried == [50, 75, 62, 56, 53, 51]


@pytest.mark.parametrize(
    ("least", "most", "step"), [(0.0, 1.0, 0.1), (0.0, 3.0, 0.2), (1.0, 2.0, 0.3), (0.0, 0.29, 0.01), (-1.0, 0.7, 0.1)]
)
def test_rounding_does_not_add_up(least, most, step):
    found = list(drange(least, most, step))
    exact = [Fraction(str(least)) + i * Fraction(str(step)) for i in range(1000)]
    exact = [value for value in exact if value < Fraction(str(most))]
    assert len(found) == len(exact)
    assert all(v == least + i * step for i, v in enumerate(found))
    assert max(abs(Fraction(v) - e) for v, e in zip(found, exact, strict=True)) < Fraction(1, 10**15)


def test_whole_numbers_stay_whole():
    assert list(drange(0, 5, 2)) == [0, 2, 4]
    attack = Shift()
    found = MinParamPerturbation(lambda x: x, attack, "by", 0, 5, 1).evaluate(X, target=0)
    assert found[1] == 2
    assert all(type(v) is int for v in attack.tried)
    for bad in ((0, 1, 0), (0, 1, -0.1), (0, float("inf"), 1), (0, "1", 1)):
        with pytest.raises(InputError):
            list(drange(*bad))


@pytest.mark.parametrize(
    ("mode", "seed", "wanted", "value"),
    [
        ("linear", 0, [[1.12966, 1.67187, 3.048], [-0.86431, -0.05469, 2.06475]], 0.25),
        ("linear", 3, [[0.09004, 2.821, 2.62824], [-0.43176, -0.00933, 2.6292]], 0.75),
        ("binary", 1, [[0.86187, 2.15887, 2.9008], [-1.16426, 0.08931, 2.24507]], 0.25),
        ("binary", 2, [[1.16997, 1.90285, 2.87165], [-1.0315, 0.46236, 2.31008]], 0.25),
    ],
)
def test_published_numbers_under_a_seed(mode, seed, wanted, value):
    """What captum 0.9.0 returns for the same calls."""
    model = deep()
    search = MinParamPerturbation(model, noisy, "scale", 0.0, 4.0, 0.25, mode=mode, num_attempts=3)
    torch.manual_seed(seed)
    attacked, found = search.evaluate(INPUTS, target=model(INPUTS).argmax(1), perturbations_per_eval=2)
    assert found == value
    torch.testing.assert_close(attacked, torch.tensor(wanted), rtol=0, atol=2e-5)


@pytest.mark.parametrize("together", [1, 2, 5, None])
def test_several_at_once(together):
    rows: list[int] = []

    def model(x: Tensor, offset: Tensor) -> Tensor:
        rows.append(len(x))
        return x + offset

    offset = torch.tensor([[0.0, 0.1], [0.2, 0.0]])
    x = torch.tensor([[5.0, 0.0], [1.0, 0.0]])
    attack = Shift()
    search = MinParamPerturbation(model, attack, "by", 0.0, 3.0, 0.25, num_attempts=2)
    attacked, found = search.evaluate(x, offset, [0, 0], together)
    assert found == 1.25
    torch.testing.assert_close(attacked, x + torch.tensor([0.0, 1.25]))
    if together is not None:
        assert set(rows) == {2 * together} | ({2 * (11 % together)} - {0} if together > 11 else set())
        assert len(rows) == -(-11 // together)


def test_preprocessing_before_or_after():
    seen: list[Tensor] = []

    def double(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x.mul_(2)

    x = X.clone()
    before = MinParamPerturbation(lambda t: t, Shift(), "by", 0, 5, 1, "linear", 1, double, True)
    attacked, found = before.evaluate(x, target=0)
    assert (attacked.tolist(), found) == ([[1.0, 2.0]], 2)
    assert len(seen) == 3
    seen.clear()
    after = MinParamPerturbation(lambda t: t, Shift(), "by", 0, 5, 1, preproc_fn=double)
    attacked, found = after.evaluate(x, target=0)
    assert (attacked.tolist(), found) == ([[2.0, 3.0]], 3)
    assert len(seen) == 1
    assert torch.equal(x, X)


def test_other_ways_to_be_right():
    def below(out: Tensor, limit: float) -> Tensor:
        return out[:, 1].max() < limit

    search = MinParamPerturbation(lambda x: x, Shift(), "by", 0.0, 4.0, 0.25, correct_fn=below)
    assert search.evaluate(X, correct_fn_kwargs={"limit": 0.6})[1] == 0.75
    given: list[object] = []
    search.correct_fn = lambda out, target=None, **more: given.append((target, more)) or True
    assert search.evaluate(X, target="cat", correct_fn_kwargs={"k": 1}) == (None, None)
    assert given == [("cat", {"k": 1})] * 16
    texts = MinParamPerturbation(len, lambda text, n: text + "!" * n, "n", 0, 9, 1, correct_fn=lambda out: out < 7)
    assert texts.evaluate("four", perturbations_per_eval=4) == ("four!!!", 3)


def test_a_gradient_attack():
    model = deep()
    classes = model(INPUTS).argmax(1)
    attack = PGD(model, CROSS_ENTROPY)
    sizes = {"step_size": 0.05, "step_num": 20, "target": classes}
    found: list[float] = []
    for mode in ("linear", "binary"):
        search = MinParamPerturbation(model, attack, "radius", 0.0, 2.0, 0.05, mode)
        attacked, radius = search.evaluate(INPUTS, target=classes, attack_kwargs=sizes)
        assert not default_correct_fn(model(attacked), classes)
        assert default_correct_fn(model(attack(INPUTS, radius - 0.05, **sizes)), classes)
        assert float((attacked - INPUTS).abs().max()) <= radius + 1e-6
        found.append(radius)
    assert found[0] == found[1]


def test_being_right():
    out = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    for target in ([1, 0], (1, 0), torch.tensor([1, 0])):
        assert default_correct_fn(out, target)
        assert not default_correct_fn(out.flip(0), target)
    assert default_correct_fn(out[:1], 1)
    assert not default_correct_fn(out, 1)
    for bad, fault in ((None, TargetError), ([1, 0, 1], TargetError), (1.0, TargetError), ([[1], [0]], TargetError)):
        with pytest.raises(fault, match="target"):
            default_correct_fn(out, bad)
    with pytest.raises(OutputError, match="correct_fn"):
        default_correct_fn(out[0], 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "quadratic"}, "'linear' or 'binary'"),
        ({"mode": 0}, "'linear' or 'binary'"),
        ({"arg_max": 0.5}, "arg_max > arg_min"),
        ({"arg_max": -1.0}, "arg_max > arg_min"),
        ({"arg_step": 0.0}, "positive step"),
        ({"arg_step": None}, "finite numbers"),
        ({"num_attempts": 0}, "num_attempts"),
        ({"attack": None}, "attack to be a function"),
    ],
)
def test_mistakes_are_told(change, message):
    arguments = {"attack": Shift(), "arg_name": "by", "arg_min": 0.0, "arg_max": 3.0, "arg_step": 0.5, **change}
    with pytest.raises(InputError, match=message):
        MinParamPerturbation(logits, **arguments)


def test_mistakes_in_a_search_are_told():
    search = MinParamPerturbation(lambda x: x, Shift(), "by", 0.0, 3.0, 0.5)
    with pytest.raises(TargetError, match="A target is needed"):
        search.evaluate(X)
    with pytest.raises(InputError, match="without 'by'"):
        search.evaluate(X, target=0, attack_kwargs={"by": 1.0})
    search.correct_fn = lambda out: out[0] > 0
    with pytest.raises(OutputError, match=r"use \.all\(\)"):
        search.evaluate(X)
