"""Results as one page of HTML that needs nothing else: no script, no font, no picture from elsewhere."""

# matplotlib's own types leave **kwargs open, and pyright then calls every such method partly unknown
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from captum.attr.registry import METHODS
from captum.attr.results import pictures
from captum.attr.results.features import View, views
from captum.attr.results.leaves import is_mapping, is_sequence
from captum.attr.results.markup import Markup, join, tag
from captum.attr.results.style import STYLE
from captum.attr.results.words import number, residual_name, residual_words, target_words, title_of
from captum.attr.visualization.canvas import token_colours
from captum.attr.visualization.coloured_text import prepare
from captum.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from captum.attr.explanation import Explanation

__all__ = ["fragment", "page"]

_MOST_ROWS = 8
_LISTED = 20
_FAINT = 0.04
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(explanations: Sequence[Explanation], title: str = "") -> str:
    """Return a whole page with one section per explanation.

    Args:
        explanations: At least one.
        title: The title; empty makes one from the methods.

    Raises:
        InputError: There is nothing to show.
    """
    if not explanations:
        message = "a report needs at least one explanation; the list is empty"
        raise InputError(message)
    title = title or ", ".join(dict.fromkeys(title_of(e) for e in explanations))
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", Markup(STYLE)),
        ]
    )
    shared = len(explanations) > 1 and _same_outputs(explanations)
    sections = [_section(e, str(i), shared) for i, e in enumerate(explanations)]
    contents = [tag("li", tag("a", title_of(e), href=f"#e{i}")) for i, e in enumerate(explanations)]
    body = tag(
        "main",
        tag("h1", title),
        tag("nav", tag("ul", *contents), aria_label="Methods") if len(explanations) > 1 else None,
        _shared(explanations[0]) if shared else None,
        *sections,
        tag("footer", f"captum {explanations[0].version}".strip()),
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body class="captum">{body}</body></html>\n'


_numbers = itertools.count()


def fragment(explanation: Explanation) -> str:
    """Return an explanation as a piece of a notebook, with its own style and heading ids that no other piece uses."""
    section = _section(explanation, f"-cell-{next(_numbers)}", shared=False)
    return tag("div", tag("style", Markup(STYLE)), section, class_="captum")


def _section(explanation: Explanation, key: str, shared: bool) -> Markup:
    row = METHODS.get(explanation.method)
    return tag(
        "section",
        tag("h2", title_of(explanation), id=f"e{key}"),
        tag("p", f"{row.summary}.", class_="meaning") if row is not None else None,
        _facts(explanation),
        *([] if shared else [_predictions(explanation)]),
        *_figures(explanation),
        _numbers_table(explanation),
        tag("ul", *(tag("li", note) for note in explanation.notes), class_="notes") if explanation.notes else None,
        aria_labelledby=f"e{key}",
    )


def _facts(explanation: Explanation) -> Markup:
    rows = len(explanation)
    score = explanation.scores
    facts = {
        "Target": target_words(explanation),
        "Score": number(float(score[0])) if score is not None and rows == 1 else "",
        "Rows": str(rows) if rows != 1 else "",
        "Layer": explanation.layer or "",
        residual_name(explanation): residual_words(explanation),
        "Time": f"{number(explanation.seconds)} s" if explanation.seconds else "",
    }
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items() if value]
    pairs += [
        tag("div", tag("dt", name), tag("dd", _plain(value)))
        for name, value in explanation.arguments.items()
        if value is not None
    ]
    return tag("dl", *pairs)


def _plain(value: object) -> str:
    if is_mapping(value):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if is_sequence(value):
        return ", ".join(_plain(part) for part in value)
    return number(value) if isinstance(value, float) else str(value)


def _same_outputs(explanations: Sequence[Explanation]) -> bool:
    first = explanations[0].outputs
    if first is None:
        return False
    return all(e.outputs is not None and e.outputs.shape == first.shape and _close(e, first) for e in explanations)


def _close(explanation: Explanation, outputs: torch.Tensor) -> bool:
    mine = explanation.outputs
    return mine is not None and torch.allclose(mine.detach().float(), outputs.detach().float(), equal_nan=True)


def _shared(explanation: Explanation) -> Markup:
    parts = _predictions(explanation)
    return tag("section", tag("h2", "What the model predicts", id="predictions"), parts, aria_labelledby="predictions")


def _predictions(explanation: Explanation) -> Markup:
    """Return the highest scores as one table per row; for a long table of data they would say little."""
    tables: list[Markup] = []
    if len(explanation) > _MOST_ROWS and all(view.modality == "tabular" for view in views(explanation)):
        return Markup()
    for row, best in enumerate(explanation.predicted()[:_MOST_ROWS]):
        if not best:
            continue
        caption = "Highest scores" if len(explanation) == 1 else f"Row {row}"
        lines = [tag("tr", tag("th", _word(name), scope="row"), tag("td", number(score))) for name, score in best]
        head = tag("tr", tag("th", "Class", scope="col"), tag("th", "Score", scope="col"))
        tables.append(tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *lines)))
    return tag("div", *tables, class_="tables") if tables else Markup()


def _word(value: str) -> Markup:
    return tag("bdi", value)


def _figures(explanation: Explanation) -> list[Markup]:
    """Return one figure per input and row; tables of numbers share one for all."""
    every = views(explanation)
    # beside other inputs one without any attribution, such as an attention mask, needs no picture
    shown = every if len(every) == 1 else [view for view in every if bool(view.leaf.value.detach().any())]
    seen = [view for view in shown if view.modality != "tabular"]
    found: list[Markup] = []
    if not seen or len(shown) > 1:
        found.append(_figure(explanation.plot(), _alternative(explanation), ""))
    for row in range(min(len(explanation), _MOST_ROWS) if seen else 0):
        single = explanation[row]
        label = f"Row {row}" if len(explanation) > 1 else ""
        for view in views(single):
            if view.leaf.path not in {other.leaf.path for other in seen}:
                continue
            caption = ", ".join(part for part in (label, view.leaf.name) if part)
            if view.modality == "text":
                found.append(_tokens(view, caption))
            else:
                figure = pictures.draw_view(single, view)
                found.append(_figure(figure, _alternative(single), caption))
    if seen and len(explanation) > _MOST_ROWS:
        found.append(tag("p", f"{_MOST_ROWS} of {len(explanation)} rows are shown.", class_="more"))
    return found


def _figure(figure: Figure, alternative: str, caption: str) -> Markup:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    picture = tag("img", src=f"data:image/png;base64,{data}", alt=alternative)
    return tag("figure", picture, tag("figcaption", caption) if caption else None)


def _alternative(explanation: Explanation) -> str:
    """Return what the picture says, for readers who do not see it."""
    best = ", ".join(f"{feature.name} {number(feature.attribution, signed=True)}" for feature in explanation.top(3))
    target = target_words(explanation)
    return f"{title_of(explanation)}{f' for {target}' if target else ''}; strongest: {best}"


def _tokens(view: View, caption: str) -> Markup:
    table = view.columns()
    count = len(view.tokens[0]) if view.tokens else len(table.names)
    shown, scale = prepare(table.names[:count], table.attributions[0, :count], "auto", None)
    parts: list[Markup | str] = []
    for token in shown:
        style = None
        if abs(token.strength) > _FAINT:
            back, fore = (f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in token_colours(token.strength))
            style = f"background:{back};color:{fore}"
        parts += [" " if token.space else "", tag("bdi", token.text, style=style, title=number(token.value, True))]
    legend = f"Blue lowers the score, orange raises it; the strongest colour stands for ±{number(scale)}."
    text = f"{caption}. {legend}" if caption else legend
    return tag("figure", tag("p", *parts, class_="tokens"), tag("figcaption", text))


def _numbers_table(explanation: Explanation) -> Markup:
    """Return the features that count most as a table that opens on demand."""
    best = explanation.top(_LISTED)
    with_values = any(feature.value is not None for feature in best)
    what = "Attribution" if len(explanation) == 1 else "Mean absolute attribution"
    names = ["Feature", what, *(["Value"] if with_values else [])]
    lines = [
        tag(
            "tr",
            tag("th", _word(feature.name), scope="row"),
            tag("td", number(feature.attribution, signed=len(explanation) == 1)),
            tag("td", number(feature.value)) if with_values else None,
        )
        for feature in best
    ]
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    table = tag("table", tag("thead", head), tag("tbody", *lines))
    return tag("details", tag("summary", f"The {len(best)} largest as a table"), table)
