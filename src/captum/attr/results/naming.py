"""Names as users give them, checked against the shapes that they name, and arguments in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from captum.attr.results.leaves import is_mapping, is_sequence, leaves
from captum.errors import InputError, InputTypeError

__all__ = ["class_names_of", "feature_names_of", "layer_name", "modules_by_name", "plain", "tokens_of"]

Names = Sequence[str] | Mapping[int, str]
_MOST_CLASSES = 1_000_000


def class_names_of(given: Names | None, model: object) -> tuple[str, ...]:
    """Return the names of the model's outputs; a Hugging Face model brings its own.

    Args:
        given: A list of names, a dict from index to name, or ``None``.
        model: The model; ``config.id2label`` is read when ``given`` is ``None``.
    """
    names: object = given if given is not None else getattr(getattr(model, "config", None), "id2label", None)
    if names is None:
        return ()
    if not is_mapping(names):
        return _texts(names, "class_names")
    indices = {int(str(index)): str(name) for index, name in names.items()}
    if not indices:
        return ()
    if min(indices) < 0 or max(indices) > _MOST_CLASSES:
        message = f"expected class_names with indices of the model's outputs, got {min(indices)} to {max(indices)}"
        raise InputError(message)
    return tuple(indices.get(index, f"class {index}") for index in range(max(indices) + 1))


def feature_names_of(given: object, inputs: object) -> dict[str, tuple[str, ...]]:
    """Return names by input, each as long as one axis of that input.

    Args:
        given: A list of names for the only tensor, or a dict from an input's name to a list; ``None`` for no names.
        inputs: The inputs.

    Raises:
        InputError: An input is unknown, or no axis of it has so many entries.
    """
    if given is None:
        return {}
    found = {leaf.name: leaf.value for leaf in leaves(inputs)}
    if is_mapping(given):
        named = {str(key): _texts(names, "feature_names") for key, names in given.items()}
    elif len(found) == 1:
        named = {next(iter(found)): _texts(given, "feature_names")}
    else:
        message = f"expected feature_names as a dict with a list for some of the inputs {', '.join(found)}; got a list"
        raise InputError(message)
    for key, names in named.items():
        if key not in found:
            message = f"feature_names has an entry {key[:80]!r}; the inputs are {', '.join(map(repr, found))}"
            raise InputError(message)
        if len(names) not in found[key].shape[1:]:
            what = f"of input {key!r} " if key else ""
            message = (
                f"feature_names {what}has {len(names)} names; no axis of {tuple(found[key].shape)} after the first fits"
            )
            raise InputError(message)
    return named


def tokens_of(given: object, rows: int) -> tuple[tuple[str, ...], ...]:
    """Return one tuple of tokens per row.

    Args:
        given: A list of tokens for the only row, a list of such lists with one per row, or ``None``.
        rows: How many rows there are.
    """
    if given is None:
        return ()
    parts = _parts(given, "tokens")
    nested = [_texts(part, "tokens") for part in parts if not isinstance(part, str)]
    if parts and not nested:
        nested = [tuple(str(part) for part in parts)]
    if len(nested) != rows:
        message = f"expected tokens as one list per row, {rows} in all; got {len(nested)}"
        raise InputError(message)
    return tuple(nested)


def layer_name(model: object, layer: object) -> str | None:
    """Return the dotted name of a layer in its model, of several layers joined; ``None`` without a layer."""
    if layer is None:
        return None
    if is_sequence(layer):
        return ", ".join(str(layer_name(model, part)) for part in layer)
    if isinstance(layer, str):
        return layer
    known = modules_by_name(model).items()
    return next((name for name, module in known if module is layer and name), type(layer).__name__)


def modules_by_name(model: object) -> dict[str, torch.nn.Module]:
    """Return the modules inside a model by dotted name; none for a plain function."""
    found: dict[str, torch.nn.Module] = {}
    if isinstance(model, torch.nn.Module):
        for name, module in model.named_modules():
            found[str(name)] = module
    return found


def plain(value: object) -> object:
    """Return an argument as a value that JSON can hold: numbers and texts as they are, all else in words."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return value.item() if value.dim() == 0 else f"tensor {dtype} {tuple(value.shape)}"
    if is_mapping(value):
        return {str(key): plain(part) for key, part in value.items()}
    if is_sequence(value):
        return [plain(part) for part in value]
    name: object = getattr(value, "__name__", None)
    return name if isinstance(name, str) else type(value).__name__


def _parts(given: object, what: str) -> list[object]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        message = f"expected {what} as a list of texts, got {type(given).__name__}"
        raise InputTypeError(message)
    return list(given)


def _texts(given: object, what: str) -> tuple[str, ...]:
    return tuple(str(part) for part in _parts(given, what))
