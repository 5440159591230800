"""From attributions to the numbers that colours stand for."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from captum.attr.visualization.arrays import choose, finite, summed
from captum.errors import InputError

if TYPE_CHECKING:
    from captum.attr.visualization.arrays import Floats

__all__ = ["VisualizeSign", "mass_threshold", "normalize_attributions", "symmetric_limit"]


class VisualizeSign(Enum):
    """Which part of the attributions is shown: the functions take the *names* as strings."""

    positive = 1
    absolute_value = 2
    negative = 3
    all = 4


def mass_threshold(values: Floats, outlier_perc: float) -> float:
    r"""The smallest magnitude :math:`t` such that those up to it hold all but ``outlier_perc`` percent of the mass.

    .. math:: \sum_{|a_i| \le t} |a_i| \ge \left(1 - \frac{p}{100}\right) \sum_i |a_i|

    Args:
        values: attributions of any shape; values that are not finite are left out.
        outlier_perc: :math:`p`, percent of the total magnitude, 0 to 100.

    Returns:
        The threshold, positive unless every finite value is 0; then 0.

    Raises:
        InputError: if ``outlier_perc`` lies outside 0..100.
    """
    if not 0 <= outlier_perc <= 100:
        message = f"outlier_perc must be a percentage between 0 and 100; got {outlier_perc}."
        raise InputError(message)
    magnitudes: Floats = np.sort(np.abs(finite(values)))
    magnitudes = magnitudes[magnitudes > 0]
    if not magnitudes.size:
        return 0.0
    _, exponent = math.frexp(float(magnitudes[-1]))
    mass: Floats = np.cumsum(magnitudes * math.ldexp(1.0, min(-exponent, 1000)))  # exact, and the sum is finite
    index = int(np.searchsorted(mass, float(mass[-1]) * (100 - outlier_perc) / 100))
    return float(magnitudes[min(index, magnitudes.size - 1)])


def _part(values: Floats, sign: VisualizeSign) -> Floats:
    if sign is VisualizeSign.positive:
        return np.maximum(values, 0)
    if sign is VisualizeSign.negative:
        return np.minimum(values, 0)
    return np.abs(values) if sign is VisualizeSign.absolute_value else values


def normalize_attributions(
    values: Floats, sign: str | VisualizeSign, outlier_perc: float = 2, reduction_axis: int | None = None
) -> Floats:
    """Attributions on the scale of the colours: the chosen part, divided by :func:`mass_threshold`, clipped to ±1.

    Args:
        values: attributions of any shape.
        sign: name of a :class:`VisualizeSign`; ``"negative"`` comes out positive.
        outlier_perc: percent of the attribution mass beyond the end of the colour scale.
        reduction_axis: this axis (channels) is summed first; None: none is.

    Returns:
        Values in [-1, 1] for ``"all"``, else in [0, 1]. Zeros where there is nothing to show, NaN where NaN came in.

    >>> normalize_attributions(np.array([[1.0, -2.0], [3.0, -4.0]]), "all")
    array([[ 0.25, -0.5 ],
           [ 0.75, -1.  ]])
    """
    chosen = choose(VisualizeSign, sign, "sign")
    part = _part(values if reduction_axis is None else summed(values, reduction_axis), chosen)
    scale = mass_threshold(part, outlier_perc)
    if scale == 0:
        return np.where(np.isfinite(part), 0.0, np.clip(part, -1, 1))
    scaled = np.clip(part, -scale, scale) / scale
    return np.abs(scaled) if chosen is VisualizeSign.negative else scaled


def symmetric_limit(values: Floats, outlier_perc: float = 0) -> float:
    """End of a colour scale that is symmetric about 0; 1 if there is nothing but zeros."""
    return mass_threshold(values, outlier_perc) or 1.0


def nothing_to_show(values: Floats, sign: VisualizeSign) -> str | None:
    """Why the map of these values is blank, or None if it is not."""
    known = finite(values)
    if not known.size:
        return "no finite attribution"
    if not np.any(known):
        return "all attributions are 0"
    if not np.any(_part(known, sign)):
        return f"no {sign.name} attribution"
    return None
