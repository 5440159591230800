"""Time series: what is coloured how, axes types, short and one-signed series, nothing left in pyplot."""

from __future__ import annotations

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from captum.attr import visualization as viz
from captum.attr.visualization.timeseries import padded_limits, step_edges
from captum.errors import CaptumWarning, InputError

RNG = np.random.default_rng(0)
ATTR, DATA = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 3))
METHODS = list(viz.TimeseriesVisualizationMethod.__members__)


@pytest.fixture(autouse=True)
def _no_pyplot_figure():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


def draw(*arguments, **options):
    figure, axes = viz.visualize_timeseries_attr(*arguments, use_pyplot=False, **options)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.canvas.draw()
    return figure, axes


def test_enum_has_upstreams_values():
    assert {m.name: m.value for m in viz.TimeseriesVisualizationMethod} == {
        "overlay_individual": 1,
        "overlay_combined": 2,
        "colored_graph": 3,
    }


@pytest.mark.parametrize("sign", list(viz.VisualizeSign.__members__))
@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_sign_draws(method, sign):
    figure, axes = draw(
        ATTR, DATA, method=method, sign=sign, title="T", channel_labels=["a", "b", "c"], show_colorbar=True
    )
    if method == "overlay_combined":
        assert isinstance(axes, Axes)
        assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a", "b", "c"]
        assert len(figure.axes) == 2
        axes = np.array([axes])
    else:
        assert isinstance(axes, np.ndarray)
        assert axes.shape == (3,)
        assert [a.get_ylabel() for a in axes] == ["a", "b", "c"]
        assert len(figure.axes) == 4
    assert axes[0].get_title() == "T"
    if method != "colored_graph":
        assert all(len(a.patches) == 20 for a in axes)


@pytest.mark.parametrize("method", METHODS)
def test_one_channel_gives_one_axes(method):
    _, axes = draw(ATTR[:, :1], DATA[:, :1], method=method)
    assert isinstance(axes, Axes)


def test_spans_carry_the_colours_of_the_normalised_attributions():
    attr = np.array([[1.0], [-2.0], [4.0]])
    _, axes = draw(attr, np.zeros((3, 1)), method="overlay_individual", sign="all", outlier_perc=0, alpha_overlay=0.7)
    faces = [np.round(patch.get_facecolor(), 2).tolist() for patch in axes.patches]
    assert faces == [[0.75, 0.87, 0.75, 0.7], [1, 0.5, 0.5, 0.7], [0, 0.5, 0, 0.7]]
    assert [patch.get_x() for patch in axes.patches] == [-0.5, 0.5, 1.5]


def test_scale_is_shared_by_the_channels_and_combined_sums_them():
    attr = np.array([[1.0, 1.0], [0.0, -4.0]])
    _, axes = draw(attr, attr, method="colored_graph", sign="all", outlier_perc=0)
    assert [a.collections[0].get_array().tolist() for a in axes] == [[0.25, 0], [0.25, -1]]
    _, one = draw(attr, attr, method="overlay_combined", sign="all", outlier_perc=0)
    assert one.patches[0].get_facecolor() == pytest.approx([0.5, 0.75, 0.5, 0.7], abs=0.01)


def test_coloured_line_passes_through_all_points_with_one_colour_each():
    _, axes = draw(ATTR[:, :1], DATA[:, :1], method="colored_graph", sign="all", linewidth=5)
    (lines,) = axes.collections
    assert isinstance(lines, LineCollection)
    assert lines.get_linewidths() == [5]
    pieces = lines.get_segments()
    assert len(pieces) == len(lines.get_array()) == 20
    np.testing.assert_allclose([piece[1] for piece in pieces], np.column_stack([np.arange(20), DATA[:, 0]]))
    for one, following in pairwise(pieces):
        np.testing.assert_allclose(one[-1], following[0])
    np.testing.assert_allclose(axes.get_ylim(), [1.2 * DATA[:, 0].min(), 1.2 * DATA[:, 0].max()])


@pytest.mark.parametrize(
    "values", [[5.0, 6.0, 7.0], [-7.0, -6.0, -5.0], [1000.0, 1001.0], [3.0, 3.0], [0.0, 0.0], [-2.0], [0.0, 4.0]]
)
def test_limits_hold_all_values(values):
    low, high = padded_limits(np.array(values))
    assert low < min(values) <= max(values) < high
    assert high - low <= 1.5 * np.ptp(values) or np.ptp(values) == 0


def test_cells_of_uneven_and_unsorted_steps_meet():
    start, end = step_edges(np.array([4.0, 0.0, 1.0]))
    assert start.tolist() == [2.5, -0.5, 0.5]
    assert end.tolist() == [5.5, 0.5, 2.5]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sign", ["all", "positive"])
def test_one_step(method, sign):
    _, axes = draw(ATTR[:1, :1], DATA[:1, :1], method=method, sign=sign, show_colorbar=True)
    low, high = axes.get_xlim()
    assert low < 0 < high


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "attr", [np.zeros((5, 2)), np.ones((5, 2)), -np.ones((5, 2)), np.full((5, 2), np.nan)], ids=["0", "1", "-1", "nan"]
)
def test_zero_constant_and_missing_attributions_draw(method, attr):
    draw(attr, DATA[:5, :2], method=method, sign="positive")
    draw(attr, np.full((5, 2), 3.0), method=method, sign="all")


@pytest.mark.parametrize(
    "arrange", [torch.tensor, lambda a: torch.tensor(a[None], requires_grad=True), np.ndarray.tolist]
)
def test_tensors_and_lists(arrange):
    _, expected = draw(ATTR, DATA, method="colored_graph", sign="all")
    _, axes = draw(arrange(ATTR), arrange(DATA), method="colored_graph", sign="all")
    np.testing.assert_allclose(axes[1].collections[0].get_array(), expected[1].collections[0].get_array())


def test_channels_first():
    _, expected = draw(ATTR, DATA, method="colored_graph")
    _, axes = draw(ATTR.T, DATA.T, method="colored_graph", channels_last=False)
    np.testing.assert_allclose(axes[2].collections[0].get_array(), expected[2].collections[0].get_array())


def test_more_channels_than_steps_asks_which_way_round():
    with pytest.warns(CaptumWarning, match="channels_last=False") as caught:
        draw(ATTR.T, DATA.T)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_given_axes_are_used(method, kind):
    figure = Figure()
    count = 1 if method == "overlay_combined" else 3
    own = figure.subplots(count, 1, squeeze=False)[:, 0]
    got_figure, got = viz.visualize_timeseries_attr(
        ATTR, DATA, method=method, plt_fig_axis=(figure, kind(list(own))), use_pyplot=False
    )
    assert got_figure is figure
    assert list(np.ravel(got)) == list(own)


def test_pyplot_is_asked_to_show_only_when_told(monkeypatch):
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(plt.get_fignums()))
    before = dict(mpl.rcParams)
    viz.visualize_timeseries_attr(ATTR, DATA)
    assert len(calls) == 1
    assert len(calls[0]) == 1
    assert dict(mpl.rcParams) == before
    plt.close("all")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "bogus"}, "method must be one of overlay_individual, overlay_combined, colored_graph"),
        ({"sign": "bogus"}, "sign must be one of positive"),
        ({"data": DATA[:5]}, "same shape"),
        ({"attr": ATTR[0]}, "one series"),
        ({"attr": np.zeros((2, 20, 3))}, "one series"),
        ({"attr": np.zeros((0, 3)), "data": np.zeros((0, 3))}, "one series"),
        ({"x_values": np.arange(3)}, "expected 20, got 3"),
        ({"channel_labels": ["a"]}, "expected 3, got 1"),
        ({"plt_fig_axis": (Figure(), Figure().subplots())}, "expected 3, got 1"),
        ({"outlier_perc": 200}, "outlier_perc"),
        ({"cmap": "bogus"}, "cmap"),
    ],
)
def test_mistakes_are_named_before_a_figure_is_opened(arguments, words):
    with pytest.raises(InputError, match=words):
        viz.visualize_timeseries_attr(**{"attr": ATTR, "data": DATA, **arguments})
