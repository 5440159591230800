"""A model with all that is needed to show it a photo and to read what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Scaling", "Subject", "pixels"]

Prepare = Callable[["Image"], Tensor]

_INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


@dataclass(frozen=True)
class Subject:
    """A classifier of images, ready to be explained.

    Args:
        name: How the user named it.
        model: The network, in evaluation mode.
        prepare: Turns an RGB photo into the network's input ``(1, C, H, W)``.
        labels: Class names by index; empty when nobody knows them.
        sees_whole_photo: Whether the input covers the whole photo, so that a map of the input can be laid over it.
        layer: Path of a late layer that still knows places, for layer methods; ``None`` to look for one.
    """

    name: str
    model: nn.Module
    prepare: Prepare
    labels: Mapping[int, str] = field(default_factory=dict[int, str])
    sees_whole_photo: bool = False
    layer: str | None = None

    def label(self, index: int) -> str:
        """Name of a class, or ``class 7`` when it has none."""
        return self.labels.get(index, f"class {index}")

    def modules(self) -> dict[str, nn.Module]:
        """Every module of the network by its path."""
        return dict(_descend("", self.model))


@dataclass(frozen=True)
class Scaling:
    """The usual way from a photo to an input: resize, crop the middle, subtract a mean, divide by a deviation.

    Args:
        size: Height and width of the input.
        crop: Share of the shorter side that is kept when the middle is cropped; ``None`` to squeeze the whole photo.
        mean: One number per channel, of pixel values in 0..1.
        std: One number per channel, of pixel values in 0..1.
        interpolation: Name of a PIL resampling filter.
    """

    size: tuple[int, int]
    crop: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    def __call__(self, photo: Image) -> Tensor:
        """Return the photo as ``(1, 3, H, W)``."""
        from PIL.Image import Resampling

        name = self.interpolation if self.interpolation in _INTERPOLATIONS else "bilinear"
        height, width = self.size
        resized = photo.resize((width, height), Resampling[name.upper()], box=self.window(photo))
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (pixels(resized) - mean) / std

    def window(self, photo: Image) -> tuple[float, float, float, float]:
        """Return the part of the photo that the model sees, as left, upper, right, lower."""
        if self.crop is None:
            return (0, 0, photo.width, photo.height)
        height, width = self.size
        scale = self.crop * min(photo.width / width, photo.height / height)
        left, upper = (photo.width - scale * width) / 2, (photo.height - scale * height) / 2
        return (left, upper, left + scale * width, upper + scale * height)


def pixels(photo: Image) -> Tensor:
    """Return a photo as ``(1, 3, H, W)`` with values in 0..1."""
    import numpy as np

    return torch.as_tensor(np.array(photo.convert("RGB"))).permute(2, 0, 1)[None].float() / 255


def _descend(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    yield path, module
    for name, child in module.named_children():
        yield from _descend(f"{path}.{name}" if path else name, child)
