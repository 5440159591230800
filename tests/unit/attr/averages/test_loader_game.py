"""Passes over a loader: what a model may do to batches, and what batches and metrics must be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler

from captum import attr
from captum.attr.games.fills import Function
from captum.errors import CaptumWarning, InputError, InputTypeError, OutputError
from tests.subjects import drawn

X = drawn(5, 3, seed=8, dtype=torch.float64)
Z = drawn(5, 3, seed=9, dtype=torch.float64)


def batches(*tensors: Tensor) -> list[Any]:
    parts = [t.split(2) for t in tensors]
    return [tuple(p.clone() for p in part) for part in zip(*parts, strict=True)]


def over(model: Any, kind: str = "FeatureAblation") -> Any:
    return attr.DataLoaderAttribution(getattr(attr, kind)(model))


@pytest.mark.parametrize("per_pass", [1, 2, 9])
def test_models_may_write_into_what_they_are_given(per_pass: int) -> None:
    def model(x: Tensor, z: Tensor) -> Tensor:
        return (x.mul_(2) * z.mul_(3)).sum(1).tanh()

    loader, kept = batches(X, Z), batches(X, Z)
    found = over(model).attribute(loader, (0, 1), perturbations_per_pass=per_pass)
    want = attr.FeatureAblation(lambda x: (6 * x * Z).sum(1).tanh()).attribute(X, perturbations_per_eval=1)
    torch.testing.assert_close(found[0], want)
    torch.testing.assert_close(loader, kept, rtol=0, atol=0)


def test_functions_may_write_into_what_they_are_given() -> None:
    def hide(x: Tensor, keep: Tensor) -> Tensor:
        x[~keep] = 0.5
        return x

    def swap(x: Tensor, mask: Tensor) -> Tensor:
        x[mask.expand_as(x)] = x.roll(1, 0)[mask.expand_as(x)]
        return x

    def score(x: Tensor) -> Tensor:
        return x.square().sum(1)

    for x in (X.clone(), X[:1].clone()):
        loader, kept = [x], x.clone()
        want = attr.FeatureAblation(score).attribute(kept, 0.5)
        torch.testing.assert_close(over(score).attribute(loader, baselines=Function(hide))[0], want)
        torch.testing.assert_close(attr.FeatureAblation(score).attribute(x, Function(hide)), want)
        torch.testing.assert_close(x, kept, rtol=0, atol=0)
    x = X.clone()
    want = X.square() - X.roll(1, 0).square()
    torch.testing.assert_close(attr.FeaturePermutation(score, swap).attribute(x), want)
    torch.testing.assert_close(x, X, rtol=0, atol=0)


def test_models_run_without_a_graph_unless_they_need_one() -> None:
    modes: list[bool] = []

    def plain(x: Tensor) -> dict[str, Any]:
        modes.append(torch.is_inference_mode_enabled())
        return {"logits": x.square().sum(1), "of": ["model"]}

    def slope(x: Tensor) -> Tensor:
        modes.append(torch.is_inference_mode_enabled())
        with torch.enable_grad():
            x = x.requires_grad_()
            return torch.autograd.grad(x.pow(3).sum(), x)[0].sum(1)

    def fold(_total: Any, output: Any, _batch: Any) -> Tensor:
        return (output["logits"] if isinstance(output, dict) else output).add_(1)

    found = over(plain).attribute([X], reduce=fold)
    assert modes == [True] * 4
    torch.testing.assert_close(found[0], X.square())
    modes.clear()
    found = over(slope).attribute([X], reduce=fold)
    assert modes == [True] + [False] * 4
    torch.testing.assert_close(found[0], 3 * X.square())
    assert not found[0].is_inference()


def test_orders_that_change_between_passes_are_told() -> None:
    model = over(lambda x: x.sum(1))
    for loader in (DataLoader(X, shuffle=True), DataLoader(X, sampler=SubsetRandomSampler([0, 1, 2]))):
        with pytest.warns(CaptumWarning, match="another order"):
            model.attribute(loader)
    added = model.attribute(DataLoader(X, shuffle=True), to_metric=torch.sum)
    torch.testing.assert_close(added[0], X.sum(0, keepdim=True))


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Any:
        return iter(X)


def test_the_bar_of_a_stream_counts_its_batches(capsys: pytest.CaptureFixture[str]) -> None:
    found = over(lambda x: x.sum(1)).attribute(DataLoader(Stream(), batch_size=2), show_progress=True)
    torch.testing.assert_close(found[0], X)
    assert "12/12" in capsys.readouterr().err


def test_numbers_of_a_metric_keep_their_kind() -> None:
    def positive(total: Any, output: Tensor, _batch: Any) -> Tensor:
        return (output > 0).sum() + (0 if total is None else total)

    want = attr.FeatureAblation(lambda x: (x.sum(1) > 0).sum()).attribute(X)
    found = over(lambda x: x.sum(1)).attribute(batches(X), reduce=positive)[0]
    assert found.dtype == want.dtype == torch.int64
    assert found.tolist() == want.tolist()
    shapley = over(lambda x: x.sum(1), "ShapleyValues").attribute(batches(X), reduce=positive)[0]
    assert shapley.dtype == torch.float32
    near = over(lambda x: float(x.sum()) + 1e9).attribute([X])[0]
    torch.testing.assert_close(near, X.sum(0, keepdim=True), rtol=0, atol=1e-6)
    with pytest.raises(OutputError, match="real numbers"):
        over(lambda x: x.sum(1) * 1j).attribute([X])


def test_means_over_windows_are_no_whole_numbers() -> None:
    x = torch.tensor([[1.0, -1.0, -1.0]])
    want = torch.tensor([[1.0, 0.5, 0.0]])

    def positive(x: Tensor) -> Tensor:
        return (x > 0).sum(1)

    torch.testing.assert_close(attr.Occlusion(positive).attribute(x, (2,)), want)
    torch.testing.assert_close(over(positive, "Occlusion").attribute([x], sliding_window_shapes=(2,))[0], want)


def test_elements_go_by_name() -> None:
    loader = [{"a": X, "b": Z}, {"b": Z + 1, "a": X + 1}]
    found = over(lambda a, b: (a * b).sum(1)).attribute(loader, {"b": 1, "a": 0})
    torch.testing.assert_close(found[0], torch.cat([X * Z, (X + 1) * (Z + 1)]))


def test_batches_without_rows_and_games_without_features() -> None:
    holes = [X[:2], X[:0], X[2:4]]
    for kind in ("FeatureAblation", "FeaturePermutation"):
        found = over(lambda x: x.sum(1), kind).attribute(holes)[0]
        assert found.shape == (4, 3)
        assert bool(found.isfinite().all())
    for options in ({}, {"return_std_error": True}):
        found = over(lambda x: x.sum(1) + 1, "Lime").attribute([X[:, :0]], **options)
        assert (found[0][0] if options else found[0]).shape == (5, 0)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (3, "list of batches"),
        (X, "list of batches"),
        ([X, X[:, :2]], r"shapes \[\(3,\)\] of the first"),
        ([[X], [X, Z]], "elements"),
        ([[]], "at least one element"),
        ([X[:0]], "no rows"),
    ],
)
def test_loaders_that_cannot_be_read(loader: Any, message: str) -> None:
    with pytest.raises((InputError, InputTypeError, OutputError), match=message):
        over(lambda x, z=None: x.sum(1)).attribute(loader)


def test_outputs_and_roles_that_do_not_fit() -> None:
    with pytest.raises(OutputError, match="other dims"):
        over(lambda x: x[:, : len(x)]).attribute([X[:2], X[:3]])
    for roles in (0, "0", {"a": 0}):
        with pytest.raises(InputError, match="input_roles"):
            over(lambda x: x.sum(1)).attribute([X], roles)
