"""The whole matrix of parity cases, in one order."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.parity.case import Case
from benchmarks.parity.cases_around import around_cases
from benchmarks.parity.cases_games import perturbation_cases
from benchmarks.parity.cases_inputs import input_cases
from benchmarks.parity.cases_pieces import piece_cases
from benchmarks.parity.cases_places import place_cases
from benchmarks.parity.cases_refusals import refusal_cases
from benchmarks.parity.cases_rules import rule_cases


def all_cases() -> Iterator[Case]:
    """Every case; ids are unique."""
    yield from input_cases()
    yield from place_cases()
    yield from piece_cases()
    yield from rule_cases()
    yield from perturbation_cases()
    yield from refusal_cases()
    yield from around_cases()
