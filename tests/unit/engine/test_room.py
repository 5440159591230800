"""Room for chunks costs no memory, and none is asked for where that would be written to."""

from __future__ import annotations

import sys
import time
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor

from captum._engine import room, sweep
from captum._engine.room import hold_room
from captum._engine.sweep import Plan, Sweep

linux = pytest.mark.skipif(sys.platform != "linux", reason="only there is room held")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@linux
def test_room_is_not_taken_from_the_machine() -> None:
    hold_room()
    before = resident()
    held = hold_room()
    assert held is not None
    assert resident() - before < 4 * 2**20


@linux
def test_room_that_would_be_written_to_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert hold_room() is None


@linux
def test_a_process_without_address_space_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_size: int) -> Tensor:
        message = "DefaultCPUAllocator: can't allocate memory"
        raise RuntimeError(message)

    monkeypatch.setattr(room, "_block", refuse)
    assert hold_room() is None


def test_room_is_held_for_long_chunks_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Tensor]] = []

    def note() -> Tensor:
        block = torch.empty(1)
        held.append(weakref.ref(block))
        return block

    monkeypatch.setattr(sweep, "hold_room", note)
    quick = list(Sweep(1, 6, Plan(2, 1)).run(lambda chunk: chunk.count))
    assert [count for _, count in quick] == [2, 2, 2]
    assert not held

    monkeypatch.setattr(sweep, "LONG", 0.0)
    steps = Sweep(1, 6, Plan(2, 1)).run(lambda _: time.sleep(0.001))
    next(steps)
    assert len(held) == 1
    next(steps)
    assert len(held) == 1
    assert held[0]() is not None
    steps.close()  # type: ignore[attr-defined]  # an iterator that is a generator
    assert held[0]() is None
