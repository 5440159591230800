"""What a parity case is, and how its result becomes plain arrays."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

Attr = ModuleType
Run = Callable[[Any], object]


@dataclass(frozen=True)
class Case:
    """One call: ``run(captum.attr)`` after every random stream is seeded with ``seed``.

    ``needs`` lists further public names, ``"Name"`` of ``captum.attr`` or ``"module:Name"``; the case is skipped
    while one of them is missing.
    """

    algorithm: str
    name: str
    run: Run
    needs: tuple[str, ...] = ()
    seed: int = 123

    @property
    def id(self) -> str:
        """The algorithm and the name, the key under which results are stored."""
        return f"{self.algorithm}/{self.name}"


def bound(function: Callable[..., object], *arguments: object, **options: object) -> Run:
    """A case's ``run``: the function with ``captum.attr`` first, then these arguments."""
    return lambda attr: function(attr, *arguments, **options)


def missing(case: Case, attr: Attr) -> list[str]:
    """The names that the case needs and the installed package does not have."""
    return [name for name in (case.algorithm, *case.needs) if not _has(name, attr)]


def _has(name: str, attr: Attr) -> bool:
    module, _, leaf = name.rpartition(":")
    try:
        home = importlib.import_module(module) if module else attr
        getattr(home, leaf)
    except (ImportError, AttributeError):
        return False
    return True


def flatten(value: object) -> tuple[str, list[np.ndarray], list[str]]:
    """The structure of a result as text, its numbers in order, and their dtypes."""
    arrays: list[np.ndarray] = []
    dtypes: list[str] = []
    structure = _walk(value, arrays, dtypes)
    return structure, arrays, dtypes


def _walk(value: object, arrays: list[np.ndarray], dtypes: list[str]) -> str:
    if isinstance(value, Tensor):
        dtypes.append(str(value.dtype).removeprefix("torch."))
        plain = value.detach().to("cpu")
        arrays.append((plain.float() if plain.dtype in (torch.bfloat16, torch.float16) else plain).numpy().copy())
        return "T"
    if isinstance(value, np.ndarray):
        arrays.append(np.asarray(value))
        dtypes.append(str(value.dtype))
        return "A"
    if isinstance(value, (bool, int, float, np.number)):
        arrays.append(np.asarray(value))
        dtypes.append("number")
        return "n"
    if isinstance(value, Mapping):
        return (
            "{" + ",".join(f"{key}:{_walk(item, arrays, dtypes)}" for key, item in sorted(value.items(), key=str)) + "}"
        )
    if isinstance(value, tuple):
        return "(" + ",".join(_walk(item, arrays, dtypes) for item in value) + ")"
    if isinstance(value, list):
        return "[" + ",".join(_walk(item, arrays, dtypes) for item in value) + "]"
    return repr(value) if value is None or isinstance(value, str) else type(value).__name__
