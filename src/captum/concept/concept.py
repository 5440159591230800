"""Concepts: what a user names by examples."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from captum._engine.values import describe
from captum.errors import InputTypeError

__all__ = ["Concept", "ConceptInterpreter", "concepts_to_str"]


class Concept:
    """A concept, given by examples of it.

    Args:
        id: whole number that no other concept has.
        name: what people call it; part of the names of files.
        data_iter: batches of examples as the model takes them, such as a DataLoader: tensors ``(B, *)``, mappings of
            keyword inputs, or tuples and lists whose first element is that. None for a concept without its examples,
            as one that comes with a CAV from a file: what is stored for the model under its name and id is used.

    Raises:
        InputTypeError: when the id is not a whole number.

    Example:
        >>> import torch
        >>> Concept(id=0, name="striped", data_iter=[torch.randn(8, 3)])
        Concept(0, 'striped')
    """

    def __init__(self, id: int, name: str, data_iter: Iterable[Any] | None) -> None:  # noqa: A002 - the published name
        try:
            self.id = operator.index(id)
        except TypeError:
            message = f"Expected a whole number as the id of a concept, got {describe(id)}."
            raise InputTypeError(message) from None
        self.name = name
        self.data_iter = data_iter

    @property
    def identifier(self) -> str:
        """``"name-id"``."""
        return f"{self.name}-{self.id}"

    def __repr__(self) -> str:
        return f"Concept({self.id!r}, {self.name!r})"


def concepts_to_str(concepts: Sequence[Concept]) -> str:
    """The key of an experimental set: the ids of its concepts, in order, joined by ``"-"``.

    Example:
        >>> concepts_to_str([Concept(3, "striped", None), Concept(0, "random", None)])
        '3-0'
    """
    return "-".join(str(concept.id) for concept in concepts)


class ConceptInterpreter:
    """Base of methods that explain a model by concepts.

    Args:
        model: the model; methods derived from this have ``interpret(inputs, …)``.
    """

    interpret: Callable[..., Any]

    def __init__(self, model: nn.Module) -> None:
        self.model = model
