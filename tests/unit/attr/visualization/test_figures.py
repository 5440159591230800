"""The figures for reading and publishing: what they show, odd inputs, and nothing left behind in matplotlib."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import _pylab_helpers
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from captum.attr import visualization as viz
from captum.attr.visualization import canvas
from captum.errors import InputError

RNG = np.random.default_rng(0)
LONG = "an_extremely_long_name_" * 20
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
NASTY = "cost $x_1$ <b> \u202e\n 你"


@pytest.fixture(autouse=True)
def _matplotlib_is_untouched():
    before = dict(mpl.rcParams)
    yield
    assert _pylab_helpers.Gcf.figs == {}
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def drawn(figure: Figure) -> np.ndarray:
    assert type(figure) is Figure
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert pixels[..., :3].min() < 200
    return pixels


def rows(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def numbers(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


# ---- colours ------------------------------------------------------------------------------------------------------


def lightness(rgb: np.ndarray) -> np.ndarray:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(luminance) - 16


def as_seen_without_green(rgb: np.ndarray) -> np.ndarray:
    """Deuteranopia, after Viénot, Brettel and Mollon (1999), in linear light."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]).T


def test_diverging_colours_are_symmetric_in_lightness_and_safe_for_red_green_blindness():
    colours = canvas.diverging_map()(np.linspace(0, 1, 101))[:, :3]
    light = lightness(colours)
    assert (np.diff(light[:51]) > 0).all()
    assert (np.diff(light[50:]) < 0).all()
    np.testing.assert_allclose(light[:50], light[:50:-1], atol=12)
    seen = as_seen_without_green(colours)
    assert (np.abs(seen[:40] - seen[:60:-1]).max(axis=1) > 0.05).all()
    np.testing.assert_allclose(canvas.diverging_map()(0.5)[:3], [0.973] * 3, atol=0.01)


@pytest.mark.parametrize("strength", np.linspace(-1, 1, 41))
def test_text_on_tokens_is_readable(strength):
    back, front = canvas.token_colours(float(strength))

    def luminance(colour):
        return float((lightness(np.array(colour) / 255) + 16) ** 3 / 116**3)

    dark, light = sorted((luminance(back), luminance(front)))
    assert (light + 0.05) / (dark + 0.05) >= 4.499
    if abs(strength) > 0.1:
        assert (back[0] > back[2]) == (strength > 0)


# ---- images -------------------------------------------------------------------------------------------------------


def bars(figure: Figure) -> list:
    return [child for axes in figure.axes for child in axes.child_axes]


def test_image_panels_titles_and_scales():
    maps = {"one": RNG.normal(size=(3, 9, 12)), "two": torch.ones(1, 3, 9, 12, requires_grad=True)}
    figure = viz.image_figure(maps, RNG.uniform(size=(3, 9, 12)), title="T", outlier_perc=0)
    drawn(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["input", "one", "two"]
    assert figure.get_suptitle() == "T"
    limit = np.abs(maps["one"].sum(axis=0)).max()
    signed, positive = bars(figure)
    np.testing.assert_allclose(signed.get_ylim(), [-limit, limit])
    assert positive.get_ylim() == (0, 3)


def test_shared_scale_has_one_bar_and_the_largest_limit():
    figure = viz.image_figure([np.full((4, 4), -2.0), np.ones((4, 4))], scale="shared", outlier_perc=0)
    drawn(figure)
    (bar,) = bars(figure)
    assert bar.get_ylim() == (-2, 2)


def test_clipping_is_said():
    values = np.ones((10, 10))
    values[0, 0] = 50
    figure = viz.image_figure(values, outlier_perc=40)
    assert figure.axes[0].get_xlabel() == "clipped beyond 1 (40 % of the mass)"
    assert viz.image_figure(values, outlier_perc=0).axes[0].get_xlabel() == ""
    assert viz.image_figure(values, limit=10).axes[0].get_xlabel() == "clipped beyond 10"


def test_colours_of_a_map():
    figure = viz.image_figure([[0.0, 4.0], [-4.0, np.nan]], outlier_perc=0)
    (image,) = figure.axes[0].images
    red, _, blue = np.moveaxis(np.asarray(image.get_array())[..., :3], -1, 0)
    assert red[0, 1] > blue[0, 1]
    assert blue[1, 0] > red[1, 0]
    assert red[0, 0] == pytest.approx(blue[0, 0])
    assert red[1, 1] < 0.85
    assert figure.axes[0].get_xlabel() == "1 not finite"


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize(
    ("values", "note"),
    [
        (np.zeros((4, 4)), "all attributions are 0"),
        (np.full((4, 4), np.nan), "no finite attribution"),
        (np.ones((1, 1)), ""),
        (RNG.normal(size=(2, 300)), ""),
        (RNG.normal(size=(7, 7)), ""),
    ],
)
def test_odd_maps_draw(values, note, overlay):
    figure = viz.image_figure({LONG + NASTY: values}, np.full((8, 8), 0.3), title=LONG, overlay=overlay, outlier_perc=0)
    drawn(figure)
    assert figure.axes[1].get_xlabel() == note


def test_many_maps_fill_lines():
    figure = viz.image_figure([RNG.normal(size=(5, 5)) for _ in range(6)], np.zeros((5, 5)))
    drawn(figure)
    assert [axes.get_visible() for axes in figure.axes] == [True] * 7 + [False]


# ---- text ---------------------------------------------------------------------------------------------------------

WORDS = ["[CLS]", "un", "##believ", "##able", "film", "$x$", "<b>"]


def test_text_figure_shows_every_token():
    figure = viz.text_figure(WORDS, [0.0, 0.5, -1.0, 0.2, np.nan, 0.1, 0.3], title=NASTY, show_values=True)
    drawn(figure)
    shown = numbers(figure)
    assert shown[::2] == ["[CLS]", "un", "believ", "able", "film", "$x$", "<b>"]
    assert shown[1::2] == ["0", "+0.5", "−1", "+0.2", "NaN", "+0.1", "+0.3"]
    assert len(figure.axes[0].patches) == 7


def test_lines_break_between_words_within_the_width():
    tokens = ["word"] * 60 + ["x" * 30] * 4
    figure = viz.text_figure(tokens, np.linspace(-1, 1, 64), width=4)
    drawn(figure)
    (low, high), boxes = figure.axes[0].get_xlim(), [p.get_window_extent() for p in figure.axes[0].patches]
    assert low == 0
    inside = figure.axes[0].transData.inverted()
    for box in boxes:
        assert inside.transform((box.x1, box.y0))[0] <= high + 1
    for one, other in pairwise(boxes):
        assert one.x1 <= other.x0 + 1 or one.y0 > other.y1 - 1
    assert figure.get_size_inches()[1] > 3


@pytest.mark.parametrize("tokens", [[], ["one"], ["\u202e\x00", "你好", "👩‍👧"], [LONG], ["", " ", "\n"]])
@pytest.mark.parametrize("value", [0.0, np.nan, 1e-30, -5.0])
def test_odd_texts_draw(tokens, value):
    drawn(viz.text_figure(tokens, [value] * len(tokens)))


def test_very_long_texts_are_counted_not_drawn(monkeypatch):
    monkeypatch.setattr("captum.attr.visualization.typesetting._MOST_TOKENS", 20)
    figure = viz.text_figure(["a"] * 50, np.ones(50))
    assert len(numbers(figure)) == 20
    assert "30 more tokens" in [text.get_text() for text in figure.texts]


# ---- tables -------------------------------------------------------------------------------------------------------


def test_waterfall_leads_from_base_to_prediction():
    figure = viz.waterfall_figure(
        [0.5, -2.0, 0.25], ["a", "b", "c"], [1.0, "x", True], base=1.0, prediction=0.0, output="price"
    )
    drawn(figure)
    assert rows(figure) == ["base value", "b = x", "a = 1", "c = True", "not explained (residual)", "prediction"]
    assert numbers(figure) == ["−2", "+0.5", "+0.25", "+0.25", "1", "0"]
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in figure.axes[0].patches]
    assert spans == [(1, -1), (-1, -0.5), (-0.5, -0.25), (-0.25, 0)]
    assert figure.axes[0].get_xlabel() == "price"
    assert numbers(viz.waterfall_figure([0.5, -0.0], base=7e-9)) == ["+0.5", "0", "0", "0.5"]
    assert rows(viz.waterfall_figure([0.5], base=1.0, prediction=1.5 + 1e-7)) == [
        "base value",
        "feature 0",
        "prediction",
    ]


def test_bars_are_ranked_and_the_rest_is_summed():
    values = np.array([0.1, -3.0, 2.0, 0.1, 0.1, 0.1])
    figure = viz.bar_figure(torch.tensor(values)[None], [*"abcdef"], top=2)
    drawn(figure)
    assert rows(figure) == ["b", "c", "4 other features"]
    assert numbers(figure) == ["−3", "+2", "+0.4"]
    assert rows(viz.bar_figure(values[:3], top=2)) == ["feature 1", "feature 2", "feature 0"]


def test_bars_of_many_rows_are_mean_magnitudes():
    figure = viz.bar_figure([[1.0, -4.0, np.nan], [-3.0, 0.0, 1.0]], ["a", "b", "c"])
    assert rows(figure) == ["a", "b", "c"]
    assert numbers(figure) == ["2", "2", "1"]
    assert "2 rows" in figure.axes[0].get_xlabel()


def test_a_huge_rest_is_cut_and_says_so():
    figure = viz.bar_figure(np.ones(1000), top=5)
    drawn(figure)
    assert numbers(figure)[-1] == "+995 (bar cut)"
    assert max(patch.get_width() for patch in figure.axes[0].patches) < 2


ODD_TABLES = {
    "one": [0.3],
    "zeros": np.zeros(4),
    "nan": [np.nan, 1.0, -np.inf],
    "only nan": [np.nan, np.nan],
    "tiny": [1e-30, -2e-30],
    "huge": [1e300, -1e299],
    "thousand": RNG.normal(size=1000),
}


@pytest.mark.parametrize("case", ODD_TABLES)
@pytest.mark.parametrize("draw", [viz.waterfall_figure, viz.bar_figure, lambda v, n: viz.beeswarm_figure([v, v], n)])
def test_odd_tables_draw(draw, case):
    values = np.asarray(ODD_TABLES[case])
    figure = draw(values, [f"{index}{LONG}{NASTY}" for index in range(values.size)])
    drawn(figure)
    assert len(rows(figure)) <= 18
    assert figure.get_size_inches()[1] < 9


def test_names_are_not_mathematics_and_cannot_reverse():
    label = viz.bar_figure([1.0], ["cost $x_1$\u202e"]).axes[0].get_yticklabels()[0]
    assert label.get_text() == "cost $x_1$\\u202e"
    assert label.get_parse_math() is False


def dots(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(collection.get_offsets()) for collection in figure.axes[0].collections]


def test_beeswarm_shows_every_row_at_its_value():
    values = RNG.normal(size=(300, 3)) * [1, 3, 2]
    figure = viz.beeswarm_figure(values, ["a", "b", "c"], RNG.normal(size=(300, 3)), title="T")
    drawn(figure)
    assert rows(figure) == ["b", "c", "a"]
    for line, (points, column) in enumerate(zip(dots(figure), values[:, [1, 2, 0]].T, strict=True)):
        np.testing.assert_allclose(np.sort(points[:, 0]), np.sort(column))
        assert np.abs(points[:, 1] - line).max() <= 0.45
    assert [label.get_text() for label in bars(figure)[0].get_yticklabels()] == ["low", "high"]


def test_beeswarm_sums_the_rest_and_thins_crowds():
    figure = viz.beeswarm_figure(np.ones((5, 30)), top=4)
    assert rows(figure)[-1] == "sum of 26 other features"
    np.testing.assert_allclose(dots(figure)[-1][:, 0], 26)
    crowd = RNG.normal(size=(9000, 1))
    (points,) = dots(viz.beeswarm_figure(crowd))
    assert len(points) == 4000
    assert points[:, 0].min() == crowd.min()
    assert points[:, 0].max() == crowd.max()


def test_beeswarm_colours_follow_feature_values_even_words():
    values = np.array([[1.0], [2.0], [3.0]])
    (plain,) = viz.beeswarm_figure(values, None, [[1.0], [2.0], [np.nan]]).axes[0].collections
    (words,) = viz.beeswarm_figure(values, None, np.array([["a"], ["c"], ["b"]])).axes[0].collections
    low, high = canvas.value_map()(0.0), canvas.value_map()(1.0)
    np.testing.assert_allclose(plain.get_facecolors()[:2, :3], [low[:3], high[:3]], atol=0.02)
    assert np.ptp(plain.get_facecolors()[2, :3]) < 0.05
    np.testing.assert_allclose(words.get_facecolors()[[0, 1], :3], [low[:3], high[:3]], atol=0.02)


# ---- series -------------------------------------------------------------------------------------------------------


def test_series_lines_pass_through_the_data_in_the_colours_of_the_values():
    values, data = RNG.normal(size=(30, 2)), RNG.normal(size=(30, 2))
    figure = viz.series_figure(values, data, names=["a", "b"], title="T", x_label="time")
    drawn(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes[:4:2]] == ["a", "b"]
    limit = np.abs(values).max()
    for channel in range(2):
        axes, strip = figure.axes[2 * channel : 2 * channel + 2]
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), data[:, channel])
        expected = canvas.diverging_map()((values[:, channel] + limit) / (2 * limit))
        np.testing.assert_allclose(axes.collections[0].get_colors(), expected, atol=0.02)
        np.testing.assert_array_equal(np.ravel(strip.collections[0].get_array()), values[:, channel])
    np.testing.assert_allclose(figure.axes[4].get_ylim(), [-limit, limit])


def test_channels_first_and_unsorted_steps():
    values = np.array([[3.0, 1.0, 2.0]])
    figure = viz.series_figure(values, values, x=[2.0, 0.0, 1.0], channels_last=False)
    assert figure.axes[0].lines[0].get_ydata().tolist() == [1, 2, 3]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 1, 2]


@pytest.mark.parametrize("with_data", [True, False])
@pytest.mark.parametrize(
    "values",
    [
        [[0.3]],
        np.zeros((9, 2)),
        np.full((9, 1), np.nan),
        [0.1, np.inf, -0.3],
        RNG.normal(size=(40, 30)),
        [[1e-300], [0.0]],
    ],
    ids=["one step", "zeros", "nan", "flat", "many channels", "tiny"],
)
def test_odd_series_draw(values, with_data):
    values = np.asarray(values)
    names = None if values.ndim == 1 else [f"{index}{LONG}{NASTY}" for index in range(values.shape[1])]
    drawn(viz.series_figure(torch.tensor(values), np.full(values.shape, 5.0) if with_data else None, names=names))


# ---- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: viz.image_figure(np.zeros((2, 4, 4, 3))), "one image"),
        (lambda: viz.image_figure({}), "at least one"),
        (lambda: viz.image_figure([np.zeros((4, 4))], titles=["a", "b"]), "expected 1, got 2"),
        (lambda: viz.image_figure(np.zeros((4, 4)), scale="bogus"), "own, shared"),
        (lambda: viz.image_figure(np.zeros((4, 4)), limit=-1), "positive"),
        (lambda: viz.text_figure(["a"], [1.0, 2.0]), r"expected \(1,\)"),
        (lambda: viz.text_figure(["a"], [1.0], limit=0), "positive"),
        (lambda: viz.text_html(["a"], [1.0], marker="bogus"), "wordpiece"),
        (lambda: viz.text_ansi(["a"], [1.0], colors="bogus"), "truecolor, 256, none"),
        (lambda: viz.waterfall_figure(np.zeros((2, 2))), "one row"),
        (lambda: viz.waterfall_figure([1.0, 2.0], ["a"]), "expected 2, got 1"),
        (lambda: viz.waterfall_figure([1.0, 2.0], None, [1]), "expected 2, got 1"),
        (lambda: viz.bar_figure([1.0], top=0), "at least 1"),
        (lambda: viz.bar_figure([]), "one row"),
        (lambda: viz.beeswarm_figure([1.0]), "rows by features"),
        (lambda: viz.beeswarm_figure([[1.0]], None, [[1.0, 2.0]]), "shape of values"),
        (lambda: viz.series_figure([[1.0]], [[1.0, 2.0]]), "same shape"),
        (lambda: viz.series_figure([[1.0]], x=[1, 2]), "expected 1, got 2"),
        (lambda: viz.series_figure([[1.0]], style="line"), "needs data"),
    ],
)
def test_mistakes_are_named(draw, words):
    with pytest.raises(InputError, match=words):
        draw()


@pytest.mark.slow
def test_drawing_packages_are_imported_on_use():
    code = "import sys, captum.attr.visualization; print(*{'matplotlib', 'IPython', 'PIL'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert run.stdout.split() == []
