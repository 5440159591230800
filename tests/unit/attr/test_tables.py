"""Tables of pandas at the front door: values, names, dtypes, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import captum
from captum.attr import IntegratedGradients, Saliency
from captum.errors import BaselineError, InputTypeError

TABLE = pd.DataFrame({"age": [30, 41, 25], "debt": [1.5, 2.0, 0.1], "married": [True, False, True]})
VALUES = torch.tensor([[30.0, 1.5, 1.0], [41.0, 2.0, 0.0], [25.0, 0.1, 1.0]])


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).eval()


def test_a_table_is_its_values_under_the_names_of_its_columns(model: nn.Module) -> None:
    found = captum.explain(model, TABLE, target=1)
    expected = IntegratedGradients(model).attribute(VALUES, target=1)
    torch.testing.assert_close(found.attributions, expected)
    torch.testing.assert_close(found.inputs, VALUES)
    assert found.feature_names == {"": ("age", "debt", "married")}
    torch.testing.assert_close(found.feature("debt"), expected[:, 1:2])
    assert list(found.to_frame().feature[:3]) == ["age", "debt", "married"]
    assert found[0].top(3)[0].name == "age"


def test_names_of_ones_own_win_and_columns_need_no_text(model: nn.Module) -> None:
    assert captum.explain(model, TABLE, feature_names=["a", "b", "c"]).feature_names == {"": ("a", "b", "c")}
    assert captum.explain(model, pd.DataFrame(VALUES.numpy())).feature_names == {"": ("0", "1", "2")}
    pairs = pd.DataFrame(VALUES.numpy(), columns=pd.MultiIndex.from_tuples([("x", "min"), ("x", "max"), ("y", 1)]))
    assert captum.explain(model, pairs).feature_names == {"": ("x min", "x max", "y 1")}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_values_take_the_dtype_of_the_model(model: nn.Module, dtype: torch.dtype) -> None:
    model = model.to(dtype)
    found = captum.explain(lambda x: model(x).tanh(), TABLE, target=0)
    assert isinstance(found.inputs, Tensor)
    torch.testing.assert_close(found.inputs, VALUES.to(dtype))


def test_columns_of_every_kind_of_number(model: nn.Module) -> None:
    kinds = {"age": "int8", "debt": "Float32", "married": "boolean"}
    found = captum.explain(model, TABLE.astype(kinds), target=1)
    torch.testing.assert_close(found.inputs, VALUES)
    missing = TABLE.convert_dtypes()
    missing.loc[0, "age"] = pd.NA
    found = captum.explain(model, missing, target=1)
    assert isinstance(found.inputs, Tensor)
    assert found.inputs.isnan().nonzero().tolist() == [[0, 0]]


def test_baselines_may_be_a_table_with_its_columns_in_another_order(model: nn.Module) -> None:
    start = pd.DataFrame({"married": [0.0], "age": [35.0], "debt": [1.0]})
    found = captum.explain(model, TABLE, target=1, baselines=start)
    expected = IntegratedGradients(model).attribute(VALUES, torch.tensor([[35.0, 1.0, 0.0]]), target=1)
    torch.testing.assert_close(found.attributions, expected)
    beside = captum.explain(model, VALUES, target=1, baselines=start[["age", "debt", "married"]])
    torch.testing.assert_close(beside.attributions, expected)
    twins = pd.DataFrame(VALUES.numpy(), columns=["a", "a", "b"])
    alike = captum.explain(model, twins, target=1, baselines=pd.DataFrame([[35.0, 1.0, 0.0]], columns=twins.columns))
    torch.testing.assert_close(alike.attributions, expected)
    with pytest.raises(BaselineError, match=r"the inputs' 3 columns, got 3, which are not the same"):
        captum.explain(model, twins, target=1, baselines=twins[["b"]].assign(a=1.0, c=2.0))
    with pytest.raises(BaselineError, match=r"the inputs' 3 columns, got 2"):
        captum.explain(model, TABLE, target=1, baselines=start[["age", "debt"]])


@pytest.mark.parametrize(
    ("column", "named"),
    [
        (["Paris", "Rome", "Oslo"], r"'city' \((str|object)\)"),
        (pd.Categorical(["x", "y", "x"]), r"'city' \(category\)"),
        (pd.to_datetime(["2020", "2021", "2022"]), r"'city' \(datetime64"),
        (np.array([1j, 2j, 3j]), r"'city' \(complex128\)"),
    ],
)
def test_a_column_without_numbers_is_named(model: nn.Module, column: object, named: str) -> None:
    with pytest.raises(InputTypeError, match=rf"1 without numbers: {named}.*\. Encode texts") as caught:
        captum.explain(model, TABLE.assign(city=column), target=1)
    assert "Paris" not in str(caught.value)


def test_what_is_no_table_says_what_would_be(model: nn.Module) -> None:
    with pytest.raises(InputTypeError, match=r"got a Series: for one row pass table\.iloc\[\[0\]\]"):
        captum.explain(model, TABLE.iloc[0])
    with pytest.raises(InputTypeError, match="baselines as a table, got a Series"):
        captum.explain(model, TABLE, baselines=TABLE.mean())
    with pytest.raises(InputTypeError, match="at least one column"):
        captum.explain(model, TABLE[[]])
    with pytest.raises(InputTypeError, match="0 rows"):
        captum.explain(model, TABLE[:0])
    with pytest.raises(InputTypeError, match=r"got a DataFrame; pass torch\.tensor\(table\.to_numpy\(\), dtype"):
        Saliency(model).attribute(TABLE)
