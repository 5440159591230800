"""Baselines that are drawn: every slot takes one of its candidates."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeGuard

import torch

from captum._engine.draws import one_generator
from captum.errors import BaselineError, InputTypeError

__all__ = ["ProductBaselines"]


class ProductBaselines:
    """Draw baselines from the product of candidate lists: one value for each slot, independently and uniformly.

    Args:
        baseline_values: list with one list of candidates per slot, or dict from the name of a slot to its candidates.
            A dict key may be a tuple of names that are drawn together: its candidates are tuples of as many values.
        seed: number that fixes the draws; default: Python's global ``random`` stream.
        generator: torch generator to draw from instead of a seed.

    Raises:
        InputTypeError: ``baseline_values`` or the candidates of a slot are no list.
        BaselineError: a slot has no candidates, or a candidate of a tuple key has another length than the key.

    >>> draw = ProductBaselines({"city": ["Rome", "Paris"], ("name", "pronoun"): [("Ann", "her"), ("Bob", "his")]})
    >>> sorted(draw())
    ['city', 'name', 'pronoun']
    """

    def __init__(
        self,
        baseline_values: Sequence[Sequence[object]] | Mapping[Hashable, Sequence[object]],
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        keys, slots = _slots(baseline_values)
        self.dict_keys = keys
        self.baseline_values = [_candidates(values, index) for index, values in enumerate(slots)]
        for key, values in zip(keys, self.baseline_values, strict=False):
            _check_tuple_key(key, values)
        self._generator = one_generator(generator, seed)

    def sample(self) -> list[object] | dict[Hashable, object]:
        """Draw one value per slot.

        Returns:
            List in the order of the slots, or dict from each single name to its value.
        """
        drawn = [self._choose(values) for values in self.baseline_values]
        if not self.dict_keys:
            return drawn
        named: dict[Hashable, object] = {}
        for key, value in zip(self.dict_keys, drawn, strict=True):
            named.update(zip(key, value, strict=True) if _is_tuple(key) and _is_sequence(value) else [(key, value)])
        return named

    def __call__(self) -> list[object] | dict[Hashable, object]:
        """Draw one value per slot; same as :meth:`sample`."""
        return self.sample()

    def _choose(self, values: list[object]) -> object:
        if self._generator is None:
            return random.choice(values)  # noqa: S311 - no secret is drawn
        device = self._generator.device
        return values[int(torch.randint(len(values), (1,), generator=self._generator, device=device).item())]


def _is_tuple(x: object) -> TypeGuard[tuple[Hashable, ...]]:
    return isinstance(x, tuple)


def _is_sequence(x: object) -> TypeGuard[Sequence[object]]:
    return isinstance(x, (list, tuple))


def _is_iterable(x: object) -> TypeGuard[Iterable[object]]:
    return isinstance(x, Iterable) and not isinstance(x, (str, bytes))


def _is_mapping(x: object) -> TypeGuard[Mapping[Hashable, object]]:
    return isinstance(x, Mapping)


def _slots(values: object) -> tuple[list[Hashable], list[object]]:
    if _is_mapping(values):
        return list(values.keys()), list(values.values())
    if _is_iterable(values):
        return [], list(values)
    message = f"baseline_values must be a list of lists or a dict of lists, got a {type(values).__name__}"
    raise InputTypeError(message)


def _candidates(values: object, slot: int) -> list[object]:
    if not _is_iterable(values):
        message = f"slot {slot} of baseline_values must be a list of candidates, got a {type(values).__name__}"
        raise InputTypeError(message)
    candidates = list(values)
    if not candidates:
        message = f"slot {slot} of baseline_values has no candidates; give at least one"
        raise BaselineError(message)
    return candidates


def _check_tuple_key(key: Hashable, values: list[object]) -> None:
    if not _is_tuple(key):
        return
    for value in values:
        if not _is_sequence(value) or len(value) != len(key):
            found = f"one of {len(value)}" if _is_sequence(value) else f"a {type(value).__name__}"
            message = f"candidates of {key!r} must be tuples of {len(key)} values, one per name, got {found}"
            raise BaselineError(message)
