"""The report: ratios with their bounds, as Markdown. Absolute times say more about the machine than about the code."""

from __future__ import annotations

import platform
from collections.abc import Iterable

from benchmarks.bench.drive import EXACT, Outcome
from benchmarks.bench.imports import ALLOWED
from benchmarks.bench.task import Bound

HEAD = """# Benchmarks

Written by `python -m benchmarks.bench --write`. Every number is a ratio measured in one run on one machine: the
published package (captum 0.9.0, in its own environment) and this one as two long-lived processes driven in turn,
medians of alternating repeats, the outputs of both compared. "Bare torch" is the fastest of several hand-written loops
(chunk size × memory format searched in the same run). Memory is what one call adds to the resident size of a fresh
process at its peak. What rules cost per operator call is in microseconds of this machine.
"""
DOUBLE = (
    "Where single precision leaves more than is accepted, both did the same work in double precision, which tells "
    "rounding from another result."
)
COLUMNS = "| work | ratio | measured | spread | required | met |\n|---|---|---|---|---|---|"


def report(outcomes: Iterable[Outcome], imports: dict[str, dict[str, float]] | None, about: dict[str, object]) -> str:
    """The whole page."""
    outcomes = list(outcomes)
    machine = (
        f"{platform.machine()}, {about['threads']} threads, torch {about['torch']}, Python {platform.python_version()}"
    )
    lines = [HEAD, f"Measured on: {machine}.", "", COLUMNS]
    for outcome in outcomes:
        lines += _rows(outcome)
    if imports is not None:
        lines += _import_rows(imports)
    lines += [
        "",
        "## Outputs compared",
        "",
        DOUBLE,
        "",
        "| work | largest difference, share of the scale | accepted | in double precision |",
        "|---|---|---|---|",
    ]
    lines += [_agreement(outcome) for outcome in outcomes if outcome.gap is not None and not outcome.values]
    notes = [f"- {outcome.task.title}: {note}" for outcome in outcomes for note in _notes(outcome)]
    if notes:
        lines += ["", "## Notes", "", *notes]
    return "\n".join(lines) + "\n"


def _rows(outcome: Outcome) -> list[str]:
    if outcome.missing:
        return [f"| {outcome.task.title} | – | not there yet: {', '.join(outcome.missing)} | | | – |"]
    return [_row(outcome, bound) for bound in outcome.task.bounds]


def _row(outcome: Outcome, bound: Bound) -> str:
    ratio, spread = outcome.ratio(bound), outcome.spread(bound)
    label = f"{bound.quantity}: {_shown(outcome, bound.numerator)}"
    if bound.quantity == "error":
        label = f"{outcome.task.unit}: {_shown(outcome, bound.numerator)}"
    else:
        label += f" / {_shown(outcome, bound.denominator)}"
    if ratio is None:
        return f"| {outcome.task.title} | {label} | not measured | | {bound.words} | – |"
    between = "" if spread is None else f"{spread[0]:.3g} … {spread[1]:.3g}"
    met = "yes" if bound.holds(ratio) else "**no**"
    return f"| {outcome.task.title} | {label} | {ratio:.3g} | {between} | {bound.words} | {met} |"


def _shown(outcome: Outcome, name: str) -> str:
    side, _, variant = name.partition(":")
    if variant != "best":
        return name
    best = outcome.resolve(name)
    return side if best is None else f"{side} (best: {best.variant})"


def _import_rows(imports: dict[str, dict[str, float]]) -> list[str]:
    sides = imports["import captum"]
    share = sides["ours"] / ALLOWED
    met = "yes" if share <= 1 else "**no**"
    rows = [
        f"| `import captum` after `import torch` | time: ours / {ALLOWED * 1000:.0f} ms | {share:.2g} | | ≤ 1 | {met} |"
    ]
    for label, times in imports.items():
        rows.append(f"| {label} | time: upstream / ours | {times['upstream'] / times['ours']:.3g} | | – | – |")
    return rows


def _agreement(outcome: Outcome) -> str:
    accepted = f"not held: {outcome.task.apart}" if outcome.task.agree is None else f"{outcome.task.agree:g}"
    exact = "" if outcome.exact_gap is None else f"{outcome.exact_gap:.1e} (accepted: {EXACT:g})"
    return f"| {outcome.task.title} | {outcome.gap:.1e} | {accepted} | {exact} |"


def _notes(outcome: Outcome) -> list[str]:
    notes = [f"{who} failed: {error}" for who, error in outcome.errors.items()]
    notes += [f"{outcome.task.unit} of {who}: {value:.2g}" for who, value in outcome.values.items()]
    if outcome.task.share != 1.0:
        notes.append(
            f"upstream and peers did {outcome.task.share:.3g} of the work, row by row; their times are divided by that."
        )
    return notes


def failures(outcomes: Iterable[Outcome], imports: dict[str, dict[str, float]] | None) -> list[str]:
    """Bounds that are not met and outputs that do not agree."""
    found: list[str] = []
    for outcome in outcomes:
        for bound in outcome.task.bounds:
            ratio = outcome.ratio(bound)
            if ratio is not None and not bound.holds(ratio):
                found.append(
                    f"{outcome.task.name}: {bound.quantity} {bound.numerator} / {bound.denominator} = {ratio:.3g}"
                )
        if not outcome.agrees:
            exact = "" if outcome.exact_gap is None else f", by {outcome.exact_gap:.1e} in double precision"
            found.append(f"{outcome.task.name}: outputs differ by {outcome.gap:.1e} of their scale{exact}")
    if imports is not None and imports["import captum"]["ours"] > ALLOWED:
        found.append("import captum: above its allowance")
    return found
