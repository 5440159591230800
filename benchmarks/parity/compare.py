"""Comparison of one case's two results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.parity.known import Known, known_for

RELATIVE = 2e-5
ABSOLUTE = 2e-6
COMPLETE = 1e-4


@dataclass(frozen=True)
class Side:
    """One interpreter's record of a case and the numbers of its result."""

    record: dict[str, Any]
    arrays: list[np.ndarray]


@dataclass(frozen=True)
class Verdict:
    """How one case ended: ``ok``, ``known``, ``different`` or ``skipped``."""

    algorithm: str
    case: str
    kind: str
    absolute: float = 0.0
    relative: float = 0.0
    note: str = ""
    known: str = ""


def distance(left: list[np.ndarray], right: list[np.ndarray]) -> tuple[float, float]:
    """The largest absolute difference, and the same as a share of the largest published number of the case."""
    scale = max((float(np.nanmax(np.abs(a), initial=0.0)) for a in left if a.size), default=0.0)
    worst = 0.0
    for a, b in zip(left, right, strict=True):
        if a.size == 0:
            continue
        wide, other = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        gap = np.where(np.isnan(wide) & np.isnan(other), 0.0, np.abs(wide - other))
        gap = np.where(wide == other, 0.0, gap)
        worst = max(worst, float(np.nan_to_num(gap, nan=np.inf).max()))
    return worst, worst / scale if scale else worst


def judge(upstream: Side, ours: Side, published: dict[str, Side]) -> Verdict:
    """The verdict on one case; ``published`` holds the other cases of the published package."""
    algorithm, case = upstream.record["algorithm"], upstream.record["id"]
    states = (upstream.record["status"], ours.record["status"])
    if "skipped" in states:
        side = ours if ours.record["status"] == "skipped" else upstream
        return Verdict(algorithm, case, "skipped", note=", ".join(side.record["missing"]))
    known = known_for(case)
    if "raised" in states:
        return _judge_errors(upstream.record, ours.record, known)
    return _judge_numbers(upstream, ours, known, published)


def _judge_errors(upstream: dict[str, Any], ours: dict[str, Any], known: list[Known]) -> Verdict:
    algorithm, case = upstream["algorithm"], upstream["id"]
    if upstream["status"] == ours["status"]:
        kind = upstream["kinds"][0]
        if kind in ours["kinds"]:
            return Verdict(algorithm, case, "ok", note=f"both refuse with {kind}")
        note, needed = f"{kind} there, {ours['kinds'][0]} here: {ours['message'][:160]}", "error"
    elif upstream["status"] == "raised":
        note, needed = f"{upstream['kinds'][0]} there, a result here", "refused"
    else:
        note, needed = f"a result there, {ours['kinds'][0]} here: {ours['message'][:200]}", "refuses"
    meant = next((entry for entry in known if needed in entry.allows), None)
    return Verdict(algorithm, case, "known" if meant else "different", note=note, known=meant.name if meant else "")


def _judge_numbers(upstream: Side, ours: Side, known: list[Known], published: dict[str, Side]) -> Verdict:
    algorithm, case = upstream.record["algorithm"], upstream.record["id"]
    used: list[str] = []
    for aspect, key in (("structure", "structure"), ("dtype", "dtypes")):
        there, here = upstream.record[key], ours.record[key]
        if there == here:
            continue
        meant = next((entry for entry in known if aspect in entry.allows), None)
        if meant is None:
            return Verdict(algorithm, case, "different", note=f"{aspect} {there} there, {here} here")
        used.append(meant.name)
    shapes = [a.shape for a in upstream.arrays], [a.shape for a in ours.arrays]
    if shapes[0] != shapes[1]:
        meant = next((entry for entry in known if "structure" in entry.allows), None)
        note = f"shapes {shapes[0]} there, {shapes[1]} here"
        return Verdict(algorithm, case, "known" if meant else "different", note=note, known=meant.name if meant else "")
    absolute, relative = distance(upstream.arrays, ours.arrays)
    if close(absolute, relative):
        return Verdict(algorithm, case, "known" if used else "ok", absolute, relative, known=", ".join(used))
    for entry in known:
        if "numbers" in entry.allows and _explains(entry, upstream, ours, relative, published):
            return Verdict(algorithm, case, "known", absolute, relative, known=entry.name)
    return Verdict(algorithm, case, "different", absolute, relative, note="numbers")


def _explains(entry: Known, upstream: Side, ours: Side, relative: float, published: dict[str, Side]) -> bool:
    if entry.like:
        other = entry.like.format("/".join(ours.record["id"].split("/")[1:-1]))
        return other in published and close(*distance(published[other].arrays, ours.arrays))
    if entry.complete:
        return float(np.abs(ours.arrays[-1]).max()) <= COMPLETE * float(np.abs(ours.arrays[0]).max())
    if entry.mend is not None:
        return close(*distance(entry.mend(upstream.arrays), ours.arrays))
    return relative <= entry.within


def close(absolute: float, relative: float) -> bool:
    """Within rounding: either of the two distances is small enough."""
    return absolute <= ABSOLUTE or relative <= RELATIVE
