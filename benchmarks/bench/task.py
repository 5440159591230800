"""What is timed: a task, who competes in it, and the bounds that must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OURS = "ours"
UPSTREAM = "upstream"
BARE = "bare"
PEER = "peer"
DEFAULT = "default"


@dataclass(frozen=True)
class Contender:
    """Who does the work: a side, and a variant of how it is set up."""

    side: str
    variant: str = DEFAULT

    def __str__(self) -> str:
        """``side``, or ``side:variant``."""
        return self.side if self.variant == DEFAULT else f"{self.side}:{self.variant}"

    @property
    def process(self) -> str:
        """The interpreter that it runs in: bare torch runs in ours, peers live beside the published package."""
        return UPSTREAM if self.side in (UPSTREAM, PEER) else OURS


Work = Callable[[], object]
Prepare = Callable[[Any, Contender], Work]


@dataclass(frozen=True)
class Bound:
    """``numerator / denominator`` of times or of peak memory, at least or at most ``limit``.

    With ``quantity="error"`` it is about the number that the numerator's work returns, and nothing divides it.

    A competitor is named ``"side"`` (its default variant), ``"side:variant"``, or ``"side:best"``, the fastest of its
    variants in this run.
    """

    numerator: str
    denominator: str
    limit: float
    at_least: bool
    quantity: str = "time"

    def holds(self, ratio: float) -> bool:
        """Whether a measured ratio meets the bound."""
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    @property
    def words(self) -> str:
        """The bound as text."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


def faster(limit: float, than: str = UPSTREAM, who: str = OURS) -> Bound:
    """At least ``limit`` times as fast as another competitor."""
    return Bound(than, who, limit, at_least=True)


def near_bare(limit: float) -> Bound:
    """At most ``limit`` times the time of the best bare loop."""
    return Bound(OURS, f"{BARE}:best", limit, at_least=False)


def lighter(limit: float) -> Bound:
    """At most ``limit`` times the published package's peak memory."""
    return Bound(OURS, UPSTREAM, limit, at_least=False, quantity="memory")


def accurate(limit: float) -> Bound:
    """An error of at most ``limit``."""
    return Bound(OURS, OURS, limit, at_least=False, quantity="error")


@dataclass(frozen=True)
class Task:
    """One line of work that the published package, ours and bare torch do.

    ``prepare(captum.attr, contender)`` builds models and inputs and returns the call to time; ``bare`` does the same in
    plain torch. ``upstream``, ``ours`` and ``peers`` name variants besides the default. ``agree`` is the largest
    accepted difference of the two outputs as a share of their scale, None where they are different estimates of one
    quantity, or ``apart`` says why they differ. ``share`` is the part of the work that the published package and peers
    are given where all of it would take too long: their times are divided by it.
    ``unit`` is what the number of a bound on ``"error"`` counts, and ``alone`` says that nothing there corresponds.
    """

    name: str
    title: str
    prepare: Prepare
    needs: tuple[str, ...]
    bounds: tuple[Bound, ...]
    upstream: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    bare: Prepare | None = None
    bare_variants: tuple[str, ...] = (DEFAULT,)
    agree: float | None = 1e-4
    apart: str = "other numbers there"
    share: float = 1.0
    repeats: int = 5
    calls: int = 1
    unit: str = "error"
    alone: bool = False

    def contenders(self) -> list[Contender]:
        """Everybody who takes part."""
        upstream = [Contender(UPSTREAM), *(Contender(UPSTREAM, variant) for variant in self.upstream)]
        found = [] if self.alone else upstream
        found += [Contender(OURS), *(Contender(OURS, variant) for variant in self.ours)]
        found += [Contender(PEER, variant) for variant in self.peers]
        if self.bare is not None:
            found += [Contender(BARE, variant) for variant in self.bare_variants]
        return found

    def work(self, attr: Any, contender: Contender) -> Work:
        """The call to time."""
        if contender.side == BARE:
            if self.bare is None:
                message = f"{self.name} has no bare form"
                raise LookupError(message)
            return self.bare(None, contender)
        return self.prepare(attr, contender)

    def part(self, contender: Contender) -> float:
        """The share of the whole work that a contender does in one call."""
        return self.share if contender.side in (UPSTREAM, PEER) else 1.0
