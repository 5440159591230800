"""Every method by name: one row each, and a row is all it takes to add one.

Rows name their class by import path, so reading the table loads no algorithm.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Literal

from captum.errors import InputError, InputTypeError

__all__ = ["METHODS", "Method", "find_method", "load_class", "method_of"]

Kind = Literal["input", "layer", "neuron"]


@dataclass(frozen=True)
class Method:
    """One attribution method: what it says, where its class lives, what it needs.

    Args:
        name: The name to pass as ``method=``, in snake_case.
        summary: One line: what one number of the result means.
        home: Import path of the class, ``"package.module:Class"``.
        kind: What is given a score: the model's ``"input"``, the value of a ``"layer"``, or the ``"input"`` as seen
            by one ``"neuron"``.
        needs: Arguments without a default that must be given, such as ``"layer"``.
        defaults: Arguments that :func:`captum.explain` passes unless told otherwise.
        multiplies_by_inputs: Whether values are in units of the score, so that they add up over features, rather
            than score per unit of the input.
        has_convergence_delta: Whether the method can say by how much its values miss the change of the score.
        reads_target: Whether the method explains one of the model's scores; without, it only looks inside.
        extra: The optional dependency the method cannot run without, as a pip extra, or ``None``.
    """

    name: str
    summary: str
    home: str
    kind: Kind = "input"
    needs: tuple[str, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=dict[str, object], hash=False)
    multiplies_by_inputs: bool = True
    has_convergence_delta: bool = False
    reads_target: bool = True
    extra: str | None = None

    @property
    def title(self) -> str:
        """The class's name as words, for headings."""
        name = self.home.rpartition(":")[2]
        words = "".join(f" {letter}" if letter.isupper() else letter for letter in name).split()
        return name if max(map(len, words)) == 1 else " ".join(words)

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


_LAYER = ("layer",)
_NEURON = ("layer", "neuron_selector")
_GRADIENTS = "captum.attr.gradients"
_PATHS = "captum.attr.paths"

_ROWS = (
    # name, summary, home, kind, needs
    Method(
        "saliency",
        "How fast the score moves with each value, whichever way (size of the gradient)",
        f"{_GRADIENTS}.saliency:Saliency",
        multiplies_by_inputs=False,
    ),
    Method(
        "input_x_gradient",
        "Gradient times value: each value's share of the score if the model were linear here",
        f"{_GRADIENTS}.saliency:InputXGradient",
    ),
    Method(
        "integrated_gradients",
        "Each value's share of the score's change from the baseline to the input",
        f"{_PATHS}.integrated_gradients:IntegratedGradients",
        has_convergence_delta=True,
    ),
    Method(
        "idgi",
        "The score's change from the baseline, shared at each step by where the gradient points",
        f"{_PATHS}.idgi:IDGI",
        has_convergence_delta=True,
    ),
    Method(
        "gradient_shap",
        "Each value's expected share of the score's change from randomly drawn baselines",
        f"{_PATHS}.gradient_shap:GradientShap",
        needs=("baselines",),
        has_convergence_delta=True,
    ),
    Method(
        "layer_activation",
        "What the layer computes for this input, whatever the score",
        f"{_GRADIENTS}.activation:LayerActivation",
        "layer",
        _LAYER,
        reads_target=False,
    ),
    Method(
        "layer_gradient_x_activation",
        "Gradient times activation at the layer: a unit's share if the rest were linear",
        f"{_GRADIENTS}.activation:LayerGradientXActivation",
        "layer",
        _LAYER,
    ),
    Method(
        "layer_grad_cam",
        "Where a convolutional layer sees evidence for the target, as a coarse map",
        f"{_GRADIENTS}.grad_cam:LayerGradCam",
        "layer",
        _LAYER,
        multiplies_by_inputs=False,
    ),
    Method(
        "layer_integrated_gradients",
        "Each unit's share of the score's change, integrated in the space of the layer",
        f"{_PATHS}.integrated_gradients:LayerIntegratedGradients",
        "layer",
        _LAYER,
        has_convergence_delta=True,
    ),
    Method(
        "layer_conductance",
        "How much of the integrated gradients of the input flows through each unit",
        f"{_PATHS}.conductance:LayerConductance",
        "layer",
        _LAYER,
        has_convergence_delta=True,
    ),
    Method(
        "internal_influence",
        "Average gradient at each unit on the way from the baseline to the input",
        f"{_PATHS}.influence:InternalInfluence",
        "layer",
        _LAYER,
        multiplies_by_inputs=False,
    ),
    Method(
        "layer_gradient_shap",
        "Each unit's expected share of the score's change from randomly drawn baselines",
        f"{_PATHS}.gradient_shap:LayerGradientShap",
        "layer",
        ("layer", "baselines"),
        has_convergence_delta=True,
    ),
    Method(
        "neuron_gradient",
        "How fast one neuron moves with each value of the input",
        f"{_GRADIENTS}.saliency:NeuronGradient",
        "neuron",
        _NEURON,
        multiplies_by_inputs=False,
        reads_target=False,
    ),
    Method(
        "neuron_integrated_gradients",
        "Each value's share of one neuron's change from the baseline to the input",
        f"{_PATHS}.integrated_gradients:NeuronIntegratedGradients",
        "neuron",
        _NEURON,
        reads_target=False,
    ),
    Method(
        "neuron_conductance",
        "Each value's share of the score that flows through one neuron",
        f"{_PATHS}.conductance:NeuronConductance",
        "neuron",
        _NEURON,
    ),
    Method(
        "neuron_gradient_shap",
        "Each value's expected share of one neuron's change from randomly drawn baselines",
        f"{_PATHS}.gradient_shap:NeuronGradientShap",
        "neuron",
        (*_NEURON, "baselines"),
        reads_target=False,
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType({row.name: row for row in _ROWS})
"""Every method by name, in the order in which a list should show them."""


def load_class(home: str) -> type:
    """Import and return the class at ``"package.module:Class"``."""
    module, _, name = home.partition(":")
    found: object = getattr(import_module(module), name)
    if not isinstance(found, type):
        message = f"expected the path of a class; {home} is a {type(found).__name__}"
        raise InputTypeError(message)
    return found


def find_method(name: str) -> Method:
    """Return the row of a method.

    Args:
        name: A name in :data:`METHODS`; upper case, blanks and hyphens are forgiven, and so is the
            class's name (``"IntegratedGradients"``).

    Returns:
        The row.

    Raises:
        InputError: No method has that name; the message names the closest ones.

    >>> find_method("Integrated Gradients").name
    'integrated_gradients'
    """
    plain = _plain(name)
    for row in METHODS.values():
        if plain in (_plain(row.name), _plain(row.home.rpartition(":")[2])):
            return row
    plains = {_plain(row.name): row.name for row in METHODS.values()}
    close = [plains[match] for match in difflib.get_close_matches(plain, plains, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"choose one of {', '.join(METHODS)}"
    message = f"there is no attribution method {name[:80]!r}: {hint}"
    raise InputError(message)


def method_of(cls: type) -> Method | None:
    """Return the row of a class, or ``None`` for a class that the table does not know, such as a user's own.

    Args:
        cls: The class; a subclass of a listed class is a class of its own.
    """
    home = f"{cls.__module__}:{cls.__qualname__}"
    return next((row for row in METHODS.values() if row.home == home), None)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
