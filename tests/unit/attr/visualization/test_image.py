"""The picture functions that upstream's users know: numbers, layouts, types, and nothing left in pyplot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from captum.attr import visualization as viz
from captum.attr.visualization.arrays import as_bytes
from captum.errors import CaptumError, InputError

RNG = np.random.default_rng(0)
ATTR = RNG.normal(size=(6, 8, 3))
IMAGE = RNG.uniform(size=(6, 8, 3))
METHODS = list(viz.ImageVisualizationMethod.__members__)
SIGNS = list(viz.VisualizeSign.__members__)


@pytest.fixture(autouse=True)
def _no_pyplot_figure():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


def shown(axes: Axes, index: int = -1) -> np.ndarray:
    return np.asarray(axes.images[index].get_array())


def drawn(figure: Figure) -> np.ndarray:
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_enums_have_upstreams_values():
    assert {m.name: m.value for m in viz.ImageVisualizationMethod} == {
        "heat_map": 1,
        "blended_heat_map": 2,
        "original_image": 3,
        "masked_image": 4,
        "alpha_scaling": 5,
    }
    assert {m.name: m.value for m in viz.VisualizeSign} == {
        "positive": 1,
        "absolute_value": 2,
        "negative": 3,
        "all": 4,
    }


@pytest.mark.parametrize(
    ("sign", "outlier_perc", "expected"),
    [
        ("all", 2, [[0.25, -0.5], [0.75, -1]]),
        ("all", 50, [[1 / 3, -2 / 3], [1, -1]]),
        ("positive", 2, [[1 / 3, 0], [1, 0]]),
        ("negative", 2, [[0, 0.5], [0, 1]]),
        ("absolute_value", 2, [[0.25, 0.5], [0.75, 1]]),
    ],
)
def test_map_shows_the_golden_normalisation(sign, outlier_perc, expected):
    _, axes = viz.visualize_image_attr(
        np.array([[1.0, -2.0], [3.0, -4.0]]), sign=sign, outlier_perc=outlier_perc, use_pyplot=False
    )
    np.testing.assert_allclose(shown(axes), expected, atol=1e-12)


def test_channels_are_summed_before_the_sign_is_taken():
    attr = np.zeros((2, 2, 3))
    attr[0, 0] = [3, -1, 0]
    attr[1, 1] = [-5, 1, 0]
    _, axes = viz.visualize_image_attr(attr, sign="all", outlier_perc=0, use_pyplot=False)
    np.testing.assert_allclose(shown(axes), [[0.5, 0], [0, -1]])


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e300])
def test_scale_of_the_attributions_is_invisible(scale):
    _, axes = viz.visualize_image_attr(np.array([[1.0, -2.0], [3.0, -4.0]]) * scale, sign="all", use_pyplot=False)
    np.testing.assert_allclose(shown(axes), [[0.25, -0.5], [0.75, -1]])


@pytest.mark.parametrize(
    ("sign", "name", "limits"),
    [
        ("all", "RdWhGn", (-1, 1)),
        ("positive", "Greens", (0, 1)),
        ("negative", "Reds", (0, 1)),
        ("absolute_value", "Blues", (0, 1)),
    ],
)
def test_colour_maps_and_ranges(sign, name, limits):
    _, axes = viz.visualize_image_attr(ATTR, IMAGE, "blended_heat_map", sign, use_pyplot=False, alpha_overlay=0.3)
    mapped = axes.images[-1]
    assert mapped.get_cmap().name == name
    assert mapped.get_clim() == limits
    assert mapped.get_alpha() == 0.3
    np.testing.assert_allclose(shown(axes, 0), (IMAGE * 255).astype(int).mean(axis=2))


@pytest.mark.parametrize("cmap", ["viridis", plt.colormaps["viridis"]])
def test_own_colour_map(cmap):
    _, axes = viz.visualize_image_attr(ATTR, sign="all", cmap=cmap, use_pyplot=False)
    assert axes.images[0].get_cmap().name == "viridis"


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_sign_returns_figure_and_axes(method, sign):
    if sign == "all" and method in {"masked_image", "alpha_scaling"}:
        with pytest.raises(InputError, match="positive, absolute_value, negative"):
            viz.visualize_image_attr(ATTR, IMAGE, method, sign, use_pyplot=False)
        return
    figure, axes = viz.visualize_image_attr(
        ATTR, IMAGE, method, sign, show_colorbar=True, title="T", fig_size=(3, 4), use_pyplot=False
    )
    assert type(figure) is Figure
    assert isinstance(axes, Axes)
    assert axes.get_title() == "T"
    assert len(figure.axes) == 2
    assert figure.axes[1].axison == (method in {"heat_map", "blended_heat_map"})
    assert list(axes.get_xticks()) == list(axes.get_yticks()) == []
    assert drawn(figure).shape[:2] == (400, 300)


def test_masked_and_alpha_pixels():
    attr, image = np.array([[0.0, 1.0], [2.0, 4.0]]), np.full((2, 2, 3), 200, np.uint8)
    _, masked = viz.visualize_image_attr(attr, image, "masked_image", "positive", outlier_perc=0, use_pyplot=False)
    assert shown(masked)[..., 0].tolist() == [[0, 50], [100, 200]]
    _, alpha = viz.visualize_image_attr(attr, image, "alpha_scaling", "positive", outlier_perc=0, use_pyplot=False)
    assert shown(alpha)[..., 3].tolist() == [[0, 63], [127, 255]]
    assert (shown(alpha)[..., :3] == 200).all()


ZERO_MAPS = {
    "zeros": (np.zeros((4, 4, 3)), "all", "all attributions are 0"),
    "none positive": (-np.ones((4, 4, 3)), "positive", "no positive attribution"),
    "none negative": (np.ones((4, 4)), "negative", "no negative attribution"),
    "no number": (np.full((4, 4), np.nan), "absolute_value", "no finite attribution"),
}


@pytest.mark.parametrize("method", ["heat_map", "blended_heat_map", "masked_image", "alpha_scaling"])
@pytest.mark.parametrize("case", ZERO_MAPS)
def test_maps_with_nothing_to_show_are_blank_and_say_so(case, method):
    attr, sign, note = ZERO_MAPS[case]
    if sign == "all" and method in {"masked_image", "alpha_scaling"}:
        sign = "absolute_value"
    figure, axes = viz.visualize_image_attr(attr, np.full((4, 4, 3), 0.5), method, sign, use_pyplot=False)
    assert axes.get_xlabel() == note
    drawn(figure)
    if method in {"heat_map", "blended_heat_map"} and case != "no number":
        assert not shown(axes).any()
    figure, _ = viz.visualize_image_attr(attr, sign=sign, use_pyplot=False, show_colorbar=True)
    assert figure.axes[1].get_xlabel() == note


def test_constant_map_is_full():
    figure, axes = viz.visualize_image_attr(np.ones((4, 5, 3)), sign="all", use_pyplot=False)
    assert (shown(axes) == 1).all()
    assert axes.get_xlabel() == ""
    drawn(figure)


def test_infinities_of_both_signs_in_the_channels_of_a_pixel():
    attr = np.ones((2, 2, 3))
    attr[0, 1] = [np.inf, -np.inf, 1]
    _, axes = viz.visualize_image_attr(attr, sign="all", use_pyplot=False, outlier_perc=0)
    np.testing.assert_allclose(np.ma.filled(shown(axes), np.nan), [[1, np.nan], [1, 1]])


def test_nan_and_infinite_pixels_do_not_spoil_the_others():
    attr = np.array([[1.0, np.nan], [-2.0, np.inf]])
    _, axes = viz.visualize_image_attr(attr, sign="all", use_pyplot=False, outlier_perc=0)
    data = shown(axes)
    np.testing.assert_allclose(np.ma.filled(data, np.nan), [[0.5, np.nan], [-1, 1]])


LAYOUTS = {
    "tensor HWC": torch.tensor,
    "tensor CHW, grad": lambda a: torch.tensor(a.transpose(2, 0, 1), requires_grad=True),
    "tensor NCHW": lambda a: torch.tensor(a.transpose(2, 0, 1))[None],
    "array NHWC": lambda a: a[None],
    "array CHW": lambda a: a.transpose(2, 0, 1),
    "not contiguous": lambda a: torch.tensor(np.repeat(a, 2, axis=1))[:, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_and_layouts_give_the_same_picture(layout):
    arrange = LAYOUTS[layout]
    for method, sign in [("heat_map", "all"), ("blended_heat_map", "all"), ("masked_image", "positive")]:
        _, expected = viz.visualize_image_attr(ATTR, IMAGE, method, sign, use_pyplot=False)
        _, axes = viz.visualize_image_attr(arrange(ATTR), arrange(IMAGE), method, sign, use_pyplot=False)
        for index in range(len(expected.images)):
            np.testing.assert_allclose(shown(axes, index), shown(expected, index), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_tensor_dtypes(dtype):
    attr = torch.tensor([[1, -2], [3, -4]]).to(dtype)
    _, axes = viz.visualize_image_attr(attr, sign="all", use_pyplot=False)
    np.testing.assert_allclose(shown(axes), [[0.25, -0.5], [0.75, -1]])


def test_ambiguous_layout_takes_the_last_axis_and_the_image_decides_for_maps():
    cube = np.zeros((3, 5, 3))
    cube[0, 0, 0] = 1
    _, axes = viz.visualize_image_attr(cube, use_pyplot=False)
    assert shown(axes).shape == (3, 5)
    maps = RNG.normal(size=(16, 6, 8))  # 16 channels of a layer
    _, axes = viz.visualize_image_attr(maps, IMAGE, "blended_heat_map", "all", outlier_perc=0, use_pyplot=False)
    summed = maps.sum(axis=0)
    np.testing.assert_allclose(shown(axes), summed / np.abs(summed).max())


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (1, 6, 8), (6, 8, 4), (6, 8, 7)])
@pytest.mark.parametrize("method", [m for m in METHODS if m != "heat_map"])
def test_images_of_any_channel_count(shape, method):
    image = RNG.uniform(size=shape)
    figure, _ = viz.visualize_image_attr(ATTR, image, method, "positive", use_pyplot=False)
    drawn(figure)


def test_original_image_needs_no_attributions():
    figure, axes = viz.visualize_image_attr(None, IMAGE, "original_image", use_pyplot=False, show_colorbar=True)
    np.testing.assert_array_equal(shown(axes), (IMAGE * 255).astype(np.uint8))
    drawn(figure)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]]), [0, 127, 255]),
        (np.array([[0.0, 0.5, 1.0000001]]), [0, 127, 255]),
        (np.array([[0.0, 100.4, 255.0]]), [0, 100, 255]),
        (np.array([[-2.0, 0.0, 2.0]]), [0, 127, 255]),
        (np.array([[1.0, 1.5, 2.0]]), [0, 127, 255]),
        (np.array([[-1.0, -1.0, -1.0]]), [127, 127, 127]),
        (np.array([[0, 7, 300]]), [0, 7, 255]),
        (np.array([[False, True, True]]), [0, 255, 255]),
        (np.array([[0.0, np.nan, 1.0]]), [0, 0, 255]),
    ],
)
def test_pixel_ranges(image, expected):
    assert as_bytes(image).ravel().tolist() == expected


def test_given_axes_are_used_and_returned():
    figure = Figure()
    axes = figure.subplots()
    got = viz.visualize_image_attr(ATTR, plt_fig_axis=(figure, axes), use_pyplot=False)
    assert got[0] is figure
    assert got[1] is axes
    assert len(axes.images) == 1


def test_multiple_returns_axes_for_one_and_a_list_for_several():
    figure, axes = viz.visualize_image_attr_multiple(ATTR, IMAGE, ["heat_map"], ["all"], use_pyplot=False)
    assert isinstance(axes, Axes)
    figure, axes = viz.visualize_image_attr_multiple(
        ATTR,
        IMAGE,
        ["original_image", "heat_map"],
        ["all", "positive"],
        ["a", "b"],
        use_pyplot=False,
        show_colorbar=True,
    )
    assert type(axes) is list
    assert [a.get_title() for a in axes] == ["a", "b"]
    assert len(figure.axes) == 4
    drawn(figure)
    assert axes[0].get_position().y0 == pytest.approx(axes[1].get_position().y0)
    assert axes[0].get_position().height == pytest.approx(axes[1].get_position().height)


def test_pyplot_is_asked_to_show_only_when_told(monkeypatch):
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(plt.get_fignums()))
    figure, _ = viz.visualize_image_attr(ATTR)
    assert calls == [[figure.number]]
    viz.visualize_image_attr_multiple(ATTR, IMAGE, ["heat_map"] * 2, ["all"] * 2)
    assert len(calls) == 2
    viz.visualize_image_attr(ATTR, use_pyplot=False)
    assert len(calls) == 2
    plt.close("all")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "bogus"}, "method must be one of heat_map, blended_heat_map"),
        ({"sign": "bogus"}, "sign must be one of positive, absolute_value, negative, all"),
        ({"cmap": "bogus"}, "cmap"),
        ({"outlier_perc": 101}, "outlier_perc"),
        ({"outlier_perc": -1}, "outlier_perc"),
        ({"method": "masked_image", "original_image": None}, "original_image is needed"),
        ({"attr": None}, "attr is needed"),
        ({"attr": np.zeros(3)}, r"got shape \(3,\)"),
        ({"attr": np.zeros((2, 6, 8, 3))}, "one image"),
        ({"method": "blended_heat_map", "attr": np.zeros((5, 7))}, "agree in height and width"),
        (
            {"method": "blended_heat_map", "attr": np.zeros((3, 7, 3)), "original_image": np.zeros((5, 7, 3))},
            "agree in height",
        ),
        ({"attr": [["a", "b"]]}, "real numbers"),
        ({"attr": [[1, 2], [3]]}, "attr must be"),
        ({"attr": torch.zeros(2, 2, device="meta")}, "meta"),
        ({"attr": np.zeros((2, 2), complex)}, "real numbers"),
    ],
)
def test_mistakes_are_named_before_a_figure_is_opened(arguments, words):
    given = {"attr": ATTR, "original_image": IMAGE, **arguments}
    with pytest.raises(InputError, match=words) as caught:
        viz.visualize_image_attr(**given)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AssertionError)


@pytest.mark.parametrize(
    ("methods", "signs", "titles"),
    [
        (["heat_map"], ["all", "all"], None),
        ([], [], None),
        (["heat_map"], ["all"], ["a", "b"]),
        ("heat_map", ["all"] * 8, None),
    ],
)
def test_lengths_must_match(methods, signs, titles):
    with pytest.raises(InputError, match=r"one entry per view|equally long"):
        viz.visualize_image_attr_multiple(ATTR, IMAGE, methods, signs, titles)


def rings(mask, width=1, color="red"):
    axes = Figure().subplots()
    viz.draw_mask_border(axes, mask, width, color)
    return [np.asarray(image.get_array()) for image in axes.images]


def test_mask_border_is_the_outer_ring():
    mask = np.zeros((6, 8), bool)
    mask[0:5, 3:8] = True
    (one,) = rings(mask)
    inner = np.zeros_like(mask)
    inner[1:4, 4:7] = True
    np.testing.assert_array_equal(one[..., 3] == 1, mask & ~inner)
    assert one[0, 3].tolist() == [1, 0, 0, 1]
    (two,) = rings(torch.tensor(mask), 2, np.array([0.0, 0.0, 1.0]))
    assert (two[..., 3] == 1).sum() == 24
    assert two[0, 3].tolist() == [0, 0, 1, 1]
    (three,) = rings(mask.astype(int), 3)
    assert (three[..., 3] == 1).sum() == 25
    assert rings(mask, 0) == []
    assert rings(np.zeros((3, 3))) == []


def test_mask_border_looks_at_four_neighbours():
    plus = np.zeros((5, 5), bool)
    plus[2, 1:4] = plus[1:4, 2] = True
    (ring,) = rings(plus)
    assert ring[2, 2, 3] == 0
    assert ring[..., 3].sum() == 4


def test_mask_legend_sits_at_the_centroid():
    axes = Figure().subplots()
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:5] = True
    viz.draw_mask_legend(axes, mask, "cost $5 or $6")
    (text,) = axes.texts
    assert text.get_position() == (3, 2)
    assert text.get_text() == "cost $5 or $6"
    assert text.get_parse_math() is False
    viz.draw_mask_legend(axes, np.zeros((6, 8)), "empty")
    assert len(axes.texts) == 1


@pytest.mark.parametrize("mask", [np.zeros(3), np.zeros((2, 2, 2)), np.array([["a"]])])
def test_masks_must_be_flat(mask):
    with pytest.raises(CaptumError, match="mask must be"):
        viz.draw_mask_border(Figure().subplots(), mask)
    with pytest.raises(CaptumError, match="mask must be"):
        viz.draw_mask_legend(Figure().subplots(), mask, "x")
    with pytest.raises(InputError, match="border_width"):
        viz.draw_mask_border(Figure().subplots(), np.ones((2, 2)), -1)
