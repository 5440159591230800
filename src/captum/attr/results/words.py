"""A result in words: numbers as people read them, and the few lines that a prompt shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum.attr.catalogue.titles import averaged, titled
from captum.attr.registry import METHODS
from captum.attr.results.leaves import is_mapping
from captum.attr.visualization.wording import short_number, shorten

if TYPE_CHECKING:
    from captum.attr.explanation import Explanation

__all__ = ["number", "residual_name", "residual_step", "residual_words", "summary", "target_words", "title_of"]

_LISTED = 3


def number(value: float | None, signed: bool = False) -> str:
    """Return a number with three significant digits; ``None`` as nothing.

    >>> number(0.123456), number(1e-9, signed=True)
    ('0.123', '+1e−9')
    """
    return "" if value is None else short_number(value, sign=signed)


def title_of(explanation: Explanation) -> str:
    """Return the method as a heading: its variant's name, and the averaging over noise if there was one."""
    row = METHODS.get(explanation.method)
    variant = explanation.arguments.get("variant")
    title = titled(row.class_name, variant) if row is not None else explanation.method.replace("_", " ")
    tunnel = explanation.arguments.get("noise_tunnel")
    return averaged(title, tunnel.get("nt_type") if is_mapping(tunnel) else None)


def target_words(explanation: Explanation) -> str:
    """Return what is explained: the target if all rows share it, else how many there are."""
    names = list(dict.fromkeys(explanation.target_names))
    if not names:
        return ""
    if len(names) <= _LISTED:
        return ", ".join(shorten(name) for name in names)
    return f"{', '.join(shorten(name) for name in names[: _LISTED - 1])} and {len(names) - _LISTED + 1} more"


def residual_name(explanation: Explanation) -> str:
    """Return what the residual is called: attributions miss a change of the score, relevance stays in the network."""
    return "Kept by biases and ε" if _is_relevance(explanation) else "Completeness residual"


def residual_step(explanation: Explanation) -> str:
    """Return what the residual is called among the steps from the baseline's score to the row's."""
    if _is_relevance(explanation):
        return "kept by biases and ε"
    row = METHODS.get(explanation.method)
    taken = row.parameters() if row is not None else ()
    if "n_samples" in taken or "noise_tunnel" in explanation.arguments:
        return "missed by the draws (residual)"
    return "missed between steps (residual)" if "n_steps" in taken else "not explained (residual)"


def residual_words(explanation: Explanation) -> str:
    """Return the residual of the worst row, and what share it is of that row's change of the score.

    Relevance is a share of the score itself; what biases and stabilisers keep of it is the score minus its sum.
    """
    start = explanation.baseline_scores
    if explanation.residual is None or explanation.scores is None or start is None or not len(explanation.residual):
        return ""
    relevance = _is_relevance(explanation)
    residual = (-1 if relevance else 1) * explanation.residual.detach().cpu().double()
    worst = int(residual.abs().argmax())
    score = float(explanation.scores[worst])
    whole, meaning = (score, "score") if relevance else (score - float(start[worst]), "change of the score")
    percent = 100 * abs(float(residual[worst]) / whole) if whole else 0.0
    share = f" ({short_number(percent, digits=2 if percent < 99.5 else 3)} % of the {meaning})" if whole else ""
    row = f" in row {worst}" if len(residual) > 1 else ""
    return f"{number(float(residual[worst]), signed=True)}{row}{share}"


def _is_relevance(explanation: Explanation) -> bool:
    """Whether the score itself is shared out, with no baseline, so that its delta has the other sign."""
    row = METHODS.get(explanation.method)
    return row is not None and row.delta_sign < 0


def summary(explanation: Explanation) -> str:
    """Return the text of ``repr``."""
    rows = len(explanation)
    head = [explanation.method, f"{rows} row{'' if rows == 1 else 's'}"]
    if explanation.layer is not None:
        head.insert(1, f"layer {shorten(explanation.layer)!r}")
    if explanation.targets:
        head.append(f"target {target_words(explanation)}")
    if explanation.scores is not None and rows == 1:
        head.append(f"score {number(float(explanation.scores[0]))}")
    lines = [f"Explanation({', '.join(head)})"]
    for feature in explanation.top(_LISTED):
        sign = number(feature.attribution, signed=rows == 1)
        value = "" if feature.value is None else f" = {number(feature.value)}"
        lines.append(f"  {sign:>9}  {shorten(feature.name)}{value}")
    residual = residual_words(explanation)
    if residual:
        name = residual_name(explanation)
        lines.append(f"  {name[0].lower()}{name[1:]} {residual}")
    return "\n".join(lines)
