"""Models by name: one short text says which network, its weights, its preprocessing and its class names."""

from __future__ import annotations

from pathlib import Path

from captum.cli.models.subject import Subject
from captum.errors import InputError

__all__ = ["MODEL_FORMS", "Subject", "load"]

MODEL_FORMS = "efficientnet-lite0, torchvision:NAME, timm:NAME, a Hugging Face folder, or FILE.py:FACTORY"


def load(name: str, *, download: bool = False) -> Subject:
    """Load a model.

    Args:
        name: One of :data:`MODEL_FORMS`.
        download: Whether weights that are not on this machine may be fetched.

    Returns:
        The model in evaluation mode, with its preprocessing and class names.

    Raises:
        InputError: The name is of no known form, or names something that is not there.
        MissingDependencyError: A package that the model needs is not installed.
    """
    form, colon, rest = name.partition(":")
    if name == "efficientnet-lite0":
        from captum.cli.models.builtin import efficientnet_lite0

        return efficientnet_lite0()
    if colon and form in {"torchvision", "timm"}:
        from captum.cli.models import zoo

        return (zoo.torchvision if form == "torchvision" else zoo.timm)(rest, download=download)
    path, _, factory = name.rpartition(":")
    if path.endswith(".py"):
        from captum.cli.models.factory import from_factory

        return from_factory(Path(path), factory)
    if Path(name).is_dir():
        from captum.cli.models.folder import from_folder

        return from_folder(Path(name))
    if name.endswith(".py"):
        message = f"say which function of {name} makes the model: --model {name}:FACTORY"
    else:
        message = f"there is no model {name!r}: give {MODEL_FORMS}"
    raise InputError(message)
