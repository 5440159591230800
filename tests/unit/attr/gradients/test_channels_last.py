"""Maps of a layer with channels last: told by the image's proportions and by what the layer is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum.attr import GuidedGradCam, LayerGradCam
from captum.attr.arrangement import arrangement

torch.manual_seed(0)
IMAGE = torch.rand(2, 3, 16, 24)


class Turned(nn.Module):
    """The same maps twice: channels first, and channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.norm = nn.Conv2d(3, 5, 4, 4), nn.Identity(), nn.LayerNorm(5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.norm(self.last(self.first(x).permute(0, 2, 3, 1))).relu()
        return self.head(maps.square().mean((1, 2)))


class TurningNorm(nn.LayerNorm):
    """A norm over the channels of maps that have them first, as in ConvNeXt."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("variant", ["grad_cam", "grad_cam++", "layer_cam"])
def test_the_same_maps_in_either_order(variant: str) -> None:
    model = Turned()
    first = LayerGradCam(model, model.first).attribute(IMAGE, 1, variant=variant)
    last = LayerGradCam(model, model.last).attribute(IMAGE, 1, variant=variant)
    assert first.shape == (2, 1, 4, 6)
    torch.testing.assert_close(last, first)


def test_guided_grad_cam_reads_them_too() -> None:
    model = Turned()
    torch.testing.assert_close(
        GuidedGradCam(model, model.last).attribute(IMAGE, 1), GuidedGradCam(model, model.first).attribute(IMAGE, 1)
    )


@pytest.mark.parametrize(
    ("layer", "shape", "last"),
    [
        (nn.LayerNorm(6), (1, 6, 6, 6), True),  # it works on the last dim, whatever the sizes
        (TurningNorm(6), (1, 6, 6, 6), False),
        (nn.Conv2d(3, 6, 1), (1, 6, 6, 6), False),
        (nn.Identity(), (1, 6, 6, 6), False),  # nothing tells: as published
        (nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6)), (1, 4, 4, 6), True),
        (nn.Sequential(nn.Conv2d(4, 4, 3), TurningNorm(4), nn.Linear(4, 6)), (1, 4, 4, 6), False),
        (nn.GELU(), (1, 4, 4, 24), True),  # a map of 4 × 24 would not have the image's proportions
        (nn.ReLU(), (1, 24, 4, 4), False),
    ],
)
def test_which_dim_is_the_channel(layer: nn.Module, shape: tuple[int, ...], last: bool) -> None:
    value = torch.rand(shape)
    turned = arrangement(value, layer, [layer], (3, 32, 32))(value)
    assert torch.equal(turned, value.permute(0, 3, 1, 2) if last else value)
