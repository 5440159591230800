"""Where the steps of a series lie: at numbers, or at moments of time."""

# matplotlib's own types leave **kwargs open, and pyright then calls every such method partly unknown
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from captum.attr.visualization.arrays import as_floats, as_numpy
from captum.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axis import Axis

    from captum.attr.visualization.arrays import Floats, Values

__all__ = ["Moments", "Places", "as_places"]

Moments: TypeAlias = "Values | Sequence[dt.date]"
"""Numbers, or moments: ``datetime`` or ``date`` objects, ``datetime64`` arrays, indices and columns of pandas."""


@dataclass(frozen=True, slots=True)
class Places:
    """One number per step; of moments the days since 1970, and the time zone in which to read them."""

    x: Floats
    dated: bool = False
    zone: dt.tzinfo | None = None

    def mark(self, axis: Axis) -> None:
        """Write moments at an axis as dates and times; numbers are left to the axis."""
        if not self.dated:
            return
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(tz=self.zone, maxticks=8)
        axis.set_major_locator(locator)
        axis.set_major_formatter(ConciseDateFormatter(locator, tz=self.zone))


def as_places(values: Moments | None, steps: int, what: str) -> Places:
    """Read where steps lie; ``None`` counts them from 0.

    Args:
        values: One number or moment per step.
        steps: How many there must be.
        what: What the user calls them.

    Raises:
        InputError: There are more or fewer, or moments that cannot be ordered.
    """
    if values is None:
        return Places(np.arange(steps, dtype=np.float64))
    array = as_numpy(values, what).ravel()
    moments: list[object] = array.tolist() if array.dtype.kind == "O" else []
    dates = [moment for moment in moments if isinstance(moment, dt.date)]
    dated = array.dtype.kind == "M" or (len(moments) > 0 and len(dates) == len(moments))
    found = _read_dates(array, dates, what) if dated else Places(as_floats(values, what).ravel())
    if found.x.size != steps:
        message = f"{what} must have one value per step: expected {steps}, got {found.x.size}."
        raise InputError(message)
    return found


def _read_dates(array: object, dates: list[dt.date], what: str) -> Places:
    from matplotlib.dates import date2num

    zones = [moment.tzinfo if isinstance(moment, dt.datetime) else None for moment in dates]
    if len({zone is None for zone in zones}) > 1:
        message = f"{what} must be moments that all have a time zone, or none of them; these are mixed."
        raise InputError(message)
    x = np.asarray(date2num(array), dtype=np.float64)
    if not np.isfinite(x).all():
        message = f"{what} holds {int((~np.isfinite(x)).sum())} missing moments (NaT); leave those steps out."
        raise InputError(message)
    return Places(x, True, zones[0] if zones else None)
