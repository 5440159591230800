"""Tables of pandas as inputs: their values as a tensor in the model's dtype, and their columns as feature names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from captum._engine.score import find_modules
from captum.errors import BaselineError, InputTypeError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_tables"]


def read_tables(
    model: Callable[..., object], inputs: object, baselines: object, feature_names: object
) -> tuple[object, object, object]:
    """Return inputs, baselines and feature names with tables read; whatever is no table is returned as it is.

    Args:
        model: The model, whose parameters say the dtype and device.
        inputs: A table of numeric columns, or anything else.
        baselines: A table with the same columns in any order, or anything else.
        feature_names: The user's own names; ``None`` takes those of the columns.

    Raises:
        InputTypeError: A column holds no numbers, or a single row or column came instead of a table.
        BaselineError: A table of baselines lacks columns of the inputs, or has others.
    """
    if not is_table(inputs):
        _refuse_series(inputs, "inputs")
        return inputs, read_values(baselines, model) if is_table(baselines) else baselines, feature_names
    _refuse_series(baselines, "baselines")
    names = tuple(_name(column) for column in inputs.columns)
    if is_table(baselines):
        baselines = read_values(_in_order(baselines, inputs), model)
    return read_values(inputs, model), baselines, names if feature_names is None else feature_names


def is_table(value: object) -> TypeGuard[pd.DataFrame]:
    """Tell whether a value is a table of pandas, which is loaded then."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def read_values(table: pd.DataFrame, model: Callable[..., object]) -> Tensor:
    """Return a table's values ``(rows, columns)`` as a tensor that the model takes; missing ones are NaN."""
    from pandas.api.types import is_complex_dtype, is_numeric_dtype

    columns = zip(table.columns, table.dtypes, strict=True)
    other = [(_name(c), t) for c, t in columns if not is_numeric_dtype(t) or is_complex_dtype(t)]
    if other:
        listed = ", ".join(f"{name[:40]!r} ({dtype})" for name, dtype in other[:5])
        message = (
            f"Expected a table of numeric columns, got {len(other)} without numbers: {listed}. Encode texts and "
            "categories in the way that the model was trained with (pd.get_dummies, cat.codes), convert numbers with "
            "pd.to_numeric, or leave the columns out."
        )
        raise InputTypeError(message)
    if not len(table.columns):
        message = "Expected a table with at least one column, got none."
        raise InputTypeError(message)
    parameters = (p for module in find_modules(model) for p in module.parameters())
    like = next((p for p in parameters if p.dtype.is_floating_point), None)
    values = torch.from_numpy(table.to_numpy(dtype="float64", na_value=float("nan"), copy=True))
    return values.to(torch.get_default_dtype()) if like is None else values.to(like.device, like.dtype)


def _in_order(baselines: pd.DataFrame, inputs: pd.DataFrame) -> pd.DataFrame:
    """A table of baselines with its columns in the order of the inputs."""
    given, wanted = list(baselines.columns), list(inputs.columns)
    if given == wanted:
        return baselines
    if len(given) != len(wanted) or set(given) != set(wanted) or len(set(given)) < len(given):
        message = (
            f"Expected baselines with the inputs' {len(wanted)} columns, got {len(given)}, which are not the same."
        )
        raise BaselineError(message)
    return baselines.loc[:, wanted]


def _refuse_series(value: object, what: str) -> None:
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Series):
        message = f"Expected {what} as a table, got a Series: for one row pass table.iloc[[0]], which stays a table."
        raise InputTypeError(message)


def _name(column: object) -> str:
    return " ".join(map(str, column)) if isinstance(column, tuple) else str(column)
