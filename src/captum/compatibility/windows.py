"""Sliding windows and strides, checked against the inputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captum._engine.values import describe
from captum.errors import InputError

__all__ = ["format_and_verify_sliding_window_shapes", "format_and_verify_strides"]


def _is_ints(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(size, int) for size in value)


def format_and_verify_sliding_window_shapes(
    sliding_window_shapes: Any, inputs: tuple[Tensor, ...]
) -> tuple[tuple[int, ...], ...]:
    """One window per input, with a size for each dim after the batch.

    Args:
        sliding_window_shapes: tuple of ints, or tuple of such tuples, one per input.
        inputs: the inputs.

    Raises:
        InputError: the number of windows or of their dims does not fit.
    """
    windows: Any = (sliding_window_shapes,) if _is_ints(sliding_window_shapes) else sliding_window_shapes
    if not isinstance(windows, tuple) or not all(_is_ints(window) for window in windows):
        message = f"Expected as sliding window a tuple of ints per input, got {describe(sliding_window_shapes)}."
        raise InputError(message)
    found: tuple[tuple[int, ...], ...] = windows
    if len(found) != len(inputs):
        message = f"Expected one sliding window per input, {len(inputs)}; got {len(found)}."
        raise InputError(message)
    for number, (window, x) in enumerate(zip(found, inputs, strict=True)):
        if len(window) != x.dim() - 1:
            message = (
                f"The window {window} of input {number} needs one size per dim after the batch: {x.dim() - 1} for "
                f"shape {tuple(x.shape)}."
            )
            raise InputError(message)
    return found


def format_and_verify_strides(strides: Any, inputs: tuple[Tensor, ...]) -> tuple[int | tuple[int, ...], ...]:
    """One stride per input, an int for all dims or one for each.

    Args:
        strides: ``None`` for 1; for one input an int or a tuple of ints; for several a tuple of these.
        inputs: the inputs.

    Raises:
        InputError: the number of strides or of their dims does not fit.
    """
    if strides is None:
        return (1,) * len(inputs)
    wrap = len(inputs) == 1 and not (isinstance(strides, tuple) and len(strides) == 1)
    found: Any = (strides,) if wrap else strides
    if not isinstance(found, tuple) or len(found) != len(inputs):
        message = f"Expected one stride per input, {len(inputs)}, got {describe(strides)}."
        raise InputError(message)
    checked: tuple[Any, ...] = found
    for number, (stride, x) in enumerate(zip(checked, inputs, strict=True)):
        if not isinstance(stride, int) and not (_is_ints(stride) and len(stride) == x.dim() - 1):
            message = (
                f"The stride of input {number} must be an int or {x.dim() - 1} ints for shape {tuple(x.shape)}; got "
                f"{describe(stride)}."
            )
            raise InputError(message)
    return checked
