"""Concept activation vectors, and the files that hold them."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from captum._engine.values import is_mapping
from captum.concept.concept import Concept, concepts_to_str
from captum.errors import CaptumWarning, InputError

__all__ = ["CAV", "write_whole"]

_NUMBERS = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "Bool")


class CAV:
    """Concept activation vectors: the weights of a classifier that tells concepts apart at one layer.

    B. Kim, M. Wattenberg, J. Gilmer, C. Cai, J. Wexler, F. Viegas, R. Sayres, "Interpretability beyond feature
    attribution: quantitative testing with concept activation vectors (TCAV)", 2018, arXiv:1711.11279.

    Args:
        concepts: the concepts, in the order of their set.
        layer: name of the layer.
        stats: ``weights`` ``(n_concepts, F)``, ``classes``: ids in the order of the weights, and what the classifier
            found besides, such as ``accs``; None before training.
        save_path: directory of files.
        model_id: name of the model; a directory below ``save_path``.

    Attributes:
        fingerprint: what it was trained on, as a hash; None where that is not known.
    """

    def __init__(
        self,
        concepts: Sequence[Concept],
        layer: str,
        stats: Mapping[str, Any] | None = None,
        save_path: str = "./cav/",
        model_id: str = "default_model_id",
    ) -> None:
        self.concepts = list(concepts)
        self.layer = layer
        self.stats = None if stats is None else dict(stats)
        self.save_path = save_path
        self.model_id = model_id
        self.fingerprint: str | None = None

    @staticmethod
    def assemble_save_path(path: str, model_id: str, concepts: Sequence[Concept], layer: str) -> str:
        """Where a CAV is kept: ``path/model_id/ids-layer.pkl``.

        Args:
            path: the ``save_path``.
            model_id: name of the model.
            concepts: the concepts, in the order of their set.
            layer: name of the layer.

        Example:
            >>> CAV.assemble_save_path("cav", "net", [Concept(0, "a", None), Concept(1, "b", None)], "fc")
            'cav/net/0-1-fc.pkl'
        """
        return os.path.join(path, model_id, f"{concepts_to_str(concepts)}-{layer}.pkl")  # noqa: PTH118 - a string

    @staticmethod
    def create_cav_dir_if_missing(save_path: str, model_id: str) -> None:
        """Make ``save_path/model_id``.

        Args:
            save_path: directory of files.
            model_id: name of the model.
        """
        Path(save_path, model_id).mkdir(parents=True, exist_ok=True)

    def save(self) -> None:
        """Write the CAV to :meth:`assemble_save_path`, as tensors, numbers, strings and lists and dicts of them.

        Statistics of other types stay in memory, and a warning names them.
        """
        self.create_cav_dir_if_missing(self.save_path, self.model_id)
        stats: dict[str, Any] | None = None
        if self.stats is not None:
            stats = {key: _plain(value) for key, value in self.stats.items()}
            lost = [key for key, value in stats.items() if value is _REFUSED]
            if lost:
                message = (
                    f"Not written to the file of a CAV, as they are no tensors, numbers, strings, or lists and dicts "
                    f"of them: the statistics {lost}. Let the classifier leave them out."
                )
                warnings.warn(message, CaptumWarning, stacklevel=2)
            stats = {key: value for key, value in stats.items() if value is not _REFUSED}
        content = {
            "concept_ids": [c.id for c in self.concepts],
            "concept_names": [str(c.name) for c in self.concepts],
            "layer": self.layer,
            "stats": stats,
            "fingerprint": self.fingerprint,
        }
        write_whole(content, Path(self.assemble_save_path(self.save_path, self.model_id, self.concepts, self.layer)))

    @classmethod
    def _from_content(cls, content: Mapping[str, Any], save_path: str, model_id: str) -> Self:
        pairs = zip(content["concept_ids"], content["concept_names"], strict=True)
        concepts = [Concept(number, name, None) for number, name in pairs]
        cav = cls(concepts, content["layer"], content["stats"], save_path, model_id)
        cav.fingerprint = content.get("fingerprint")
        return cav

    @staticmethod
    def load(cavs_path: str, model_id: str, concepts: Sequence[Concept], layer: str) -> CAV | None:
        """Read a CAV; nothing that a file contains is run.

        Args:
            cavs_path: the ``save_path``.
            model_id: name of the model.
            concepts: the concepts, in the order of their set.
            layer: name of the layer.

        Returns:
            The CAV, whose concepts have no examples; None where there is no file.

        Raises:
            InputError: when the file holds other things than tensors, numbers, strings, lists and dicts, or the CAV of
                other concepts.
        """
        path = Path(CAV.assemble_save_path(cavs_path, model_id, concepts, layer))
        if not path.exists():
            return None
        content = _read(path)
        numbers = [c.id for c in concepts]
        fits = is_mapping(content) and {"concept_names", "stats"} <= set(content)
        if not fits or (content.get("concept_ids"), content.get("layer")) != (numbers, layer):
            message = f"Expected {path.name} to hold the CAV of concepts {numbers} at {layer!r}: delete it."
            raise InputError(message)
        return CAV._from_content(content, cavs_path, model_id)


_REFUSED = object()


def _plain(value: Any) -> Any:
    """A value as tensors, numbers, strings, lists and dicts; ``_REFUSED`` for others."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu").clone()
    if value is None or type(value) in {bool, int, float, str}:
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return _REFUSED if value.dtype.hasobject else value.tolist()
    if isinstance(value, (list, tuple)):
        parts = [_plain(part) for part in value]
        return _REFUSED if any(part is _REFUSED for part in parts) else parts
    if is_mapping(value):
        named = {str(key): _plain(part) for key, part in value.items()}
        return _REFUSED if any(part is _REFUSED for part in named.values()) else named
    return _REFUSED


def write_whole(content: Any, path: Path) -> None:
    """Write a file that others see whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    torch.save(content, part)
    part.replace(path)


def _read(path: Path) -> Any:
    """What a file holds; arrays of numbers, as earlier releases wrote them, are let in besides tensors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an error follows where it matters
            return _load(path)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
    ) as fault:
        message = (
            f"{path.name} cannot be read as a CAV: it is damaged, or holds objects that code would have to be run for. "
            "Delete it, or train again with compute_cavs(…, force_train=True)."
        )
        raise InputError(message) from fault


def _load(path: Path) -> Any:
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:
        with torch.serialization.safe_globals(_arrays()):
            return torch.load(path, weights_only=True, map_location="cpu")


def _arrays() -> list[Any]:
    """What arrays of numbers are made of in a file, under the names of NumPy 1 and 2."""
    rebuild: Any = np.zeros(1).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    named = [(f, f"numpy.{core}.multiarray.{f.__name__}") for f in (rebuild, scalar) for core in ("core", "_core")]
    return [*named, np.ndarray, np.dtype, *(getattr(np.dtypes, f"{name}DType") for name in _NUMBERS)]
