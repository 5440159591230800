"""Series whose steps lie at moments of time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from captum.attr.visualization import series_figure, visualize_timeseries_attr
from captum.errors import InputError

START = dt.datetime.fromisoformat("2024-02-27 06:00")
STEPS = [START + dt.timedelta(days=day) for day in (0, 1, 2, 5)]  # over a leap day, the last gap wider
VALUES = np.array([[0.5, 1.0], [-1.0, 0.0], [0.2, 0.3], [2.0, -0.4]])
BERLIN = ZoneInfo("Europe/Berlin")
FORMS: dict[str, Callable[[], object]] = {
    "datetime objects": lambda: STEPS,
    "datetime64": lambda: np.array(STEPS, dtype="datetime64[ns]"),
    "pandas index": lambda: pd.DatetimeIndex(STEPS),
    "pandas column": lambda: pd.Series(STEPS),
    "timestamps": lambda: [pd.Timestamp(step) for step in STEPS],
    "index of a zone": lambda: pd.DatetimeIndex(STEPS, tz="Europe/Berlin") + pd.Timedelta(hours=1),
}


def series(x: object, method: str = "overlay_individual") -> Figure:
    return visualize_timeseries_attr(VALUES, VALUES, x, method, use_pyplot=False)[0]  # pyright: ignore[reportArgumentType] - also what is refused


def labels(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    axis = figure.axes[-1].xaxis
    return [label.get_text() for label in axis.get_ticklabels()] + [axis.get_major_formatter().get_offset()]


@pytest.mark.parametrize("form", FORMS)
def test_steps_lie_at_moments(form: str) -> None:
    figure = series(FORMS[form]())
    for axes in figure.axes:
        np.testing.assert_allclose(axes.lines[0].get_xdata(), date2num(STEPS), rtol=0, atol=1e-9)
    assert "Mar" in labels(figure)
    assert labels(figure)[-1] == "2024-Mar"


@pytest.mark.parametrize("method", ["overlay_combined", "colored_graph"])
def test_every_picture_takes_moments(method: str) -> None:
    assert labels(series(STEPS, method))[-1] == "2024-Mar"


@pytest.mark.parametrize("style", ["line", "strip"])
def test_figures_for_reading_take_moments(style: str) -> None:
    figure = series_figure(VALUES, VALUES, x=STEPS, style=style)
    shown = figure.axes[3 if style == "line" else 0]
    figure.draw_without_rendering()
    assert "Mar" in [label.get_text() for label in shown.get_xticklabels()]
    assert shown.get_xlabel() == "time"


def test_moments_are_written_in_their_own_zone() -> None:
    hours = [dt.datetime(2024, 7, 1, hour, tzinfo=BERLIN) for hour in (0, 3, 6, 9)]
    figure = series(hours)
    shown = dict(zip(labels(figure), figure.axes[-1].get_xticks().tolist(), strict=False))
    midnight = date2num(dt.datetime(2024, 6, 30, 22, tzinfo=dt.UTC))
    assert shown["Jul-01"] == pytest.approx(midnight)
    x = figure.axes[0].lines[0].get_xdata()
    assert float(np.asarray(x)[0]) == pytest.approx(midnight)


def test_days_are_moments() -> None:
    x = series([step.date() for step in STEPS]).axes[0].lines[0].get_xdata()
    np.testing.assert_array_equal(x, np.floor(date2num(STEPS)))


def test_numbers_are_no_dates() -> None:
    assert "Mar" not in labels(series([19780.0, 19781.0, 19782.0, 19785.0]))


MISTAKES: dict[str, tuple[object, str]] = {
    "too few": (STEPS[:3], "expected 4, got 3"),
    "no time": (np.array([*STEPS[:3], "NaT"], dtype="datetime64[s]"), "1 missing moments"),
    "zones mixed": ([*STEPS[:3], STEPS[3].replace(tzinfo=BERLIN)], "these are mixed"),
    "text": (["2024-01-01"] * 4, "real numbers"),
    "moments and numbers": ([*STEPS[:3], 3.0], "real numbers"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_moments_that_cannot_be_drawn(mistake: str) -> None:
    value, words = MISTAKES[mistake]
    with pytest.raises((InputError, TypeError), match=words):
        series(value)
