"""Outcomes: what a metric returns, in numbers that can be averaged."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.values import Leaves, Rebuild, describe, is_mapping, is_namedtuple
from captum.errors import InputTypeError, OutputError


def outcome(value: Any) -> Any:
    """What a metric returned with a detached floating-point tensor in the place of each number and tensor.

    Args:
        value: a number, a tensor, or a tuple, named tuple, list or mapping of these.
    """
    return _changed(value, _as_tensor)


def averaged(value: Any) -> Any:
    """The same with the mean over dim 0 of each tensor; numbers stay."""
    return _changed(value, lambda v: _floating(v).mean(0) if isinstance(v, Tensor) and v.dim() else v)


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    if is_mapping(value):
        return {k: _changed(v, change) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_changed(v, change) for v in value]
        kind: Any = type(value)
        return kind(*parts) if is_namedtuple(value) else kind(parts)
    return change(value)


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return _floating(value.detach())
    if isinstance(value, numbers.Real):  # a bool counts as 0 or 1
        return torch.tensor(float(value), device="cpu")
    message = (
        f"Expected metric to return a number, a tensor, or a tuple, list or mapping of these, got {describe(value)}."
    )
    raise InputTypeError(message)


def _floating(tensor: Tensor) -> Tensor:
    whole = not tensor.dtype.is_floating_point and not tensor.dtype.is_complex
    return tensor.to(torch.get_default_dtype()) if whole else tensor


class Tally:
    """Mean, least and largest of outcomes, number by number."""

    def __init__(self) -> None:
        self.count = 0
        self._names: list[str] = []
        self._kinds: list[torch.dtype] = []
        self._sums: list[Tensor] = []
        self._least: list[Tensor] = []
        self._largest: list[Tensor] = []
        self._rebuild: Rebuild = next

    def add(self, value: Any) -> None:
        """Count one outcome more."""
        leaves = Leaves([], [])
        rebuild = leaves.gather(value, "")
        wide = [t.to(torch.promote_types(t.dtype, torch.float64)) if _exact(t) else t for t in leaves.tensors]
        if self.count == 0:
            self._rebuild, self._names, self._kinds = rebuild, leaves.names, [t.dtype for t in leaves.tensors]
            self._sums, self._least, self._largest = wide, leaves.tensors, leaves.tensors
            self.count = 1
            return
        if leaves.names != self._names or [t.shape for t in wide] != [t.shape for t in self._sums]:
            message = (
                f"Expected the metric to return the same structure and shapes each time: first "
                f"{[tuple(t.shape) for t in self._sums]}, now {[tuple(t.shape) for t in wide]}."
            )
            raise OutputError(message)
        self.count += 1
        self._sums = [a + b for a, b in zip(self._sums, wide, strict=True)]
        self._least = [torch.minimum(a, b) for a, b in zip(self._least, leaves.tensors, strict=True)]
        self._largest = [torch.maximum(a, b) for a, b in zip(self._largest, leaves.tensors, strict=True)]

    def mean(self) -> Any:
        """The mean of the outcomes."""
        means = [(s / self.count).to(kind) for s, kind in zip(self._sums, self._kinds, strict=True)]
        return self._rebuild(iter(means))

    def least(self) -> Any:
        """The least of each number."""
        return self._rebuild(iter(self._least))

    def largest(self) -> Any:
        """The largest of each number."""
        return self._rebuild(iter(self._largest))


def _exact(tensor: Tensor) -> bool:
    """Whether the tensor's device has double precision."""
    return tensor.dtype.is_floating_point and tensor.device.type != "mps"
