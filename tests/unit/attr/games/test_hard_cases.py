"""The same hard cases for every perturbation method, at inputs, at a layer, and over a loader."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum import attr
from captum.errors import BaselineError, CaptumWarning, InputError, MaskError, OutputError
from captum.linear import ClosedFormLinearRegression
from tests.oracles.loops import chain
from tests.subjects import drawn

NET = chain()
X = drawn(2, 3, seed=4, dtype=torch.float64)
Run = Callable[..., Any]


def score(x: Tensor) -> Tensor:
    return NET(x)[:, 0]


def lime(model: Any) -> Any:
    return attr.Lime(model, ClosedFormLinearRegression())


METHODS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "FeatureAblation": (attr.FeatureAblation, {}),
    "Occlusion": (attr.Occlusion, {"sliding_window_shapes": (1,)}),
    "ShapleyValueSampling": (attr.ShapleyValueSampling, {"n_samples": 3}),
    "ShapleyValues": (attr.ShapleyValues, {}),
    "OwenValues": (attr.OwenValues, {"groups": [0, [1, 2]]}),
    "Lime": (lime, {"n_samples": 12}),
    "KernelShap": (attr.KernelShap, {"n_samples": 8}),
}


def over_a_loader(build: Callable[[Any], Any], options: dict[str, Any]) -> Run:
    def run(model: Any, x: Tensor, **more: Any) -> Tensor:
        loader = torch.utils.data.DataLoader(x, batch_size=len(x))
        return attr.DataLoaderAttribution(build(model)).attribute(loader, **options, **more)[0]

    return run


def at_inputs(build: Callable[[Any], Any], options: dict[str, Any]) -> Run:
    return lambda model, x, **more: build(model).attribute(x, **options, **more)


RUNS = {name: at_inputs(*parts) for name, parts in METHODS.items()}
RUNS |= {f"{name} over a loader": over_a_loader(*parts) for name, parts in METHODS.items()}
every = pytest.mark.parametrize("run", [pytest.param(run, id=name) for name, run in RUNS.items()])


@every
@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
def test_a_model_that_reads_missing_values(run: Run, missing: float) -> None:
    """NaN and inf stand for what is absent, and reach nothing else."""
    torch.manual_seed(0)
    found = run(lambda x: torch.where(x.isfinite(), x, 5.0).sum(1), X, baselines=missing)
    torch.testing.assert_close(found, X - 5.0)


@every
def test_a_model_that_returns_nan_gives_nan(run: Run) -> None:
    assert run(lambda x: score(x) * math.nan, X).isnan().all()


@every
def test_an_output_without_numbers_is_refused(run: Run) -> None:
    with pytest.raises(OutputError, match="at least one number"):
        run(lambda x: score(x)[:0], X)


@every
def test_an_output_that_changes_its_shape_is_refused(run: Run) -> None:
    calls: list[int] = []

    def growing(x: Tensor) -> Tensor:
        calls.append(len(x))
        return score(x).sum().expand(len(calls))

    with pytest.raises(OutputError, match="shape"):
        run(growing, X)


@every
@pytest.mark.parametrize("form", ["tensor", "float", "one element"])
def test_one_number_for_the_batch(run: Run, form: str) -> None:
    """An additive model tells what each column adds, whatever the form of its number."""
    forms = {"tensor": lambda s: s, "float": float, "one element": lambda s: s[None]}
    torch.manual_seed(0)
    found = run(lambda x: forms[form](x.sum()), X)
    torch.testing.assert_close(found.double(), X.sum(0, keepdim=True), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "Occlusion"])
def test_no_features_and_masks_per_example(name: str) -> None:
    build, options = METHODS[name]
    nothing = {**options, "groups": []} if "groups" in options else options
    assert build(lambda x: x.sum(1) + 1).attribute(torch.zeros(2, 0), **nothing).shape == (2, 0)
    torch.manual_seed(0)
    mask = torch.tensor([[0, 1, 2], [2, 0, 1]]) * 7 - 3
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    if name in ("FeatureAblation", "ShapleyValueSampling", "ShapleyValues", "KernelShap"):
        found = build(lambda x: x @ weights).attribute(X, feature_mask=mask, **options)
        torch.testing.assert_close(found, X * weights)
    with pytest.raises(MaskError, match="broadcasts"):
        over_a_loader(build, options)(score, X, feature_mask=mask)


@pytest.mark.parametrize("name", ["LayerFeatureAblation", "LayerFeaturePermutation"])
def test_layers_under_any_form_of_output(name: str) -> None:
    """What a layer's values add, for a number per batch, a number of Python, and a matrix."""
    layer = nn.Tanh()
    y = torch.tanh(X)
    method = getattr(attr, name)
    permuted = y.flip(0) if name == "LayerFeaturePermutation" else torch.zeros_like(y)
    loss = y - permuted  # two rows have one permutation
    for form in (lambda s: s, float, lambda s: s[None]):
        found = method(lambda x, form=form: form(layer(x).square().sum()), layer).attribute(X)
        torch.testing.assert_close(found, (y.square() - permuted.square()).sum(0, keepdim=True))
    found = method(lambda x: layer(x).sum(1, keepdim=True) * torch.tensor([1.0, -1.0]), layer).attribute(X)
    torch.testing.assert_close(found, torch.stack([loss, -loss], 1).flatten(0, 1))


def test_exact_values_over_a_loader_have_the_same_limits() -> None:
    run = over_a_loader(attr.ShapleyValues, {})
    with pytest.raises(InputError, match=r"31 features need 2\*\*31"):
        run(lambda x: x.sum(1), torch.zeros(1, 31))
    with pytest.warns(CaptumWarning, match="131072 evaluations"), pytest.raises(KeyboardInterrupt):
        run(_once(), torch.zeros(1, 17))


def _once() -> Callable[[Tensor], Tensor]:
    seen: list[int] = []

    def model(x: Tensor) -> Tensor:
        if seen:
            raise KeyboardInterrupt
        seen.append(1)
        return x.sum(1)

    return model


@pytest.mark.parametrize("samples", [0, -1, 1.5, True, "many"])
@pytest.mark.parametrize("name", ["ShapleyValueSampling", "OwenValues", "Lime", "KernelShap"])
def test_a_number_of_samples_is_asked_for(name: str, samples: object) -> None:
    build, options = METHODS[name]
    for kind in (at_inputs, over_a_loader):
        with pytest.raises(InputError, match="n_samples"):
            kind(build, {**options, "n_samples": samples})(score, X)


@pytest.mark.parametrize("name", ["ShapleyValueSampling", "OwenValues", "Lime", "KernelShap"])
def test_numbers_of_samples_may_be_numpys(name: str) -> None:
    build, options = METHODS[name]
    runs = [at_inputs(build, {**options, "n_samples": number})(score, X, seed=0) for number in (np.int64(6), 6)]
    torch.testing.assert_close(runs[0], runs[1])


@pytest.mark.parametrize("options", [{"max_evals": 2.5}, {"max_evals": True}, {"tol": "0.1"}, {"tol": math.nan}])
def test_limits_are_numbers(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        attr.KernelShap(score).attribute(X, **options)


@pytest.mark.parametrize("limit", [{"tol": 0.3}, {"max_evals": 40}])
def test_owen_values_with_a_limit_are_sampled(limit: dict[str, Any]) -> None:
    """A limit without a number of orders is not ignored."""
    weight, x = drawn(9, 9, seed=1), drawn(2, 9, seed=2)
    calls: list[int] = []

    def model(x: Tensor) -> Tensor:
        calls.append(len(x))
        return (x @ weight).tanh().prod(1)

    build, groups = METHODS["OwenValues"][0], [[0, 1, 2, 3], [4, 5, 6, 7], 8]
    direct = build(model).attribute(x, groups=groups, seed=0, return_std_error=True, **limit)
    assert bool((direct[1] > 0).any())
    assert "max_evals" not in limit or sum(calls) <= 2 * 42
    found = over_a_loader(build, {"groups": groups, "seed": 0})(model, x, **limit)
    torch.testing.assert_close(found, direct[0], rtol=1e-4, atol=1e-7)


def test_scores_that_no_surrogate_fits() -> None:
    """scikit-learn refuses NaN; the message tells whose they are."""
    for run in (at_inputs(attr.Lime, {}), over_a_loader(attr.Lime, {})):
        with pytest.raises(OutputError, match="NaN or inf for 25 of 25 perturbed inputs"):
            run(lambda x: score(x) * math.nan, X)

    class Broken(ClosedFormLinearRegression):
        def fit(self, *_: Any, **__: Any) -> Any:
            raise KeyError

    with pytest.raises(KeyError):  # a fault of the model itself stays what it is
        attr.Lime(score, Broken()).attribute(X)


def test_lassos_zeros_have_no_sign() -> None:
    found = attr.Lime(lambda x: x[:, 0] * 1e-9).attribute(X)
    assert not found.any()
    assert not found.signbit().any()


@pytest.mark.parametrize("name", ["ShapleyValueSampling", "KernelShap", "OwenValues", "ShapleyValues"])
def test_errors_over_a_loader_are_those_of_its_rows(name: str) -> None:
    """The loader's outputs side by side are one batch: the same draws, values, errors and stops."""
    build = METHODS[name][0]
    weight, x = drawn(9, 9, seed=1), drawn(5, 9, seed=2)
    more: dict[str, Any] = {"return_std_error": True, "seed": 3}
    if name != "ShapleyValues":
        more |= {"n_samples": "auto", "tol": 0.2, "max_evals": 300}
    if name == "OwenValues":
        more |= {"groups": [[0, 1, 2, 3], [4, 5, 6, 7], 8]}

    def model(x: Tensor) -> Tensor:
        return (x @ weight).tanh().prod(1)

    loader = torch.utils.data.DataLoader(x, batch_size=2)
    method = attr.DataLoaderAttribution(build(model))
    values, errors = method.attribute(loader, perturbations_per_pass=64, **more)
    if name == "ShapleyValues":
        assert not errors[0].any()
        return
    want = build(model).attribute(x, **more)
    torch.testing.assert_close((values[0], errors[0]), want, rtol=1e-4, atol=1e-7)
    assert bool((errors[0] > 0).any())


def test_lime_over_a_loader_takes_a_number_of_samples() -> None:
    loader = torch.utils.data.DataLoader(X, batch_size=2)
    for more in ({"max_evals": 30}, {"tol": 0.1}):
        with pytest.raises(InputError, match="Lime over a loader"):
            attr.DataLoaderAttribution(lime(score)).attribute(loader, **more)


def test_outputs_that_grow_along_other_dims_are_scored_one_by_one() -> None:
    """As of models with time first, and of all pairs of rows."""

    def early(x: Tensor) -> Tensor:
        return torch.stack([x, 2 * x])  # (2, B, 3): the batch is the second dim

    found = attr.FeatureAblation(early).attribute(X)
    want = torch.diag_embed(X)  # row, output, feature
    torch.testing.assert_close(found.reshape(2, 2, 3, 3), torch.stack([want, 2 * want]))
    pairs = attr.ShapleyValues(lambda x: x @ x.T).attribute(X)
    torch.testing.assert_close(pairs, X[:, None] * X)
    with pytest.raises(InputError, match="perturbations_per_eval=1"):
        attr.FeatureAblation(early).attribute(X, perturbations_per_eval=2)


@pytest.mark.parametrize("name", [*METHODS, "FeaturePermutation", "NeuronFeatureAblation"])
def test_inputs_that_are_no_rows_are_refused(name: str) -> None:
    """As the offsets of ``nn.EmbeddingBag`` beside its ids."""
    bag = nn.EmbeddingBag(10, 4)
    ids, offsets = torch.tensor([1, 2, 3, 4, 5, 6]), torch.tensor([0, 2, 5])
    build, options = METHODS.get(name, (getattr(attr, name), {}))
    call = {**options, "target": 0}
    if name == "NeuronFeatureAblation":
        method, call = attr.NeuronFeatureAblation(bag, bag), {"neuron_selector": 0}
    else:
        method = build(bag)
    with pytest.raises(InputError, match=r"\[\(6,\), \(3,\)\]. For nn.EmbeddingBag"):
        method.attribute((ids, offsets), **call)
    rows = attr.FeatureAblation(lambda x: bag(x.flatten(), torch.arange(len(x)) * 2).sum(1))
    found = rows.attribute(ids.reshape(3, 2))  # what the message says
    torch.testing.assert_close(found, (bag.weight[ids] - bag.weight[0]).sum(1).reshape(3, 2).detach() / 2)


@pytest.mark.parametrize(("number", "dtype"), [(-1, torch.uint8), (300, torch.int8), (1e6, torch.float16)])
def test_baselines_that_the_input_cannot_hold_are_refused(number: float, dtype: torch.dtype) -> None:
    """They would wrap around, -1 to 255."""
    x = torch.ones(2, 3, dtype=dtype)
    with pytest.raises(BaselineError, match="range"):
        attr.FeatureAblation(lambda x: x.double().sum(1)).attribute(x, number)
    found = attr.FeatureAblation(lambda x: x.double().sum(1)).attribute(x.double(), number)
    torch.testing.assert_close(found, torch.full((2, 3), 1.0 - number, dtype=torch.float64))


@pytest.mark.parametrize("answer", [lambda x: x[:1], lambda _: None, lambda x: x.sum()])
def test_permutations_that_are_no_rows_are_refused(answer: Any) -> None:
    method = attr.FeaturePermutation(score, lambda x, _mask: answer(x))
    for run, inputs in ((method, X), (attr.DataLoaderAttribution(method), [X])):
        with pytest.raises(InputError, match=r"shape \(2, 3\)"):
            run.attribute(inputs)


def test_the_published_draws_of_no_features() -> None:
    found = attr.KernelShap(lambda x: x.sum(1) + 1).attribute(X[:, :0], sampling="upstream")
    assert found.shape == (2, 0)
