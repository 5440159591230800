"""Examples of a concept from files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

__all__ = ["CustomIterableDataset", "dataset_to_dataloader"]


class CustomIterableDataset(IterableDataset[Any]):
    """Examples read from files.

    Args:
        transform_filename_to_tensor: turns the path of a file into a tensor ``(*)``, one example.
        path: a directory, whose entries are read in the order of their names, hidden ones left out; or one file, whose
            path the function turns into an iterable of examples.
    """

    def __init__(self, transform_filename_to_tensor: Callable[[str], Any], path: str) -> None:
        self.transform_filename_to_tensor = transform_filename_to_tensor
        self.path = path

    def __iter__(self) -> Iterator[Any]:
        """Read the examples, from the first one."""
        place = Path(self.path)
        if not place.is_dir():
            return iter(self.transform_filename_to_tensor(self.path))
        names = sorted(str(entry) for entry in place.iterdir() if not entry.name.startswith("."))
        return map(self.transform_filename_to_tensor, names)


def dataset_to_dataloader(dataset: IterableDataset[Any], batch_size: int = 64) -> DataLoader[Any]:
    """A loader of batches ``(B, *)``, to be a concept's ``data_iter``.

    Args:
        dataset: examples of one shape.
        batch_size: examples of a batch (default 64).
    """
    return DataLoader(dataset, batch_size=batch_size)
