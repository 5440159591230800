"""What the user asks for, checked before anything slow begins."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from captum.attr.catalogue.titles import averaged, titled
from captum.attr.registry import Method, find_method
from captum.cli.models import Subject
from captum.errors import InputError

__all__ = ["SMOOTHINGS", "Request", "missing", "request", "settings", "target_index", "unused"]

SMOOTHINGS = {
    "smoothgrad": "mean over noisy copies",
    "smoothgrad_sq": "mean square over noisy copies",
    "vargrad": "variance over noisy copies",
}
_SMOOTHING_ARGUMENTS = ("nt_samples", "nt_samples_batch_size", "seed", "stdevs")
_SPOKEN = {"method": "quadrature"}  # as captum.explain says it
_ONLY_THE_USER_KNOWS = {
    "neuron_selector": "an index of the layer's value without the batch, such as 7, or '(3, 0, 5)' in a map",
    "groups": "nested lists of feature numbers, such as '[[0, 1], [2, 3]]'",
}
_SAID_OTHERWISE = ("inputs", "target", "layer", "device_ids", "return_convergence_delta")


@dataclass(frozen=True)
class Request:
    """One method, alone or averaged over noisy copies of the input."""

    method: Method
    smoothing: str | None = None

    @property
    def key(self) -> str:
        """A name for files."""
        return f"{self.method.name}_{self.smoothing}" if self.smoothing else self.method.name

    def title(self, given: Mapping[str, object]) -> str:
        """A name for readers, when these arguments are given."""
        variant = given.get("variant") if "variant" in self.own else None
        return averaged(titled(self.method.class_name, variant), self.smoothing)

    @property
    def meaning(self) -> str:
        """What one number says."""
        return f"{self.method.summary}; {SMOOTHINGS[self.smoothing]}" if self.smoothing else self.method.summary

    @property
    def arguments(self) -> tuple[str, ...]:
        """What may be set; what the command says in other ways may not."""
        return (*self.own, *(_SMOOTHING_ARGUMENTS if self.smoothing else ()))

    @property
    def own(self) -> tuple[str, ...]:
        """What the method itself may be given, when it is made and when it is asked."""
        making = list(inspect.signature(self.method.load()).parameters)[1:]
        names = (*making, *self.method.parameters())
        return tuple(_SPOKEN.get(name, name) for name in names if name not in _SAID_OTHERWISE)


def request(text: str) -> Request:
    """Read ``NAME`` or ``NAME+SMOOTHING``.

    >>> request("saliency+vargrad").key
    'saliency_vargrad'
    """
    name, plus, smoothing = text.partition("+")
    if plus and smoothing not in SMOOTHINGS:
        message = f"there is no averaging {smoothing!r}: write {name}+{f', {name}+'.join(SMOOTHINGS)}"
        raise InputError(message)
    return Request(find_method(name), smoothing or None)


def settings(pairs: Iterable[str], **options: object) -> dict[str, object]:
    """Read ``KEY=VALUE`` pairs; a value is a Python literal, or else text. Options that are ``None`` are left out.

    >>> settings(["n_steps=20", "quadrature=riemann_trapezoid"], n_samples=None)
    {'n_steps': 20, 'quadrature': 'riemann_trapezoid'}
    """
    found = {name: value for name, value in options.items() if value is not None}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            message = f"--set takes KEY=VALUE, such as n_steps=100; got {pair!r}"
            raise InputError(message)
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


def unused(given: Mapping[str, object], requests: Iterable[Request]) -> None:
    """Refuse arguments that none of the methods takes."""
    accepted = sorted({name for one in requests for name in one.arguments})
    strange = [name for name in given if name not in accepted]
    if strange:
        message = f"no chosen method takes {', '.join(strange)}; they take {', '.join(accepted)}"
        raise InputError(message)


def missing(given: Mapping[str, object], requests: Iterable[Request]) -> None:
    """Refuse methods that need to be told what nobody but the user knows."""
    for one in requests:
        for name, hint in _ONLY_THE_USER_KNOWS.items():
            if name in one.method.needs and name not in given:
                message = f"method {one.method.name!r} needs --set {name}=…: {hint}"
                raise InputError(message)


def target_index(text: str, subject: Subject, best: int, classes: int) -> int:
    """Return the class that a number, a class name or ``argmax`` means.

    Args:
        text: What the user typed.
        subject: The model with its class names.
        best: The likeliest class.
        classes: How many there are.

    Raises:
        InputError: No class, or more than one, is meant.
    """
    if text == "argmax":
        return best
    if text.lstrip("-").isdecimal():
        index = int(text)
        if not 0 <= index < classes:
            message = f"--target {index} is outside the model's classes 0 to {classes - 1}"
            raise InputError(message)
        return index
    wanted = text.casefold()
    named = {index: label.casefold() for index, label in subject.labels.items()}
    found = [index for index, label in named.items() if label == wanted]
    found = found or [index for index, label in named.items() if wanted in label]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(f"{index} ({subject.label(index)})" for index in found[:5])
        message = f"--target {text!r} fits several classes: {some}; give a number"
    else:
        message = f"no class of {subject.name} is called {text!r}; give its number, 0 to {classes - 1}"
    raise InputError(message)
