"""Models that are no PyTorch code, as forward functions: of NumPy, of scikit-learn, and ONNX Runtime sessions.

They are called with batches as large as the planner likes; perturbation methods need nothing more.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum._engine.values import describe
from captum.errors import InputError, OutputError

__all__ = ["numpy_function", "onnx_session", "sklearn_estimator"]

Forward = Callable[..., Tensor]


def numpy_function(function: Callable[..., Any]) -> Forward:
    """A function of NumPy arrays as a forward function.

    Args:
        function: takes arrays ``(n, *)``, one per input tensor, by place or by name as the inputs are passed, and
            returns an array, one row per example.

    Returns:
        A function of tensors; the result lives on the device of the first one.

    Example:
        >>> from captum.attr import FeatureAblation
        >>> f = numpy_function(lambda x: np.prod(x, axis=1))
        >>> FeatureAblation(f).attribute(torch.tensor([[2.0, 3.0]]))
        tensor([[6., 6.]])
    """

    def forward(*values: Any, **named: Any) -> Tensor:
        device = next((v.device for v in (*values, *named.values()) if isinstance(v, Tensor)), torch.device("cpu"))
        return _as_tensor(function(*map(_given, values), **{k: _given(v) for k, v in named.items()}), device)

    with contextlib.suppress(TypeError, ValueError):  # of functions that do not tell
        forward.__signature__ = inspect.signature(function)  # which names it takes
    return forward


def _given(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _given(v) for k, v in value.items()}
    return _as_array(value) if isinstance(value, Tensor) else value


def sklearn_estimator(estimator: Any, method: str | None = None) -> Forward:
    """A fitted scikit-learn estimator as a forward function.

    Args:
        estimator: anything with one of the methods. One that was fitted on a pandas table gets tables with its columns.
        method: ``"predict_proba"``, ``"decision_function"``, ``"predict"`` …; None takes the first of these that it
            has.

    Returns:
        A function of a tensor ``(n, M)`` that returns scores ``(n,)`` or ``(n, classes)``.

    Raises:
        InputError: when the estimator has no such method.
    """
    names = ("predict_proba", "decision_function", "predict") if method is None else (method,)
    found = next((getattr(estimator, n) for n in names if hasattr(estimator, n)), None)
    if found is None or isinstance(estimator, type):
        message = f"Expected a fitted estimator with {' or '.join(names)}, got {describe(estimator)}."
        raise InputError(message)
    columns = getattr(estimator, "feature_names_in_", None)

    def function(rows: Any) -> Any:
        scores = found(rows if columns is None else import_module("pandas").DataFrame(rows, columns=columns))
        if isinstance(scores, list):
            message = (
                f"Expected one array of scores, got a list of {len(scores)}, as of a classifier with several outputs. "
                "Choose one: numpy_function(lambda rows: estimator.predict_proba(rows)[0])."
            )
            raise OutputError(message)
        return scores

    return numpy_function(function)


def onnx_session(session: Any, output: int | str = 0) -> Forward:
    """An ONNX Runtime session as a forward function.

    Args:
        session: an ``onnxruntime.InferenceSession``; its inputs are fed in their order, or by name where ``inputs`` is
            a dict, cast to their types. A session for a fixed number of rows is run block by block, the last one filled
            up.
        output: number or name of the output to explain.

    Returns:
        A function of tensors, one per input of the session.

    Raises:
        InputError: when the session has no such output.
    """
    if not hasattr(session, "get_inputs"):
        message = (
            f"Expected an onnxruntime.InferenceSession, got {describe(session)}: onnxruntime.InferenceSession(path)."
        )
        raise InputError(message)
    inputs = [(i.name, _TYPES.get(i.type)) for i in session.get_inputs()]
    names = [o.name for o in session.get_outputs()]
    if output not in names and not (isinstance(output, int) and -len(names) <= output < len(names)):
        message = f"Expected an output of the session, 0…{len(names) - 1} or one of {names}; got {output!r}."
        raise InputError(message)
    name = names[output] if isinstance(output, int) else output

    fixed = next((i.shape[0] for i in session.get_inputs() if i.shape and isinstance(i.shape[0], int)), None)

    def run(*arrays: Any) -> Any:
        return session.run([name], {n: a for (n, _), a in zip(inputs, arrays, strict=True)})[0]

    def function(*given: Any, **named: Any) -> Any:
        unnamed = [n for n, _ in inputs if n not in named]
        if len(given) != len(unnamed) or len(given) + len(named) != len(inputs):
            message = f"Expected {len(inputs)} input(s), {[n for n, _ in inputs]}; got {len(given)} and {list(named)}."
            raise InputError(message)
        by_name = {**dict(zip(unnamed, given, strict=True)), **named}
        arrays = [by_name[n] for n, _ in inputs]
        typed = [
            np.ascontiguousarray(a if t is None else a.astype(t)) for (_, t), a in zip(inputs, arrays, strict=True)
        ]
        return run(*typed) if fixed is None else _by_blocks(run, typed, fixed)

    return numpy_function(function)


_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int16)": np.int16, "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_,
}  # fmt: skip


def _by_blocks(run: Callable[..., Any], arrays: list[Any], size: int) -> Any:
    """Rows for a function that takes ``size`` of them, no more and no fewer: the last row fills up the last block."""
    count = len(arrays[0])
    if count == size:
        return run(*arrays)
    rows = np.minimum(np.arange(-(-count // size) * size), count - 1)
    parts = [run(*(a[rows[start : start + size]] for a in arrays)) for start in range(0, len(rows), size)]
    return np.concatenate(parts)[:count]


def _as_array(tensor: Tensor) -> Any:
    """NumPy has no bfloat16: single precision holds it."""
    plain = tensor.detach().cpu()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()


def _as_tensor(value: Any, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(device)
    try:
        array = np.asarray(value)
    except ValueError as fault:
        message = f"Expected an array of numbers from the function, got {describe(value)} with rows of unequal length."
        raise OutputError(message) from fault
    if array.dtype.kind not in "biuf":
        message = (
            f"Expected an array of numbers from the function, got {array.dtype} {array.shape}. Of labels, take "
            "probabilities or decision values."
        )
        raise OutputError(message)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="))).to(device)
