"""Read what users pass, once, at the border: structures of tensors, baselines and extra arguments.

Inside the library only tuples of tensors travel. This module is the one place that looks at user values of any type.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor

from captum.errors import BaselineError, InputError, InputTypeError

Rebuild = Callable[[Iterator[Tensor]], Any]


def is_namedtuple(value: object) -> bool:
    """Tell whether ``value`` is an instance of a named tuple class."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def is_record(value: object) -> bool:
    """Tell whether ``value`` is a dataclass instance (and not the class itself)."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Tell whether ``value`` maps names to values; ``ModelOutput`` and ``BatchEncoding`` do."""
    return isinstance(value, Mapping)


def describe(value: object) -> str:
    """Say type, shape and dtype of a value, never its contents."""
    if isinstance(value, Tensor):
        return f"a Tensor of shape {tuple(value.shape)} and dtype {value.dtype}"
    if is_mapping(value):
        return f"a {type(value).__name__} with keys {list(value)}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)} ({', '.join(type(v).__name__ for v in value[:6])})"
    return f"a {type(value).__name__}"


@dataclasses.dataclass(slots=True)
class Leaves:
    """Tensors found in a structure, a name for each, and how to build the structure again."""

    tensors: list[Tensor]
    names: list[str]

    def gather(self, value: Any, name: str) -> Rebuild:
        """Walk ``value`` depth first, keep its tensors, and return the function that puts others in their places."""
        if isinstance(value, Tensor):
            self.tensors.append(value)
            self.names.append(name)
            return next
        if is_mapping(value):
            return self._gather_mapping(value, name)
        if isinstance(value, (list, tuple)):
            return self._gather_sequence(value, name)
        if is_record(value):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
            parts = {k: self.gather(v, f"{name}.{k}") for k, v in fields.items()}
            return lambda leaves: dataclasses.replace(value, **{k: part(leaves) for k, part in parts.items()})
        return lambda _: value

    def _gather_mapping(self, value: Mapping[str, Any], name: str) -> Rebuild:
        parts = {k: self.gather(v, f"{name}[{k!r}]" if name else str(k)) for k, v in value.items()}
        kind = type(value)

        def rebuild(leaves: Iterator[Tensor]) -> Any:
            items = {k: part(leaves) for k, part in parts.items()}
            if kind is dict:
                return items
            try:
                return kind(items)  # pyright: ignore[reportCallIssue]  # Mapping itself takes no arguments, its kinds do
            except TypeError:
                return kind(**items)

        return rebuild

    def _gather_sequence(self, value: list[Any] | tuple[Any, ...], name: str) -> Rebuild:
        parts = [self.gather(v, f"{name}[{i}]") for i, v in enumerate(value)]
        kind: Any = type(value)
        if is_namedtuple(value):
            return lambda leaves: kind(*[part(leaves) for part in parts])
        return lambda leaves: kind([part(leaves) for part in parts])


@dataclasses.dataclass(slots=True)
class Inputs:
    """The inputs of one call: their tensors, and how the model wants to be called with others in their places.

    ``tensors`` are aligned along dim 0, the batch. ``form`` is ``"tensor"``, ``"tuple"``, ``"keywords"`` or
    ``"single"``: one positional argument, several, keyword arguments, or one structure as the only argument.
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    form: str
    rebuild: Rebuild | None = None

    @property
    def batch(self) -> int:
        """Number of examples: the size of dim 0 of the first tensor."""
        first = self.tensors[0]
        if first.dim() == 0:
            message = f"Expected inputs whose dim 0 is the batch, got {describe(first)}; add a dim with x[None]."
            raise InputError(message)
        return first.shape[0]

    def arguments(self, tensors: tuple[Tensor, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of the model with ``tensors`` in the places of the inputs."""
        if self.rebuild is None:
            return tensors, {}
        value = self.rebuild(iter(tensors))
        if self.form == "keywords":
            return (), dict(value)
        return (value if self.form == "tuple" else (value,)), {}

    def restore(self, tensors: tuple[Tensor, ...]) -> Any:
        """The structure of the inputs with ``tensors`` in it."""
        if self.form == "tensor":
            return tensors[0]
        return tensors if self.rebuild is None else self.rebuild(iter(tensors))


def parse_inputs(inputs: Any, forward: Any = None) -> Inputs:
    """Read ``inputs``: a tensor, a tuple, a mapping of keyword inputs, or any structure as the only argument."""
    if isinstance(inputs, Tensor):
        return Inputs((inputs,), ("input",), "tensor")
    if type(inputs) is tuple and inputs and all(isinstance(v, Tensor) for v in inputs):
        return Inputs(inputs, tuple(f"input {i}" for i in range(len(inputs))), "tuple")
    if isinstance(inputs, list):
        message = f"Expected a Tensor, a tuple, a dict or a dataclass as inputs, got {describe(inputs)}; pass a tuple."
        raise InputTypeError(message)
    leaves = Leaves([], [])
    form = "tuple" if isinstance(inputs, tuple) and not is_namedtuple(inputs) else "single"
    if form == "tuple":
        for value in inputs:
            if not isinstance(value, (Tensor, list, tuple)) and not is_mapping(value) and not is_record(value):
                message = (
                    f"Expected a tuple of Tensors as inputs, got {describe(inputs)}; pass constants as "
                    "additional_forward_args."
                )
                raise InputTypeError(message)
        rebuild = leaves.gather(inputs, "input")
    elif is_mapping(inputs):
        rebuild = leaves.gather(inputs, "")
        form = "keywords" if takes_keywords(forward, list(inputs)) else "single"
    else:
        rebuild = leaves.gather(inputs, type(inputs).__name__)
    if not leaves.tensors:
        hint = "pass torch.as_tensor(…)" if hasattr(inputs, "__array__") else "pass a Tensor, or a structure of them"
        if hasattr(inputs, "to_numpy"):
            hint = "pass torch.tensor(table.to_numpy(), dtype=torch.float32), or a pandas table to captum.explain"
        message = f"Expected inputs with at least one Tensor, got {describe(inputs)}; {hint}."
        raise InputTypeError(message)
    return Inputs(tuple(leaves.tensors), tuple(leaves.names), form, rebuild)


def takes_keywords(forward: Any, names: list[str]) -> bool:
    """Tell whether ``forward`` can be called with these keywords (a model may want the whole dict instead)."""
    function = forward.forward if isinstance(forward, torch.nn.Module) else forward
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    kinds = {p.kind for p in signature.parameters.values()}
    return inspect.Parameter.VAR_KEYWORD in kinds or all(n in signature.parameters for n in names)


def takes_nothing(forward: Any) -> bool:
    """Tell whether ``forward`` is a function without parameters: a closure over its own inputs."""
    if isinstance(forward, functools.partial):
        try:
            return not inspect.signature(forward).parameters
        except ValueError:  # of a function that is built in, without a signature
            return False
    code = getattr(forward, "__code__", None)
    if code is None or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return False
    return code.co_argcount + code.co_kwonlyargcount == (1 if inspect.ismethod(forward) else 0)


def parse_constants(additional_forward_args: Any) -> tuple[Any, ...]:
    """Extra arguments of the model as a tuple; None means none."""
    if additional_forward_args is None:
        return ()
    if isinstance(additional_forward_args, tuple):
        return additional_forward_args
    return (additional_forward_args,)


def per_input(value: Any, inputs: Inputs, what: str) -> tuple[Any, ...]:
    """One entry of ``value`` per input tensor; ``value`` has the structure of the inputs, or is None for all."""
    count = len(inputs.tensors)
    if value is None:
        return (None,) * count
    if inputs.form in ("tensor", "tuple") and inputs.rebuild is None:
        entries = value if isinstance(value, tuple) else (value,)
        if len(entries) != count:
            message = f"Expected {what} for {count} input tensor(s), got {len(entries)}; pass a tuple of {count}."
            raise BaselineError(message)
        return entries
    if isinstance(value, numbers.Real):
        return (value,) * count
    if is_mapping(value):
        entries = tuple(value.get(name) for name in inputs.names)
        unknown = [k for k in value if k not in inputs.names]
        if not unknown:
            return entries
    leaves = Leaves([], [])
    plain = type(value) is tuple
    leaves.gather(value, "" if is_mapping(value) else "input" if plain else type(value).__name__)
    if sorted(leaves.names) == sorted(inputs.names):
        named = dict(zip(leaves.names, leaves.tensors, strict=True))
        return tuple(named[n] for n in inputs.names)
    if len(leaves.tensors) != count:
        message = f"Expected {what} in the structure of the inputs, {list(inputs.names)}; got {describe(value)}."
        raise BaselineError(message)
    return tuple(leaves.tensors)


def parse_baselines(baselines: Any, inputs: Inputs) -> tuple[Tensor, ...]:
    """One baseline per input tensor, of shape ``(1, *)`` or ``(B, *)``, in the dtype and on the device of the input."""
    entries = per_input(baselines, inputs, "baselines")
    return tuple(_as_baseline(e, x, n) for e, x, n in zip(entries, inputs.tensors, inputs.names, strict=True))


def _as_baseline(entry: Any, tensor: Tensor, name: str) -> Tensor:
    """One baseline as a tensor whose dim 0 is 1 or B and whose other dims are those of ``tensor``."""
    feature = tensor.shape[1:]
    if entry is None:
        return tensor.new_zeros((1, *feature))
    if isinstance(entry, numbers.Real):  # numbers of NumPy too
        entry = float(entry) if not isinstance(entry, numbers.Integral) else int(entry)
        dtype = tensor.dtype
        if not dtype.is_floating_point and isinstance(entry, float) and not entry.is_integer():
            dtype = torch.get_default_dtype()
        _require_range(entry, dtype, name)
        return torch.full((1, *feature), entry, dtype=dtype, device=tensor.device)
    allowed = f"None, a number, or a Tensor of shape {tuple(tensor.shape)} or {(1, *feature)}"
    if not isinstance(entry, Tensor):
        message = f"Expected as baseline of {name}: {allowed}; got {describe(entry)}."
        raise BaselineError(message)
    fits = entry.dim() == tensor.dim() and entry.dim() > 0 and entry.shape[0] in (1, tensor.shape[0])
    if not fits or any(have not in (1, want) for have, want in zip(entry.shape[1:], feature, strict=True)):
        message = f"Expected as baseline of {name}: {allowed}; got {describe(entry)}."
        raise BaselineError(message)
    if tensor.dtype.is_floating_point and entry.dtype != tensor.dtype:
        entry = entry.to(tensor.dtype)
    return entry.expand(entry.shape[0], *feature)


def _require_range(number: float, dtype: torch.dtype, name: str) -> None:
    """Require a number that the dtype has: others would wrap around."""
    if dtype == torch.bool or dtype.is_complex or not math.isfinite(number):
        return
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    if not limits.min <= number <= limits.max:
        message = f"The baseline of {name} is outside the range of its {dtype}: pass inputs of a wider dtype."
        raise BaselineError(message)


def parse_distribution(baselines: Any, inputs: Inputs, raw_inputs: Any) -> tuple[Tensor, ...]:
    """Samples of a baseline distribution, ``(N, *)`` per input tensor; a callable may give them.

    A callable has no parameter, or one that receives the inputs. Entries after the first may be numbers.
    """
    if callable(baselines) and not isinstance(baselines, Tensor):
        takes = len(inspect.signature(baselines).parameters)
        if takes > 1:
            message = f"Expected a baselines function with no parameter or one, the inputs; got one with {takes}."
            raise BaselineError(message)
        baselines = baselines(raw_inputs) if takes else baselines()
    entries = per_input(baselines, inputs, "a baseline distribution")
    if not isinstance(entries[0], Tensor):
        message = (
            "Expected a baseline distribution: a Tensor of shape (N, *) per input, or a callable that returns it; "
            f"got {describe(entries[0])}."
        )
        raise BaselineError(message)
    return tuple(_as_samples(e, x, n) for e, x, n in zip(entries, inputs.tensors, inputs.names, strict=True))


def _as_samples(entry: Any, tensor: Tensor, name: str) -> Tensor:
    if not isinstance(entry, Tensor):
        return _as_baseline(entry, tensor, name)
    feature = tuple(tensor.shape[1:])
    if entry.dim() != tensor.dim() or tuple(entry.shape[1:]) != feature or entry.shape[0] == 0:
        message = f"Expected baselines of shape (N, {', '.join(map(str, feature))}) for {name}; got {describe(entry)}."
        raise BaselineError(message)
    return entry.to(tensor.dtype) if tensor.dtype.is_floating_point else entry
