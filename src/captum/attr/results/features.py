"""What a leaf of a result is about: its modality, the names of its elements, and its features as columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, overload

import torch
from torch import Tensor

from captum.attr.results.leaves import Leaf, leaves, pairs

__all__ = [
    "MODALITIES",
    "Columns",
    "Feature",
    "Modality",
    "Result",
    "View",
    "columns",
    "element_names",
    "shown",
    "top_features",
    "views",
]

Modality = Literal["tabular", "text", "image", "series"]
MODALITIES: dict[str, Modality] = {"tabular": "tabular", "text": "text", "image": "image", "series": "series"}


class Result(Protocol):
    """What the rooms that draw and tabulate read of a result."""

    @property
    def attributions(self) -> object:
        """The attributions, as a tree."""
        ...

    @property
    def inputs(self) -> object:
        """The inputs, as a tree."""
        ...

    @property
    def feature_names(self) -> Mapping[str, Sequence[str]]:
        """Feature names by dotted leaf name."""
        ...

    @property
    def tokens(self) -> Sequence[Sequence[str]]:
        """Tokens per row; empty if there are none."""
        ...

    @property
    def modality(self) -> Modality | None:
        """The modality as the user named it."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...


class Feature(NamedTuple):
    """One feature and what it is worth.

    Attributes:
        name: The feature's name, with the input's name in front where there are several inputs.
        attribution: Its attribution; over several rows the mean of the absolute attributions.
        value: The input's own number there; ``None`` over several rows, or when the input has none.
    """

    name: str
    attribution: float
    value: float | None


class Columns(NamedTuple):
    """Features as columns: names ``P``, attributions ``(N, P)`` and, where every feature has one, values ``(N, P)``."""

    names: Sequence[str]
    attributions: Tensor
    values: Tensor | None


class Numbered(Sequence[str]):
    """Names that are made when they are read: an image has more pixels than anyone asks about."""

    def __init__(self, count: int, name: Callable[[int], str]) -> None:
        self._indices = range(count)
        self._name = name

    def __len__(self) -> int:
        """How many names there are."""
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        """Return one name or several."""
        if isinstance(index, slice):
            return tuple(self._name(i) for i in self._indices[index])
        return self._name(self._indices[index])


@dataclass(frozen=True)
class View:
    """One leaf of a result as it should be looked at."""

    leaf: Leaf
    value: Tensor | None
    modality: Modality
    names: tuple[str, ...]
    tokens: tuple[tuple[str, ...], ...]

    @property
    def axis(self) -> int | None:
        """The axis of the leaf that the names are for, counted with the batch; ``None`` without names."""
        shape = self.leaf.value.shape
        return next((k for k in range(len(shape) - 1, 0, -1) if len(self.names) == shape[k]), None)

    def columns(self) -> Columns:
        """Reduce the leaf to one column per feature: a cell of a table, a token, a pixel, a step of a channel."""
        attribution, value = self.leaf.value.detach(), self.value
        value = value.detach() if value is not None and value.shape[: attribution.dim()] == attribution.shape else None
        if self.modality == "text":  # a token's number in the vocabulary is no value
            attribution, value = attribution.flatten(2).sum(2) if attribution.dim() > 2 else attribution, None
        if self.modality == "image" and attribution.dim() > 3:
            attribution, value = attribution.sum(1), None
        return Columns(self._column_names(attribution), _table(attribution), None if value is None else _table(value))

    def _column_names(self, attribution: Tensor) -> Sequence[str]:
        if self.modality == "text" and len(self.tokens) == 1:
            words = self.tokens[0]
            return tuple(words[i] if i < len(words) else str(i) for i in range(attribution.shape[1]))
        if self.modality == "image" and attribution.dim() == 3:
            height, width = (int(size) for size in attribution.shape[1:])
            return Numbered(height * width, lambda i: f"pixel ({i // width}, {i % width})")
        if self.modality == "text":
            return Numbered(int(attribution.shape[1]), lambda i: f"token {i}")
        if attribution.dim() == 2 and self.axis is None and attribution.shape[1] > 1:
            what = "unit" if self.value is None else "feature"
            return Numbered(int(attribution.shape[1]), lambda i: f"{what} {i}")
        return element_names(tuple(attribution.shape[1:]), self.names, self.axis)


def element_names(shape: tuple[int, ...], names: Sequence[str] = (), axis: int | None = None) -> tuple[str, ...]:
    """Return a name for each element of one row, in memory order.

    Args:
        shape: The shape of one row, the batch left out.
        names: Names along one axis.
        axis: That axis, counted with the batch; ``None`` if there are no names.

    >>> element_names((2, 2), ("in", "out"), 2)
    ('in[0]', 'out[0]', 'in[1]', 'out[1]')
    """
    indices: list[tuple[int, ...]] = [()]
    for size in shape:
        indices = [(*index, i) for index in indices for i in range(size)]
    if axis is None:
        return tuple(", ".join(map(str, index)) if index else "value" for index in indices)
    at = axis - 1
    return tuple(_named(names[index[at]], (*index[:at], *index[at + 1 :])) for index in indices)


def views(result: Result) -> list[View]:
    """Return every leaf of the attributions with its input, modality and names."""
    found = pairs(result.attributions, result.inputs)
    given = leaves(result.inputs)
    if len(found) == 1 and found[0][1] is None and len(given) == 1:
        # A layer's value has no place among the inputs, yet it is read against the only input there is.
        found = [(found[0][0], given[0].value)]
    return [_view(result, leaf, value, len(found) == 1) for leaf, value in found]


def shown(result: Result) -> list[View]:
    """Return the views that a reader looks at: of a text and its masks, ids without any attribution, only the text."""
    every = views(result)
    ids = [v for v in every if v.modality == "text"]
    masks = {v.leaf.path for v in ids if not bool(v.leaf.value.detach().any())}
    if masks and len(masks) == len(every):  # a row of zeros is still a row of text
        masks -= {ids[0].leaf.path}
    seen = [v for v in every if v.leaf.path not in masks]
    return seen if len(seen) > 1 or not masks else [_view(result, seen[0].leaf, seen[0].value, only=True)]


def columns(result: Result) -> Columns:
    """Return every feature of a result as a column, several inputs side by side."""
    return _beside([(view.leaf.name, view.columns()) for view in shown(result)])


def contributions(result: Result) -> Columns:
    """Return columns for a chart: :func:`columns`, but beside other inputs an image, text or series is one column."""
    seen = shown(result)
    if len(seen) == 1:
        return seen[0].columns()
    return _beside([(v.leaf.name, v.columns() if v.modality == "tabular" else _whole(v)) for v in seen])


def _whole(view: View) -> Columns:
    return Columns(("value",), view.columns().attributions.double().sum(1, keepdim=True), None)


def _beside(parts: list[tuple[str, Columns]]) -> Columns:
    if len(parts) == 1:
        return parts[0][1]
    rows = max(len(part.attributions) for _, part in parts)
    parts = [(name, part) for name, part in parts if len(part.attributions) == rows]
    names = tuple(_joined(name, feature, len(part.names)) for name, part in parts for feature in part.names)
    values = [part.values.double() for _, part in parts if part.values is not None]
    together = torch.cat([part.attributions.double() for _, part in parts], 1)
    return Columns(names, together, torch.cat(values, 1) if len(values) == len(parts) else None)


def top_features(result: Result, k: int) -> list[Feature]:
    """Return the ``k`` features of the largest absolute attribution, the largest first."""
    table = columns(result)
    single = len(table.attributions) == 1
    if not len(table.attributions):
        return []
    worth = table.attributions[0].double() if single else table.attributions.double().abs().mean(0)
    size = torch.nan_to_num(worth.abs(), nan=-1.0)
    order = torch.argsort(size, descending=True, stable=True)[: max(k, 0)]
    values = table.values if single else None
    return [
        Feature(table.names[i], float(worth[i]), None if values is None else float(values[0, i]))
        for i in (int(position) for position in order)
    ]


def _view(result: Result, leaf: Leaf, value: Tensor | None, only: bool) -> View:
    names = tuple(result.feature_names.get(leaf.name, ()))
    is_ids = value is not None and not value.is_floating_point() and not value.is_complex()
    tokens: tuple[tuple[str, ...], ...] = ()
    if result.tokens and leaf.value.dim() > 1 and (is_ids or only):
        fits = max(map(len, result.tokens)) <= leaf.value.shape[1] and len(result.tokens) == len(result)
        tokens = tuple(tuple(row) for row in result.tokens) if fits else ()
    modality = result.modality if only else None
    return View(leaf, value, modality or _modality(leaf.value, value, tokens, names), names, tokens)


def _modality(attribution: Tensor, value: Tensor | None, tokens: object, names: Sequence[str]) -> Modality:
    shape = attribution.shape if value is None or value.dim() < attribution.dim() else value.shape
    if tokens:
        return "text"
    if value is not None and value.dtype in (torch.int64, torch.int32) and attribution.dim() > 1 and not names:
        return "text" if shape[1] > 1 else "tabular"
    if len(shape) == 4 and attribution.dim() >= 3 and math.prod(shape[2:]) > 1:
        return "image"
    if len(shape) == 3 and attribution.dim() == 3 and shape[1] > 1:
        return "series"
    return "tabular"


def _table(tensor: Tensor) -> Tensor:
    """Return one line per row, also for no rows and for one number per row."""
    return tensor.reshape(1, 1) if tensor.dim() == 0 else tensor.unsqueeze(-1).flatten(1)


def _named(name: str, rest: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, rest))}]" if rest else name


def _joined(leaf: str, feature: str, count: int) -> str:
    if not leaf:
        return feature
    return leaf if count == 1 and feature in ("0", "value", leaf) else f"{leaf}: {feature}"
