"""Models fitted by scikit-learn give its coefficients."""

from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from captum import linear
from captum.errors import CaptumWarning, InputError, InputTypeError, MissingDependencyError
from captum.linear.model import NormLayer

pytest.importorskip("sklearn")
GEN = torch.Generator().manual_seed(0)
X = torch.randn(40, 3, generator=GEN, dtype=torch.float64) * 3 + 1
W = torch.rand(40, generator=GEN, dtype=torch.float64)
Y = X @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 3 + torch.randn(40, generator=GEN, dtype=torch.float64)


def loader(*tensors: Tensor) -> DataLoader:
    return DataLoader(TensorDataset(*tensors), batch_size=11)


def reference(name: str, **kwargs: object):
    import sklearn.linear_model

    return getattr(sklearn.linear_model, name)(**kwargs)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("kind", "name", "kwargs"), [
    (linear.SkLearnLasso, "Lasso", {"alpha": 0.1}),
    (linear.SkLearnRidge, "Ridge", {"alpha": 2.0}),
    (linear.SkLearnLinearRegression, "LinearRegression", {}),
    (linear.SkLearnLinearRegression, "LinearRegression", {"fit_intercept": False}),
])  # fmt: skip
def test_regressions(weighted: bool, dtype: torch.dtype, kind, name: str, kwargs: dict) -> None:
    model = kind(**kwargs)
    figures = model.fit(loader(X.to(dtype), Y.to(dtype), *([W] if weighted else [])))
    assert figures["train_time"] > 0
    expected = reference(name, **kwargs).fit(X.numpy(), Y.numpy(), sample_weight=W.numpy() if weighted else None)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(model.representation().numpy()[0], expected.coef_, atol=tolerance)
    np.testing.assert_allclose(model.bias().numpy(), [expected.intercept_], atol=tolerance)
    np.testing.assert_allclose(model(X).detach().numpy()[:, 0], expected.predict(X.numpy()), atol=50 * tolerance)
    assert model.representation().dtype == model(X.to(dtype)).dtype == dtype
    assert model.classes() is None


@pytest.mark.parametrize("count", [2, 3])
def test_classifiers(count: int) -> None:
    labels = torch.tensor([10, 20, 30])[torch.bucketize(Y, Y.quantile(torch.arange(1, count, dtype=Y.dtype) / count))]
    for kind, name, kwargs in [
        (linear.SkLearnLogisticRegression, "LogisticRegression", {"C": 0.5}),
        (linear.SkLearnSGDClassifier, "SGDClassifier", {"random_state": 0}),
    ]:
        model = kind(**kwargs)
        model.fit(loader(X, labels, W))
        expected = reference(name, **kwargs).fit(X.numpy(), labels.numpy(), sample_weight=W.numpy())
        rows = 1 if count == 2 else count
        assert model.representation().shape == (rows, 3)
        assert model.bias().shape == (rows,)
        assert model.classes().tolist() == [10, 20, 30][:count]
        np.testing.assert_allclose(
            model(X).detach().numpy().squeeze(), expected.decision_function(X.numpy()), rtol=1e-9
        )


def test_targets_in_one_column_and_in_several() -> None:
    flat, column, both = linear.SkLearnRidge(), linear.SkLearnRidge(), linear.SkLearnRidge()
    flat.fit(loader(X, Y))
    column.fit(loader(X, Y[:, None]))
    both.fit(loader(X, torch.stack([Y, -2 * Y], 1)))
    assert torch.equal(flat.representation(), column.representation())
    torch.testing.assert_close(both.representation(), flat.representation() * torch.tensor([[1.0], [-2.0]]))
    assert both(X).shape == (40, 2)


def test_normed_inputs() -> None:
    model = linear.SkLearnLasso(alpha=0.1)
    model.fit(loader(X, Y), norm_input=True)
    mean, std = X.numpy().mean(0), X.numpy().std(0)
    expected = reference("Lasso", alpha=0.1).fit((X.numpy() - mean) / std, Y.numpy())
    np.testing.assert_allclose(model.representation().numpy()[0], expected.coef_, atol=1e-6)
    np.testing.assert_allclose(model(X).detach().numpy()[:, 0], expected.predict((X.numpy() - mean) / std), atol=1e-6)
    model.fit(loader(X, Y))  # a second fit forgets the norm
    assert model.norm is None


def test_estimators_without_weights_say_so_and_fit() -> None:
    model = linear.SkLearnLinearModel("linear_model.OrthogonalMatchingPursuit", n_nonzero_coefs=1)
    with pytest.warns(CaptumWarning, match="OrthogonalMatchingPursuit takes no sample weights"):
        model.fit(loader(X, Y, W))
    expected = reference("OrthogonalMatchingPursuit", n_nonzero_coefs=1).fit(X.numpy(), Y.numpy())
    np.testing.assert_allclose(model.representation().numpy()[0], expected.coef_)


def test_booleans_and_half_precision_train() -> None:
    coalitions = X > 0
    model = linear.SkLearnLinearRegression()
    model.fit(loader(coalitions, coalitions.float() @ torch.tensor([1.0, 2.0, 4.0])))
    torch.testing.assert_close(model.representation(), torch.tensor([[1.0, 2.0, 4.0]]))
    torch.testing.assert_close(model(coalitions[:1]), coalitions[:1].float() @ torch.tensor([[1.0], [2.0], [4.0]]))
    model.fit(loader(X.bfloat16(), Y.half()))
    assert model.representation().dtype == torch.float32


@pytest.mark.parametrize("model", [linear.SkLearnLasso(), linear.SGDLasso(), linear.ClosedFormRidge()])
def test_before_the_fit(model: linear.LinearModel) -> None:
    for ask in (model.representation, lambda: model(X)):
        with pytest.raises(InputError, match="call fit"):
            ask()
    assert model.bias() is None
    assert model.classes() is None


def test_missing_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match="pip install scikit-learn"):
        linear.SkLearnLasso().fit(loader(X, Y))


@pytest.mark.parametrize("path", ["linear_model.Nope", "nope.Lasso", "Nope"])
def test_unknown_estimators(path: str) -> None:
    with pytest.raises(InputError, match="scikit-learn has no"):
        linear.SkLearnLinearModel(path).fit(loader(X, Y))


def test_estimators_without_coefficients() -> None:
    with pytest.raises(InputError, match="no coefficients"):
        linear.SkLearnLinearModel("neighbors.KNeighborsRegressor").fit(loader(X, Y))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([], InputError),
        ([(X,)], InputTypeError),
        ([X], InputTypeError),
        ([(X, Y.tolist())], InputTypeError),
        ([(X, Y[:3])], InputError),
        ([(X[:, 0], Y)], InputError),
        ([(X, Y, W), (X, Y)], InputError),
    ],
)
def test_data_that_cannot_be_fitted(data: list, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"train_data|batch"):
        linear.SkLearnLasso().fit(data)


def test_copies() -> None:
    model = linear.SkLearnLasso(alpha=0.1)
    model.fit(loader(X, Y), norm_input=True)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(X), model(X))
        assert copied.construct_kwargs == {"alpha": 0.1}


def test_own_training_function_and_the_abstract_base() -> None:
    def train(model: linear.LinearModel, dataloader: object, construct_kwargs: dict, twice: bool) -> dict:
        model._construct_model_params(weight_values=torch.ones(1, 2), bias_value=torch.tensor(3.0))
        return {"seen": len(list(dataloader)), "twice": twice, **construct_kwargs}

    model = linear.LinearModel(train, note="mine")
    assert model.fit([1, 2], twice=True) == {"seen": 2, "twice": True, "note": "mine"}
    assert model(torch.tensor([[1, 2]])).item() == 6.0
    assert isinstance(model, linear.Model)
    with pytest.raises(TypeError, match="abstract"):
        linear.Model()


def test_norm_layer() -> None:
    layer = NormLayer(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0]), eps=0.5)
    torch.testing.assert_close(layer(torch.tensor([[6.0, 3.0]])), torch.tensor([[2.0, 2.0]]))
