"""Models that answer later, in every way torch has."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.futures import Future

from captum import attr
from captum.errors import OutputError, TargetError
from tests.oracles.loops import chain
from tests.subjects import drawn

NET = chain()
X = drawn(3, 3, seed=5, dtype=torch.float64)


def done(value: Any) -> Future[Any]:
    answer: Future[Any] = Future()
    answer.set_result(value)
    return answer


def in_a_thread(x: Tensor) -> Future[Any]:
    answer: Future[Any] = Future()
    threading.Thread(target=lambda: answer.set_result(NET(x))).start()
    return answer


def chained(x: Tensor) -> Any:
    return done(x).then(lambda answer: NET(answer.value()))


@pytest.mark.parametrize("model", [in_a_thread, chained])
@pytest.mark.parametrize("method", ["FeatureAblation", "ShapleyValues"])
def test_chained_futures_and_other_threads(model: Any, method: str) -> None:
    kind, mask = getattr(attr, method), torch.tensor([[0, 1, 1], [2, 0, 2], [5, 5, 5]])
    for per_eval in (None, 1, np.int64(2)):
        found = kind(model).attribute_future(X, 0.5, [1, 0, 1], feature_mask=mask, perturbations_per_eval=per_eval)
        torch.testing.assert_close(found.wait(), kind(NET).attribute(X, 0.5, [1, 0, 1], feature_mask=mask))


def test_answers_of_many_threads_complete_once() -> None:
    x = drawn(2, 40, seed=6, dtype=torch.float64)
    gate = threading.Barrier(40)
    met: list[int] = []

    def model(x: Tensor) -> Future[Any]:
        answer: Future[Any] = Future()

        def work() -> None:
            if len(met) > 1:
                gate.wait(timeout=10)
            answer.set_result(x.square().sum(1))

        met.append(1)
        threading.Thread(target=work).start()
        return answer

    found = attr.FeatureAblation(model).attribute_future(x[:, :39]).wait()
    torch.testing.assert_close(found, x[:, :39].square())


def test_answers_are_read_as_answers_at_once_are() -> None:
    exact = attr.FeatureAblation(lambda x: done(float(x.sum()) + 1e9)).attribute_future(X).wait()
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact, X.sum(0, keepdim=True), rtol=0, atol=1e-6)
    calls: list[int] = []

    def shrinks(x: Tensor) -> Future[Any]:
        calls.append(1)
        return done(x.sum(1)[: 2 if len(calls) > 2 else 3])

    for model, message in (
        (shrinks, "changes its shape"),
        (lambda x: done(x.sum(1) * 1j), "real"),
        (lambda x: done(x.sum(1)[:0]), "at least one number"),
        (lambda _: done(None), "one tensor of scores"),
    ):
        with pytest.raises(OutputError, match=message):
            attr.FeatureAblation(model).attribute_future(X).wait()
    with pytest.raises(TargetError, match="answers later"):
        attr.FeatureAblation(chained).attribute_future(X, target="argmax")
    with pytest.raises(OutputError, match="attribute_future"):
        attr.FeatureAblation(chained).attribute(X, target=1)
