"""What is said about one attribution method."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal

from captum.attr.catalogue.titles import titled
from captum.errors import InputTypeError

__all__ = ["Kind", "Method", "load_class"]

Kind = Literal["input", "layer", "neuron"]


@dataclass(frozen=True)
class Method:
    """One attribution method: what it says, where its class lives, what it needs.

    Args:
        name: The name to pass as ``method=``, in snake_case.
        summary: One line: what one number of the result means.
        home: Import path of the class, ``"package:Class"``.
        kind: What is given a score: the model's ``"input"``, the value of a ``"layer"``, or the ``"input"`` as seen
            by one ``"neuron"``.
        needs: Arguments without a default, such as ``"layer"``.
        baseline_rows: How many baselines a method that needs them must have at least; with one, zeros are a default.
        delta_sign: 1 if the delta is the attributions' sum minus the change of the score, −1 for the reverse.
        defaults: Arguments that :func:`captum.explain` passes unless told otherwise.
        multiplies_by_inputs: As the class's property of that name: whether values carry the input's own factor, so that
            they are in units of the score.
        has_convergence_delta: Whether the method can say by how much its values miss the change of the score.
        reads_target: Whether the method explains one of the model's scores; without, it only looks inside.
        extra: The optional dependency the method cannot run without, as a pip extra, or ``None``.
    """

    name: str
    summary: str
    home: str
    kind: Kind = "input"
    needs: tuple[str, ...] = ()
    baseline_rows: int = 1
    delta_sign: Literal[1, -1] = 1
    defaults: Mapping[str, object] = field(default_factory=dict[str, object], hash=False)
    multiplies_by_inputs: bool = True
    has_convergence_delta: bool = False
    reads_target: bool = True
    extra: str | None = None

    @property
    def title(self) -> str:
        """The method's name as the literature spells it, for headings."""
        return titled(self.class_name)

    @property
    def class_name(self) -> str:
        """The name of its class."""
        return self.home.rpartition(":")[2]

    def load(self) -> type:
        """Import and return the class."""
        return load_class(self.home)

    def parameters(self) -> tuple[str, ...]:
        """Names of the arguments of the class's ``attribute``, in order and without ``self``."""
        attribute: object = getattr(self.load(), "attribute", None)
        if not callable(attribute):
            message = f"the class of method {self.name!r} has no attribute() method"
            raise InputTypeError(message)
        return tuple(name for name in inspect.signature(attribute).parameters if name != "self")


def load_class(home: str) -> type:
    """Import and return the class at ``"package.module:Class"``."""
    module, _, name = home.partition(":")
    found: object = getattr(import_module(module), name)
    if not isinstance(found, type):
        message = f"expected the path of a class; {home} is a {type(found).__name__}"
        raise InputTypeError(message)
    return found
