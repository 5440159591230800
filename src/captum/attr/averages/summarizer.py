"""Summaries of many samples by running statistics, over all samples and per class."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from copy import deepcopy
from typing import Generic, Protocol, TypeGuard, TypeVar

import numpy as np
import torch
from torch import Tensor

from captum.attr.averages.moments import Stat, StatValue
from captum.errors import InputError, InputTypeError

__all__ = ["ClassSummarizer", "Summarizer", "SummarizerSingleTensor"]

Sample = Tensor | int | float
Summary = dict[str, StatValue | None]
KeyType = TypeVar("KeyType", bound=Hashable)
S = TypeVar("S", bound=Stat)


class _Array(Protocol):
    """A tensor or array: its elements as plain numbers or strings."""

    def reshape(self, shape: int, /) -> _Array: ...

    def tolist(self) -> list[object]: ...


class SummarizerSingleTensor:
    """The worker for one tensor: keeps its statistics, and those that they are computed from, up to date.

    Args:
        stats: statistics to keep; equal ones are kept once, and what they need is added.
        summary_stats_indices: which of ``stats`` the summary shows.

    >>> from captum.attr import CommonStats
    >>> worker = SummarizerSingleTensor(CommonStats(), [0]); worker.update(torch.tensor([1.0, 3.0])); worker.summary
    {'mean': tensor([1., 3.])}
    """

    def __init__(self, stats: Sequence[Stat], summary_stats_indices: Sequence[int]) -> None:
        self._given = list(stats)
        self._kept: list[Stat] = []
        self._asked: list[Stat] = []
        self._seen: tuple[torch.Size, torch.device] | None = None
        kept = [self.share(stat) for stat in self._given]
        self._summary_stats = list(dict.fromkeys(kept[index] for index in summary_stats_indices))

    def share(self, stat: S) -> S:
        """Return the kept instance that equals ``stat``, after taking it in if it is new."""
        for kept in self._kept:
            if kept == stat and isinstance(kept, type(stat)):
                return kept
        if stat in self._asked:
            message = f"{stat!r} is computed from itself: {' -> '.join(map(repr, [*self._asked, stat]))}"
            raise InputError(message)
        new = next((given for given in self._given if given == stat and isinstance(given, type(stat))), stat)
        self._asked.append(new)
        new.join(self)
        self._asked.pop()
        self._kept.append(new)  # after those that it asked for: the order of updates
        return new

    def check(self, x: Tensor) -> None:
        """Refuse a sample whose shape or device differs from those before."""
        if self._seen is not None and (x.shape, x.device) != self._seen:
            message = (
                "every update needs a sample of the same shape and device: "
                f"expected {tuple(self._seen[0])} on {self._seen[1]}, got {tuple(x.shape)} on {x.device}; "
                "use a new summarizer for other samples"
            )
            raise InputError(message)

    def update(self, x: Sample) -> None:
        """Take one sample.

        Args:
            x: tensor of the same shape at every update, or a number.

        Raises:
            InputError: the shape differs from the samples before.
        """
        sample = _as_tensor(x)
        self.check(sample)
        self._seen = (sample.shape, sample.device)
        for stat in self._kept:
            stat.update(sample)

    def get(self, stat: Stat) -> Stat | None:
        """Return the kept statistic that equals ``stat``, ``None`` if there is none."""
        return next((kept for kept in self._kept if kept == stat), None)

    @property
    def summary(self) -> Summary:
        """Name of each statistic to its value."""
        return {stat.name: stat.get() for stat in self._summary_stats}


class Summarizer:
    """Running statistics over samples that are tensors, numbers or tuples of them; nothing of the samples is kept.

    Args:
        stats: statistics to compute, see :func:`~captum.attr.CommonStats`; they are copied.

    Raises:
        InputTypeError: something in ``stats`` is no statistic.
        InputError: two different statistics have the same name.

    >>> from captum.attr import Max, Mean
    >>> summarizer = Summarizer([Mean(), Max()])
    >>> for x in torch.tensor([[1.0, 2.0], [3.0, 0.0]]): summarizer.update(x)
    >>> summarizer.summary
    {'mean': tensor([2., 1.]), 'max': tensor([3., 2.])}
    """

    def __init__(self, stats: Iterable[Stat]) -> None:
        self._stats = _checked(stats)
        self._workers: list[SummarizerSingleTensor] = []
        self._is_tuple: bool | None = None

    def update(self, x: Sample | tuple[Sample, ...]) -> None:
        """Take one sample.

        Args:
            x: tensor, number or tuple of these; the same form and the same shapes at every update.

        Raises:
            InputTypeError: ``x`` is of another type.
            InputError: the form or a shape differs from the samples before; nothing is updated then.
        """
        parts = tuple(_as_tensor(part) for part in x) if isinstance(x, tuple) else (_as_tensor(x),)
        if self._is_tuple is None:
            self._workers = [SummarizerSingleTensor(deepcopy(self._stats), range(len(self._stats))) for _ in parts]
            self._is_tuple = isinstance(x, tuple)
        before, now = _form(self._is_tuple, len(self._workers)), _form(isinstance(x, tuple), len(parts))
        if now != before:
            message = f"every update needs the same form: it was {before}, now it is {now}; use a summarizer for each"
            raise InputError(message)
        for worker, part in zip(self._workers, parts, strict=True):
            worker.check(part)
        for worker, part in zip(self._workers, parts, strict=True):
            worker.update(part)

    @property
    def summary(self) -> Summary | list[Summary] | None:
        """Name to value; a list of such for tuples; ``None`` before the first sample."""
        summaries = [worker.summary for worker in self._workers]
        if self._is_tuple is None:
            return None
        return summaries if self._is_tuple else summaries[0]


class ClassSummarizer(Summarizer, Generic[KeyType]):
    """Running statistics over all rows and over the rows of each class.

    Args:
        stats: statistics to compute for every class and over all.

    >>> from captum.attr import Mean
    >>> summarizer = ClassSummarizer([Mean()])
    >>> summarizer.update(torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([0, 0, 1]))
    >>> summarizer.class_summaries
    {0: [{'mean': tensor([2.])}], 1: [{'mean': tensor([8.])}]}
    """

    def __init__(self, stats: Iterable[Stat]) -> None:
        super().__init__(stats)
        self.summaries: dict[object, Summarizer] = {}

    def update(self, x: Sample | tuple[Sample, ...], labels: object = None) -> None:
        """Take a batch whose rows carry labels, or without labels one sample.

        Args:
            x: tensor ``(B, *)`` or tuple of them. Without labels as in :meth:`Summarizer.update`.
            labels: list, array or tensor of ``B`` labels or of one, or a single label (also a tuple) for all rows.
                Labels are told apart by value: elements of tensors and arrays count as plain numbers.

        Raises:
            InputError: the number of labels is neither 1 nor ``B``, or the rows of the tensors differ in number.
        """
        if labels is None:
            super().update(x)
            return
        tensors = _batch(x)
        rows = tensors[0].shape[0]
        keys = _labels(labels)
        if len(keys) not in (1, rows):
            message = f"labels must be 1 or {rows} in number, one per row; got {len(keys)}"
            raise InputError(message)
        for row, key in enumerate(keys * rows if len(keys) == 1 else keys):
            sample = tuple(tensor[row] for tensor in tensors)
            super().update(sample)
            if key not in self.summaries:
                self.summaries[key] = Summarizer(deepcopy(self._stats))
            self.summaries[key].update(sample)

    @property
    def class_summaries(self) -> dict[object, Summary | list[Summary] | None]:
        """Label to its summary, a list with one entry per tensor."""
        return {key: summarizer.summary for key, summarizer in self.summaries.items()}


def _is_iterable(x: object) -> TypeGuard[Iterable[object]]:
    return isinstance(x, Iterable)


def _is_tuple(x: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(x, tuple)


def _is_list(x: object) -> TypeGuard[list[object]]:
    return isinstance(x, list)


def _checked(stats: object) -> list[Stat]:
    """Drop equal statistics, refuse what is none and names that would hide each other."""
    if isinstance(stats, Stat) or not _is_iterable(stats):
        message = f"stats must be a list of statistics such as [Mean(), Max()], got {_named(stats)}"
        raise InputTypeError(message)
    kept: dict[str, Stat] = {}
    for stat in stats:
        if not isinstance(stat, Stat):
            message = f"stats must hold instances of Stat such as Mean(), got {_named(stat)}"
            raise InputTypeError(message)
        if stat in kept.values():
            continue
        if stat.name in kept:
            message = f"two statistics are named {stat.name!r}: {kept[stat.name]!r} and {stat!r}; name one otherwise"
            raise InputError(message)
        kept[stat.name] = stat
    return deepcopy(list(kept.values()))


def _named(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _as_tensor(x: object) -> Tensor:
    if isinstance(x, Tensor) and x.is_complex():
        message = f"samples must be real numbers, got a tensor of {x.dtype}; summarize .real and .imag as a tuple"
        raise InputTypeError(message)
    if isinstance(x, Tensor):
        return x
    if isinstance(x, (int, float, np.number)):
        return torch.as_tensor(x)
    message = f"a sample must be a torch.Tensor, a number or a tuple of these, got a {type(x).__name__}"
    raise InputTypeError(message)


def _form(is_tuple: bool, length: int) -> str:
    return f"a tuple of {length}" if is_tuple else "a single tensor or number"


def _batch(x: object) -> tuple[Tensor, ...]:
    """Read the tensors of a labelled batch and check that their rows are equally many."""
    parts = x if _is_tuple(x) else (x,)
    tensors = tuple(part for part in parts if isinstance(part, Tensor))
    if not tensors or len(tensors) != len(parts):
        found = ", ".join(type(part).__name__ for part in parts) or "an empty tuple"
        message = f"with labels, x must be a torch.Tensor of rows or a tuple of such tensors, got {found}"
        raise InputTypeError(message)
    if any(tensor.dim() == 0 or tensor.shape[0] != tensors[0].shape[0] for tensor in tensors):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        message = f"with labels, all tensors need the same number of rows in dimension 0, got shapes {shapes}"
        raise InputError(message)
    return tensors


def _is_array(x: object) -> TypeGuard[_Array]:
    return isinstance(x, (Tensor, np.ndarray, np.generic))


def _labels(labels: object) -> list[object]:
    """Read labels as plain values; a value that is no list, array or tensor is one label."""
    if _is_list(labels):
        return [label.reshape(-1).tolist()[0] if _is_array(label) else label for label in labels]
    return labels.reshape(-1).tolist() if _is_array(labels) else [labels]
