"""What a loader may yield, and what features may be, span and become there."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from captum import attr
from captum.attr.games.fills import Background, Blur, Constant, Fill, Function, Mean, Permuted
from captum.errors import InputError, MaskError
from captum.linear import ClosedFormLinearRegression
from tests.subjects import drawn

A = drawn(10, 4, seed=1, dtype=torch.float64)
B = drawn(10, 2, 3, seed=2, dtype=torch.float64)
PAIRS = DataLoader(TensorDataset(A, B), batch_size=4)
#: Groups that touch both elements: the first, second and third; others lie in one of them.
MASKS = (torch.tensor([[0, 1, 1, 2]]), torch.tensor([[[0, 4, 4], [1, 2, 5]]]))


def score(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 0, 0] + a[:, 1:].sum(1) * b.sum((1, 2)) + torch.tanh(a[:, 2])


def whole(a: Tensor, b: Tensor) -> Tensor:
    return score(a, b).sum()


def total(accum, output: Tensor, _batch):
    return output.sum() + (0 if accum is None else accum)


SPANNING = {
    "FeatureAblation": {},
    "ShapleyValues": {},
    "ShapleyValueSampling": {"seed": 3, "n_samples": 5},
    "OwenValues": {"groups": [[0, 1], [2, 3], 4]},
    "KernelShap": {"n_samples": 32},
}


@pytest.mark.parametrize("per_pass", [1, 3])
@pytest.mark.parametrize("name", SPANNING)
def test_groups_across_elements_leave_together(name: str, per_pass: int) -> None:
    kind, options = getattr(attr, name), {"feature_mask": MASKS, "baselines": (0.5, -1.0), **SPANNING[name]}
    found = attr.DataLoaderAttribution(kind(score)).attribute(
        PAIRS, reduce=total, perturbations_per_pass=per_pass, **options
    )
    torch.testing.assert_close(found, kind(whole).attribute((A, B), **options))
    matrix = attr.DataLoaderAttribution(kind(score)).attribute(PAIRS, reduce=total, return_input_shape=False, **options)
    assert matrix[0].tolist() == pytest.approx([float(found[i][0].flatten()[j]) for i, j in SEEN])


#: Where each of the five features of ``MASKS`` is met: the element, and the place in it.
SEEN = ((0, 0), (0, 1), (0, 3), (1, 1), (1, 5))


def test_rows_of_a_group_across_elements_move_together() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(a: Tensor, b: Tensor) -> Tensor:
        seen.append((a, b))
        return score(a, b)

    attr.DataLoaderAttribution(attr.FeaturePermutation(spy)).attribute(PAIRS, feature_mask=MASKS, seed=0)
    pairs = {(float(a), float(b)) for a, b in zip(A[:, 0], B[:, 0, 0], strict=True)}
    assert any(not torch.equal(a[:, 0], A[: len(a), 0]) for a, _ in seen)
    assert all((float(p), float(q)) in pairs for a, b in seen for p, q in zip(a[:, 0], b[:, 0, 0], strict=True))


@pytest.mark.parametrize("kind", ["FeaturePermutation", "Permuted"])
def test_rows_keep_their_permutation_in_every_pass(kind: str) -> None:
    if kind == "Permuted":
        method, options = attr.ShapleyValues(score), {"baselines": Permuted(), "feature_mask": MASKS}
    else:
        method, options = attr.FeaturePermutation(score), {}
    one, many = (
        attr.DataLoaderAttribution(method).attribute(PAIRS, seed=5, perturbations_per_pass=n, **options) for n in (1, 7)
    )
    torch.testing.assert_close(one, many)


def test_each_feature_has_its_own_permutation_in_each_batch() -> None:
    column = torch.arange(24.0)[:, None].expand(24, 3)
    over = attr.DataLoaderAttribution(attr.FeaturePermutation(lambda x: x.sum(1)))
    moved = column - over.attribute(column.split(12), seed=0)[0]
    assert moved.unique(dim=1).shape == (24, 3)
    assert not torch.equal(moved[:12], moved[12:] - 12)
    assert all(
        part.sort(0).values.equal(column[start : start + 12]) for start, part in ((0, moved[:12]), (12, moved[12:]))
    )


def test_values_under_permuted_rows_add_up() -> None:
    """Of all features' rows permuted as one the sum over the data is as before: so the values of a sum add up to 0."""
    single = DataLoader(TensorDataset(A), batch_size=5)
    over = attr.DataLoaderAttribution(attr.ShapleyValues(lambda a: a[:, 0] * a[:, 1] + a[:, 2] * a[:, 3]))
    found = over.attribute(single, baselines=Permuted(), reduce=total, seed=0)[0]
    assert float(found.abs().max()) > 0.01
    assert float(found.sum()) == pytest.approx(0, abs=1e-9)


@dataclass
class Record:
    a: Tensor
    b: Tensor


class Bag(UserDict):
    """A mapping of its own kind."""


FORMS = {
    "list": (lambda a, b: [a, b], score),
    "mapping by name": (lambda a, b: {"b": b, "a": a}, score),
    "mapping as one": (lambda a, b: {"a": a, "b": b}, lambda batch: score(batch["a"], batch["b"])),
    "own mapping": (lambda a, b: Bag(a=a, b=b), lambda batch: score(batch.data["a"], batch["b"])),
    "dataclass": (Record, lambda batch: score(batch.a, batch.b)),
}


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_every_form(form: str) -> None:
    make, model = FORMS[form]
    loader = [make(a, b) for a, b in zip(A.split(4), B.split(4), strict=True)]
    found = attr.DataLoaderAttribution(attr.FeatureAblation(model)).attribute(loader, reduce=total)
    want = attr.FeatureAblation(whole).attribute((A, B))
    torch.testing.assert_close(found, want[::-1] if form == "mapping by name" else want)


def test_masks_and_baselines_by_name() -> None:
    loader = [{"a": a, "b": b, "label": 3} for a, b in zip(A.split(4), B.split(4), strict=True)]
    over = attr.DataLoaderAttribution(attr.FeatureAblation(score))
    options = {"input_roles": (0, 0, 2), "reduce": total}
    found = over.attribute(loader, feature_mask={"b": MASKS[1]}, baselines={"a": 1.0}, **options)
    want = attr.FeatureAblation(whole).attribute((A, B), baselines=(1.0, None), feature_mask=(None, MASKS[1]))
    torch.testing.assert_close(found, want)
    with pytest.raises(InputError, match="'c'"):
        over.attribute(loader, baselines={"c": 1.0}, **options)


def zeros(inputs: tuple[Tensor, ...], keep: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.where(k, i, 0.0) for i, k in zip(inputs, keep, strict=True))


FILLS: dict[str, Fill] = {
    "constant": Constant((0.5, 1.0)),
    "mean": Mean(),
    "background": Background((A[:3] + 1, B[:3] - 1)),
    "function": Function(zeros),
}


@pytest.mark.parametrize("method", ["FeatureAblation", "KernelShap", "Lime"])
@pytest.mark.parametrize("fill", FILLS)
def test_fills_are_those_of_each_row(fill: str, method: str) -> None:
    """With the default ``reduce`` each row has its own number, so that values are those without a loader."""
    options: dict[str, object] = {"feature_mask": MASKS, "baselines": FILLS[fill]}
    if method == "Lime":
        model = attr.Lime(score, ClosedFormLinearRegression())
        joint = attr.Lime(whole, ClosedFormLinearRegression()).attribute((A, B), seed=1, n_samples=40, **options)
        found = attr.DataLoaderAttribution(model).attribute(PAIRS, seed=1, n_samples=40, reduce=total, **options)
        torch.testing.assert_close(found, joint)
        return
    kind = getattr(attr, method)
    if method == "KernelShap":
        options["n_samples"] = 64
    found = attr.DataLoaderAttribution(kind(score)).attribute(PAIRS, perturbations_per_pass=4, **options)
    torch.testing.assert_close(found, kind(score).attribute((A, B), **options))


def test_blur_over_a_loader() -> None:
    images = drawn(5, 2, 8, 8, seed=3, dtype=torch.float64)
    options = {"baselines": Blur(1.5), "feature_mask": torch.arange(4).reshape(1, 1, 4, 1).repeat_interleave(2, 2)}

    def contrast(x: Tensor) -> Tensor:
        return x.square().sum((1, 2, 3))

    found = attr.DataLoaderAttribution(attr.FeatureAblation(contrast)).attribute(images.split(2), **options)
    torch.testing.assert_close(found[0], attr.FeatureAblation(contrast).attribute(images, **options))


def test_lime_keeps_double_precision() -> None:
    """The data's linear model is found to more digits than single precision has."""
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64) / 3
    over = attr.DataLoaderAttribution(attr.Lime(lambda a: a.double() @ weights, ClosedFormLinearRegression()))
    found = over.attribute(A.split(4), reduce=total, n_samples=40, seed=0)[0]
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[0], A.sum(0) * weights, rtol=1e-11, atol=1e-11)
    assert over.attribute(A.float().split(4), reduce=total_single, n_samples=9, seed=0)[0].dtype == torch.float32


def total_single(accum, output: Tensor, batch):
    return total(accum, output, batch).float()


@pytest.mark.parametrize("options", [{"n_samples": 5}, {"tol": 0.1}, {"max_evals": 50}])
@pytest.mark.parametrize("method", ["FeatureAblation", "FeaturePermutation", "ShapleyValues"])
def test_methods_that_do_not_sample_take_no_numbers_of_samples(method: str, options: dict[str, float]) -> None:
    if method == "FeaturePermutation" and "n_samples" in options:
        return  # permutations of each feature
    with pytest.raises(InputError, match="that sample"):
        attr.DataLoaderAttribution(getattr(attr, method)(score)).attribute(PAIRS, **options)


def test_a_loader_that_is_spent_after_one_pass() -> None:
    ablation = attr.DataLoaderAttribution(attr.FeatureAblation(score))
    with pytest.raises(InputError, match="iterated again"):
        ablation.attribute((batch for batch in PAIRS), reduce=total)
    with pytest.raises(InputError, match=r"got none\.$"):
        ablation.attribute([], reduce=total)


def test_what_does_not_fit() -> None:
    permutation = attr.DataLoaderAttribution(attr.FeaturePermutation(score))
    with pytest.raises(InputError, match="no baselines"):
        permutation.attribute(PAIRS, baselines=1.0)
    ablation = attr.DataLoaderAttribution(attr.FeatureAblation(score))
    with pytest.raises(InputError, match="perturbations_per_pass"):
        ablation.attribute(PAIRS, perturbations_per_pass=2.5)
    with pytest.raises(MaskError):
        ablation.attribute(PAIRS, feature_mask=MASKS[:1])
    with pytest.raises(InputError, match="generator"):
        attr.DataLoaderAttribution(attr.FeaturePermutation(score, lambda x, _: x)).attribute(PAIRS, seed=1)
