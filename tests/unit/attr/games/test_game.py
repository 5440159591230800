"""Forms of outputs, packing, masks and bad input, over the public classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.futures import Future

from captum import attr
from captum.errors import BaselineError, CaptumWarning, InputError, InputTypeError, MaskError, OutputError
from tests.oracles.loops import chain
from tests.subjects import drawn

NET = chain()
X = drawn(2, 3, seed=4, dtype=torch.float64)


class Calls:
    """A function that notes the batch sizes it sees."""

    def __init__(self, function) -> None:
        self.function = function
        self.rows: list[int] = []

    def __call__(self, x: Tensor):
        self.rows.append(len(x))
        return self.function(x)


OUTPUTS = {
    "rows": (lambda x: NET(x)[:, 0], (2, 3), (2, 3)),
    "column": (lambda x: NET(x)[:, :1], (2, 3), (2, 1, 3)),
    "matrix": (NET, (4, 3), (2, 2, 3)),
    "number": (lambda x: NET(x)[:, 0].sum(), (1, 3), (1, 3)),
    "one element": (lambda x: NET(x)[:, 0].sum()[None], (1, 3), (1, 3)),
    "float": (lambda x: float(NET(x)[:, 0].sum().detach()), (1, 3), (1, 3)),
    "fixed shape": (lambda x: NET(x).sum(0).expand(3, 2), (6, 3), (3, 2, 3)),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_shapes_of_outputs_and_the_same_numbers_one_at_a_time(name: str) -> None:
    function, ablated, shared = OUTPUTS[name]
    ablation = attr.FeatureAblation(function).attribute(X)
    values = attr.ShapleyValues(function).attribute(X)
    assert tuple(ablation.shape) == ablated
    assert tuple(values.shape) == shared

    def alone(x: Tensor):
        assert len(x) == 2
        return function(x)

    torch.testing.assert_close(attr.FeatureAblation(alone).attribute(X), ablation)
    torch.testing.assert_close(attr.ShapleyValues(alone).attribute(X), values)


def test_pairs_are_packed_without_being_asked() -> None:
    calls = Calls(lambda x: x.sum(1))
    attr.FeatureAblation(calls).attribute(torch.ones(4, 50))
    assert calls.rows[0] == 4  # the batch alone
    assert sum(calls.rows) == 4 * 52 + 15 + 4  # some rows again among far ones, a coalition alone: do rows mix?
    assert len(calls.rows) <= 7
    calls.rows.clear()
    attr.FeatureAblation(calls).attribute(torch.ones(4, 50), perturbations_per_eval=10)
    assert calls.rows == [4, 40, 40, 40, 40, 40, 4]


def test_a_number_per_batch_is_found_at_every_call() -> None:
    """What one function showed is not taken for granted of the next."""
    ablation = attr.FeatureAblation(lambda x: x.sum(1))
    ablation.attribute(X)
    calls = Calls(lambda x: x.sum())
    ablation.forward_func = calls
    torch.testing.assert_close(ablation.attribute(X), X.sum(0, keepdim=True))
    assert calls.rows == [2] * 5
    for total in (lambda x: x.sum(), lambda x: x.sum()[None], lambda x: x.sum(0)):
        with pytest.raises(InputError, match=r"grows with the batch: it is .* for 2 row"):
            attr.FeatureAblation(total).attribute(X, perturbations_per_eval=2)


def test_code_for_one_batch_size_still_works() -> None:
    weight = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = attr.FeatureAblation(lambda x: x.sum(1) * weight).attribute(X)
    torch.testing.assert_close(found, X * weight[:, None])


def test_batch_norm_in_training_sees_whole_batches_only() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3, momentum=0.0), nn.Linear(3, 1)).double()
    x = drawn(5, 3, dtype=torch.float64)
    want = torch.zeros(5, 3, dtype=torch.float64)
    with torch.no_grad():
        for place in range(3):
            changed = x.clone()
            changed[:, place] = 0
            want[:, place] = (model(x) - model(changed))[:, 0]
    torch.testing.assert_close(attr.FeatureAblation(model).attribute(x), want)


def test_an_output_that_changes_its_shape() -> None:
    sizes = iter(range(1, 99))
    with pytest.raises(OutputError, match="changes its shape"):
        attr.FeatureAblation(lambda x: torch.ones(next(sizes))).attribute(X)


def test_nan_scores_stay_in_their_row() -> None:
    def score(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 100, torch.nan, x.sum(1))

    x = torch.tensor([[1.0, 2.0, 3.0], [101.0, 2.0, 3.0]])
    for method in (attr.FeatureAblation, attr.ShapleyValues, attr.KernelShap):
        found = method(score).attribute(x)
        torch.testing.assert_close(found[0], x[0])
        assert bool(found[1].isnan().any())


@pytest.mark.parametrize("missing", [torch.nan, torch.inf])
@pytest.mark.parametrize("method", ["FeatureAblation", "ShapleyValues", "KernelShap", "Lime", "ShapleyValueSampling"])
def test_baselines_replace_and_never_multiply(method: str, missing: float) -> None:
    """A model that knows missing values gets them exactly where features are absent."""

    def score(x: Tensor) -> Tensor:
        known = x.isfinite()
        return torch.where(known, x, 0.0).sum(1) + known.double().sum(1)

    found = getattr(attr, method)(score).attribute(X, missing)
    assert bool(found.isfinite().all())
    if method != "Lime":
        torch.testing.assert_close(found, X + 1)


def test_integers_keep_their_counts() -> None:
    x = torch.tensor([[1, 2, 3]])
    found = attr.FeatureAblation(lambda x: x.sum(1)).attribute(x)
    assert found.dtype == torch.int64
    assert found.tolist() == [[1, 2, 3]]
    halves = attr.FeatureAblation(lambda x: x.sum(1)).attribute(x, 0.5)
    torch.testing.assert_close(halves, torch.tensor([[0.5, 1.5, 2.5]]))
    assert attr.FeatureAblation(lambda x: float(x.sum())).attribute(x).dtype == torch.float64
    assert attr.FeatureAblation(lambda x: x.sum(1) > 3).attribute(x).tolist() == [[0.0, 0.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["FeatureAblation", "ShapleyValues", "KernelShap", "Lime", "ShapleyValueSampling"])
def test_dtypes_are_kept(method: str, dtype: torch.dtype) -> None:
    found = getattr(attr, method)(lambda x: x.sum(1)).attribute(X.to(dtype))
    assert found.dtype == dtype


def test_masks_across_tensors_with_gaps_and_repeats() -> None:
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0, 30.0]])
    masks = (torch.tensor([[7, -2]]), torch.tensor([[-2, 100, 7]]))

    def score(a: Tensor, b: Tensor) -> Tensor:
        return a.sum(1) + b.sum(1)

    want = (torch.tensor([[31.0, 12.0]]), torch.tensor([[12.0, 20.0, 31.0]]))
    for method in (attr.FeatureAblation, attr.ShapleyValues, attr.KernelShap, attr.ShapleyValueSampling):
        torch.testing.assert_close(method(score).attribute((a, b), feature_mask=masks), want)
    calls = Calls(lambda x: x.sum(1))
    attr.ShapleyValues(calls).attribute(torch.ones(1, 3), feature_mask=torch.tensor([[5, 90, 5]]))
    assert calls.rows == [1, 4, 4]  # the input alone, all coalitions, and two of these again among far rows


def test_masks_broadcast_from_the_right() -> None:
    x = drawn(2, 2, 3, 4, seed=1)
    columns = torch.tensor([0, 0, 1, 2])
    found = attr.FeatureAblation(lambda x: x.sum((1, 2, 3))).attribute(x, feature_mask=columns)
    sums = x.sum((1, 2))
    want = torch.stack([sums[:, 0] + sums[:, 1]] * 2 + [sums[:, 2], sums[:, 3]], 1)
    torch.testing.assert_close(found, want[:, None, None].expand_as(x))
    whole = attr.FeatureAblation(lambda x: x.sum((1, 2, 3))).attribute(x, feature_mask=torch.tensor(0))
    torch.testing.assert_close(whole, x.sum((1, 2, 3))[:, None, None, None].expand_as(x))


@pytest.mark.parametrize(
    "mask",
    [torch.zeros(1, 4, dtype=torch.long), torch.zeros(3, 3, dtype=torch.long), torch.zeros(1, 1, 3, dtype=torch.long),
     torch.zeros(1, 3), "mask", (torch.zeros(1, 3, dtype=torch.long),) * 2],
    ids=["width", "batch", "dims", "dtype", "type", "count"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["FeatureAblation", "ShapleyValues", "KernelShap", "Lime", "FeaturePermutation"])
def test_wrong_masks(method: str, mask: object) -> None:
    with pytest.raises(MaskError, match="feature_mask"):
        getattr(attr, method)(NET).attribute(X, target=0, feature_mask=mask)


def test_masks_by_row_need_scores_by_row() -> None:
    mask = torch.tensor([[0, 1, 1], [0, 0, 1]])
    with pytest.raises(MaskError, match="score per example"):
        attr.FeatureAblation(lambda x: x.sum()).attribute(X, feature_mask=mask)
    both = attr.FeatureAblation(NET).attribute(X, feature_mask=mask)
    for target in (0, 1):
        torch.testing.assert_close(both[target::2], attr.FeatureAblation(NET).attribute(X, None, target, None, mask))


@pytest.mark.parametrize("method", ["FeatureAblation", "ShapleyValues", "ShapleyValueSampling", "KernelShap", "Lime"])
def test_no_features_and_one_feature(method: str) -> None:
    def score(x: Tensor) -> Tensor:
        return x.sum(1) + 1

    one = getattr(attr, method)(score).attribute(torch.tensor([[2.0], [3.0]]))
    if method == "Lime":
        assert one.shape == (2, 1)
    else:
        torch.testing.assert_close(one, torch.tensor([[2.0], [3.0]]))
    if method != "Lime":
        assert getattr(attr, method)(score).attribute(torch.ones(2, 0)).shape == (2, 0)


@pytest.mark.parametrize("method", ["ShapleyValueSampling", "KernelShap", "Lime"])
@pytest.mark.parametrize("n_samples", [0, -3, 2.0])
def test_no_samples(method: str, n_samples: object) -> None:
    with pytest.raises(InputError, match="n_samples"):
        getattr(attr, method)(NET).attribute(X, target=0, n_samples=n_samples)


@pytest.mark.parametrize("per_eval", [0, -1, 1.5, True, "3"])
def test_wrong_perturbations_per_eval(per_eval: object) -> None:
    with pytest.raises(InputError, match="perturbations_per_eval"):
        attr.FeatureAblation(NET).attribute(X, target=0, perturbations_per_eval=per_eval)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="perturbation_per_eval"):
        attr.FeatureAblation(NET).attribute(X, target=0, perturbation_per_eval=3)


@pytest.mark.parametrize("output", ["a", None, {"a": 1}, (1, 2)])
def test_outputs_that_are_no_scores(output: object) -> None:
    with pytest.raises(OutputError, match="Expected a model output"):
        attr.FeatureAblation(lambda x: output).attribute(X)


def test_many_features_of_exact_values() -> None:
    with pytest.raises(InputError, match="feature_mask"):
        attr.ShapleyValues(lambda x: x.sum(1)).attribute(torch.ones(1, 31))
    with pytest.warns(CaptumWarning, match="131072 evaluations"):
        attr.ShapleyValues(lambda x: x.sum(1)).attribute(torch.ones(1, 17))


def later(function):
    """A function whose answer is a future."""

    def ask(*args: Tensor) -> Future[Tensor]:
        answer: Future[Tensor] = Future()
        answer.set_result(function(*args))
        return answer

    return ask


@pytest.mark.parametrize("per_eval", [1, 2])
@pytest.mark.parametrize("method", ["FeatureAblation", "FeaturePermutation", "ShapleyValues", "ShapleyValueSampling"])
def test_futures_give_the_same_numbers(method: str, per_eval: int) -> None:
    kind = getattr(attr, method)
    torch.manual_seed(0)
    want = kind(NET).attribute(X, target=1)
    torch.manual_seed(0)
    found = kind(later(NET)).attribute_future(X, target=1, perturbations_per_eval=per_eval)
    assert isinstance(found, Future)
    torch.testing.assert_close(found.wait(), want)
    with pytest.raises(InputTypeError, match="Future"):
        kind(NET).attribute_future(X, target=1).wait()
    with pytest.raises(OutputError, match="Future"):
        kind(later(NET)).attribute(X, target=1)


def test_futures_where_there_are_none() -> None:
    for method in (attr.Occlusion(NET), attr.Lime(NET), attr.KernelShap(NET)):
        with pytest.raises(NotImplementedError, match="attribute_future"):
            method.attribute_future()
    layer = nn.Linear(3, 2)
    with pytest.raises(NotImplementedError, match="attribute_future"):
        attr.LayerFeaturePermutation(later(layer), layer).attribute_future(X, target=0)


@pytest.mark.parametrize(
    ("window", "stride"),
    [((4,), None), ((0,), None), ((1, 1), None), ((2,), (3,)), ((2,), 0), (((1,), (1,)), None), ("a", None),
     ((1,), (1, 1)), ((2,), "a")],
)  # fmt: skip
def test_wrong_windows(window: object, stride: object) -> None:
    with pytest.raises(InputError, match=r"window|stride"):
        attr.Occlusion(NET).attribute(X, window, stride, target=0)


def test_perm_func_sees_one_feature_at_a_time() -> None:
    seen = []

    def roll(x: Tensor, mask: Tensor) -> Tensor:
        seen.append(mask.clone())
        assert mask.dtype == torch.bool
        return torch.where(mask, x.roll(1, 0), x)

    found = attr.FeaturePermutation(NET, roll).attribute(X, 1)
    want = torch.stack([(NET(X) - NET(torch.where(torch.arange(3) == i, X.roll(1, 0), X)))[:, 1] for i in range(3)], 1)
    torch.testing.assert_close(found, want.detach())
    assert [m.flatten().tolist() for m in seen] == torch.eye(3).bool().tolist()
    with pytest.raises(InputError, match="generator"):
        attr.FeaturePermutation(NET, roll).attribute(X, 1, seed=3)


def test_a_single_row_cannot_be_permuted() -> None:
    with pytest.warns(CaptumWarning, match="at least 2 rows"):
        found = attr.FeaturePermutation(NET).attribute(X[:1], 1)
    assert found.tolist() == [[0.0, 0.0, 0.0]]


def test_standard_errors_come_with_the_values() -> None:
    x = drawn(2, 12, seed=3)
    weight = drawn(12, 5, seed=1)

    def score(x: Tensor) -> Tensor:
        return torch.relu(x @ weight).sum(1)

    exact = attr.ShapleyValues(score).attribute(x)
    for method, options in (("KernelShap", {"n_samples": 300}), ("ShapleyValueSampling", {"n_samples": 40})):
        values, errors = getattr(attr, method)(score).attribute(x, **options, seed=0, return_std_error=True)
        assert values.shape == errors.shape == x.shape
        assert float(((values - exact).abs() <= 3 * errors + 1e-6).double().mean()) >= 0.9
    values, errors = attr.KernelShap(score).attribute(x, n_samples=4096, return_std_error=True)
    torch.testing.assert_close(values, exact)
    assert bool((errors == 0).all())


@pytest.mark.parametrize("baselines", [(0, 0), torch.zeros(3, 3), "zeros"])
def test_wrong_baselines(baselines: object) -> None:
    for method in (attr.FeatureAblation, attr.ShapleyValues, attr.KernelShap):
        with pytest.raises(BaselineError):
            method(NET).attribute(X, baselines, 0)


class Caching(nn.Module):
    """Makes a mask on first use and keeps it, as attention code does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.mask: Tensor | None = None
        self.register_buffer("scale", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = torch.tensor([1.0, 1.0, 0.0])
            self.scale = torch.tensor(2.0)
        return (x * self.weight * self.mask * self.scale).sum(1)


def test_a_model_can_train_after_it_was_explained() -> None:
    model = Caching()
    found = attr.FeatureAblation(model).attribute(torch.ones(2, 3))
    assert found.tolist() == [[2.0, 2.0, 0.0]] * 2
    weight = found.requires_grad_()
    (model(torch.ones(2, 3)).sum() + weight.sum()).backward()
    assert model.weight.grad.tolist() == [4.0, 4.0, 0.0]


def test_a_function_may_differentiate_inside() -> None:
    def slope(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad((x**3).sum(), x)[0].sum(1)

    torch.testing.assert_close(attr.ShapleyValues(slope).attribute(X), 3 * X**2)
    torch.testing.assert_close(attr.KernelShap(slope).attribute(X), 3 * X**2)
