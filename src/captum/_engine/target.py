"""Targets: from the model's output to one number per row.

What a target may be is said once, in ``docs/conventions.md``; the table of forms is contract, the messages name them
all.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from captum._engine.rows import Rows
from captum._engine.values import describe
from captum.errors import TargetError, TargetIndexError

FORMS = (
    "an int, a tuple of ints (one per dim after the batch), a list or LongTensor with one entry per row, 'argmax', "
    "an object of captum.attr.targets, or a function of the model's output that returns one number per row"
)
ARGMAX = "argmax"


@runtime_checkable
class TargetObject(Protocol):
    """A target that reads the output itself and knows which example each row belongs to."""

    def select(self, output: Tensor, rows: Rows) -> Tensor:
        """Read ``output`` ``(n, *)`` into one number per row, ``(n,)``."""
        ...


def is_target_object(target: object) -> TypeGuard[TargetObject]:
    """Tell whether a target reads the output itself; a tensor has a ``select`` of its own and does not."""
    return isinstance(target, TargetObject) and not isinstance(target, Tensor)


def hint(output: Tensor, batch: int) -> str:
    """Say which targets fit an output of this shape."""
    sizes = tuple(output.shape[1:])
    if not sizes:
        return f"The output is {tuple(output.shape)}, one number per row: pass target=None."
    if len(sizes) == 1:
        forms = f"target=0…{sizes[0] - 1}, a list of {batch} of them, 'argmax'"
    else:
        last = ", ".join(str(size - 1) for size in sizes)
        forms = f"a tuple of {len(sizes)} ints up to ({last}), a list of {batch} of them"
    others = "an object of captum.attr.targets, or a function of the output that returns one number per row"
    return f"The output is {(batch, *sizes)}: pass {forms}, {others}."


def _of_examples(value: Tensor, rows: Rows) -> tuple[int, ...]:
    """The shape of something that has a row for each row of a chunk, as the user's own inputs would give it."""
    shape = tuple(value.shape)
    return (rows.batch, *shape[1:]) if shape and shape[0] == rows.count else shape


def parse_target(target: Any, batch: int) -> Any:
    """Check a target; bring it to None, int, tuple, LongTensor ``(B,)``, list of tuples, str or callable."""
    if target is None or (type(target) is int) or is_target_object(target):
        return target
    if isinstance(target, (bool, np.bool_)):
        message = f"Expected as target {FORMS}; got a bool, which would be taken for 0 or 1: pass int(target)."
        raise TargetError(message)
    if isinstance(target, (int, np.integer)):
        return int(target)
    if isinstance(target, str):
        if target != ARGMAX:
            message = f"Expected as target {FORMS}; got the text {target!r}."
            raise TargetError(message)
        return target
    if isinstance(target, np.ndarray):
        target = torch.as_tensor(target)
    if isinstance(target, Tensor):
        return _parse_tensor(target, batch)
    if isinstance(target, tuple):
        return _parse_indices(target)
    if isinstance(target, list):
        return _parse_list(target, batch)
    if callable(target):
        return target
    message = f"Expected as target {FORMS}; got {describe(target)}."
    raise TargetError(message)


def _parse_indices(target: tuple[Any, ...]) -> tuple[Any, ...]:
    out: list[Any] = []
    for index in target:
        if isinstance(index, slice):
            out.append(index)
        elif _is_whole(index):
            out.append(int(index))
        else:
            message = f"Expected a tuple of ints as target, got {describe(target)}."
            raise TargetError(message)
    return tuple(out)


def _is_whole(value: Any) -> TypeGuard[int | np.integer[Any] | Tensor]:
    """Whether a value is one whole number of any kind; a bool would index as a mask."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.dtype.is_floating_point and value.dtype != torch.bool
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _parse_tensor(target: Tensor, batch: int) -> Any:
    if target.dtype.is_floating_point or target.dtype in (torch.bool, torch.complex64, torch.complex128):
        message = f"Expected an integer tensor as target, got {describe(target)}; use target.long()."
        raise TargetError(message)
    if target.numel() == 1 and target.dim() <= 1:
        return int(target.item())
    if target.dim() == 1 and len(target) == batch:
        return target.long()
    message = f"Expected a target tensor with one class per row, shape ({batch},), got {describe(target)}."
    raise TargetError(message)


def _parse_list(target: list[Any], batch: int) -> Any:
    if len(target) != batch:
        message = f"Expected a target list with one entry per row, {batch}; got {len(target)}."
        raise TargetError(message)
    if all(_is_whole(t) for t in target):
        return torch.tensor([int(t) for t in target], dtype=torch.long, device="cpu")
    if all(isinstance(t, tuple) for t in target):
        return [_parse_indices(t) for t in target]
    message = f"Expected a target list of {batch} ints or of {batch} tuples of ints, got {describe(target)}."
    raise TargetError(message)


def select(output: Tensor, target: Any, rows: Rows) -> Tensor:
    """Apply a parsed target to an output ``(n, *)``; the result may have more dims when the target leaves some.

    A target given per row follows the example of each row.
    """
    if target is None:
        return output
    if not isinstance(target, (int, tuple, list, Tensor)) and is_target_object(target):
        return target.select(output, rows)
    if output.dim() < 2:
        shape = _of_examples(output, rows)
        message = f"The output {shape} has no class dimension, so it takes no target; pass target=None."
        raise TargetError(message)
    if isinstance(target, int):
        _check_range(target, output, 1, rows)
        return output[:, target]
    if isinstance(target, tuple):
        return output[(slice(None), *_checked(target, output, rows))]
    if isinstance(target, Tensor):
        return _select_per_row(output, rows.pick(target), rows)
    picked = rows.pick_list(target)
    values = [output[(i, *_checked(t, output, rows))] for i, t in enumerate(picked)]
    if len({v.shape for v in values}) > 1:
        shapes = sorted({tuple(v.shape) for v in values})
        message = f"The target tuples leave values of different shapes, {shapes}. {hint(output, rows.batch)}"
        raise TargetError(message)
    return torch.stack(values)


def _select_per_row(output: Tensor, classes: Tensor, rows: Rows) -> Tensor:
    if len(classes) != len(output):
        message = f"Expected one output row per target, {len(classes)}; the output is {tuple(output.shape)}."
        raise TargetError(message)
    classes = classes.to(output.device)
    size = output.shape[1]
    if bool(((classes >= size) | (classes < -size)).any()):
        message = f"A target lies outside the output's classes. {hint(output, rows.batch)}"
        raise TargetIndexError(message)
    return output[torch.arange(len(output), device=output.device), classes % size]


def _check_range(index: int, output: Tensor, dim: int, rows: Rows) -> None:
    size = output.shape[dim]
    if not -size <= index < size:
        message = (
            f"Target index {index} is outside dim {dim} of the output, whose size is {size}. {hint(output, rows.batch)}"
        )
        raise TargetIndexError(message)


def _checked(target: tuple[Any, ...], output: Tensor, rows: Rows) -> tuple[Any, ...]:
    if len(target) > output.dim() - 1:
        message = f"Target {target} has {len(target)} indices for {output.dim() - 1} dims. {hint(output, rows.batch)}"
        raise TargetError(message)
    for dim, index in enumerate(target, 1):
        if isinstance(index, int):
            _check_range(index, output, dim, rows)
    return target


def one_per_row(values: Tensor, output: Tensor, target: Any, rows: Rows) -> Tensor:
    """Require one number per row: ``(n,)``, also from ``(n, 1)`` or a 0-dim output of a single row."""
    count = rows.count
    if values.dim() == 1 and len(values) == count:
        return values
    if values.numel() == count and (values.dim() == 0 or len(values) == count):
        return values.reshape(count)
    if values.dim() == 0 or len(values) != count:
        message = (
            f"One value per row is needed: {count} row(s) went in, and the output is {tuple(output.shape)}, read as "
            f"{tuple(values.shape)} with target {_named(target)}. Return a tensor whose dim 0 is the batch."
        )
        raise TargetError(message) if values.dim() else no_rows(message)
    message = (
        f"A target is needed: with target {_named(target)} the output {_of_examples(output, rows)} leaves "
        f"{_of_examples(values, rows)}, not one value per row. {hint(output, rows.batch)}"
    )
    raise TargetError(message)


def no_rows(message: str) -> Exception:
    """The error for an output without a batch dimension."""
    from captum.errors import OutputError

    return OutputError(message)


def _named(target: Any) -> str:
    return repr(target) if target is None or isinstance(target, (int, str, tuple)) else describe(target)


def argmax_of(output: Tensor) -> Tensor:
    """The class with the highest score in each row of an output ``(B, C)``."""
    if output.dim() != 2:
        message = f"target='argmax' needs an output (B, classes). {hint(output, len(output) if output.dim() else 1)}"
        raise TargetError(message)
    return output.detach().argmax(1)
