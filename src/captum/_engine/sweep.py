"""Sweep: K variants × B examples → chunks under a throughput and memory budget → a streaming fold."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Generator, Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from captum._engine.room import hold_room
from captum._engine.rows import Chunk, Rows
from captum.errors import InputError

T = TypeVar("T")
Order = Literal["variant", "example"]

#: Input elements per chunk that keep a processor busy without leaving its caches (5 images of 224²).
BUSY_ELEMENTS = 760_000
#: Rows × parameters per chunk: a second guess at the work of one row, for inputs that say little (token ids).
BUSY_WORK = 100_000_000
#: Of a large model, fewest positions (tokens, or rows of a table) per chunk: its weights are read once for all of them.
SHARED_POSITIONS = 128
#: … as long as their inputs have no more elements than this.
SHARED_ELEMENTS = 1 << 16
#: A chunk shorter than this is dominated by overhead, so that the next one may be larger (seconds).
SHORT = 0.015
#: After a chunk longer than this, memory is kept for the next one (seconds).
LONG = 0.03
MOST_ROWS = 65_536


def check_limit(limit: int | None, name: str = "internal_batch_size") -> int | None:
    """Require None or a positive int."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass floats
        message = f"Expected {name} to be None (planned for you) or an int of at least 1 row, got {limit!r}."
        raise InputError(message)
    return limit


class Plan:
    """How many rows the next forward pass takes.

    A limit is obeyed. Without one the plan starts at a size that suits the input and the model, grows while chunks are
    so short that overhead dominates, and halves when memory runs out.

    Args:
        limit: rows per forward pass, or None to plan.
        elements: elements of one row of the variable.
        work: parameters of the model, 0 when unknown.
        recall: given where a trial teaches how chunks run fastest: whether that can be recalled instead.
        least: fewest rows of a chunk, however large the model is; see :func:`sharing_rows`.
    """

    def __init__(
        self,
        limit: int | None,
        elements: int,
        work: int = 0,
        *,
        recall: Callable[[], bool] | None = None,
        least: int = 1,
    ) -> None:
        self._fixed = limit is not None
        self._recall = recall
        self._cap = MOST_ROWS
        by_work = max(least, BUSY_WORK // work) if work else 64
        self._size = limit or max(1, min(BUSY_ELEMENTS // max(elements, 1), by_work, MOST_ROWS))

    def size(self, remaining: int) -> int:
        """Rows of the next chunk; planned chunks share the remaining rows evenly."""
        if self._fixed or remaining <= self._size:
            return min(self._size, remaining)
        chunks = -(-remaining // self._size)
        return -(-remaining // chunks)

    def wants_trial(self, total: int) -> bool:
        """Whether a sweep of ``total`` rows begins with a trial: one of many planned chunks that knows nothing yet."""
        if self._fixed or self._recall is None or total <= 2 * self._size:
            return False
        return not self._recall()

    def measured(self, rows: int, seconds: float) -> None:
        """Learn from a chunk of ``rows`` that took ``seconds``."""
        if not self._fixed and seconds < SHORT and rows >= self._size:
            self._size = min(self._size * 4, self._cap)

    def failed(self, rows: int) -> bool:
        """Memory ran out at ``rows``; tell whether a smaller chunk can be tried."""
        if rows <= 1:
            return False
        self._fixed = False
        self._size = self._cap = rows // 2
        return True


def sharing_rows(values: tuple[Tensor, ...]) -> int:
    """Rows of a chunk that make reading the weights of a large model worth it; 1 for images and long inputs.

    Args:
        values: tensors ``(B, *)`` of a call: tables ``(B, F)``, token ids ``(B, L)``, embeddings ``(B, L, D)``.
    """
    elements = sum(v[0].numel() for v in values if v.dim() and len(v))
    if not elements or any(v.dim() not in (2, 3) for v in values):
        return 1
    positions = max(1 if v.dim() == 2 and v.dtype.is_floating_point else min(v.shape[1:]) for v in values)
    return max(1, min(SHARED_POSITIONS // max(positions, 1), SHARED_ELEMENTS // elements))


def ran_out_of_memory(fault: BaseException) -> bool:
    """Tell whether an exception says that memory ran out, on any device."""
    if isinstance(fault, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(fault).lower()
    return isinstance(fault, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


class Sweep:
    """All pairs of variants and examples of a call, chunk by chunk.

    Args:
        batch: number of examples ``B``.
        variants: number of variants ``K`` of each.
        plan: rows per chunk.
        order: ``"variant"`` takes all examples of a variant, then the next variant; ``"example"`` the reverse.
        label: name of the progress bar; None for no bar.
    """

    def __init__(
        self, batch: int, variants: int, plan: Plan, order: Order = "variant", label: str | None = None
    ) -> None:
        self.batch = batch
        self.variants = variants
        self.plan = plan
        self.order = order
        self.label = label

    def chunk(self, start: int, stop: int) -> Chunk:
        """The pairs from ``start`` to ``stop``."""
        whole = start == 0 and stop == self.batch and (self.variants == 1 or self.order == "variant")
        pairs = torch.arange(start, stop, device="cpu")
        by = self.batch if self.order == "variant" else self.variants
        slow, fast = torch.div(pairs, by, rounding_mode="floor"), pairs % by
        rows, variants = (fast, slow) if self.order == "variant" else (slow, fast)
        return Chunk(start, stop, Rows(self.batch, None if whole else rows), variants)

    def run(self, body: Callable[[Chunk], T]) -> Iterator[tuple[Chunk, T]]:
        """Evaluate ``body`` on every chunk in order and yield its results; smaller chunks when memory runs out."""
        total = self.batch * self.variants
        start = 0
        room: Tensor | None = None
        if self.plan.wants_trial(total):
            with torch.random.fork_rng(devices=[]):
                self._try(body, self.chunk(0, 1))  # its result does not count, so that all rows are run alike
        with self._progress(total) as advance:
            while start < total:
                chunk = self.chunk(start, start + self.plan.size(total - start))
                began = time.perf_counter()
                results = self._try(body, chunk)
                if not results:
                    continue
                took = time.perf_counter() - began
                self.plan.measured(chunk.count, took)
                if room is None and took > LONG and total - chunk.stop >= chunk.count:
                    room = hold_room()
                start = chunk.stop
                advance(chunk.count)
                yield chunk, results[0]

    def _try(self, body: Callable[[Chunk], T], chunk: Chunk) -> list[T]:
        """The result of ``body``, or nothing when memory ran out and the plan has a smaller chunk."""
        try:
            return [body(chunk)]
        except (RuntimeError, MemoryError) as fault:
            if not ran_out_of_memory(fault) or not self.plan.failed(chunk.count):
                raise
        release_memory()
        return []

    @contextlib.contextmanager
    def _progress(self, total: int) -> Generator[Callable[[int], object]]:
        if self.label is None:
            yield lambda _: None
            return
        from tqdm.auto import tqdm

        with tqdm(total=total, desc=self.label, unit="row") as bar:
            bar.leave = bar.pos == 0  # below another bar it vanishes when done
            yield bar.update


def release_memory() -> None:
    """Give back what a failed chunk held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def parameter_count(modules: list[nn.Module]) -> int:
    """Number of parameters of the outermost modules in a list, each counted once."""
    return sum(p.numel() for m in modules for p in m._parameters.values() if isinstance(p, Tensor))
