"""What is stored of a model and its concepts, and whether it still belongs to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from captum._engine.place import Side
from captum.concept.activations import batches_of, folder_of, generate, record_of
from captum.concept.cav import CAV
from captum.concept.classifier import Classifier
from captum.concept.concept import Concept
from captum.concept.fingerprint import ExampleFingerprint, model_fingerprint
from captum.concept.training import cav_fingerprint
from captum.errors import InputError

__all__ = ["Examples", "Library"]


class Examples:
    """Fingerprints of the examples of concepts, as far as they have been read.

    A concept that has the same ``data_iter`` object is taken to have the same examples.
    """

    def __init__(self) -> None:
        self._known: dict[Concept, tuple[object, str]] = {}

    def known(self, concept: Concept) -> str | None:
        """The fingerprint of examples that were read before."""
        source, mark = self._known.get(concept, (None, ""))
        return mark if mark and source is concept.data_iter else None

    def note(self, concept: Concept, mark: str) -> None:
        """Remember the fingerprint of a concept's examples."""
        self._known[concept] = (concept.data_iter, mark)

    def forget(self, concepts: Iterable[Concept]) -> None:
        """Read the examples again next time, unless they can be read only once."""
        for concept in concepts:
            if not _once(concept.data_iter):
                self._known.pop(concept, None)

    def read(self, concept: Concept) -> str | None:
        """The fingerprint of a concept's examples; None where reading would use them up."""
        mark = self.known(concept)
        if mark is None and not _once(concept.data_iter):
            examples = ExampleFingerprint()
            for batch in batches_of(concept):
                examples.add(batch)
            mark = examples.result()
            self.note(concept, mark)
        return mark


def _once(data: object) -> bool:
    """Whether examples can be read only once, as those of a generator."""
    return isinstance(data, Iterator)


@dataclass
class Library:
    """The activations and CAVs stored for one model as it is now.

    Args:
        model: the model.
        model_id: name of its directory.
        save_path: directory of files.
        side: which side of layers.
        examples: fingerprints of examples.
    """

    model: nn.Module
    model_id: str
    save_path: str
    side: Side
    examples: Examples

    def __post_init__(self) -> None:
        self._mark = model_fingerprint(self.model)

    def has_activations(self, concept: Concept, layer: str) -> bool:
        """Whether activations of these very examples by this very model are stored."""
        record = self._record(concept, layer)
        return self._is_of_model(record) and record["examples"] == self._examples_of(concept, layer)

    def require_activations(self, concept: Concept, layers: Iterable[str]) -> None:
        """Store what is missing of a concept's activations, in one pass over its examples."""
        missing = [layer for layer in dict.fromkeys(layers) if not self.has_activations(concept, layer)]
        if not missing:
            return
        folders = {layer: folder_of(self.save_path, self.model_id, concept, layer) for layer in missing}
        mark = generate(folders, concept, self.model, self.side, self._marks())
        self.examples.note(concept, mark)

    def find_cav(
        self, known: CAV | None, concepts: Sequence[Concept], layer: str, training: tuple[Classifier, Mapping[str, Any]]
    ) -> CAV | None:
        """The CAV in memory, or the one in a file, if it was trained on what would be trained on now.

        Args:
            known: the CAV in memory.
            concepts: the concepts of the set.
            layer: name of the layer.
            training: the classifier and its arguments.
        """
        candidates = (lambda: known, lambda: self._load(concepts, layer))
        for candidate in candidates:
            cav = candidate()
            if cav is not None and cav.fingerprint and cav.fingerprint == self._expected(concepts, layer, training):
                cav.concepts = list(concepts)
                return cav
        return None

    def _load(self, concepts: Sequence[Concept], layer: str) -> CAV | None:
        try:
            return CAV.load(self.save_path, self.model_id, concepts, layer)
        except InputError:  # it cannot be used, and will be written anew
            return None

    def _expected(
        self, concepts: Sequence[Concept], layer: str, training: tuple[Classifier, Mapping[str, Any]]
    ) -> str | None:
        marks = [self._examples_of(concept, layer) for concept in concepts]
        records = [{**self._marks(), "examples": mark} for mark in marks if mark is not None]
        return cav_fingerprint(records, *training) if len(records) == len(marks) else None

    def _examples_of(self, concept: Concept, layer: str) -> str | None:
        """The fingerprint of a concept's examples; for a concept without examples, of those that were stored."""
        if concept.data_iter is not None:
            return self.examples.read(concept)
        record = self._record(concept, layer)
        return record["examples"] if self._is_of_model(record) else None

    def _record(self, concept: Concept, layer: str) -> dict[str, str]:
        return record_of(self.save_path, self.model_id, concept, layer)

    def _marks(self) -> dict[str, str]:
        return {"model": self._mark, "side": self.side}

    def _is_of_model(self, record: Mapping[str, str]) -> bool:
        return "examples" in record and all(record.get(key) == value for key, value in self._marks().items())
