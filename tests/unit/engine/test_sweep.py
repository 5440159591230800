"""Chunks: every pair once, smaller ones when memory runs out, memory that does not grow with the number of steps."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Self

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from captum._engine.rows import Chunk, Rows, fold
from captum._engine.sweep import BUSY_ELEMENTS, Plan, Sweep, check_limit, ran_out_of_memory, sharing_rows
from captum.attr import GradientShap, IntegratedGradients, NoiseTunnel, Saliency
from captum.errors import InputError


@given(
    batch=st.integers(1, 5),
    variants=st.integers(1, 7),
    limit=st.integers(1, 40),
    order=st.sampled_from(["variant", "example"]),
)
def test_every_pair_comes_once_and_in_order(batch: int, variants: int, limit: int, order: str) -> None:
    seen: list[tuple[int, int]] = []

    def body(chunk: Chunk) -> int:
        rows = torch.arange(batch) if chunk.rows.index is None else chunk.rows.index
        seen.extend(zip(rows.tolist(), chunk.variants.tolist(), strict=True))
        return chunk.count

    counts = [n for _, n in Sweep(batch, variants, Plan(limit, 1), order=order).run(body)]  # type: ignore[arg-type]
    assert max(counts) <= limit
    by_variant = [(b, k) for k in range(variants) for b in range(batch)]
    assert seen == (by_variant if order == "variant" else sorted(by_variant))


@given(batch=st.integers(1, 5), variants=st.integers(1, 7), limit=st.integers(1, 40))
def test_fold_adds_to_the_right_rows(batch: int, variants: int, limit: int) -> None:
    table = torch.arange(batch * variants, dtype=torch.float64).reshape(batch, variants)
    total = torch.zeros(batch, 1, dtype=torch.float64)
    for chunk, values in Sweep(batch, variants, Plan(limit, 1)).run(
        lambda c: table[c.rows.pick(torch.arange(batch)), c.variants][:, None]
    ):
        total = fold(total, chunk, values)
    torch.testing.assert_close(total[:, 0], table.sum(1))


@pytest.mark.parametrize(
    "fault",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
        ),
    ],
)
def test_a_chunk_that_does_not_fit_is_halved_and_nothing_is_lost(fault: Exception) -> None:
    sizes: list[int] = []

    class Hungry(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            if len(x) > 3:
                raise fault
            return x.square().sum(1)

    x = torch.randn(2, 4)
    got = IntegratedGradients(Hungry()).attribute(x, n_steps=20)
    torch.testing.assert_close(got, x.square())
    assert max(sizes) > 3
    assert sum(size for size in sizes if size <= 3) == 40


def test_one_row_that_does_not_fit_is_told() -> None:
    def starving(_x: Tensor) -> Tensor:
        message = "out of memory"
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="out of memory"):
        IntegratedGradients(starving).attribute(torch.ones(1, 2))


def test_other_faults_are_not_memory() -> None:
    assert not ran_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize("limit", [0, -1, True, 2.5])
def test_limits_that_cannot_be(limit: object) -> None:
    with pytest.raises(InputError, match="internal_batch_size"):
        check_limit(limit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        ((torch.zeros(2, 8, dtype=torch.int64),), 16),  # token ids: 128 positions
        ((torch.zeros(2, 500, dtype=torch.int64),), 1),
        ((torch.zeros(2, 8, 576),), 14),  # their embeddings: 2**16 elements
        ((torch.zeros(2, 30),), 128),  # rows of a table
        ((torch.zeros(2, 16_000),), 4),  # a signal
        ((torch.zeros(2, 3, 224, 224),), 1),
        ((torch.zeros(2, 30), torch.zeros(2, 3, 8, 8)), 1),
        ((), 1),
    ],
)
def test_rows_of_large_models_share_their_weights(values: tuple[Tensor, ...], rows: int) -> None:
    assert sharing_rows(values) == rows
    large = Plan(None, 8, 7_000_000_000, least=rows)
    assert large.size(1000) in (rows, -(-1000 // -(-1000 // rows)))
    assert Plan(None, 8, 1_000_000, least=rows).size(1000) >= min(100, rows)  # small ones take what they took


def test_a_plan_grows_while_chunks_are_short_and_shares_what_is_left() -> None:
    plan = Plan(None, elements=BUSY_ELEMENTS // 8, work=1)
    assert plan.size(1000) == 8
    assert plan.size(50) == 8
    assert plan.size(9) == 5
    plan.measured(8, 0.001)
    assert plan.size(10_000) > 8
    plan.measured(32, 10.0)
    assert plan.size(10_000) == 32
    assert plan.failed(32)
    assert plan.size(10_000) == 16
    plan.measured(16, 0.0001)
    assert plan.size(10_000) == 16


def test_rows_compose() -> None:
    outer = Rows(3, torch.tensor([2, 2, 0]))
    inner = Rows(3, torch.tensor([0, 2]))
    values = torch.tensor([10, 20, 30])
    assert outer.compose(inner).pick(values).tolist() == inner.pick(outer.pick(values)).tolist()


class _Peak:
    """Highest resident memory of this process over a ``with`` block, in bytes above the start."""

    def __enter__(self) -> Self:
        self._base, self._most, self._done = self._now(), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _now(self) -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096

    def _watch(self) -> None:
        while not self._done.is_set():
            self._most = max(self._most, self._now() - self._base)
            time.sleep(0.002)

    @property
    def bytes(self) -> int:
        return self._most


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc, which only Linux has"
)
@pytest.mark.parametrize("method", ["paths", "shap", "tunnel"])
def test_peak_memory_does_not_grow_with_the_number_of_steps(method: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 3), nn.Flatten(), nn.LazyLinear(2)
    )
    x = torch.randn(1, 3, 96, 96)
    model(x)

    def run(steps: int) -> None:
        if method == "paths":
            IntegratedGradients(model).attribute(x, target=0, n_steps=steps, internal_batch_size=4)
        elif method == "shap":
            GradientShap(model).attribute(
                x, torch.zeros_like(x), n_samples=steps, stdevs=0.1, target=0, internal_batch_size=4
            )
        else:
            NoiseTunnel(Saliency(model)).attribute(x, target=0, nt_samples=steps, nt_samples_batch_size=4)

    run(8)
    with _Peak() as few:
        run(8)
    with _Peak() as many:
        run(160)
    assert many.bytes < few.bytes + 30e6, (few.bytes, many.bytes)
