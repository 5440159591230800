"""Every method by name.

A row in :mod:`captum.attr.catalogue` is all it takes to add one. Rows name their class by import path, so that reading
the table loads no algorithm.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from captum.attr.catalogue.backprop import BACKPROP
from captum.attr.catalogue.games import GAMES
from captum.attr.catalogue.gradients import GRADIENTS
from captum.attr.catalogue.method import Method, load_class
from captum.errors import InputError

__all__ = ["METHODS", "Method", "find_method", "load_class", "method_of"]

METHODS: Mapping[str, Method] = MappingProxyType({row.name: row for row in (*GRADIENTS, *BACKPROP, *GAMES)})
"""Every method by name, in the order in which a list should show them."""


def find_method(name: str) -> Method:
    """Return the row of a method.

    Args:
        name: A name in :data:`METHODS`; upper case, blanks and hyphens are forgiven, and so are the class's name
            (``"IntegratedGradients"``) and the title (``"Guided Backpropagation"``).

    Returns:
        The row.

    Raises:
        InputError: No method has that name; the message names the closest ones.

    >>> find_method("Integrated Gradients").name
    'integrated_gradients'
    """
    plain = _plain(name)
    for row in METHODS.values():
        if plain in (_plain(row.name), _plain(row.class_name), _plain(row.title)):
            return row
    plains = {_plain(row.name): row.name for row in METHODS.values()}
    initials = [row.name for row in METHODS.values() if plain == "".join(word[0] for word in row.name.split("_"))]
    close = initials or [plains[match] for match in difflib.get_close_matches(plain, plains, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"choose one of {', '.join(METHODS)}"
    message = f"there is no attribution method {name[:80]!r}: {hint}"
    raise InputError(message)


def method_of(cls: type) -> Method | None:
    """Return the row of a class, or ``None`` for a class that the table does not know, such as a user's own.

    Args:
        cls: The class; a subclass of a listed class is a class of its own.
    """
    named = (row for row in METHODS.values() if row.class_name == cls.__name__)
    return next((row for row in named if row.load() is cls), None)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
