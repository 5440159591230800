"""The layer that layer methods look at unless told otherwise: late, but still of places that matter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captum.cli.late_layer import late_layer
from captum.cli.models import Subject
from captum.cli.models.subject import pixels
from captum.errors import InputError

PHOTO = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.relu(self.bn(self.conv(x))) + x)


class Vision(nn.Module):
    """Two blocks; the class token alone is read, or the mean of all tokens."""

    def __init__(self, by_class: bool, before: bool = True) -> None:
        super().__init__()
        self.patches, self.classes, self.by_class = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8)), by_class
        self.blocks = nn.Sequential(
            *(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=before) for _ in range(2))
        )
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.classes, self.patches(x).flatten(2).transpose(1, 2)], 1)
        tokens = self.norm(self.blocks(tokens))
        return self.head(tokens[:, 0] if self.by_class else tokens.square().mean(1))


class Windows(nn.Module):
    """Maps with channels last from the patches on, as in Swin transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.body = nn.Conv2d(3, 8, 4, 4), nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU())
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.patches(x).permute(0, 2, 3, 1)
        return self.head(self.norm(maps + self.body(maps)).square().mean((1, 2)))


def chosen(model: nn.Module) -> str:
    return late_layer(Subject("mine", model.eval(), pixels), PHOTO, 1)


def convolutions(*end: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Sequential(Residual(), Residual()), *end)


MODELS: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: convolutions(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)), "1.1"),
    (lambda: convolutions(nn.MaxPool2d(2), nn.Dropout(), nn.Flatten(), nn.LazyLinear(2)), "1.1"),
    (lambda: convolutions(nn.Identity(), nn.Conv2d(4, 2, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten()), "3"),
    (lambda: Vision(by_class=True), "blocks.1.norm1"),
    (lambda: Vision(by_class=True, before=False), "blocks.0"),
    (lambda: Vision(by_class=False), "norm"),
    (Windows, "norm"),
]


@pytest.mark.parametrize(("make", "layer"), MODELS)
def test_the_last_places_that_matter(make: Callable[[], nn.Module], layer: str) -> None:
    torch.manual_seed(0)
    model = make()
    assert chosen(model) == layer
    assert not any(module._forward_hooks for module in model.modules())


def test_a_subjects_own_choice_counts() -> None:
    assert late_layer(Subject("mine", nn.Identity(), pixels, layer="blocks.3"), PHOTO, 0) == "blocks.3"


def test_a_model_without_places_says_what_to_do() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 24, 2))
    with pytest.raises(InputError, match=r"mine has no layer of maps.* name a layer with --layer, such as 0, 1$"):
        chosen(flat)
