"""Maps of a layer with channels last: told by the image's proportions and by what the layer is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum.attr import GuidedGradCam, LayerGradCam
from captum.attr.arrangement import arrangement
from captum.errors import LayerError

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


class Windows(nn.Module):
    """Attention among the four pixels of each window, which lie in dim 0 beside the rows."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.first, self.inner, self.whole, self.head = (
            nn.Conv2d(3, 6, 4, 4),
            nn.LayerNorm(6),
            nn.LayerNorm(6),
            nn.Linear(6, 2),
        )
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        maps = self.first(x)  # (B, 6, 4, 6)
        parts = maps.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 4, 5, 1).reshape(-1, 2, 2, 6)
        mixed = self.inner(parts if self.last else parts.flatten(1, 2))
        back = mixed.reshape(len(x), 2, 3, 2, 2, 6).permute(0, 1, 3, 2, 4, 5).reshape(len(x), 24, 6)
        return self.head(self.whole(back.tanh()).square().mean(1))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("rows", [1, 2])
def test_positions_that_lie_beside_the_rows_are_refused(rows: int, last: bool) -> None:
    model, image = Windows(last).eval(), torch.rand(rows, 3, 16, 24)
    whole = LayerGradCam(model, model.whole).attribute(image, 1)
    assert whole.shape == (rows, 1, 4, 6)
    for variant in ("grad_cam", "hires_cam", "eigen_cam"):
        with pytest.raises(LayerError, match=rf"each of {rows} rows .* \({6 * rows}, .* the block around this one"):
            LayerGradCam(model, model.inner).attribute(image, 1, variant=variant)
    with pytest.raises(LayerError, match="dim 0 is not the batch"):
        GuidedGradCam(nn.Sequential(model, nn.ReLU()), model.inner).attribute(image, 1)


def test_windows_can_be_put_back_by_the_caller() -> None:
    model, image = Windows(last=False).eval(), torch.rand(2, 3, 16, 24)

    def whole(t: Tensor) -> Tensor:
        return t.reshape(2, 2, 3, 2, 2, 6).permute(0, 5, 1, 3, 2, 4).reshape(2, 6, 4, 6)

    given = LayerGradCam(model, model.inner).attribute(image, 1, reshape_transform=whole)
    value = model.inner(model.first(image).unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 4, 5, 1).reshape(-1, 4, 6))
    value = value.detach().requires_grad_()
    back = value.reshape(2, 2, 3, 2, 2, 6).permute(0, 1, 3, 2, 4, 5).reshape(2, 24, 6)
    grad = torch.autograd.grad(model.head(model.whole(back.tanh()).square().mean(1))[:, 1].sum(), value)[0]
    expected = (whole(grad).mean((2, 3), keepdim=True) * whole(value)).sum(1, keepdim=True)
    torch.testing.assert_close(given, expected.detach())


def test_frames_have_maps_of_their_own() -> None:
    frames = nn.Conv2d(3, 4, 3)
    clip = torch.rand(2, 5, 3, 8, 8)

    def model(x: Tensor) -> Tensor:
        return frames(x.flatten(0, 1)).relu().mean((2, 3)).unflatten(0, (len(x), 5)).sum(1)

    maps = LayerGradCam(model, frames).attribute(clip, 1)
    each = LayerGradCam(lambda x: frames(x).relu().mean((2, 3)), frames).attribute(clip.flatten(0, 1), 1)
    torch.testing.assert_close(maps, each)


def test_a_value_without_channels_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).eval()
    with pytest.raises(LayerError, match=r"with channels, .* Flatten is \(3,\)"):
        LayerGradCam(model, model[1]).attribute(torch.rand(3, 4))


def test_a_value_that_rows_share_is_read_as_it_is() -> None:
    places, head = nn.Embedding(4, 6), nn.Linear(6, 2)

    def model(x: Tensor) -> Tensor:
        return head((x + places(torch.arange(4)[None])).tanh().mean(1))

    assert LayerGradCam(model, places).attribute(torch.rand(3, 4, 6), 1).shape == (1, 1, 4)


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
    turned = arrangement(value, layer, lambda: [layer], (3, 32, 32), 1)(value)
    assert torch.equal(turned, value.permute(0, 3, 1, 2) if last else value)
