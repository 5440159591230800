"""Models by the names of torchvision and timm, with the preprocessing that each package keeps for its weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from captum.cli.models.builtin import imagenet_labels
from captum.cli.models.subject import Scaling, Subject
from captum.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["timm", "torchvision"]


class _TimmSettings(TypedDict):
    input_size: tuple[int, int, int]
    crop_pct: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str


def torchvision(name: str, *, download: bool = False) -> Subject:
    """A torchvision classifier with its best weights and the transforms that belong to them."""
    package = _package("torchvision", "torchvision.models")
    try:
        choices: object = package.get_model_weights(name)
    except ValueError as error:
        message = f"torchvision has no model {name!r}; torchvision.models.list_models() lists them"
        raise InputError(message) from error
    weights = getattr(choices, "DEFAULT")  # noqa: B009 - an enum that only torchvision knows
    if not download:
        _demand_weights(f"torchvision:{name}", _in_hub_cache(str(weights.url)))
    model: nn.Module = package.get_model(name, weights=weights)
    transform: Callable[[Image], Tensor] = weights.transforms()
    categories: Sequence[str] = weights.meta.get("categories", ())
    return Subject(
        f"torchvision:{name}", model.eval(), lambda photo: transform(photo)[None], dict(enumerate(categories))
    )


def timm(name: str, *, download: bool = False) -> Subject:
    """A timm classifier with its default weights; size, crop, mean and deviation are those of the weights."""
    if not download:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the hub's client is first imported
    package = _package("timm", "timm")
    if not package.is_model(name):
        message = (
            f"timm has no model {name!r}; its list: python -c 'import timm; print(*timm.list_models(pretrained=True))'"
        )
        raise InputError(message)
    configuration = package.get_pretrained_cfg(name)
    if not download:
        _demand_weights(f"timm:{name}", _timm_weights_are_here(configuration.hf_hub_id, configuration.url))
    model: nn.Module = package.create_model(name, pretrained=True)
    settings: _TimmSettings = import_module("timm.data").resolve_model_data_config(model)
    labels = imagenet_labels() if configuration.num_classes == 1000 else {}
    return Subject(f"timm:{name}", model.eval(), _scaling(settings), labels)


def _scaling(settings: _TimmSettings) -> Scaling:
    """The preprocessing that a timm configuration describes; a crop above 1 enlarges, which is the whole photo here."""
    _, height, width = settings["input_size"]
    crop = min(settings["crop_pct"], 1.0)
    return Scaling((height, width), crop, settings["mean"], settings["std"], settings["interpolation"])


def _package(name: str, module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        message = f"{name}:NAME needs the package {name}: pip install {name}"
        raise MissingDependencyError(message) from error
    except RuntimeError as error:  # compiled for another torch
        message = f"{name} is installed but does not fit torch {torch.__version__}; install the release made for it"
        raise MissingDependencyError(message) from error


def _demand_weights(name: str, are_here: bool) -> None:
    if not are_here:
        message = f"the weights of {name} are not on this machine; add --download to fetch them"
        raise InputError(message)


def _in_hub_cache(url: str) -> bool:
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name).is_file()


def _timm_weights_are_here(repository: str | None, url: str | None) -> bool:
    if url and _in_hub_cache(url):
        return True
    if not repository:
        return False
    look: Callable[[str, str], object] = import_module("huggingface_hub").try_to_load_from_cache
    return any(isinstance(look(repository, file), str) for file in ("model.safetensors", "pytorch_model.bin"))
