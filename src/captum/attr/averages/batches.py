"""Batches of a loader: their elements, what each is for, and how the model is called with others in their places."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
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

    def attributed(self, roles: Sequence[int]) -> tuple[Tensor, ...]:
        """The elements with role 0."""
        chosen = tuple(e for e, r in zip(self.elements, roles, strict=True) if r == InputRole.need_attr)
        for element in chosen:
            if not isinstance(element, Tensor) or element.dim() == 0:
                message = f"Expected a Tensor with a batch dim for each element of role 0, got {describe(element)}."
                raise InputTypeError(message)
        return chosen

    def filled(self, roles: Sequence[int], tensors: Iterable[Tensor]) -> tuple[Any, ...]:
        """All elements, those with role 0 replaced."""
        fresh = iter(tensors)
        return tuple(next(fresh) if r == InputRole.need_attr else e for e, r in zip(self.elements, roles, strict=True))

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


def check_roles(input_roles: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Roles of the elements of a batch."""
    roles = (InputRole.need_attr,) * count if input_roles is None else tuple(input_roles)
    if len(roles) != count:
        message = f"Expected input_roles with one role for each of the {count} elements of a batch, got {len(roles)}."
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
