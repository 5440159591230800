"""Models that the user's own file makes: ``FILE.py:FACTORY``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor, nn

from captum.cli.models.subject import Prepare, Subject, pixels
from captum.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["from_factory"]

_FORMS = "an nn.Module, or (module, preprocess, class_names)"


def from_factory(path: Path, factory: str) -> Subject:
    """Load a model that a function makes.

    Args:
        path: The Python file; its folder can be imported from while it runs.
        factory: Name of a function without required arguments. It returns the module, or the module with
            ``preprocess`` (PIL image → ``(C, H, W)`` or ``(1, C, H, W)``; ``None`` for values in 0..1 at the photo's
            own size) and ``class_names`` (a list, a dict by index, or ``None``).

    Returns:
        The model in evaluation mode.

    Raises:
        InputError: The file, the function or what it returns cannot be used.
    """
    make: object = getattr(_module(path), factory, None)
    where = f"{path}:{factory}"
    if not callable(make):
        message = f"{path} defines no function {factory!r}"
        raise InputError(message)
    try:
        made: object = make()
    except Exception as error:
        message = f"{where} failed: {type(error).__name__}: {_first_line(error)}"
        raise InputError(message) from error
    parts = list(made) if _is_tuple(made) else [made]
    model, preprocess, names = [*parts, None, None][:3]
    if not isinstance(model, nn.Module) or len(parts) > 3:
        message = f"{where} must return {_FORMS}; it returned {_kind(parts)}"
        raise InputError(message)
    if preprocess is not None and not callable(preprocess):
        message = f"{where}: preprocess must be a function of a PIL image, or None; got {type(preprocess).__name__}"
        raise InputError(message)
    return Subject(where, model.eval(), _batched(preprocess, where), _labels(names, where), preprocess is None)


def _kind(parts: list[object]) -> str:
    return f"({', '.join(type(part).__name__ for part in parts)})" if len(parts) > 1 else type(parts[0]).__name__


def _module(path: Path) -> ModuleType:
    spec = spec_from_file_location(f"captum_model_{path.stem}", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        message = f"there is no file {path}"
        raise InputError(message)
    module = module_from_spec(spec)
    sys.modules[module.__name__] = module  # classes of the file look themselves up there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        message = f"{path} cannot be imported: {type(error).__name__}: {_first_line(error)}"
        raise InputError(message) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]


def _batched(preprocess: Callable[..., object] | None, where: str) -> Prepare:
    """``preprocess`` with its result checked and given a batch axis."""
    if preprocess is None:
        return pixels

    def prepare(photo: Image) -> Tensor:
        value = preprocess(photo)
        if not isinstance(value, Tensor) or value.dim() not in {3, 4} or (value.dim() == 4 and len(value) != 1):
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            message = f"{where}: preprocess must return a tensor (C, H, W) or (1, C, H, W); got {found}"
            raise InputError(message)
        return value if value.dim() == 4 else value[None]

    return prepare


def _labels(names: object, where: str) -> dict[int, str]:
    if names is None:
        return {}
    if _is_mapping(names) and all(str(key).isdecimal() for key in names):
        return {int(str(key)): str(value) for key, value in names.items()}
    if _is_list(names):
        return {index: str(value) for index, value in enumerate(names)}
    message = f"{where}: class_names must be a list, a dict by index, or None; got {type(names).__name__}"
    raise InputError(message)


def _is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(value, tuple)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(value, Mapping)
