"""Attributions in the form of the inputs, with their convergence delta; custom rules."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from captum._engine.values import describe
from captum.compatibility.forms import format_output
from captum.errors import InputError, InputTypeError

if TYPE_CHECKING:
    from captum.attr.base import GradientAttribution

__all__ = ["call_custom_attribution_func", "compute_conv_delta_and_format_attrs", "sum_rows"]


def sum_rows(input: Tensor) -> Tensor:  # noqa: A002 - the established name
    """The sum over all but the rows, ``(B, *)`` → ``(B,)``."""
    return input.reshape(input.shape[0], -1).sum(1)


def compute_conv_delta_and_format_attrs(
    attr_algo: GradientAttribution,
    return_convergence_delta: bool,
    attributions: tuple[Tensor, ...],
    start_point: Any,
    end_point: Any,
    additional_forward_args: Any,
    target: Any,
    is_inputs_tuple: bool = False,
) -> Any:
    """Attributions as tuple or tensor, and if asked the convergence delta.

    Args:
        attr_algo: the method, which computes the delta.
        return_convergence_delta: whether it is asked for.
        attributions: one tensor per input.
        start_point: baselines.
        end_point: inputs.
        additional_forward_args: constants of the model.
        target: the target.
        is_inputs_tuple: whether the attributions are to be a tuple.

    Returns:
        The attributions, or ``(attributions, delta)``.
    """
    formed = format_output(is_inputs_tuple, attributions)
    if not return_convergence_delta:
        return formed
    delta = attr_algo.compute_convergence_delta(
        attributions, start_point, end_point, additional_forward_args=additional_forward_args, target=target
    )
    return formed, delta


def call_custom_attribution_func(
    custom_attribution_func: Callable[..., tuple[Tensor, ...]],
    multipliers: tuple[Tensor, ...],
    inputs: tuple[Tensor, ...],
    baselines: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Call a user's rule with as many of multipliers, inputs and baselines as it has parameters.

    Raises:
        InputTypeError: it is no function.
        InputError: it has not one to three parameters.
    """
    if not callable(custom_attribution_func):
        message = f"Expected a function as custom_attribution_func, got {describe(custom_attribution_func)}."
        raise InputTypeError(message)
    count = len(inspect.signature(custom_attribution_func).parameters)
    if not 1 <= count <= 3:
        message = f"custom_attribution_func takes multipliers, then inputs, then baselines; it has {count} parameters."
        raise InputError(message)
    return custom_attribution_func(*(multipliers, inputs, baselines)[:count])
