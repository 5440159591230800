"""Which picture suits a result, and the call that draws it.

The drawing itself is in :mod:`captum.attr.visualization`; here a result becomes what its functions take.
"""

# matplotlib's own types leave **kwargs open, and pyright then calls every such method partly unknown
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import dataclasses
import inspect
import io
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captum.attr.results.features import Modality, View, contributions, shown
from captum.attr.results.words import residual_step, target_words, title_of
from captum.attr.visualization import (
    bar_figure,
    beeswarm_figure,
    image_figure,
    series_figure,
    text_figure,
    waterfall_figure,
)
from captum.attr.visualization.canvas import bare_figure
from captum.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from captum.attr.explanation import Explanation

__all__ = ["KINDS", "choose_kind", "draw", "draw_view"]

Options = Mapping[str, object]
Draw = Callable[..., "Figure"]
_MANY_ROWS = 10
_MOST_STACKED = 8
_NOTE_INCHES = 0.4
_DPI = 110


def choose_kind(explanation: Explanation) -> str:
    """Return the kind of picture that suits an explanation.

    A single input is drawn by its modality. A table, or several inputs, becomes a waterfall for one row whose baseline
    score is known, a beeswarm from ten rows on, and bars otherwise.
    """
    seen = shown(explanation)
    if len(seen) == 1 and seen[0].modality != "tabular":
        return seen[0].modality
    if len(explanation) >= _MANY_ROWS and all(view.modality == "tabular" for view in seen):
        return "beeswarm"
    return "waterfall" if len(explanation) == 1 and _has_start(explanation) else "bar"


def _has_start(explanation: Explanation) -> bool:
    """Whether every row's sum has a known, finite beginning and end."""
    start, end = explanation.baseline_scores, explanation.scores
    return start is not None and end is not None and bool(start.isfinite().all()) and bool(end.isfinite().all())


def draw(explanation: Explanation, kind: str | None, path: str | os.PathLike[str] | None, options: Options) -> Figure:
    """Draw an explanation and save the picture if a path is given; see :meth:`captum.attr.Explanation.plot`.

    Raises:
        InputError: The kind is unknown, or there is nothing of that kind to draw.
    """
    chosen = choose_kind(explanation) if kind is None else kind
    if chosen not in KINDS:
        message = f"there is no kind of picture {str(kind)[:40]!r}: expected one of {', '.join(KINDS)}"
        raise InputError(message)
    if not len(explanation):
        message = "the explanation has no rows, so there is nothing to draw"
        raise InputError(message)
    figure = KINDS[chosen](explanation, options)
    if path is not None:
        _require_format(figure, Path(path))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, bbox_inches="tight")
    return figure


def _require_format(figure: Figure, path: Path) -> None:
    """Require an ending that says a format; without any it is a PNG."""
    known = sorted(figure.canvas.get_supported_filetypes())
    ending = path.suffix.removeprefix(".").lower()
    if ending and ending not in known:
        message = f"expected a path that ends in a format of pictures, {', '.join(known)}; got {path.suffix[:20]!r}"
        raise InputError(message)


def draw_view(explanation: Explanation, view: View) -> Figure:
    """Draw one input of one row by its modality."""
    return _VIEWS[view.modality](explanation, view, {})


def _each_row(explanation: Explanation, options: Options, paint: Callable[[Explanation, Options], Figure]) -> Figure:
    """Draw one row as it is, and several below each other."""
    if len(explanation) == 1:
        return paint(explanation, options)
    rows = len(explanation)
    note = f"{_MOST_STACKED} of {rows} rows are shown." if rows > _MOST_STACKED else ""
    return _stacked([paint(one, options) for one in itertools.islice(explanation, _MOST_STACKED)], note)


def _stacked(figures: Sequence[Figure], note: str) -> Figure:
    """Put finished pictures below each other in one figure, with a line below them."""
    pixels = [_pixels(figure) for figure in figures]
    width, height = max(image.shape[1] for image in pixels), sum(image.shape[0] for image in pixels)
    height += round(_NOTE_INCHES * _DPI) if note else 0
    figure = bare_figure((width / _DPI, height / _DPI))
    figure.set_layout_engine("none")
    top = 1.0
    for image in pixels:
        share = image.shape[0] / height
        axes = figure.add_axes((0.0, top - share, image.shape[1] / width, share))
        axes.imshow(image, interpolation="none")
        axes.set_axis_off()
        top -= share
    if note:
        figure.text(0.5, top / 2, note, ha="center", va="center")
    return figure


def _pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=_DPI)
    size = (figure.get_size_inches() * _DPI).astype(int)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8).reshape(int(size[1]), int(size[0]), 4)


def _heading(explanation: Explanation) -> str:
    target = target_words(explanation)
    return f"{title_of(explanation)}: {target}" if target else title_of(explanation)


def _image(explanation: Explanation, view: View, options: Options) -> Figure:
    attribution = view.leaf.value.detach()[0]
    if attribution.dim() not in (2, 3):
        message = (
            f"an image has attributions (N, H, W) or (N, C, H, W); these are {tuple(view.leaf.value.shape)}: arrange "
            "them as a map by dataclasses.replace(explanation, attributions=…), or choose kind='bar'"
        )
        raise InputError(message)
    # channels summed here, so that a map of few rows is never taken for channels
    attribution = attribution.sum(0) if attribution.dim() == 3 else attribution
    image = view.value.detach()[0] if view.value is not None and view.value.dim() in (3, 4) else None
    chosen: dict[str, object] = {"titles": ["attributions"], "title": _heading(explanation)}
    return _call(image_figure, (attribution, image), chosen, options)


def _text(explanation: Explanation, view: View, options: Options) -> Figure:
    table = view.columns()
    count = len(view.tokens[0]) if view.tokens else len(table.names)
    given = (list(table.names[:count]), table.attributions[0, :count])
    return _call(text_figure, given, {"title": _heading(explanation)}, options)


def _series(explanation: Explanation, view: View, options: Options) -> Figure:
    whole = view.leaf.value.detach()
    if whole.dim() not in (2, 3):
        message = f"a series has attributions (N, steps, channels) or (N, steps); these are {tuple(whole.shape)}"
        raise InputError(message)
    value = view.value.detach()[0] if view.value is not None and view.value.shape == whole.shape else None
    # without names the shorter axis is taken for the channels
    channels_last = whole.dim() == 2 or (whole.shape[2] <= whole.shape[1] if view.axis is None else view.axis == 2)
    names = list(view.names) if view.axis is not None and whole.dim() == 3 else None
    chosen: dict[str, object] = {"names": names, "channels_last": channels_last, "title": _heading(explanation)}
    return _call(series_figure, (whole[0], value), chosen, options)


def _table(explanation: Explanation, _: View, options: Options) -> Figure:
    """Draw a table as the only input there is."""
    chosen = "waterfall" if _has_start(explanation) else "bar"
    return KINDS[chosen](explanation, options)


def _waterfall(explanation: Explanation, options: Options) -> Figure:
    if not _has_start(explanation):
        message = "a waterfall starts at the score of the baseline, which is not known here: choose kind='bar'"
        raise InputError(message)
    return _each_row(explanation, options, _one_waterfall)


def _one_waterfall(explanation: Explanation, options: Options) -> Figure:
    table, start, end = contributions(explanation), explanation.baseline_scores, explanation.scores
    chosen: dict[str, object] = {
        "data": None if table.values is None else table.values[0],
        "base": 0.0 if start is None else float(start[0]),
        "prediction": None if end is None else float(end[0]),
        "title": _heading(explanation),
        "output": f"score of {target_words(explanation)}",
        "residual": residual_step(explanation),
    }
    return _call(waterfall_figure, (table.attributions[0], list(table.names)), chosen, options)


def _bar(explanation: Explanation, options: Options) -> Figure:
    table = contributions(explanation)
    single = table.values is not None and len(table.attributions) == 1
    chosen: dict[str, object] = {"data": table.values if single else None, "title": _heading(explanation)}
    return _call(bar_figure, (table.attributions, list(table.names)), chosen, options)


def _beeswarm(explanation: Explanation, options: Options) -> Figure:
    table = contributions(explanation)
    chosen: dict[str, object] = {"data": table.values, "title": _heading(explanation)}
    return _call(beeswarm_figure, (table.attributions, list(table.names)), chosen, options)


def _call(function: Draw, given: Sequence[object], chosen: Options, options: Options) -> Figure:
    """Call a drawing function with what was chosen here, overruled by the options of the user."""
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in {*known, *chosen}:
            message = f"this picture has no option {name[:40]!r}: expected {', '.join(known)}"
            raise InputError(message)
    return function(*given, **{**chosen, **options})


def _only(modality: Modality) -> Callable[[Explanation, Options], Figure]:
    """Return the painter that draws the one input of a result as this modality."""

    def paint(explanation: Explanation, options: Options) -> Figure:
        seen = shown(dataclasses.replace(explanation, modality=modality))
        if len(seen) != 1:
            names = ", ".join(repr(view.leaf.name) for view in seen)
            message = f"a picture of kind {modality!r} shows one input; choose one of {names} by e[name].plot()"
            raise InputError(message)
        return _VIEWS[modality](explanation, seen[0], options)

    return lambda explanation, options: _each_row(explanation, options, paint)


_VIEWS: dict[Modality, Callable[[Explanation, View, Options], Figure]] = {
    "image": _image,
    "text": _text,
    "series": _series,
    "tabular": _table,
}
KINDS: dict[str, Callable[[Explanation, Options], Figure]] = {
    "image": _only("image"),
    "text": _only("text"),
    "series": _only("series"),
    "waterfall": _waterfall,
    "bar": _bar,
    "beeswarm": _beeswarm,
}
"""Every kind of picture and the function that draws it."""
