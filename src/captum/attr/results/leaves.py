"""Nested structures of tensors: their leaves by path, and the same structure with other leaves.

A tree is a tensor, or a dict, list, tuple, named tuple, dataclass or other mapping of trees; anything else is a leaf
without numbers and passes through unchanged.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeGuard

from torch import Tensor

__all__ = ["Leaf", "child", "children", "leaves", "map_tensors", "pairs"]

Path = tuple[str, ...]


class Leaf(NamedTuple):
    """One tensor of a tree and the way to it."""

    path: Path
    value: Tensor

    @property
    def name(self) -> str:
        """The way as one dotted name; empty when the tree is the tensor itself."""
        return ".".join(self.path)


def is_mapping(tree: object) -> TypeGuard[Mapping[object, object]]:
    """Whether the tree is a dict, a ``BatchEncoding`` or another mapping."""
    return isinstance(tree, Mapping)


def is_sequence(tree: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    """Whether the tree is a list, a tuple or a named tuple."""
    return isinstance(tree, list | tuple)


def children(tree: object) -> list[tuple[str, object]]:
    """Return the named parts of a tree; a leaf has none."""
    if isinstance(tree, Tensor):
        return []
    if is_mapping(tree):
        return [(str(key), value) for key, value in tree.items()]
    if is_sequence(tree):
        names: object = getattr(tree, "_fields", None)
        fields = [str(name) for name in names] if isinstance(names, tuple) else [str(i) for i in range(len(tree))]
        return list(zip(fields, tree, strict=True))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    return []


def child(tree: object, name: str) -> object:
    """Return one named part of a tree, or ``None`` if it has no such part."""
    return next((value for key, value in children(tree) if key == name), None)


def leaves(tree: object, path: Path = ()) -> list[Leaf]:
    """Return every tensor of a tree, in the order of the structure."""
    if isinstance(tree, Tensor):
        return [Leaf(path, tree)]
    return [leaf for name, part in children(tree) for leaf in leaves(part, (*path, name))]


def map_tensors(function: Callable[[Tensor], Tensor], tree: object) -> object:
    """Return a tree of the same structure whose tensors are replaced by ``function(tensor)``."""
    if isinstance(tree, Tensor):
        return function(tree)
    if is_mapping(tree):
        return _like_mapping(tree, {key: map_tensors(function, value) for key, value in tree.items()})
    if is_sequence(tree):
        return _like_sequence(tree, [map_tensors(function, value) for value in tree])
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        twin = copy.copy(tree)
        for name, part in children(tree):
            object.__setattr__(twin, name, map_tensors(function, part))
        return twin
    return tree


def pairs(attributions: object, inputs: object) -> list[tuple[Leaf, Tensor | None]]:
    """Return each leaf of the attributions with the input's tensor at the same place, if there is one."""
    values = {leaf.path: leaf.value for leaf in leaves(inputs)}
    return [(leaf, values.get(leaf.path)) for leaf in leaves(attributions)]


def _like_mapping(tree: Mapping[object, object], entries: dict[object, object]) -> Mapping[object, object]:
    if type(tree) is dict:
        return entries
    twin = copy.copy(tree)
    data: object = getattr(twin, "data", None)
    if isinstance(data, dict):
        # UserDict and its kin keep their entries here; ``copy`` may have shared them with the original.
        object.__setattr__(twin, "data", entries)
        return twin
    if isinstance(twin, dict):
        for key, value in entries.items():
            twin[key] = value
        return twin
    return entries


def _like_sequence(tree: list[object] | tuple[object, ...], parts: Iterable[object]) -> object:
    make: object = getattr(tree, "_make", None)
    if callable(make):
        return make(parts)
    return list(parts) if isinstance(tree, list) else tuple(parts)
