"""Models that answer later: the same estimators, asked through futures."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C import Future as AnyFuture  # what Future.then gives
from torch.futures import Future

from captum._engine.rows import Rows
from captum._engine.values import describe
from captum.attr.games.game import Game
from captum.attr.games.play import Estimator, play_later
from captum.attr.games.setting import check_per_eval
from captum.errors import InputError, InputTypeError, OutputError

T = TypeVar("T")


class _Answers:
    """Collects the answers to the parts of one question."""

    def __init__(self, count: int, read: Callable[[int, object], Tensor]) -> None:
        self.result: Future[Tensor] = Future()
        self._read = read
        self._parts: list[Tensor | None] = [None] * count
        self._lock = threading.Lock()
        self._done = False

    def receive(self, place: int, answer: AnyFuture[Any]) -> None:
        """Keep one answer, from whatever thread it comes; the last one completes the result."""
        try:
            part = self._read(place, answer.value())
        except Exception as fault:  # noqa: BLE001  # a future carries every failure to whoever waits
            with self._lock:
                first, self._done = not self._done, True
            if first:
                self.result.set_exception(fault)  # pyright: ignore[reportArgumentType]  # torch's annotation names the result
            return
        with self._lock:
            self._parts[place] = part
            found = [p for p in self._parts if p is not None]
            last = len(found) == len(self._parts) and not self._done
            self._done = self._done or last
        if last:
            self.result.set_result(torch.cat(found))


class _LaterGame:
    """A game whose model returns futures: ``per_eval`` coalitions per call, all calls of a block at once."""

    def __init__(self, game: Game, per_eval: int) -> None:
        self._game = game
        self._per_eval = check_per_eval(per_eval)
        self._known = False

    def __call__(self, coalitions: Tensor) -> Future[Tensor]:
        draws = self._game.fill.draws
        blocks = (coalitions.repeat_interleave(draws, 0) if draws > 1 else coalitions).split(self._per_eval)
        rows_of: list[Rows] = []
        answers: list[AnyFuture[Any]] = []
        done = 0
        for block in blocks:
            tensors, rows = self._game.filled(block, done)
            rows_of.append(rows)
            answers.append(self._ask(tensors, rows))
            done += len(block)
        collected = _Answers(len(blocks), lambda i, output: self._read(output, rows_of[i], len(blocks[i])))
        for place, answer in enumerate(answers):
            answer.add_done_callback(functools.partial(collected.receive, place))
        if draws == 1:
            return collected.result
        return collected.result.then(lambda a: a.value().reshape(len(coalitions), draws, -1).mean(1))

    def _ask(self, tensors: tuple[Tensor, ...], rows: Rows) -> AnyFuture[Any]:
        with torch.no_grad():
            answer = self._game.variable.score.output(tensors, rows)
        if not isinstance(answer, AnyFuture):
            message = f"attribute_future needs a forward function that returns a torch Future, got {describe(answer)}."
            raise InputTypeError(message)
        return answer

    def _read(self, output: object, rows: Rows, count: int) -> Tensor:
        values = self._game.variable.score.read(output, rows).detach()
        shape = tuple(values.shape)
        if not self._known:
            self._game.shape, self._game.dtype, self._known = shape, values.dtype, True
        lead = self._game.shape
        if not values.numel():
            message = f"Expected at least one number from the model, got an output of shape {shape}."
            raise OutputError(message)
        if count == 1 and shape != lead:
            message = f"The output changes its shape between calls: {lead}, then {shape}, for the same rows."
            raise OutputError(message)
        if count > 1 and (not lead or shape != (count * lead[0], *lead[1:])):
            message = (
                f"perturbations_per_eval > 1 needs an output that grows with the batch: it is {lead} for one "
                f"perturbation and {shape} for {count}. Use perturbations_per_eval=1."
            )
            raise InputError(message)
        return values.to("cpu", torch.float64).reshape(count, -1)


def ask_later(game: Game, per_eval: int, estimator: Estimator[T], finish: Callable[[T], Any]) -> Future[Any]:
    """Run an estimator against a model that answers later, and turn its estimate into the result."""
    result: Future[Any] = Future()

    def complete(estimate: Future[T]) -> None:
        try:
            result.set_result(finish(estimate.value()))
        except Exception as fault:  # noqa: BLE001  # as above
            result.set_exception(fault)

    play_later(estimator, _LaterGame(game, per_eval)).add_done_callback(complete)
    return result
