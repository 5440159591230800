"""Activations of layers over a data set, kept in files: ``<path>/av/<model_id>/<identifier>/<layer>/<number>.pt``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum._engine.values import describe
from captum.errors import CaptumError, InputError, LayerError
from captum.influence.checkpoints import untouched

__all__ = ["AV", "layer_values"]


class StoredActivationsError(CaptumError, RuntimeError):
    """No activations are stored where they are looked for."""


def layer_values(model: nn.Module, layers: list[str], args: tuple[Any, ...]) -> dict[str, Tensor]:
    """What layers return in one forward pass; of several calls the last.

    Args:
        model: the model.
        layers: names of its modules.
        args: what the model is called with.

    Returns:
        A tensor for each layer, without a graph.

    Raises:
        LayerError: when there is no such layer, it does not run, or returns anything but one tensor.
    """
    found: dict[str, Tensor] = {}
    hooks: list[Any] = []

    def watch(name: str) -> Any:
        def keep(module: nn.Module, args: object, output: Any) -> None:
            del module, args
            value = output[0] if isinstance(output, (tuple, list)) and len(output) == 1 else output
            if not isinstance(value, Tensor):
                message = f"Expected layer {name!r} to return one tensor, got {describe(value)}."
                raise LayerError(message)
            found[name] = value.detach().clone()

        return keep

    try:
        for name in layers:
            try:
                module = model.get_submodule(name)
            except AttributeError:
                message = f"Expected the name of a layer, got {name!r}: see model.named_modules()."
                raise LayerError(message) from None
            hooks.append(module.register_forward_hook(watch(name)))
        with torch.no_grad():
            model(*args)
    finally:
        for hook in hooks:
            hook.remove()
    missing = [name for name in layers if name not in found]
    if missing:
        message = f"Expected the forward pass to run the layers {missing}, which it does not."
        raise LayerError(message)
    return found


def model_args(batch: Any) -> tuple[Any, ...]:
    """What the model is called with for a batch of a loader: a last entry of several is the labels."""
    if isinstance(batch, (tuple, list)):
        return tuple(batch) if len(batch) == 1 else tuple(batch[:-1])
    return (batch,)


class AV:
    """Activations in files: written, found, read one batch after the other."""

    AV_DIR_NAME: str = "av"

    class AVDataset(Dataset[Any]):
        """Stored batches of activations, each read when it is asked for.

        Args:
            path: the directory above ``av``.
            model_id: name of the model.
            identifier: name of the data; None for all.
            layer: name of the layer; None for all.
            num_id: number of the batch; None for all.

        Raises:
            RuntimeError: when nothing is stored there.
        """

        def __init__(
            self,
            path: str,
            model_id: str,
            identifier: str | None = None,
            layer: str | None = None,
            num_id: str | None = None,
        ) -> None:
            self.files = AV.sort_files(_files(path, model_id, identifier, layer, num_id))
            if not self.files:
                message = f"Activations of model {model_id!r} were not found below {path!r}: generate them first."
                raise StoredActivationsError(message)

        def __getitem__(self, idx: int) -> Tensor:
            return torch.load(self.files[idx], weights_only=True)

        def __len__(self) -> int:
            return len(self.files)

    @staticmethod
    def exists(
        path: str, model_id: str, identifier: str | None = None, layer: str | None = None, num_id: str | None = None
    ) -> bool:
        """Whether activations are stored; None stands for any."""
        return bool(_files(path, model_id, identifier, layer, num_id))

    @staticmethod
    def save(path: str, model_id: str, identifier: str, layers: Any, act_tensors: Any, num_id: str) -> None:
        """Store a batch of activations.

        Args:
            path: the directory above ``av``.
            model_id: name of the model.
            identifier: name of the data.
            layers: name of the layer, or a list of names.
            act_tensors: its activations, or a list of them.
            num_id: number of the batch.

        Raises:
            InputError: when there are more or fewer layers than tensors.
        """
        names: list[str] = [layers] if isinstance(layers, str) else list(layers)
        tensors: list[Tensor] = [act_tensors] if isinstance(act_tensors, Tensor) else list(act_tensors)
        if len(names) != len(tensors):
            message = f"Expected a tensor for each layer, got {len(tensors)} for {len(names)}."
            raise InputError(message)
        for name, tensor in zip(names, tensors, strict=True):
            folder = _folder(path, model_id) / identifier / name
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(tensor, folder / f"{num_id}.pt")

    @staticmethod
    def load(
        path: str, model_id: str, identifier: str | None = None, layer: str | None = None, num_id: str | None = None
    ) -> AVDataset:
        """Stored activations as a data set of batches, in the order of their numbers.

        Raises:
            RuntimeError: when nothing is stored there.
        """
        return AV.AVDataset(path, model_id, identifier, layer, num_id)

    @staticmethod
    def remove(path: str, model_id: str, identifier: str, layer: str) -> None:
        """Delete the activations of one layer; fine where there are none."""
        shutil.rmtree(_folder(path, model_id) / identifier / layer, ignore_errors=True)

    @staticmethod
    def generate_dataset_activations(
        path: str,
        model: nn.Module,
        model_id: str,
        layers: Any,
        dataloader: Iterable[Any],
        identifier: str = "default",
        load_from_disk: bool = True,
        return_activations: bool = False,
    ) -> Any:
        """Store the activations of layers over a loader.

        Args:
            path: the directory above ``av``.
            model: the module; after the call it is as it was before.
            model_id: name of the model.
            layers: name of a layer, or a list of names.
            dataloader: batches: a tensor, or a tuple of what the model is called with, where a last entry of several is
                the labels.
            identifier: name of the data.
            load_from_disk: whether layers that are stored already are left alone (default).
            return_activations: whether to return them.

        Returns:
            None; or the stored batches of the layer, or a list with those of each layer.

        Raises:
            LayerError: when there is no such layer, it does not run, or returns anything but one tensor.
        """
        names: list[str] = [layers] if isinstance(layers, str) else list(layers)
        missing = [n for n in names if not (load_from_disk and AV.exists(path, model_id, identifier, n))]
        for name in missing:
            AV.remove(path, model_id, identifier, name)
        if missing:
            with untouched(model):
                for number, batch in enumerate(dataloader):
                    values = layer_values(model, missing, model_args(batch))
                    AV.save(path, model_id, identifier, missing, [values[n] for n in missing], str(number))
        if not return_activations:
            return None
        found = [AV.load(path, model_id, identifier, name) for name in names]
        return found[0] if isinstance(layers, str) else found

    @staticmethod
    def sort_files(files: list[str]) -> list[str]:
        """Files by the numbers in their names: ``b9`` before ``b10``."""

        def key(file: str) -> tuple[list[tuple[int, int, str]], str]:
            parts = re.split(r"(\d+)", Path(file).stem)
            return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p], file

        return sorted(files, key=key)


def _folder(path: str, model_id: str) -> Path:
    return Path(path) / AV.AV_DIR_NAME / model_id


def _files(path: str, model_id: str, identifier: str | None, layer: str | None, num_id: str | None) -> list[str]:
    """Stored files; names are compared, not read as patterns."""
    folder = _folder(path, model_id)
    found: list[str] = []
    for file in folder.rglob("*.pt") if folder.is_dir() else ():
        data, *layers = file.relative_to(folder).parts[:-1]
        fits = (identifier in {None, data}, layer in {None, "/".join(layers)}, num_id in {None, file.stem})
        if all(fits):
            found.append(str(file))
    return found
