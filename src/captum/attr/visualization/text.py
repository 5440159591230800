"""Tables of classified texts for notebooks: labels, scores, and each word on the colour of its attribution."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from captum.attr.visualization.arrays import as_floats
from captum.attr.visualization.markup import element, escaped
from captum.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from IPython.display import HTML

    from captum.attr.visualization.arrays import Values

__all__ = [
    "HAS_IPYTHON",
    "VisualizationDataRecord",
    "format_classname",
    "format_special_tokens",
    "format_tooltip",
    "format_word_importances",
    "records_html",
    "visualize_text",
]

HAS_IPYTHON = importlib.util.find_spec("IPython") is not None

_COLUMNS = ("True Label", "Predicted Label", "Attribution Label", "Attribution Score", "Word Importance")
_LEGEND = (("Negative", -1.0), ("Neutral", 0.0), ("Positive", 1.0))


class NoNotebookError(MissingDependencyError, InputError):
    """IPython is needed to display HTML."""


@dataclass(slots=True, eq=False, repr=False)
class VisualizationDataRecord:
    """One classified text.

    Args:
        word_attributions: ``(T,)``, one attribution per word, usually scaled to [-1, 1].
        pred_prob: probability of the predicted class.
        pred_class: predicted class, number or name.
        true_class: true class, number or name.
        attr_class: class whose score is explained, number or name.
        attr_score: sum of the attributions.
        raw_input_ids: the T words.
        convergence_score: completeness error; kept with the record, not shown.
    """

    word_attributions: Values
    pred_prob: object
    pred_class: object
    true_class: object
    attr_class: object
    attr_score: object
    raw_input_ids: Sequence[str] | None
    convergence_score: object


def format_classname(classname: object) -> str:
    """A cell with a class name or number in bold."""
    return element("td", element("span", element("b", escaped(classname)), style="padding-right:2em"))


def format_special_tokens(token: str) -> str:
    """``#tok`` for ``<tok>``; every other token as it is.

    >>> format_special_tokens("<pad>"), format_special_tokens("pad")
    ('#pad', 'pad')
    """
    if token.startswith("<") and token.endswith(">") and len(token) > 2:
        return f"#{token.strip('<>')}"
    return token


def format_tooltip(item: object, text: object) -> str:
    """An item with a text that a style sheet can show while the pointer rests on it."""
    tip = element("span", escaped(text), class_="tooltiptext")
    return element("div", escaped(item), tip, class_="tooltip")


def _background(importance: float) -> str:
    value = 0.0 if math.isnan(importance) else max(-1.0, min(1.0, importance))
    hue, lightness = (120, 100 - int(50 * value)) if value > 0 else (0, 100 - int(40 * -value))
    return f"hsl({hue}, 75%, {lightness}%)"


def format_word_importances(words: Sequence[str] | None, importances: Values | None) -> str:
    """A cell with each word on a background from red (−1) over white (0) to green (+1).

    Args:
        words: the words; they are escaped.
        importances: at least one number per word, cut to [-1, 1]; further numbers are left out.

    Returns:
        A ``td`` element, empty if there are no words or no importances.

    Raises:
        InputError: if there are more words than importances, or importances are not one-dimensional.
    """
    if words is None or importances is None or not len(words):
        return element("td")
    values = as_floats(importances, "importances")
    if not values.size:
        return element("td")
    if values.ndim != 1 or len(words) > values.size:
        message = f"importances must be one number per word: got {len(words)} words and shape {values.shape}."
        raise InputError(message)
    marks: list[str] = []
    for word, value in zip(words, values.tolist(), strict=False):
        style = f"background-color: {_background(value)}; color: black; line-height: 1.75; unicode-bidi: isolate"
        marks.append(
            element("mark", f" {escaped(format_special_tokens(str(word)))} ", title=f"{value:.4g}", style=style)
        )
    return element("td", *marks)


def _legend() -> str:
    style = "display: inline-block; width: 10px; height: 10px; border: 1px solid; background-color: "
    shown = [
        element("span", element("span", style=style + _background(value)), f" {name} ", style="padding-right: 0.5em")
        for name, value in _LEGEND
    ]
    lead = element("b", "Legend: ")
    return element("div", lead, *shown, style="border-top: 1px solid; margin-top: 5px; padding-top: 5px")


def _decimal(number: object) -> str:
    return f"{as_floats(number, 'pred_prob and attr_score').item():.2f}"


def _row(record: VisualizationDataRecord) -> str:
    return element(
        "tr",
        format_classname(record.true_class),
        format_classname(f"{record.pred_class} ({_decimal(record.pred_prob)})"),
        format_classname(record.attr_class),
        format_classname(_decimal(record.attr_score)),
        format_word_importances(record.raw_input_ids, record.word_attributions),
    )


def records_html(datarecords: Iterable[VisualizationDataRecord], legend: bool = True) -> str:
    """The table of :func:`visualize_text` as a string, to save or to embed; needs no notebook.

    Args:
        datarecords: one record per row.
        legend: show what the colours stand for.

    Returns:
        Well-formed HTML in which all text is escaped.
    """
    header = element("tr", *[element("th", name, style="text-align: left") for name in _COLUMNS])
    table = element("table", header, *[_row(record) for record in datarecords], style="width: 100%")
    return element("div", _legend() if legend else "", table)


def visualize_text(datarecords: Iterable[VisualizationDataRecord], legend: bool = True) -> HTML:
    """Display classified texts as a table in a notebook: labels, scores, and words coloured by attribution.

    Args:
        datarecords: one record per row.
        legend: show what the colours stand for.

    Returns:
        The displayed ``IPython.display.HTML``; its ``data`` is the string of :func:`records_html`.

    Raises:
        MissingDependencyError: if IPython is not installed.
    """
    try:
        from IPython import display as notebook
    except ImportError as error:
        message = "visualize_text needs IPython (pip install ipython); records_html gives the same table as a string."
        raise NoNotebookError(message) from error
    shown = notebook.HTML(records_html(datarecords, legend))
    notebook.display(shown)
    return shown
