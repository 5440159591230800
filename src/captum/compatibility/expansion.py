"""Repeat rows: whole batches one after the other, or each row several times in a row."""

from __future__ import annotations

from collections.abc import MutableMapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum._engine.values import describe
from captum.compatibility.forms import format_additional_forward_args, format_baseline, validate_input
from captum.errors import InputTypeError

__all__ = ["ExpansionTypes", "expand_additional_forward_args", "expand_feature_mask", "expand_target"]


class ExpansionTypes(Enum):
    """Order of the repeated rows: ``a b a b`` or ``a a b b``."""

    repeat = 1
    repeat_interleave = 2


def _repeated(tensor: Tensor, n: int, order: object) -> Tensor:
    if order is ExpansionTypes.repeat:
        return torch.cat([tensor] * n) if n != 1 else tensor
    if order is ExpansionTypes.repeat_interleave:
        return tensor.repeat_interleave(n, 0)
    raise _unknown(order)


def _unknown(order: object) -> Exception:
    message = f"Expected as expansion_type ExpansionTypes.repeat or .repeat_interleave, got {describe(order)}."
    return UnknownExpansionError(message)


class UnknownExpansionError(InputTypeError, NotImplementedError):
    """The order of repeated rows is none of the two."""


def expand_additional_forward_args(
    additional_forward_args: Any, n_steps: int, expansion_type: ExpansionTypes = ExpansionTypes.repeat
) -> tuple[Any, ...] | None:
    """Repeat every tensor of one dim or more ``n_steps`` times; all else stays."""
    if additional_forward_args is None:
        return None
    return tuple(
        _repeated(value, n_steps, expansion_type) if isinstance(value, Tensor) and value.dim() else value
        for value in additional_forward_args
    )


def expand_target(target: Any, n_steps: int, expansion_type: ExpansionTypes = ExpansionTypes.repeat) -> Any:
    """Repeat targets that are given per row ``n_steps`` times; those for all rows stay."""
    if isinstance(target, Tensor) and target.numel() > 1:
        return _repeated(target, n_steps, expansion_type)
    if isinstance(target, list):
        entries: list[Any] = list(target)
        if expansion_type is ExpansionTypes.repeat:
            return entries * n_steps
        if expansion_type is ExpansionTypes.repeat_interleave:
            return [entry for entry in entries for _ in range(n_steps)]
        raise _unknown(expansion_type)
    return target


def expand_feature_mask(feature_mask: Any, n_samples: int) -> Tensor | tuple[Tensor, ...]:
    """Repeat each row of masks that are given per example; those of one row stay."""
    if isinstance(feature_mask, tuple):
        return tuple(_expanded_mask(mask, n_samples) for mask in feature_mask)
    return _expanded_mask(feature_mask, n_samples)


def _expanded_mask(mask: Tensor, n_samples: int) -> Tensor:
    return mask.repeat_interleave(n_samples, 0) if mask.dim() and mask.shape[0] > 1 else mask


def expand_and_update_additional_forward_args(n_samples: int, kwargs: MutableMapping[str, Any]) -> None:
    """Repeat each row of ``kwargs["additional_forward_args"]``, if there is any, in place of it."""
    if kwargs.get("additional_forward_args") is None:
        return
    constants = format_additional_forward_args(kwargs["additional_forward_args"])
    kwargs["additional_forward_args"] = expand_additional_forward_args(
        constants, n_samples, ExpansionTypes.repeat_interleave
    )


def expand_and_update_target(n_samples: int, kwargs: MutableMapping[str, Any]) -> None:
    """Repeat each entry of ``kwargs["target"]``, if there is any, in place of it."""
    if "target" in kwargs:
        kwargs["target"] = expand_target(kwargs["target"], n_samples, ExpansionTypes.repeat_interleave)


def expand_and_update_baselines(
    inputs: tuple[Tensor, ...],
    n_samples: int,
    kwargs: MutableMapping[str, Any],
    draw_baseline_from_distrib: bool = False,
) -> None:
    """Repeat each row of ``kwargs["baselines"]``, if there are any, in place of them; or draw rows from them.

    Args:
        inputs: the inputs, ``(B, *)``.
        n_samples: how often each row is repeated.
        kwargs: arguments of a call; changed.
        draw_baseline_from_distrib: draw ``B · n_samples`` rows at random, from numpy's global stream.

    Raises:
        BaselineError: baselines do not fit the inputs.
    """
    if "baselines" not in kwargs:
        return
    baselines = format_baseline(kwargs["baselines"], inputs)
    validate_input(inputs, baselines, draw_baseline_from_distrib=draw_baseline_from_distrib)
    count = inputs[0].shape[0] * n_samples

    def expanded(x: Tensor, baseline: Any) -> Any:
        if not isinstance(baseline, Tensor):
            return baseline
        if draw_baseline_from_distrib:
            rows = np.random.choice(baseline.shape[0], count)  # noqa: NPY002 - the stream that callers seed
            return baseline[torch.as_tensor(rows, device=baseline.device)]
        same = baseline.shape == x.shape and baseline.shape[0] > 1
        return baseline.repeat_interleave(n_samples, 0) if same else baseline

    kwargs["baselines"] = tuple(expanded(x, b) for x, b in zip(inputs, baselines, strict=True))
