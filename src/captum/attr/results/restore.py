"""From a file's record back to a result, every entry checked before it is believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from torch import Tensor

from captum.attr.results.features import MODALITIES
from captum.attr.results.leaves import is_mapping, is_sequence
from captum.errors import InputError

if TYPE_CHECKING:
    from captum.attr.explanation import Explanation, Target
    from captum.attr.results.features import Modality

__all__ = ["restore"]


def restore(cls: type[Explanation], record: dict[str, object], path: Path) -> Explanation:
    """Build the explanation of a record that :func:`captum.attr.results.archive.read` returned.

    Raises:
        InputError: An entry is missing or has another form.
    """
    try:
        return cls(
            attributions=record["attributions"],
            inputs=record["inputs"],
            method=_text(record["method"]),
            arguments=_mapping(record["arguments"]),
            targets=tuple(_target(part) for part in _parts(record["targets"])),
            scores=_tensor(record["scores"]),
            outputs=_tensor(record["outputs"]),
            residual=_tensor(record["residual"]),
            class_names=_texts(record["class_names"]),
            feature_names={name: _texts(part) for name, part in _mapping(record["feature_names"]).items()},
            tokens=tuple(_texts(part) for part in _parts(record["tokens"])),
            modality=_modality(record["modality"]),
            layer=_or_none(_text, record["layer"]),
            seconds=_number(record["seconds"]),
            version=_text(record["version"]),
            notes=_texts(record["notes"]),
        )
    except (KeyError, TypeError) as error:
        message = f"{path} is not a saved explanation: {error}"
        raise InputError(message) from error


def _or_none(read: Callable[[object], str], value: object) -> str | None:
    return None if value is None else read(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        _refuse("a text", value)
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        _refuse("a number", value)
    return float(value)


def _parts(value: object) -> tuple[object, ...]:
    if not is_sequence(value):
        _refuse("a list", value)
    return tuple(value)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(part) for part in _parts(value))


def _mapping(value: object) -> dict[str, object]:
    if not is_mapping(value):
        _refuse("a dict", value)
    return {_text(name): part for name, part in value.items()}


def _tensor(value: object) -> Tensor | None:
    if value is not None and not isinstance(value, Tensor):
        _refuse("a tensor", value)
    return value


def _target(value: object) -> Target:
    if isinstance(value, int | str):
        return value
    return tuple(int(_number(part)) for part in _parts(value))


def _modality(value: object) -> Modality | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in MODALITIES:
        _refuse("a modality", value)
    return MODALITIES[value]


def _refuse(expected: str, value: object) -> NoReturn:
    message = f"{expected} was expected, not {type(value).__name__}"
    raise TypeError(message)
