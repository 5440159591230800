"""Batches of examples: where they come from, how they are cut, and in which order they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from captum._engine.values import describe
from captum.errors import InputError, InputTypeError

__all__ = ["Batch", "Batches", "as_batches", "loader_of", "rows_of", "size_of"]

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Batch:
    """Examples as the model and the loss take them.

    Attributes:
        features: what the model is called with; tensors whose dim 0 is the batch, and structures of these.
        labels: what the loss is called with, beside the output.
        size: how many examples.
    """

    features: tuple[Any, ...]
    labels: Any
    size: int

    def rows(self, start: int, stop: int) -> Batch:
        """The examples from ``start`` to ``stop``."""
        if (start, stop) == (0, self.size):
            return self
        return self.mapped(lambda t: t[start:stop], stop - start)

    def mapped(self, change: Change, size: int) -> Batch:
        """The batch with each tensor that has a row per example changed, to ``size`` examples."""
        features = tuple(_mapped(f, self.size, change) for f in self.features)
        return Batch(features, _mapped(self.labels, self.size, change), size)

    def by_row(self) -> list[Tensor]:
        """The tensors that have a row per example, in the order in which :meth:`mapped` meets them."""
        found: list[Tensor] = []

        def note(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self.mapped(note, self.size)
        return found

    def pieces(self, limit: int) -> Iterator[Batch]:
        """Parts of at most ``limit`` examples."""
        for start in range(0, self.size, limit):
            yield self.rows(start, min(start + limit, self.size))


Batches = Iterable[Batch]


def _mapped(value: Any, size: int, change: Change) -> Any:
    if isinstance(value, Tensor):
        return change(value) if value.dim() and len(value) == size else value
    if isinstance(value, Mapping):
        return {name: _mapped(entry, size, change) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        kind: Any = type(value)
        entries = [_mapped(entry, size, change) for entry in value]
        return kind(*entries) if hasattr(value, "_fields") else kind(entries)
    return value


def rows_of(value: Any, size: int, start: int, stop: int) -> Any:
    """Rows of every tensor in a structure that has ``size`` of them."""
    return _mapped(value, size, lambda t: t[start:stop])


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from _tensors(entry)


def _parse(given: Any, where: str) -> Batch:
    if not isinstance(given, (tuple, list)) or len(given) < 2:
        message = (
            f"Expected {where} to be a tuple (features …, labels), got {describe(given)}. Batches without labels "
            "need a last entry all the same: pass None, or zeros from a data set."
        )
        raise InputTypeError(message)
    features, labels = tuple(given[:-1]), given[-1]
    sizes = [len(t) for t in (*_tensors(features), *_tensors(labels)) if t.dim()]
    if not sizes:
        message = f"Expected tensors with a dim for the batch in {where}, got {describe(given)}."
        raise InputError(message)
    first, last = sizes[0], next((len(t) for t in _tensors(labels) if t.dim()), sizes[0])
    if first != last:
        message = f"Expected as many labels as examples in {where}, got {last} labels for {first} examples."
        raise InputError(message)
    batch = Batch(features, labels, first)
    with torch.inference_mode(False):  # clones that autograd may keep
        return batch.mapped(lambda t: t.clone() if t.is_inference() else t, first)


def size_of(loader: DataLoader[Any]) -> int | None:
    """The number of batches, if the loader knows it."""
    try:
        return len(loader)
    except TypeError:  # of iterable data
        return None


def loader_of(data: Any, batch_size: int, name: str, *, ordered: bool = True) -> DataLoader[Any]:
    """A loader that gives a data set in its order.

    Args:
        data: a data set, or a loader.
        batch_size: examples in a batch; not for loaders, which have their own.
        name: the argument, for messages.
        ordered: whether the order of examples matters.

    Returns:
        The loader.

    Raises:
        InputError: when the loader shuffles, or there is no length.
        InputTypeError: when ``data`` is neither.
    """
    if isinstance(data, DataLoader):
        if ordered:
            _refuse_shuffling(data, name)
        return data
    if not isinstance(data, Dataset) and not (isinstance(data, Sized) and hasattr(data, "__getitem__")):
        message = f"Expected {name} to be a Dataset or a DataLoader, got {describe(data)}."
        raise InputTypeError(message)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:  # pyright: ignore[reportUnnecessaryIsInstance] users pass what they like
        message = f"Expected batch_size to be a positive integer, got {batch_size!r}."
        raise InputError(message)
    source: Any = data
    return DataLoader(source, batch_size=batch_size, shuffle=False)


def _refuse_shuffling(loader: DataLoader[Any], name: str) -> None:
    inner: object = loader.batch_sampler
    samplers: list[object] = [loader.sampler, inner, inner.sampler if isinstance(inner, BatchSampler) else None]
    for sampler in samplers:
        random = isinstance(sampler, (RandomSampler, SubsetRandomSampler, WeightedRandomSampler))
        if random or getattr(sampler, "shuffle", False) is True:
            message = (
                f"Expected {name} in a fixed order, got a DataLoader that shuffles ({type(sampler).__name__}): scores "
                "are returned in the order of the data, and every pass must meet the same. Build it with shuffle=False."
            )
            raise InputError(message)


@dataclass(frozen=True)
class LoaderBatches:
    """The batches of a loader, as often as one asks.

    Attributes:
        loader: where they come from.
        name: the argument, for messages.
    """

    loader: DataLoader[Any]
    name: str

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield _parse(batch, f"each batch of {self.name}")

    def __len__(self) -> int:
        return len(self.loader)


def as_batches(inputs: Any, name: str = "inputs", *, ordered: bool = True) -> Batches:
    """Batches of what users pass: one tuple, or a loader.

    Args:
        inputs: ``(features …, labels)``, or a DataLoader of such.
        name: the argument, for messages.
        ordered: whether the order of examples matters.

    Returns:
        Batches that can be gone through again and again.

    Raises:
        InputError: when it is None, empty of tensors, or a loader that shuffles.
        InputTypeError: when it is of another type.
    """
    if inputs is None:
        message = f"Expected {name}, got None. For the influence of examples on themselves call self_influence."
        raise InputError(message)
    if isinstance(inputs, DataLoader):
        return LoaderBatches(loader_of(inputs, 1, name, ordered=ordered), name)
    return [_parse(inputs, name)]
