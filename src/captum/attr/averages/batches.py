"""Batches of a loader: their elements, what each is for, and how the model is called with others in their places."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from captum._engine.values import describe, is_mapping, is_record, takes_keywords
from captum.errors import InputError, InputTypeError


class InputRole:
    """What an element of a batch is for.

    Attributes:
        need_attr: it is attributed, and given to the forward function.
        need_forward: it is given to the forward function.
        no_forward: only ``reduce`` sees it, such as labels.
    """

    need_attr = 0
    need_forward = 1
    no_forward = 2


class Batch:
    """The elements of a batch of any form: a tensor, a sequence, a mapping or a dataclass.

    Args:
        batch: what the loader yields.

    Attributes:
        elements: its elements in order.
        names: what they are called in messages, and in mappings of baselines and masks.
    """

    def __init__(self, batch: Any) -> None:
        self._whole = batch
        self._kind: Any = type(batch)
        self._named = is_mapping(batch) or is_record(batch)
        if isinstance(batch, Tensor):
            found: dict[str, Any] = {"element 0": batch}
        elif is_mapping(batch):
            found = dict(batch)
        elif is_record(batch):
            found = _fields(batch)
        elif isinstance(batch, (list, tuple)):
            found = {f"element {i}": e for i, e in enumerate(batch)}
        else:
            message = (
                f"Expected batches that are a Tensor, a sequence, a mapping or a dataclass, got {describe(batch)}."
            )
            raise InputTypeError(message)
        self.names, self.elements = list(found), list(found.values())

    def arrange(self, names: list[str]) -> None:
        """Bring the elements into the order of these names, those of an earlier batch."""
        if self.names == names:
            return
        if sorted(self.names) != sorted(names):
            message = f"Expected batches with the elements {names} of the first one, got one with {self.names}."
            raise InputError(message)
        found = dict(zip(self.names, self.elements, strict=True))
        self.names, self.elements = names, [found[name] for name in names]

    def attributed(self, roles: Sequence[int]) -> tuple[Tensor, ...]:
        """The elements with role 0."""
        chosen = tuple(e for e, r in zip(self.elements, roles, strict=True) if r == InputRole.need_attr)
        for element in chosen:
            if not isinstance(element, Tensor) or element.dim() == 0:
                message = f"Expected a Tensor with a batch dim for each element of role 0, got {describe(element)}."
                raise InputTypeError(message)
        return chosen

    def filled(self, roles: Sequence[int], tensors: Iterable[Tensor]) -> tuple[Any, ...]:
        """All elements: those with role 0 replaced, and copies of those with role 1, which a model may write into."""
        fresh = iter(tensors)
        pairs = zip(self.elements, roles, strict=True)
        return tuple(next(fresh) if r == InputRole.need_attr else _copied(e, r) for e, r in pairs)

    def call(self, forward: Callable[..., Any], roles: Sequence[int], elements: Sequence[Any]) -> Any:
        """The output for such elements: by position; by name; or in a structure like the batch."""
        given = {n: e for n, e, r in zip(self.names, elements, roles, strict=True) if r != InputRole.no_forward}
        if not self._named:
            return forward(*given.values())
        if not is_mapping(self._whole):
            return forward(dataclasses.replace(self._whole, **given))
        if takes_keywords(forward, list(given)):
            return forward(**given)
        return forward(self._kind(given))


def _fields(record: Any) -> dict[str, Any]:
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.init}


def _copied(element: Any, role: int) -> Any:
    return element.clone() if role == InputRole.need_forward and isinstance(element, Tensor) else element


def check_roles(input_roles: Sequence[int] | Mapping[str, int] | None, names: Sequence[str]) -> tuple[int, ...]:
    """Roles of the elements of a batch, given in order or by name."""
    if not names:
        message = "Expected batches with at least one element, got an empty one."
        raise InputError(message)
    if input_roles is None:
        return (InputRole.need_attr,) * len(names)
    if is_mapping(input_roles) and sorted(input_roles) == sorted(names):
        input_roles = [input_roles[name] for name in names]
    if not isinstance(input_roles, (tuple, list)):
        message = (
            f"Expected input_roles: a tuple, or a mapping of the names {list(names)}; got {describe(input_roles)}."
        )
        raise InputError(message)
    roles = tuple(input_roles)
    if len(roles) != len(names):
        message = (
            f"Expected input_roles with one role for each of the {len(names)} elements of a batch, got {len(roles)}."
        )
        raise InputError(message)
    if InputRole.need_attr not in roles or not set(roles) <= {0, 1, 2}:
        message = f"Expected input_roles of 0, 1 and 2 with at least one 0 (InputRole.need_attr), got {roles}."
        raise InputError(message)
    return roles


def per_element(value: Any, names: Sequence[str], what: str) -> tuple[Any, ...]:
    """One entry per attributed element of baselines or masks: a tuple, a mapping by name, or one value for one element.

    None is None for all.
    """
    if value is None:
        return (None,) * len(names)
    if is_mapping(value):
        unknown = [k for k in value if k not in names]
        if unknown:
            message = f"Expected {what} for the elements {list(names)} of a batch, got a mapping with {unknown}."
            raise InputError(message)
        return tuple(value.get(name) for name in names)
    return value if isinstance(value, tuple) else (value,)
