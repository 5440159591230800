"""From a name and arguments to a method ready to run: its class, its object, and every argument where it belongs."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from captum.attr.catalogue.method import Method, load_class
from captum.attr.question import Question
from captum.attr.registry import METHODS, find_method, method_of
from captum.attr.results.leaves import is_mapping, is_sequence, leaves, map_tensors
from captum.attr.results.naming import modules_by_name, plain
from captum.errors import InputError, InputTypeError, LayerError

__all__ = ["Bound", "Call", "bind", "described"]

Model = Callable[..., object]
_NOISE_SHARE = 0.15
_EMBEDDING_SHARE = 0.5
_HINTS = {
    "layer": "a module of the model or its dotted name",
    "neuron_selector": "an index, a tuple, or a function",
    "baselines": "a distribution of them, two rows or more",
    "groups": "nested lists of feature numbers",
}
#: ``explain`` has a ``method`` of its own, so it calls the quadrature of path methods by another name.
_QUADRATURE, _OWN_NAME = "quadrature", "method"
_PROGRESS = ("show_progress", "nt_show_progress")  # says nothing about the result
_TUNNEL = "captum.attr.averages.noise_tunnel:NoiseTunnel"


@dataclass(frozen=True)
class Call:
    """Everything a method may be given, apart from the question itself, as the arguments of ``explain``."""

    model: Model
    inputs: object
    layer: object
    neuron_selector: object
    baselines: object
    noise_tunnel: object
    additional_forward_args: object
    arguments: Mapping[str, object]


@dataclass(frozen=True)
class Bound:
    """A method ready to run: its row, its object, the arguments of its ``attribute``, and what a reader should know."""

    row: Method
    method: object
    arguments: dict[str, object]
    notes: tuple[str, ...]


def bind(call: Call, question: Question, method: object) -> Bound:
    """Find the class, make the object, and sort every argument to where it belongs."""
    row, built = _resolve(method, call)
    rest = {**row.defaults, **call.arguments}
    notes: list[str] = []
    if built is None:
        built = _construct(row, call, rest)
    accepted = _parameters(built)
    _name_quadrature(rest, accepted, row)
    passed: dict[str, object] = {"target": question.target} if "target" in accepted and row.reads_target else {}
    if call.additional_forward_args is not None:
        passed["additional_forward_args"] = call.additional_forward_args
    if "neuron_selector" in accepted:
        passed["neuron_selector"] = _needed(call.neuron_selector, row, "neuron_selector")
    if call.baselines is not None:
        passed["baselines"] = call.baselines
    elif "baselines" in row.needs and row.baseline_rows == 1:
        passed["baselines"] = map_tensors(_zero_row, call.inputs)
        notes.append("No baselines were given: one row of zeros was used.")
    if "return_convergence_delta" in accepted:
        passed["return_convergence_delta"] = True
    passed.update(rest)
    if "sliding_window_shapes" in row.needs and "sliding_window_shapes" not in passed:
        passed.update({**_windows(call.inputs), **rest})
        notes.append("No windows were given: an eighth of each axis was used, in steps of half a window.")
    for name in row.needs:
        if name in accepted and name not in passed:
            _missing(row, name)
    _refuse_unknown(passed, accepted, row, tunnelled=bool(call.noise_tunnel))
    if call.noise_tunnel:
        built, extra = _tunnel(call, built, accepted)
        passed.update(extra)
    return Bound(row, built, passed, tuple(notes))


def _resolve(method: object, call: Call) -> tuple[Method, object]:
    """Return the row of a method and, when the user gave an object, that object."""
    if isinstance(method, str):
        return _sibling(method, call), None
    if isinstance(method, Method):
        return method, None
    cls = method if isinstance(method, type) else type(method)
    if not callable(getattr(cls, "attribute", None)):
        message = f"expected method as a name, an attribution class or an object of one; got {cls.__name__}"
        raise InputTypeError(message)
    row = method_of(cls) or _own_row(cls)
    return row, None if isinstance(method, type) else method


def _sibling(name: str, call: Call) -> Method:
    """Return the row of a name, or of its layer or neuron sibling when a place is given."""
    prefix = "neuron_" if call.neuron_selector is not None else "layer_" if call.layer is not None else ""
    try:
        row = find_method(name)
    except InputError:
        if not prefix or f"{prefix}{name}" not in METHODS:
            raise
        return METHODS[f"{prefix}{name}"]
    if not prefix or row.kind != "input" or "layer" in row.needs:
        return row
    if f"{prefix}{row.name}" in METHODS:
        return METHODS[f"{prefix}{row.name}"]
    fitting = ", ".join(other.name for other in METHODS.values() if other.name.startswith(prefix))
    message = f"method {row.name!r} has no {prefix[:-1]} form: leave the {prefix[:-1]} out, or choose one of {fitting}"
    raise InputError(message)


def _own_row(cls: type) -> Method:
    """Describe a user's own class by its signature."""
    own = Method(cls.__name__, "A method that is not in the table", f"{cls.__module__}:{cls.__qualname__}")
    parameters = inspect.signature(cls).parameters
    attribute: object = getattr(cls, "attribute", None)
    accepted = list(inspect.signature(attribute).parameters) if callable(attribute) else []
    kind = "neuron" if "neuron_selector" in accepted else "layer" if "layer" in parameters else "input"
    return Method(own.name, own.summary, own.home, kind, reads_target="target" in accepted)


def _construct(row: Method, call: Call, rest: dict[str, object]) -> object:
    """Make the method's object; constructor arguments are taken out of ``rest``."""
    cls = row.load()
    parameters = inspect.signature(cls).parameters
    first: list[object] = [call.model]
    if "layer" in parameters:
        first.append(_module(call.model, _needed(call.layer, row, "layer")))
    own = {name: rest.pop(name) for name in list(rest) if name in parameters}
    return cls(*first, **own)


def _name_quadrature(rest: dict[str, object], accepted: Sequence[str], row: Method) -> None:
    """Give ``quadrature=`` the name that the method has for it."""
    if _QUADRATURE not in rest or _QUADRATURE in accepted:
        return
    if _OWN_NAME not in accepted:
        _refuse_unknown([_QUADRATURE], accepted, row)
    rest[_OWN_NAME] = rest.pop(_QUADRATURE)


def _needed(value: object, row: Method, name: str) -> object:
    return _missing(row, name) if value is None else value


def _missing(row: Method, name: str) -> NoReturn:
    hint = _HINTS.get(name, f"see the documentation of {row.class_name}")
    message = f"method {row.name!r} needs {name}=: {hint}"
    raise LayerError(message) if name == "layer" else InputError(message)


def _windows(inputs: object) -> dict[str, object]:
    """Return windows of an eighth of each axis and strides of half of that; channels of an image go together."""
    shapes: list[tuple[int, ...]] = []
    for leaf in leaves(inputs):
        shape = tuple(int(size) for size in leaf.value.shape[1:])
        window = tuple(max(1, size // 8) for size in shape)
        shapes.append((shape[0], *window[1:]) if len(shape) == 3 else window)
    strides = [tuple(max(1, size // 2) for size in window) for window in shapes]
    strides = [
        (window[0], *stride[1:]) if len(window) == 3 else stride for window, stride in zip(shapes, strides, strict=True)
    ]
    if len(shapes) == 1:
        return {"sliding_window_shapes": shapes[0], "strides": strides[0]}
    return {"sliding_window_shapes": tuple(shapes), "strides": tuple(strides)}


def _module(model: Model, layer: object) -> object:
    """Return a layer given as a module or by its dotted name; a list gives a list."""
    if is_sequence(layer):
        return [_module(model, part) for part in layer]
    if isinstance(layer, torch.nn.Module):
        return layer
    if not isinstance(layer, str):
        message = f"expected layer as a module or its dotted name, got {type(layer).__name__}"
        raise InputTypeError(message)
    if not isinstance(model, torch.nn.Module):
        message = (
            f"a layer has a name only in a torch.nn.Module; the model is a {type(model).__name__}: pass the module"
        )
        raise LayerError(message)
    known = modules_by_name(model)
    if layer in known:
        return known[layer]
    close = difflib.get_close_matches(layer, list(known), n=3, cutoff=0.4) or [name for name in known if name][:8]
    hint = f"expected a name such as {', '.join(map(repr, close))}" if close else "it has no modules inside"
    message = f"the model has no layer {layer[:80]!r}: {hint}"
    raise LayerError(message)


def _tunnel(call: Call, method: object, accepted: Iterable[str]) -> tuple[object, dict[str, object]]:
    """Wrap a method in a noise tunnel and return the tunnel's own arguments."""
    given = call.noise_tunnel
    extra: dict[str, object] = {}
    if isinstance(given, str):
        extra["nt_type"] = given
    elif is_mapping(given):
        extra.update({str(key): value for key, value in given.items()})
    extra.setdefault("nt_type", "smoothgrad")
    if "stdevs" not in extra:
        extra["stdevs"] = _noise(call)
    tunnel: object = load_class(_TUNNEL)(method)
    unknown = [name for name in extra if name not in _parameters(tunnel) and name not in accepted]
    if unknown:
        message = f"noise_tunnel has no argument {unknown[0][:80]!r}: expected {', '.join(_parameters(tunnel))}"
        raise InputError(message)
    return tunnel, extra


def _noise(call: Call) -> object:
    """Return 15 % of the range of each input, or half the spread of the embeddings of token ids; one number for one."""
    spreads: list[float] = []
    for leaf in leaves(call.inputs):
        value = leaf.value.detach()
        if value.is_floating_point():
            spreads.append(_NOISE_SHARE * float(value.double().max() - value.double().min()))
        else:
            spreads.append(_EMBEDDING_SHARE * _embedding_spread(call.model))
    return spreads[0] if len(spreads) == 1 else tuple(spreads)


def _embedding_spread(model: Model) -> float:
    tables = [module for module in modules_by_name(model).values() if isinstance(module, torch.nn.Embedding)]
    if not tables:
        message = (
            "the noise for integer inputs goes to their embeddings, and none is in sight: pass stdevs in noise_tunnel"
        )
        raise InputError(message)
    return float(tables[0].weight.detach().double().std())


def _zero_row(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor[:1])


def _parameters(method: object) -> list[str]:
    """Return the names that the method's ``attribute`` takes, the inputs left out."""
    attribute: object = getattr(method, "attribute", None)
    if not callable(attribute):
        return []
    parameters = inspect.signature(attribute).parameters.values()
    return [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD][1:]


def _refuse_unknown(passed: Iterable[str], accepted: Sequence[str], row: Method, *, tunnelled: bool = False) -> None:
    for name in passed:
        if name not in accepted:
            known = [_QUADRATURE if one == _OWN_NAME else one for one in accepted]
            close = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it takes {', '.join(known)}"
            if tunnelled and name in _parameters(load_class(_TUNNEL)):
                hint = f"those of NoiseTunnel go into noise_tunnel={{'nt_type': …, {name!r}: …}}"
            message = f"method {row.name!r} has no argument {name[:80]!r}: {hint}"
            raise InputError(message)


def described(call: Call, bound: Bound) -> dict[str, object]:
    """Return the arguments as a reader wants them: what the user chose, and how many steps ``"auto"`` came to."""
    hidden = {"target", "return_convergence_delta", "additional_forward_args", "nt_type", "stdevs", *_PROGRESS}
    spoken = {_OWN_NAME: _QUADRATURE}
    chosen = {spoken.get(name, name): plain(value) for name, value in bound.arguments.items() if name not in hidden}
    if call.noise_tunnel:
        given = [str(key) for key in call.noise_tunnel] if is_mapping(call.noise_tunnel) else []
        names = [name for name in ("nt_type", "stdevs", *given) if name not in _PROGRESS]
        chosen = {name: value for name, value in chosen.items() if name not in names}
        chosen["noise_tunnel"] = {name: plain(bound.arguments[name]) for name in dict.fromkeys(names)}
    used = getattr(bound.method, "n_steps_used", 0)
    return {**chosen, "n_steps_used": used} if chosen.get("n_steps") == "auto" and used else chosen
