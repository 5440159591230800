"""Samples: each example several times in a row, in groups that are perturbed together."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.rows import Rows
from captum._engine.values import Inputs, Leaves, describe, is_mapping
from captum.errors import CaptumWarning, InputError, InputTypeError

Tensors = tuple[Tensor, ...]
#: Elements of the inputs of one group, unless the user says how many examples it may have.
MOST_ELEMENTS = 1 << 26


def repeated(batch: int, count: int) -> Rows:
    """Rows in which each of ``batch`` examples stands ``count`` times in a row."""
    return Rows(batch, torch.arange(batch, device="cpu").repeat_interleave(count))


def group_sizes(inputs: Inputs, samples: object, most: object) -> list[int]:
    """How many samples of each example every group has; they add up to ``samples``.

    Args:
        inputs: the inputs of the call.
        samples: number of perturbations of each example, as the user gave it.
        most: most perturbed examples in a group, as the user gave it; None for as many as memory easily holds.
    """
    samples = _whole(samples, "n_perturb_samples")
    batch = inputs.batch
    if most is None:
        elements = sum(t.numel() for t in inputs.tensors)
        size = max(1, MOST_ELEMENTS // max(1, elements))
    else:
        most = _whole(most, "max_examples_per_batch")
        if not batch <= most <= batch * samples:
            message = (
                f"max_examples_per_batch={most} is outside {batch} … {batch * samples}, the batch and the batch times "
                "n_perturb_samples: the nearest of the two is used."
            )
            warnings.warn(message, CaptumWarning, stacklevel=4)
        size = max(1, most // batch)
    full, rest = divmod(samples, size)
    return [size] * full + [rest] * (rest > 0)


def _whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        message = f"Expected {name} to be an int of at least 1, got {value!r}."
        raise InputError(message)
    return value


def parts_of(value: Any, names: tuple[str, ...] = ()) -> Tensors:
    """The tensors of what a user's function returned: a tensor, a tuple, or a structure like the inputs.

    Args:
        value: what it returned.
        names: the inputs' names; in their order where the structure has the same.
    """
    leaves = Leaves([], [])
    leaves.gather(value, "" if is_mapping(value) else type(value).__name__)
    if sorted(leaves.names) == sorted(names):
        named = dict(zip(leaves.names, leaves.tensors, strict=True))
        return tuple(named[name] for name in names)
    if not leaves.tensors:
        message = f"Expected a tensor, or a structure of tensors, from a function, got {describe(value)}."
        raise InputTypeError(message)
    return tuple(leaves.tensors)


def in_form(inputs: Inputs, tensors: Tensors) -> Any:
    """Tensors as users' functions of the inputs take them: one alone bare, several in the structure of the inputs."""
    return tensors[0] if len(tensors) == 1 and inputs.rebuild is None else inputs.restore(tensors)


def takes_more(function: Callable[..., Any]) -> bool:
    """Whether a function has more than one parameter."""
    try:
        return len(inspect.signature(function).parameters) > 1
    except (TypeError, ValueError):  # built in, without a signature
        return False
