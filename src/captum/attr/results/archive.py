"""Saved results: tensors as safetensors, everything else as JSON; nothing that could run code when it is read.

A folder holds ``explanation.json`` and ``tensors.safetensors``; a single file is a safetensors file that carries the
same JSON in its header.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

from torch import Tensor

from captum.attr.results.leaves import children, is_mapping, is_sequence
from captum.errors import InputError, InputTypeError, MissingDependencyError

__all__ = ["FORMAT", "VERSION", "read", "write"]

FORMAT = "captum.explanation"
VERSION = 1
_KEY = "captum"
_JSON_NAME = "explanation.json"
_TENSORS_NAME = "tensors.safetensors"


class _Safetensors(Protocol):
    """What is used of ``safetensors.torch``, which is typed too loosely."""

    def save_file(self, tensors: dict[str, Tensor], filename: str, metadata: dict[str, str]) -> None:
        """Write tensors and a header of strings."""
        ...

    def load_file(self, filename: str) -> dict[str, Tensor]:
        """Read the tensors."""
        ...


def write(record: Mapping[str, object], path: str | Path) -> Path:
    """Write a record of trees.

    Args:
        record: Trees by name: tensors, strings, numbers, ``None`` and dicts, lists, tuples of them.
        path: A file that ends in ``.safetensors``, or a folder, made if it does not exist.

    Returns:
        The path written.

    Raises:
        InputTypeError: Something in the record can be written neither as a tensor nor as JSON.
        MissingDependencyError: safetensors is not installed.
    """
    library = _safetensors()
    tensors: dict[str, Tensor] = {}
    body = {name: _encode(tree, tensors, name) for name, tree in record.items()}
    document = json.dumps({"format": FORMAT, "version": VERSION, "content": body}, allow_nan=False)
    path = Path(path)
    if path.suffix == ".safetensors":
        path.parent.mkdir(parents=True, exist_ok=True)
        library.save_file(tensors, str(path), {_KEY: document})
        return path
    path.mkdir(parents=True, exist_ok=True)
    library.save_file(tensors, str(path / _TENSORS_NAME), {_KEY: FORMAT})
    (path / _JSON_NAME).write_text(document, encoding="utf-8")
    return path


def read(path: str | Path) -> dict[str, object]:
    """Read what :func:`write` wrote.

    Args:
        path: The file or folder.

    Returns:
        The record. Named tuples come back as tuples, other mappings and dataclasses as dicts: the classes of a user
        are never imported for a file.

    Raises:
        InputError: Nothing is there, it is not a saved explanation, or it was written by a later version.
        MissingDependencyError: safetensors is not installed.
    """
    library = _safetensors()
    path = Path(path)
    file = path / _TENSORS_NAME if path.is_dir() else path
    if not file.is_file():
        message = f"expected a saved explanation (a folder or a .safetensors file) at {path}, found nothing to read"
        raise InputError(message)
    try:
        text = (path / _JSON_NAME).read_text(encoding="utf-8") if path.is_dir() else _header(file)
        document: object = json.loads(text)
        tensors = library.load_file(str(file))
    except (OSError, ValueError, KeyError, RuntimeError, _corrupt()) as error:
        message = f"{path} is not a saved explanation: {type(error).__name__} while reading it"
        raise InputError(message) from error
    content = _checked(document, path)
    return {str(name): _decode(tree, tensors) for name, tree in content.items()}


def _checked(document: object, path: Path) -> Mapping[object, object]:
    if not is_mapping(document) or document.get("format") != FORMAT:
        message = f"{path} is not a saved explanation: its header is not of the format {FORMAT!r}"
        raise InputError(message)
    version = document.get("version")
    if version != VERSION:
        message = (
            f"{path} was saved in version {version!r} of the format, and this release of captum reads version "
            f"{VERSION}: load it with the release that wrote it, or a later one"
        )
        raise InputError(message)
    content = document.get("content")
    if not is_mapping(content):
        message = f"{path} is not a saved explanation: it has no content"
        raise InputError(message)
    return content


def _encode(tree: object, tensors: dict[str, Tensor], path: str) -> object:
    if tree is None or isinstance(tree, bool | str | int):
        return tree
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else {"kind": "float", "value": repr(tree)}
    if isinstance(tree, Tensor):
        key = f"t{len(tensors)}"
        tensors[key] = tree.detach().to("cpu", copy=True).contiguous()
        return {"kind": "tensor", "key": key}
    if is_sequence(tree):
        parts = [_encode(part, tensors, f"{path}[{i}]") for i, part in enumerate(tree)]
        return {"kind": "tuple" if isinstance(tree, tuple) else "list", "items": parts}
    if is_mapping(tree):
        entries = [[_key(key, path), _encode(part, tensors, f"{path}[{key!r}]")] for key, part in tree.items()]
        return {"kind": "dict", "items": entries}
    parts = children(tree)
    if parts:
        return {"kind": "dict", "items": [[name, _encode(part, tensors, f"{path}.{name}")] for name, part in parts]}
    message = f"{path} cannot be saved: expected tensors, strings, numbers or None, found {type(tree).__name__}"
    raise InputTypeError(message)


def _key(key: object, path: str) -> object:
    if isinstance(key, str | int | bool):
        return key
    message = f"{path} cannot be saved: its keys must be strings or integers, found {type(key).__name__}"
    raise InputTypeError(message)


def _decode(tree: object, tensors: Mapping[str, Tensor]) -> object:
    if not is_mapping(tree):
        return tree
    kind, items = tree.get("kind"), tree.get("items")
    if kind == "tensor" and str(tree.get("key")) in tensors:
        return tensors[str(tree.get("key"))]
    if kind == "float":
        return float(str(tree.get("value")))
    if kind in ("list", "tuple") and is_sequence(items):
        parts = [_decode(part, tensors) for part in items]
        return parts if kind == "list" else tuple(parts)
    if kind == "dict" and is_sequence(items):
        entries = [item for item in items if is_sequence(item) and len(item) == 2]
        return {_plain_key(entry[0]): _decode(entry[1], tensors) for entry in entries}
    message = f"the saved explanation is damaged: {str(kind)[:40]!r} is no kind of entry, or its tensor is missing"
    raise InputError(message)


def _plain_key(key: object) -> str | int:
    return key if isinstance(key, str | int) else str(key)


def _header(file: Path) -> str:
    """Read the JSON in a safetensors header: eight bytes of length, then the header itself."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > file.stat().st_size:
            message = "the header is longer than the file"
            raise ValueError(message)
        header: object = json.loads(stream.read(size))
    metadata = header.get("__metadata__") if is_mapping(header) else None
    return str(metadata[_KEY]) if is_mapping(metadata) else ""


def _safetensors() -> _Safetensors:
    try:
        return import_module("safetensors.torch")  # pyright: ignore[reportReturnType] - the functions used are listed above
    except ImportError as error:
        message = "saving and loading explanations needs the package safetensors: pip install safetensors"
        raise MissingDependencyError(message) from error


def _corrupt() -> type[Exception]:
    """Return the error that safetensors raises for a damaged file."""
    error: object = getattr(import_module("safetensors"), "SafetensorError", None)
    return error if isinstance(error, type) and issubclass(error, Exception) else ValueError
