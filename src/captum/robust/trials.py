"""Trials: a model's outputs for values of any kind, several of them in one forward pass."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from captum._engine.rows import Chunk
from captum._engine.score import find_modules
from captum._engine.sweep import Plan, Sweep, check_limit, parameter_count
from captum._engine.values import Leaves, is_mapping, is_record, parse_constants, takes_keywords, takes_nothing
from captum.errors import InputError, InputTypeError

K = TypeVar("K")

_ONE_TUPLE = (
    "captum passed the tuple of inputs as one argument, since the model can be called with one: name the parameters in "
    "a dict to pass several."
)


def copied(value: Any) -> Any:
    """A value with copies of its tensors, safe from code that writes into them; what holds none is itself."""
    leaves = Leaves([], [])
    rebuild = leaves.gather(value, "")
    if not leaves.tensors:
        return value
    return rebuild(iter([t.detach().clone().requires_grad_(t.requires_grad) for t in leaves.tensors]))


def check_function(function: object, name: str) -> None:
    """Require something that can be called."""
    if not callable(function):
        message = f"Expected {name} to be a function or a model, got a {type(function).__name__}."
        raise InputTypeError(message)


class Trials:
    """Runs a model on candidates, in order.

    Args:
        forward: the model or function. It gets a tuple as one argument, or spread where it does not take it so; a
            mapping as keywords where it has these parameters.
        additional: constants of the model; tensors with a row per example are repeated with the candidates.
        most: candidates per forward pass, as the user gave it; None to plan it.
    """

    def __init__(self, forward: Callable[..., Any], additional: Any, most: Any) -> None:
        check_function(forward, "forward_func")
        self._forward = forward
        self._constants = parse_constants(additional)
        self._most = check_limit(most, "perturbations_per_eval")
        self._work = parameter_count(find_modules(forward))

    def outputs(self, candidates: Iterable[tuple[K, Any]]) -> Iterator[tuple[K, Any]]:
        """The output for each candidate ``(key, value)``, with its key; candidates are made as they are needed."""
        source = iter(candidates)
        for first in source:
            group = [first, *itertools.islice(source, self._size(first[1]) - 1)]
            for _, run in itertools.groupby(group, lambda candidate: _form(candidate[1])):
                alike = list(run)
                found = self._run([value for _, value in alike])
                yield from zip((key for key, _ in alike), found, strict=True)

    def _size(self, value: Any) -> int:
        """How many candidates like ``value`` are taken together."""
        if self._most is not None:
            return self._most
        tensors = _tensors(value)
        rows = max((len(t) for t in tensors if t.dim()), default=1)
        return Plan(None, sum(t.numel() for t in tensors), self._work * rows).size(1 << 30)

    def _run(self, values: Sequence[Any]) -> list[Any]:
        """Outputs for values of one form; in smaller groups when memory runs out."""

        def body(chunk: Chunk) -> list[Any]:
            return self._together(values[chunk.start : chunk.stop])

        sweep = Sweep(len(values), 1, Plan(len(values), 1))
        return [output for _, outputs in sweep.run(body) for output in outputs]

    def _together(self, values: Sequence[Any]) -> list[Any]:
        count = len(values)
        if count == 1:
            return [self._call(copied(values[0]), self._constants)]
        parts = [Leaves([], []) for _ in values]
        rebuild, *_ = [part.gather(value, "") for part, value in zip(parts, values, strict=True)]
        rows = len(parts[0].tensors[0])
        joined = rebuild(iter([torch.cat(column) for column in zip(*[p.tensors for p in parts], strict=True)]))
        constants = tuple(_repeated(c, rows, count) for c in self._constants)
        output = self._call(joined, constants)
        read = Leaves([], [])
        rebuild = read.gather(output, "")
        if read.tensors and all(t.dim() and len(t) == rows * count for t in read.tensors):
            pieces = zip(*[t.split(rows) for t in read.tensors], strict=True)
            return [rebuild(iter(piece)) for piece in pieces]
        if self._most is None:
            return [self._call(copied(value), self._constants) for value in values]
        message = (
            f"perturbations_per_eval > 1 needs outputs with a row per input: {rows * count} rows went in, and the "
            f"output has tensors of shapes {[tuple(t.shape) for t in read.tensors]}. Use perturbations_per_eval=1."
        )
        raise InputError(message)

    def _call(self, value: Any, constants: tuple[Any, ...]) -> Any:
        args, keywords = _arguments(self._forward, value, constants)
        try:
            with torch.no_grad():
                return self._forward(*args, **keywords)
        except Exception as fault:
            if isinstance(value, tuple) and args and args[0] is value:
                fault.add_note(_ONE_TUPLE)
            raise


def _arguments(
    forward: Callable[..., Any], value: Any, constants: tuple[Any, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the model for a value."""
    if takes_nothing(forward):
        return (), {}
    if is_mapping(value) and (takes_keywords(forward, list(value)) or not _fits(forward, 1 + len(constants))):
        return constants, dict(value)
    if isinstance(value, tuple) and not _fits(forward, 1 + len(constants)):
        return (*value, *constants), {}
    return (value, *constants), {}


def _fits(forward: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many positional arguments."""
    function = forward.forward if isinstance(forward, torch.nn.Module) else forward
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # built in, without a signature
        return True
    return True


def _tensors(value: Any) -> list[Tensor]:
    leaves = Leaves([], [])
    leaves.gather(value, "")
    return leaves.tensors


def _form(value: Any) -> object:
    """Equal for values that can run together: structures of nothing but tensors, alike in names and shapes."""
    leaves = Leaves([], [])
    leaves.gather(value, "")
    rows = {len(t) if t.dim() else 0 for t in leaves.tensors}
    if not _only_tensors(value) or len(rows) != 1 or 0 in rows:
        return object()
    shapes = [(t.shape, t.dtype, t.device) for t in leaves.tensors]
    return type(value), leaves.names, shapes


def _only_tensors(value: Any) -> bool:
    if is_mapping(value):
        return all(_only_tensors(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return all(_only_tensors(v) for v in value)
    if is_record(value):
        return all(_only_tensors(getattr(value, name)) for name in value.__dataclass_fields__)
    return isinstance(value, Tensor)


def _repeated(constant: Any, rows: int, count: int) -> Any:
    """A constant for ``count`` candidates of ``rows`` rows, one after the other."""
    if isinstance(constant, Tensor) and constant.dim() and len(constant) == rows:
        return torch.cat([constant] * count)
    return constant
