"""Models of NumPy and scikit-learn: what they take and return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from captum.attr import FeatureAblation, ShapleyValues
from captum.attr.games import numpy_function, sklearn_estimator
from captum.errors import InputError, OutputError

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)
INPUTS = torch.tensor(X[:3])


def test_an_estimator_of_a_table_gets_tables() -> None:
    """Columns are found by name, and scikit-learn has nothing to warn of."""
    model = make_pipeline(make_column_transformer((StandardScaler(), ["d", "a"])), LogisticRegression())
    model.fit(pd.DataFrame(X, columns=list("abcd")), Y)
    found = ShapleyValues(sklearn_estimator(model)).attribute(INPUTS, target=1)
    assert (found[:, 1:3] == 0).all()
    ends = (
        model.predict_proba(pd.DataFrame(X[:3], columns=list("abcd"))),
        model.predict_proba(pd.DataFrame(0 * X[:3], columns=list("abcd"))),
    )
    torch.testing.assert_close(found.sum(1), torch.tensor(ends[0] - ends[1])[:, 1])


def test_classifiers_of_several_outputs_and_labels_are_told() -> None:
    several = RandomForestClassifier(3, random_state=0).fit(X, np.stack([Y, 1 - Y], 1))
    with pytest.raises(OutputError, match="list of 2"):
        FeatureAblation(sklearn_estimator(several)).attribute(INPUTS, target=1)
    labels = RandomForestClassifier(3, random_state=0).fit(X, np.where(Y, "a", "b"))
    with pytest.raises(OutputError, match="probabilities"):
        FeatureAblation(sklearn_estimator(labels, "predict")).attribute(INPUTS)
    with pytest.raises(InputError, match="fitted estimator"):
        sklearn_estimator(LogisticRegression)


RETURNS: dict[str, Any] = {
    "list": lambda a: [float(row.sum()) for row in a],
    "table": lambda a: pd.DataFrame(a).sum(axis=1),
    "big endian": lambda a: a.sum(1).astype(">f8"),
    "long double": lambda a: a.sum(1).astype("longdouble"),
    "read only": lambda a: np.broadcast_to(a.sum(1), (len(a),)),
    "backwards": lambda a: a.sum(1)[::-1][::-1],
}


@pytest.mark.parametrize("kind", RETURNS)
def test_whatever_holds_numbers_is_read(kind: str) -> None:
    torch.testing.assert_close(FeatureAblation(numpy_function(RETURNS[kind])).attribute(INPUTS), INPUTS)


@pytest.mark.parametrize("value", [None, [[1, 2], [3]], np.array(["a", "b"])])
def test_whatever_holds_none_is_told(value: object) -> None:
    with pytest.raises(OutputError, match="array of"):
        FeatureAblation(numpy_function(lambda _: value)).attribute(INPUTS)


def test_inputs_by_name() -> None:
    def total(a: Any, b: Any) -> Any:
        return a.sum(1) + 2 * b.sum(1)

    found = FeatureAblation(numpy_function(total)).attribute({"b": INPUTS, "a": INPUTS[:, :2]})
    torch.testing.assert_close(found["b"], 2 * INPUTS)
    torch.testing.assert_close(found["a"], INPUTS[:, :2])
    whole = FeatureAblation(numpy_function(lambda given: given["a"].sum(1))).attribute({"a": INPUTS})
    torch.testing.assert_close(whole["a"], INPUTS)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.uint16])
def test_differences_of_small_integers_do_not_wrap(dtype: torch.dtype) -> None:
    def count(x: Tensor) -> Tensor:
        return (x < 0.5).sum(1).to(dtype) * 100

    found = FeatureAblation(count).attribute(torch.ones(1, 1))
    assert found.dtype == torch.int64
    assert found.tolist() == [[-100]]
