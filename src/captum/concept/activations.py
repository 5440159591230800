"""Activations of concepts at layers, in files: made once, batch by batch, and found again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.place import Layers, Side
from captum._engine.score import Score
from captum._engine.values import describe, parse_inputs
from captum.concept.cav import write_whole
from captum.concept.concept import Concept
from captum.concept.fingerprint import ExampleFingerprint
from captum.errors import InputError, InputTypeError

__all__ = ["Stored", "batches_of", "generate", "record_of", "stored"]

_RECORD = "record.json"
Record = dict[str, str]


def folder_of(save_path: str, model_id: str, concept: Concept, layer: str) -> Path:
    """The directory of the activations of one concept at one layer."""
    return Path(save_path, "av", model_id, _segment(concept.identifier), _segment(layer or "."))


def _segment(text: str) -> str:
    """A name as one part of a path."""
    text = text.replace("/", "%2F").replace("\\", "%5C").replace("\0", "%00")
    return text.replace(".", "%2E") if text in {".", ".."} else text


class Stored:
    """The activations of one concept at one layer, one file for each batch of examples.

    Args:
        folder: their directory, with files ``0.pt``, ``1.pt``, …
    """

    def __init__(self, folder: Path) -> None:
        numbers = sorted(int(path.stem) for path in folder.glob("*.pt") if path.stem.isdecimal())
        self._files = [folder / f"{number}.pt" for number in numbers]
        if not numbers:
            message = f"No activations are stored in {folder.name!r} of {folder.parent.name!r}: generate them first."
            raise InputError(message)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Tensor:
        """Activations of a batch, ``(B, F)``."""
        return torch.load(self._files[number], weights_only=True, map_location="cpu")


def stored(save_path: str, model_id: str, concept: Concept, layer: str) -> Stored:
    """The activations that are stored for a concept at a layer."""
    return Stored(folder_of(save_path, model_id, concept, layer))


def record_of(save_path: str, model_id: str, concept: Concept, layer: str) -> Record:
    """What the stored activations were made from; empty where that is not known, or where there are none."""
    path = folder_of(save_path, model_id, concept, layer) / _RECORD
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(key): str(value) for key, value in found.items()}


def batches_of(concept: Concept) -> Iterator[Any]:
    """The examples of a concept as the model takes them, batch by batch; at least one."""
    if concept.data_iter is None or not isinstance(concept.data_iter, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # users' values
        message = f"Expected batches of examples as data_iter of {concept!r}, got {describe(concept.data_iter)}."
        raise InputTypeError(message)
    found = False
    for batch in concept.data_iter:
        found = True
        yield batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not found:
        message = (
            f"{concept!r} has no examples: its data_iter gave no batch. An iterator that was read before is empty; "
            "pass a list or a DataLoader."
        )
        raise InputError(message)


def generate(
    folders: Mapping[str, Path], concept: Concept, model: nn.Module, side: Side, marks: Mapping[str, str]
) -> str:
    """Run the model on the examples of a concept and store the activations of layers.

    Args:
        folders: where to store them, by the name of the layer.
        concept: the concept.
        model: the model.
        side: which side of the layers.
        marks: what else the record shall tell.

    Returns:
        The fingerprint of the examples.
    """
    for folder in folders.values():
        _emptied(folder)
    layers = Layers([model.get_submodule(name) for name in folders], side)
    examples = ExampleFingerprint()
    for number, batch in enumerate(batches_of(concept)):
        examples.add(batch)
        for folder, values in zip(folders.values(), _activations(model, layers, batch), strict=True):
            write_whole(values, folder / f"{number}.pt")
    record = {**marks, "examples": examples.result()}
    for folder in folders.values():
        (folder / _RECORD).write_text(json.dumps(record), encoding="utf-8")
    return record["examples"]


def _emptied(folder: Path) -> None:
    """Make the directory, without what was stored in it; the record, which says that all is there, goes first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RECORD).unlink(missing_ok=True)
    for path in folder.glob("*.pt"):
        path.unlink()


def _activations(model: nn.Module, layers: Layers, batch: Any) -> list[Tensor]:
    """The values of each layer as ``(B, F)``."""
    score = Score(model, parse_inputs(batch, model))
    with torch.no_grad(), score.running():
        values = layers.read(score, score.inputs.tensors, score.everyone())
    layers.require_rows(values, score.batch)
    parts = layers.group(values, rows_first=True)
    return [torch.cat([v.flatten(1) for v in part], 1).to("cpu").clone() for part in parts]
