"""The hooks pass everything through."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from captum import log


def test_timed_log_lets_exceptions_through() -> None:
    with pytest.raises(KeyError, match="seen"), log.TimedLog("phase", size=3):
        raise KeyError("seen")


def test_timed_log_may_be_named() -> None:
    with log.TimedLog() as record:
        assert isinstance(record, log.TimedLog)


def test_plain_function_keeps_result_name_and_wrapped() -> None:
    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    recorded = log.log_usage(part_of_slo=True)(double)
    assert recorded(4) == 8
    assert (recorded.__name__, recorded.__doc__) == ("double", "Twice.")
    assert inspect.unwrap(recorded) is double
    assert inspect.signature(recorded) == inspect.signature(double)


def test_exceptions_of_the_function_come_through() -> None:
    @log.log_usage()
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_coroutine_function_stays_one() -> None:
    async def triple(x: int) -> int:
        await asyncio.sleep(0)
        return 3 * x

    recorded = log.log_usage()(triple)
    assert inspect.iscoroutinefunction(recorded)
    assert inspect.unwrap(recorded) is triple
    assert asyncio.run(recorded(5)) == 15  # type: ignore[arg-type]


def test_methods_are_wrapped_in_place() -> None:
    class Thing:
        @log.log_usage()
        def me(self) -> Thing:
            return self

    thing = Thing()
    assert thing.me() is thing
    assert Thing.me.__wrapped__(thing) is thing  # type: ignore[attr-defined]


def test_hooks_return_nothing() -> None:
    assert log.log("event", a=1) is None
    assert log.set_environment("notebook") is None
    assert log.disable_detailed_logging() is None
    assert log.patch_methods(object(), patch_log=False) is None
