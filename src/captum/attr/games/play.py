"""Estimators ask, games answer: one body for plain calls, futures, data loaders and remote models.

An estimator is a generator. It yields coalitions, a bool tensor ``(K, M)`` (or ``(K, B, M)``: other coalitions for each
example), receives their scores ``(K, n)`` in double precision on the CPU, and returns an :class:`Estimate`.
The first coalition that it yields is the full one, alone: the unchanged input.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.futures import Future

from captum._engine.room import keep_freed

T = TypeVar("T")
#: Estimators work on the CPU, whatever the default device is.
HOST = torch.device("cpu")
Estimator = Generator[Tensor, Tensor, T]

#: Entries of the largest block of coalitions, and of the scores that come back for it.
BLOCK_ENTRIES = 1 << 23


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an estimator found.

    Attributes:
        values: contributions ``(M, n)``: of each player to each number of the output.
        errors: their standard errors ``(M, n)``; zero where the values are exact, infinite where nothing is known.
        evaluations: number of coalitions that were scored.
    """

    values: Tensor
    errors: Tensor
    evaluations: int


def block_rows(players: int, outputs: int) -> int:
    """How many coalitions to ask for at once, so that neither they nor their scores fill the memory."""
    return max(1, min(BLOCK_ENTRIES // max(players, 1), BLOCK_ENTRIES // max(outputs, 1)))


def everyone(players: int) -> Tensor:
    """The full coalition, ``(1, M)``."""
    return torch.ones((1, players), dtype=torch.bool, device="cpu")


def nobody(players: int) -> Tensor:
    """The empty coalition, ``(1, M)``."""
    return torch.zeros((1, players), dtype=torch.bool, device="cpu")


def host() -> contextlib.AbstractContextManager[object]:
    """What makes tensors be made on the CPU; nothing where they are anyway, as it costs each operator a little."""
    return contextlib.nullcontext() if torch.get_default_device() == HOST else HOST


def play(estimator: Estimator[T], game: Callable[[Tensor], Tensor]) -> T:
    """Run an estimator against a game that answers at once."""
    scores: Tensor | None = None
    keep_freed()
    while True:
        try:
            with host():
                coalitions = next(estimator) if scores is None else estimator.send(scores)
        except StopIteration as end:
            return end.value
        scores = game(coalitions)


class _Promise(Generic[T]):
    """An estimator in the middle of a game that answers later."""

    def __init__(self, estimator: Estimator[T], game: Callable[[Tensor], Future[Tensor]]) -> None:
        self.result: Future[T] = Future()
        self._estimator = estimator
        self._game = game

    def start(self) -> None:
        try:
            with host():
                first = next(self._estimator)
            self._wait(first)
        except Exception as fault:  # noqa: BLE001  # a future carries every failure to whoever waits
            self.result.set_exception(fault)  # pyright: ignore[reportArgumentType]  # torch's annotation names the result

    def _wait(self, coalitions: Tensor) -> None:
        """Ask, and go on at once for as long as the answers are there already: no deep recursion."""
        while True:
            answer = self._game(coalitions)
            if not answer.done():
                answer.add_done_callback(self._resume)
                return
            following = self._send(answer)
            if following is None:
                return
            coalitions = following

    def _resume(self, answer: Future[Tensor]) -> None:
        try:
            following = self._send(answer)
            if following is not None:
                self._wait(following)
        except Exception as fault:  # noqa: BLE001  # as above
            self.result.set_exception(fault)  # pyright: ignore[reportArgumentType]  # torch's annotation names the result

    def _send(self, answer: Future[Tensor]) -> Tensor | None:
        try:
            with host():
                return self._estimator.send(answer.value())
        except StopIteration as end:
            self.result.set_result(end.value)
            return None


def play_later(estimator: Estimator[T], game: Callable[[Tensor], Future[Tensor]]) -> Future[T]:
    """Run an estimator against a game whose answers are futures."""
    promise = _Promise(estimator, game)
    promise.start()
    return promise.result
