"""Training of classifiers on stored activations, in this process or in several."""

from __future__ import annotations

import bisect
import itertools
import multiprocessing
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captum._engine.values import describe
from captum.concept.activations import record_of, stored
from captum.concept.cav import CAV
from captum.concept.classifier import Classifier
from captum.concept.concept import Concept, concepts_to_str
from captum.concept.fingerprint import combined, settings_of
from captum.errors import InputError, InputTypeError

__all__ = ["LabelledDataset", "Task", "cav_fingerprint", "train_all", "train_cav"]


class _Batches(Protocol):
    """A sequence of tensors."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Tensor: ...


class LabelledDataset(Dataset[tuple[Tensor, Tensor]]):
    """Batches of several data sets one after another, each with the label of its data set.

    Args:
        datasets: data sets whose items are tensors ``(n, F)``.
        labels: a whole number for each of them.

    Example:
        >>> LabelledDataset([[torch.zeros(2, 3)], [torch.ones(1, 3)]], [7, 9])[1]
        (tensor([[1., 1., 1.]]), tensor([9]))
    """

    def __init__(self, datasets: Sequence[_Batches], labels: Sequence[int]) -> None:
        if len(datasets) != len(labels):
            message = f"Expected a label for each of {len(datasets)} data sets, got {len(labels)}."
            raise InputError(message)
        self.datasets = list(datasets)
        self.labels = list(labels)
        self._ends = list(itertools.accumulate(len(dataset) for dataset in datasets))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """A batch ``(n, F)`` and its label, ``(n,)``."""
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            message = f"Expected an index below {len(self)}, got {index}."
            raise IndexError(message)
        number = bisect.bisect_right(self._ends, place)
        start = self._ends[number - 1] if number else 0
        batch = self.datasets[number][place - start]
        return batch, torch.full((len(batch),), self.labels[number], dtype=torch.int64, device=batch.device)


class Task(NamedTuple):
    """What :func:`train_cav` needs for one set of concepts."""

    model_id: str
    concepts: list[Concept]
    layers: list[str]
    classifier: Classifier
    save_path: str
    classifier_kwargs: dict[str, Any]


def cav_fingerprint(
    records: Sequence[Mapping[str, str]], classifier: Classifier, classifier_kwargs: Mapping[str, Any]
) -> str | None:
    """The fingerprint of a CAV made from activations with these records, in order; None where one is not known."""
    if not all("model" in record and "examples" in record for record in records):
        return None
    parts = [f"{record['model']}:{record.get('side')}:{record['examples']}" for record in records]
    return combined([*parts, settings_of(classifier, classifier_kwargs)])


def train_cav(
    model_id: str,
    concepts: Sequence[Concept],
    layers: str | Sequence[str],
    classifier: Classifier,
    save_path: str,
    classifier_kwargs: Mapping[str, Any],
) -> dict[str, dict[str, CAV]]:
    """Train the classifier on stored activations of the concepts, for one layer after another, and save the CAVs.

    Args:
        model_id: name of the model.
        concepts: the concepts of a set.
        layers: names of layers, or one name.
        classifier: trained once for each layer.
        save_path: directory of files.
        classifier_kwargs: arguments of ``classifier.train_and_eval``.

    Returns:
        CAVs by the key of the set and the name of the layer.

    Raises:
        InputError: when no activations are stored, or the classifier's weights do not fit the concepts.
    """
    found: dict[str, CAV] = {}
    for layer in [layers] if isinstance(layers, str) else layers:
        data = LabelledDataset([stored(save_path, model_id, c, layer) for c in concepts], [c.id for c in concepts])
        # batches are the files; a generator of its own leaves torch's global stream alone
        loader = DataLoader(data, batch_size=None, generator=torch.Generator("cpu"))
        told = classifier.train_and_eval(loader, **classifier_kwargs)
        weights, classes = _trained(classifier, concepts)
        found[layer] = CAV(
            concepts, layer, {"weights": weights, "classes": classes, **(told or {})}, save_path, model_id
        )
        records = [record_of(save_path, model_id, c, layer) for c in concepts]
        found[layer].fingerprint = cav_fingerprint(records, classifier, classifier_kwargs)
        found[layer].save()
    return {concepts_to_str(concepts): found}


def _trained(classifier: Classifier, concepts: Sequence[Concept]) -> tuple[Tensor, list[int]]:
    """The classifier's weights and classes, which fit the concepts."""
    weights = classifier.weights()
    classes = [int(number) for number in classifier.classes()]
    wanted = [concept.id for concept in concepts]
    if not _is_matrix(weights, len(wanted)):
        message = f"Expected weights ({len(wanted)}, F), a row for each concept, got {describe(weights)}."
        raise InputTypeError(message)
    if sorted(classes) != sorted(wanted):
        message = (
            f"Expected classes of a classifier to be the ids of the concepts, {wanted} in any order, got {classes}."
        )
        raise InputError(message)
    return weights.detach(), classes


def _is_matrix(value: object, rows: int) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2 and len(value) == rows


def train_all(tasks: Sequence[Task], processes: int | None) -> list[dict[str, dict[str, CAV]]]:
    """Train for each task; in that many processes when there are several.

    In processes each task gets a seed of its own from Python's global stream for the global streams of Python, NumPy
    and torch, so that results do not depend on which process comes first nor on their number.
    """
    if processes is None or processes == 1 or not tasks:
        return [train_cav(*task) for task in tasks]
    bare = [task._replace(concepts=[Concept(c.id, c.name, None) for c in task.concepts]) for task in tasks]
    seeded = [(random.getrandbits(32), task) for task in bare]
    with multiprocessing.get_context().Pool(min(processes, len(tasks)), torch.set_num_threads, (1,)) as pool:
        contents = pool.map(_train_apart, seeded, chunksize=1)
    return [_adopt(task, found) for task, found in zip(tasks, contents, strict=True)]


def _train_apart(seeded: tuple[int, Task]) -> dict[str, tuple[dict[str, Any], str | None]]:
    """Train in a process of its own; tensors travel as arrays, which need no shared memory."""
    seed, task = seeded
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global stream that classifiers read
    torch.manual_seed(seed)
    found = train_cav(*task)[concepts_to_str(task.concepts)]
    return {layer: (_packed(cav.stats or {}), cav.fingerprint) for layer, cav in found.items()}


def _packed(stats: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _Array(v.cpu().numpy()) if isinstance(v, Tensor) else v for key, v in stats.items()}


class _Array(NamedTuple):
    """A tensor on its way between processes."""

    values: np.ndarray[Any, Any]


def _adopt(task: Task, found: Mapping[str, tuple[dict[str, Any], str | None]]) -> dict[str, dict[str, CAV]]:
    cavs: dict[str, CAV] = {}
    for layer, (packed, fingerprint) in found.items():
        stats = {key: torch.from_numpy(v.values) if isinstance(v, _Array) else v for key, v in packed.items()}
        cavs[layer] = CAV(task.concepts, layer, stats, task.save_path, task.model_id)
        cavs[layer].fingerprint = fingerprint
    return {concepts_to_str(task.concepts): cavs}
