"""Images as segments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from captum.attr import ImageMaskInput
from captum.errors import InputError, MaskError

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
IMAGE = Image.fromarray(PIXELS)
HALVES = torch.tensor([[0, 0, 0, 7, 7, 7]] * 4)


def test_segments_are_painted_over():
    inp = ImageMaskInput(IMAGE, HALVES)
    assert inp.values == ["image_feature_0", "image_feature_7"]
    assert inp.mask_id_to_idx == {0: 0, 7: 1}
    assert inp.to_tensor().tolist() == [[1.0, 1.0]]
    assert np.array_equal(np.array(inp.to_model_input()), PIXELS)
    assert np.array_equal(np.array(inp.to_model_input(torch.ones(1, 2))), PIXELS)
    painted = np.array(inp.to_model_input(torch.tensor([[1, 0]])))
    assert np.array_equal(painted[:, :3], PIXELS[:, :3])
    assert bool((painted[:, 3:] == 255).all())
    assert np.array_equal(np.array(IMAGE), PIXELS)


def test_masks_may_overlap():
    masks = [HALVES == 0, torch.ones(4, 6)]
    inp = ImageMaskInput(IMAGE, mask_list=masks, baseline=(1, 2, 3))
    painted = np.array(inp.to_model_input(torch.tensor([[0, 1]])))
    assert painted[0, 0].tolist() == [1, 2, 3]
    assert np.array_equal(painted[:, 3:], PIXELS[:, 3:])
    added = inp.format_pixel_attr(torch.tensor([[1.0, 2.0], [0.5, 0.0]]))
    assert added.shape == (2, 4, 6)
    assert added[0, 0].tolist() == [3.0, 3.0, 3.0, 2.0, 2.0, 2.0]
    assert [m.dtype for m in inp.get_mask_list()] == [torch.bool] * 2


def test_without_a_mask_the_image_is_one_segment():
    inp = ImageMaskInput(IMAGE, processor_fn=lambda image: {"size": image.size, "corner": image.getpixel((0, 0))})
    assert inp.values == ["image_feature_0"]
    assert inp.to_model_input() == {"size": (6, 4), "corner": (0, 1, 2)}
    assert inp.to_model_input(torch.zeros(1, 1))["corner"] == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "baseline", "corner"),
    [("L", (255, 255, 255), 255), ("L", 7, 7), ("RGBA", (1, 2, 3), (1, 2, 3, 255)), ("RGB", 9, (9, 9, 9))],
)
def test_colours_of_every_kind_of_image(mode, baseline, corner):
    inp = ImageMaskInput(IMAGE.convert(mode), baseline=baseline)
    assert inp.to_model_input(torch.zeros(1, 1)).getpixel((0, 0)) == corner


def test_mistakes_are_told():
    with pytest.raises(AssertionError, match="mask of the image's height and width"):
        ImageMaskInput(IMAGE, HALVES.T)
    with pytest.raises(AssertionError, match=r"mask_list\[1\] of the image's"):
        ImageMaskInput(IMAGE, mask_list=[HALVES, HALVES[:2]])
    with pytest.raises(InputError, match="got both"):
        ImageMaskInput(IMAGE, HALVES, [HALVES])
    with pytest.raises(MaskError, match="at least one mask"):
        ImageMaskInput(IMAGE, mask_list=[])
    with pytest.raises(InputError, match="baseline of 1 number"):
        ImageMaskInput(IMAGE.convert("L"), baseline=(1, 2, 3)).to_model_input(torch.zeros(1, 1))


def test_segments_are_drawn_with_their_names():
    figure, axes = ImageMaskInput(IMAGE, HALVES).plot_mask_overlay(border_width=2) or pytest.fail("no figure")
    assert [t.get_text() for t in axes.texts] == ["image_feature_0", "image_feature_7"]
    assert len(axes.images) == 3
    assert figure.axes[0] is axes
    plain = ImageMaskInput(IMAGE, HALVES).plot_mask_overlay(show_legends=False) or pytest.fail("no figure")
    assert not plain[1].texts
