"""The result of :func:`captum.explain`: what was explained, how, and what came out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex, Union

import numpy as np
import torch
from torch import Tensor

from captum.attr.results import archive, features, leaves
from captum.attr.results.features import Feature, Modality
from captum.errors import InputError, InputTypeError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Explanation", "report"]

Target = int | str | tuple[int, ...]
Index = Union[int, slice, str, Sequence[int], Sequence[bool], Tensor, "npt.NDArray[np.generic]"]


class _RowError(InputError, IndexError):
    """A row that the explanation does not have."""


@dataclass(frozen=True, repr=False, eq=False)
class Explanation:
    """Attributions together with everything needed to read them.

    Rows are examples: ``e[3]`` is the explanation of one row, ``e[2:5]`` of three, ``e[mask]`` and ``e[[4, 0]]`` of
    those chosen. ``e["age"]`` is one input of a dict, or one named feature.

    Args:
        attributions: The attributions, in the structure of the inputs, each ``(N, *)``; for a layer method in the
            structure of the layer's value.
        inputs: What was explained, ``N`` rows.
        method: The method's name.
        arguments: How the method was called, as plain values; tensors and modules are described, not kept.
        targets: The target of each row as resolved; empty when the method explains no score.
        scores: The score that was explained, ``(N,)``.
        outputs: All scores of the model, ``(N, C)``, where it has several.
        residual: By how much the attributions of a row miss the change of its score from the baseline: their sum minus
            that change, ``(N,)``; ``None`` where the method makes no such promise.
        class_names: Names of the model's outputs.
        feature_names: Names of features by the dotted name of their input; ``""`` is the only input.
        tokens: The tokens of each row.
        modality: What the only input is, where its shape does not tell: ``"tabular"``, ``"text"``, ``"image"`` or
            ``"series"``.
        layer: The layer's name, for layer and neuron methods.
        seconds: How long the method ran.
        version: The version of captum that computed it.
        notes: What a reader should know.
    """

    attributions: object
    inputs: object
    method: str
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])
    targets: tuple[Target, ...] = ()
    scores: Tensor | None = None
    outputs: Tensor | None = None
    residual: Tensor | None = None
    class_names: tuple[str, ...] = ()
    feature_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    tokens: tuple[tuple[str, ...], ...] = ()
    modality: Modality | None = None
    layer: str | None = None
    seconds: float = 0.0
    version: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of rows ``N``."""
        found = leaves.leaves(self.inputs) or leaves.leaves(self.attributions)
        return len(found[0].value) if found and found[0].value.dim() else 1

    def __iter__(self) -> Iterator[Explanation]:
        """Yield the explanation of each row."""
        return (self[row] for row in range(len(self)))

    def __getitem__(self, index: Index) -> Explanation:
        """Return the explanation of some rows, of one input, or of one named feature.

        Raises:
            InputError: There is no such row (then also an ``IndexError``) or no such name.
            InputTypeError: The index is of another type.
        """
        if isinstance(index, str):
            return self._of(index)
        rows = _row_numbers(index, len(self))
        return self._rows(torch.tensor(rows, dtype=torch.long))

    def feature(self, name: str) -> Tensor:
        """Return the attributions of one input or one named feature as a tensor ``(N, *)``.

        Args:
            name: The key of an input, or the name of a feature.

        Raises:
            InputError: There is no such name, or it is an input of several tensors.
        """
        found = leaves.leaves(self._of(name).attributions)
        if len(found) != 1:
            message = f"expected the name of one tensor, and {name[:80]!r} has {len(found)}: choose one of its parts"
            raise InputError(message)
        return found[0].value

    @property
    def target_names(self) -> tuple[str, ...]:
        """What is explained in each row, in words; empty when the method explains no score."""
        return tuple(self.class_name(target) for target in self.targets)

    @property
    def baseline_scores(self) -> Tensor | None:
        """The score of each row's baseline ``(N,)``, from which the attributions start; ``None`` without a residual."""
        if self.scores is None or self.residual is None:
            return None
        rows = len(self)
        total = torch.zeros(rows, dtype=torch.float64)
        for leaf in leaves.leaves(self.attributions):
            if leaf.value.dim() and len(leaf.value) == rows:
                total += leaf.value.detach().cpu().double().unsqueeze(-1).flatten(1).sum(1)
        return self.scores.detach().cpu().double() - total + self.residual.detach().cpu().double()

    def class_name(self, target: Target) -> str:
        """Return a target in words."""
        if isinstance(target, int) and -len(self.class_names) <= target < len(self.class_names):
            return self.class_names[target]
        return f"class {target}" if isinstance(target, int) else str(target)

    def top(self, k: int = 5) -> list[Feature]:
        """Return the features that count most.

        Args:
            k: How many.

        Returns:
            Name, attribution and value of the ``k`` features with the largest absolute attribution; over several rows
            by the mean of the absolute attributions. Channels of an image and dimensions of an embedding are summed.
        """
        return features.top_features(self, k)

    def predicted(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """Return the ``k`` highest scores of the model in each row, with the names of their classes."""
        if self.outputs is None:
            return [[] for _ in range(len(self))]
        best = self.outputs.detach().double().topk(min(k, self.outputs.shape[1]), dim=1)
        rows = zip(best.indices, best.values, strict=True)
        return [[(self.class_name(int(i)), float(v)) for i, v in zip(*row, strict=True)] for row in rows]

    def to_frame(self) -> pd.DataFrame:
        """Return a tidy pandas table with one line per element of the attributions.

        Returns:
            Columns ``row``, ``input`` (the input's name, empty for a single tensor), ``position`` (number of the
            element in its row), ``feature`` (its name), ``value`` (the input there), ``attribution`` and ``target``.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        from captum.attr.results.table import frame

        return frame(self)

    def plot(self, kind: str | None = None, path: str | os.PathLike[str] | None = None, **options: object) -> Figure:
        """Draw the explanation.

        Args:
            kind: ``"image"``, ``"text"``, ``"waterfall"``, ``"bar"``, ``"beeswarm"`` or ``"series"``; ``None``
                chooses by modality and number of rows.
            path: Where to save the picture; the ending says the format. ``None`` saves nothing.
            options: Passed to the drawing function of that kind.

        Returns:
            The matplotlib figure. It is never shown or kept open.

        Raises:
            InputError: The kind is unknown or does not fit the explanation.
        """
        from captum.attr.results.pictures import draw

        return draw(self, kind, path, options)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the explanation as a page that needs nothing else, and write it to ``path`` if given."""
        return report([self], path)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the explanation as safetensors and JSON, without pickle.

        Args:
            path: A file that ends in ``.safetensors``, or a folder.

        Returns:
            The path written.

        Raises:
            InputTypeError: The inputs hold something else than tensors, strings, numbers and ``None``.
            MissingDependencyError: safetensors is not installed.
        """
        record = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return archive.write(record, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Explanation:
        """Read an explanation that :meth:`save` wrote.

        Args:
            path: The file or folder.

        Raises:
            InputError: There is nothing to read, it is no explanation, or a later version wrote it.
            MissingDependencyError: safetensors is not installed.
        """
        from captum.attr.results.restore import restore

        return restore(cls, archive.read(Path(path)), Path(path))

    def __repr__(self) -> str:
        """Say in a few lines what was explained and which features count most."""
        from captum.attr.results.words import summary

        return summary(self)

    def _repr_html_(self) -> str:
        from captum.attr.results.page import fragment

        return fragment(self)

    def _rows(self, index: Tensor) -> Explanation:
        count = len(self)

        def take(tensor: Tensor) -> Tensor:
            if tensor.dim() == 0 or len(tensor) != count:
                return tensor
            return tensor.index_select(0, index.to(tensor.device))

        numbers = [int(i) for i in index]
        return dataclasses.replace(
            self,
            attributions=leaves.map_tensors(take, self.attributions),
            inputs=leaves.map_tensors(take, self.inputs),
            targets=tuple(self.targets[i] for i in numbers) if self.targets else (),
            scores=None if self.scores is None else take(self.scores),
            outputs=None if self.outputs is None else take(self.outputs),
            residual=None if self.residual is None else take(self.residual),
            tokens=tuple(self.tokens[i] for i in numbers) if self.tokens else (),
        )

    def _of(self, name: str) -> Explanation:
        """Narrow to one input or one feature; a part no longer accounts for the whole score, so no residual is kept."""
        part = leaves.child(self.attributions, name)
        if part is not None:
            below = f"{name}."
            names = {
                ("" if key == name else key.removeprefix(below)): value
                for key, value in self.feature_names.items()
                if key == name or key.startswith(below)
            }
            inputs = leaves.child(self.inputs, name)
            inputs = self.inputs if inputs is None else inputs
            return dataclasses.replace(self, attributions=part, inputs=inputs, feature_names=names, residual=None)
        for view in features.views(self):
            if name in view.names and view.axis is not None:
                return self._column(view, name, view.axis)
        known = [key for key, _ in leaves.children(self.attributions)]
        known += [feature for view in features.views(self) for feature in view.names]
        message = f"there is no input or feature {name[:80]!r}: expected one of {', '.join(map(repr, known[:20]))}"
        raise InputError(message if known else f"{message[: message.index(':')]}: no names were given")

    def _column(self, view: features.View, name: str, axis: int) -> Explanation:
        at = torch.tensor([view.names.index(name)])

        def take(tensor: Tensor) -> Tensor:
            return tensor.index_select(axis, at.to(tensor.device))

        shape = view.leaf.value.shape
        value = view.value
        value = take(value) if value is not None and value.shape == shape else value
        return dataclasses.replace(
            self,
            attributions=take(view.leaf.value),
            inputs=self.inputs if value is None else value,
            feature_names={"": (name,)},
            residual=None,
        )


def report(explanations: Sequence[Explanation], path: str | os.PathLike[str] | None = None, title: str = "") -> str:
    """Return several explanations as one self-contained, escaped HTML page.

    Args:
        explanations: The explanations, in the order of the page.
        path: Where to write the page; ``None`` writes nothing.
        title: The page's title; empty means one made from the methods.

    Returns:
        The page: no script, nothing loaded from elsewhere, pictures inside.
    """
    from captum.attr.results.page import page

    text = page(list(explanations), title)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    return text


def _row_numbers(index: Index, count: int) -> list[int]:
    if isinstance(index, slice):
        return list(range(*index.indices(count)))
    if isinstance(index, Tensor):
        return _tensor_rows(index, count)
    if hasattr(index, "__array__") and np.ndim(index):  # an array, or a column of a table
        return _tensor_rows(_as_tensor(np.asarray(index)), count)
    if isinstance(index, Sequence) and not isinstance(index, str):
        if index and all(isinstance(i, bool) for i in index):
            return _tensor_rows(torch.tensor(list(index)), count)
        return [_row_number(i, count) for i in index]
    return [_row_number(index, count)]


def _row_number(index: object, count: int) -> int:
    if isinstance(index, bool) or not isinstance(index, SupportsIndex):
        message = f"expected a row number, a slice, a list of rows, a mask or a name; got {type(index).__name__}"
        raise InputTypeError(message)
    row = int(index)
    if not -count <= row < count:
        message = f"row {row} is outside this explanation, which has {count} row(s)"
        raise _RowError(message)
    return row % count


def _as_tensor(index: npt.NDArray[np.generic]) -> Tensor:
    if index.dtype.kind not in "biu":
        message = f"expected rows as integers or a mask of bools; got an array of {index.dtype}"
        raise InputTypeError(message)
    return torch.from_numpy(np.array(index, dtype=bool if index.dtype.kind == "b" else np.int64))


def _tensor_rows(index: Tensor, count: int) -> list[int]:
    if index.dtype == torch.bool:
        if index.shape != (count,):
            message = f"expected a mask of shape ({count},), got {tuple(index.shape)}"
            raise _RowError(message)
        index = index.nonzero()
    elif index.is_floating_point() or index.dim() > 1:
        message = f"expected rows as integers of shape (n,), got {index.dtype} of shape {tuple(index.shape)}"
        raise InputTypeError(message)
    return [_row_number(int(i), count) for i in index.reshape(-1)]
