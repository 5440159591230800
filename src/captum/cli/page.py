"""One page for one photo: what the model sees, and every method's picture; nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import captum
from captum.attr.results.markup import Markup, tag
from captum.attr.results.style import STYLE
from captum.attr.results.words import number, residual_name, residual_words
from captum.cli.faults import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

    from captum.cli.run import Finding, Outcome

__all__ = ["write_page"]

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
.captum .opening{display:flex;flex-wrap:wrap;gap:1.5rem 2.5rem;align-items:center;margin:0 0 1.5rem}
.captum .opening img{width:22rem}
.captum .classes{flex:1 1 18rem}
.captum .classes td:last-child{width:45%;vertical-align:middle;padding-right:0;text-align:left}
.captum .share{display:block;height:.7rem;border-radius:3px;background:#d9600a;min-width:1px}
.captum .explained th{font-weight:600}
.captum section>figure>img{width:100%}
""".strip()


def write_page(outcome: Outcome) -> None:
    """Write the page of an outcome to ``outcome.page``."""
    title = f"Why “{outcome.target.name}”?"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(f"{STYLE}\n{_STYLE}")),
    )
    links = [tag("li", tag("a", one.title, href=f"#{one.request.key}")) for one in outcome.findings]
    main = tag(
        "main",
        tag("h1", title),
        _opening(outcome),
        tag("nav", tag("ul", *links), aria_label="Methods"),
        *(_section(finding) for finding in outcome.findings),
        _failures(outcome),
        tag("footer", f"captum {captum.__version__}"),
    )
    document = tag("html", head, tag("body", main, class_="captum"), lang="en")
    outcome.page.write_text(f"<!DOCTYPE html>\n{document}\n", encoding="utf-8")


def _opening(outcome: Outcome) -> Markup:
    """The photo, and beside it the likeliest classes."""
    rows = [*outcome.predictions]
    if outcome.target not in rows:
        rows.append(outcome.target)
    lines = [
        tag(
            "tr",
            tag("th", tag("bdi", one.name), scope="row"),
            tag("td", f"{one.probability:.2%}"),
            tag("td", tag("span", class_="share", style=f"width:{100 * one.probability:.1f}%")),
            class_="explained" if one == outcome.target else None,
        )
        for one in rows
    ]
    head = tag("tr", *(tag("th", name, scope="col") for name in ("Class", "Probability", "")))
    caption = tag("caption", f"What {outcome.subject.name} sees")
    table = tag("table", caption, tag("thead", head), tag("tbody", *lines))
    picture = tag("img", src=_inside(_as_png(outcome.order.photo)), alt=f"The photo: {outcome.order.title}")
    return tag("div", picture, tag("div", table, class_="classes"), class_="opening")


def _section(finding: Finding) -> Markup:
    request, explanation = finding.request, finding.explanation
    facts = {
        "Method": request.method.name,
        "Noise": request.smoothing or "",
        "Layer": explanation.layer or "",
        residual_name(explanation): residual_words(explanation),
        "Time": f"{number(explanation.seconds)} s",
    }
    shown = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items() if value]
    alternative = f"The photo beside the map of {finding.title}"
    return tag(
        "section",
        tag("h2", finding.title, id=request.key),
        tag("p", f"{request.meaning}.", class_="meaning"),
        tag("figure", tag("img", src=_inside(finding.picture.read_bytes()), alt=alternative)),
        tag("dl", *shown),
        aria_labelledby=request.key,
    )


def _failures(outcome: Outcome) -> Markup | None:
    """What could not be made, and why."""
    if not outcome.failures:
        return None
    lines = [tag("li", f"{failure.title}: {one_line(failure.error)}") for failure in outcome.failures]
    return tag("section", tag("h2", "Without a result", id="failures"), tag("ul", *lines), aria_labelledby="failures")


def _as_png(photo: Image) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, format="PNG")
    return buffer.getvalue()


def _inside(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
