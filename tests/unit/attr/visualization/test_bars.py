"""Where the numbers of bars are: inside the chart, beside the bars, and nowhere near the names."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from captum.attr.visualization import bar_figure, waterfall_figure

LONG = "the longest known employment at any one place"
NUMBERS_AND_NAMES = {
    "one row to the left": ([-0.000123], [LONG]),
    "a small value to the left": ([3.2, -1.234e-5], ["age", LONG]),
    "both sides": ([1e-9, -12345.678, 20000.0], ["age", LONG, "debt"]),
    "nothing": ([0.0, 0.0], ["age", LONG]),
}


@pytest.mark.parametrize("chart", [bar_figure, waterfall_figure])
@pytest.mark.parametrize("case", NUMBERS_AND_NAMES)
def test_no_number_lies_on_a_name_or_beyond_the_chart(chart: Callable[..., Figure], case: str) -> None:
    values, names = NUMBERS_AND_NAMES[case]
    figure = chart(values, names, [41.5] * len(values))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    inside = axes.get_window_extent()
    assert len(axes.texts) >= len(values)
    for number in axes.texts:
        box = number.get_window_extent()
        assert inside.x0 <= box.x0
        assert box.x1 <= inside.x1
    ticks = [label.get_window_extent() for label in axes.get_xticklabels()]
    low, high = axes.get_xlim()
    seen = [box for box, at in zip(ticks, axes.get_xticks(), strict=True) if low <= at <= high]
    assert seen
    assert not any(one.x1 > other.x0 for one, other in pairwise(seen))
