"""Image classifiers saved by Hugging Face ``transformers``: a folder of configuration, weights and preprocessing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from torch import Tensor, nn

from captum.cli.models.subject import Prepare, Scaling, Subject
from captum.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["from_folder"]

_PREPROCESSING = "preprocessor_config.json"


def from_folder(folder: Path) -> Subject:
    """Load the classifier of a folder that ``save_pretrained`` wrote; nothing is fetched."""
    if not (folder / "config.json").is_file():
        message = f"{folder} has no config.json, so it is no Hugging Face model; save one with model.save_pretrained()"
        raise InputError(message)
    try:
        package = import_module("transformers")
    except ImportError as error:
        message = "a Hugging Face folder needs the package transformers: pip install 'captum[llm]'"
        raise MissingDependencyError(message) from error
    try:
        with _without_bars(package):
            model: nn.Module = package.AutoModelForImageClassification.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:160]
        message = f"{folder} holds no image classifier ({first}); for other models use captum.explain from Python"
        raise InputError(message) from error
    configuration: object = getattr(model, "config", None)
    names: Mapping[int, str] = getattr(configuration, "id2label", {})
    return Subject(str(folder), model.eval(), _prepare(folder, package, configuration), dict(names))


@contextlib.contextmanager
def _without_bars(package: ModuleType) -> Generator[None]:
    """Keep transformers from drawing bars on standard error, which is for what the user must know."""
    logging = package.utils.logging
    drawn: bool = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def _prepare(folder: Path, package: object, configuration: object) -> Prepare:
    """The folder's own preprocessing, or the usual one in the size that the model asks for."""
    if not (folder / _PREPROCESSING).is_file():
        side: object = getattr(configuration, "image_size", 224)
        size = (side, side) if isinstance(side, int) else (224, 224)
        return Scaling(size, None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    load: Callable[..., Callable[..., Mapping[str, Tensor]]] = getattr(package, "AutoImageProcessor").from_pretrained  # noqa: B009
    processor = load(folder, local_files_only=True)

    def prepare(photo: Image) -> Tensor:
        return processor(images=photo, return_tensors="pt")["pixel_values"]

    return prepare
