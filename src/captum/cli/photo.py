"""Photos: read, brought along, and as reference points that methods start from."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from PIL.Image import Image

    from captum.cli.models import Subject

__all__ = ["chelsea", "read", "references"]

_LARGEST_SIDE = 1024


def read(path: Path) -> Image:
    """Read a picture file as RGB, upright, its longer side at most 1024 pixels.

    Args:
        path: The file, in any format that Pillow reads.

    Raises:
        InputError: There is no such file, or it is no picture.
        MissingDependencyError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        message = "reading a photo needs the package pillow: pip install 'captum[demo]'"
        raise MissingDependencyError(message) from error
    try:
        with Image.open(path) as file:
            photo = ImageOps.exif_transpose(file).convert("RGB")
    except FileNotFoundError as error:
        message = f"there is no file {path}"
        raise InputError(message) from error
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        message = f"{path} cannot be read as a picture; give a JPEG, PNG, WebP or the like"
        raise InputError(message) from error
    photo.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    return photo


def chelsea() -> Image:
    """Return the photo of a cat, Chelsea, that scikit-image brings along (CC0, by Stefan van der Walt)."""
    if find_spec("skimage") is None or find_spec("PIL") is None:
        message = "the demo needs scikit-image and pillow: pip install 'captum[demo]'"
        raise MissingDependencyError(message)
    from PIL import Image

    return Image.fromarray(import_module("skimage.data").chelsea())


def references(photo: Image, subject: Subject) -> Tensor:
    """Return photos that show nothing, as inputs ``(4, C, H, W)``: black, grey, white, and the photo out of focus.

    Methods that average over baselines draw from these, so that no single colour counts as "nothing there".
    """
    from PIL import Image, ImageFilter

    plain = [Image.new("RGB", photo.size, (level, level, level)) for level in (0, 128, 255)]
    blurred = photo.filter(ImageFilter.GaussianBlur(max(photo.size) / 16))
    return torch.cat([subject.prepare(image) for image in (*plain, blurred)])
