"""Where the tokens of a vision transformer lie: certain, or an error that says what to pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum.attr import LayerGradCam
from captum.attr.token_grid import Grid, token_grid
from captum.errors import CaptumWarning, LayerError


class Patches(nn.Module):
    """Class tokens before patches of an image, a token-wise block, and a score that reads every token."""

    def __init__(self, patch: int, extra: int, by_conv: bool = True) -> None:
        super().__init__()
        self.patch, self.by_conv = patch, by_conv
        self.embed = nn.Conv2d(3, 6, patch, stride=patch) if by_conv else nn.Linear(3 * patch * patch, 6)
        self.extra = nn.Parameter(torch.randn(1, extra, 6))
        self.block = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU())
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.by_conv:
            tokens = self.embed(x).flatten(2).transpose(1, 2)
        else:
            p = self.patch
            cut = x.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5)
            tokens = self.embed(cut.flatten(3).flatten(1, 2))
        tokens = torch.cat([self.extra.expand(len(x), -1, -1), tokens], 1)
        return self.head(self.block(tokens)).tanh().mean(1)


@pytest.mark.parametrize("by_conv", [True, False])
@pytest.mark.parametrize("size", [(4, 128), (128, 4), (8, 64), (32, 32), (4, 4), (12, 20)])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_maps_lie_over_the_patches_on_long_images_too(size: tuple[int, int], extra: int, by_conv: bool) -> None:
    torch.manual_seed(0)
    model, x = Patches(4, extra, by_conv).eval(), torch.randn(2, 3, *size)
    found = LayerGradCam(model, model.block).attribute(x, 0)
    seen: list[Tensor] = []
    with model.block.register_forward_hook(lambda _m, _a, out: seen.append(out)):
        score = model(x)[:, 0].sum()
    (grad,) = torch.autograd.grad(score, seen[0])
    height, width = size[0] // 4, size[1] // 4
    grid = (t[:, extra:].transpose(1, 2).reshape(2, 6, height, width) for t in (grad, seen[0].detach()))
    slope, value = grid
    torch.testing.assert_close(found, (slope.mean((2, 3), keepdim=True) * value).sum(1, keepdim=True))


CASES = [
    (197, (3, 224, 224), [nn.Conv2d(3, 2, 16, stride=16)], [Grid(1, 14, 14)]),
    (201, (3, 224, 224), [nn.Conv2d(3, 2, 16, stride=16)], [Grid(5, 14, 14)]),
    (197, (3, 224, 224), [nn.Conv2d(3, 2, 7, stride=2, padding=3)], [Grid(1, 14, 14)]),
    (784, (3, 224, 224), [nn.Conv2d(3, 2, 4, stride=4)], [Grid(0, 28, 28)]),
    (50, (3, 230, 230), [nn.Conv2d(3, 2, 32, stride=32, padding="valid")], [Grid(1, 7, 7)]),
    (10, (3, 3, 3), [nn.Conv2d(3, 2, 3, padding="same")], [Grid(1, 3, 3)]),
    (33, (1, 16, 512), [nn.Conv2d(3, 2, 8, stride=8)], [Grid(1, 1, 32)]),
    (197, (3, 224, 224), [], [Grid(1, 14, 14)]),
    (297, (3, 224, 224), [nn.Conv2d(3, 2, 16, stride=16)], []),
    (6, (3, 32, 32), [], [Grid(2, 2, 2), Grid(5, 1, 1)]),
]


@pytest.mark.parametrize(("tokens", "image", "modules", "grids"), CASES)
def test_every_way_is_found(tokens: int, image: tuple[int, ...], modules: list[nn.Module], grids: list[Grid]) -> None:
    assert sorted(token_grid(tokens, image, modules)) == grids


def test_what_is_not_certain_is_refused_with_the_remedy() -> None:
    model, x = Patches(4, 3, by_conv=False).eval(), torch.randn(1, 3, 8, 8)
    with pytest.raises(LayerError, match=r"no way.*reshape_transform"):
        LayerGradCam(model, model.block).attribute(x, 0)
    model = Patches(4, 2, by_conv=False).eval()
    with pytest.raises(LayerError, match=r"1 × 1 after 5 others.*reshape_transform"):
        LayerGradCam(model, model.block).attribute(x, 0)
    found = LayerGradCam(model, model.block).attribute(
        x, 0, reshape_transform=lambda t: t[:, 2:].transpose(1, 2).unflatten(2, (2, 2))
    )
    assert found.shape == (1, 1, 2, 2)


def test_a_layer_whose_patches_are_read_no_more_is_told() -> None:
    class ByClass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(5, 5)
            self.before, self.after = nn.LayerNorm(6), nn.LayerNorm(6)
            self.token, self.head = nn.Parameter(torch.randn(1, 1, 6)), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            patches = self.embed(x).flatten(2).transpose(1, 2)
            tokens = self.before(torch.cat([self.token.expand(len(x), -1, -1), patches], 1))
            return self.head(self.after(self.mix(tokens.transpose(1, 2)).transpose(1, 2))[:, 0])

    torch.manual_seed(0)
    model, x = ByClass().eval(), torch.rand(2, 3, 8, 8)
    assert LayerGradCam(model, model.before).attribute(x, 1).abs().sum() > 0
    with pytest.warns(CaptumWarning, match="class or register tokens only"):
        found = LayerGradCam(model, model.after).attribute(x, 1)
    assert not found.any()
