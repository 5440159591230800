"""Random draws, made before chunking, so that chunk sizes never change a result.

Without a generator or seed the global streams of torch and NumPy are used, in the order that published examples rely
on; with one, only that torch generator.
"""

from __future__ import annotations

import operator

import numpy as np
import torch
from torch import Tensor

from captum.errors import InputError, InputTypeError

#: Normal draws of at most this many elements are kept whole; larger ones are drawn in blocks as they are needed.
WHOLE = 4_000_000
#: Rows of a block are a multiple of this, the width in which torch fills normal draws on a CPU.
WIDTH = 16


class Source:
    """Where random numbers come from.

    Args:
        generator: a torch generator; None for the global streams.
        seed: makes a fresh CPU generator; not together with ``generator``.
    """

    def __init__(self, generator: torch.Generator | None = None, seed: int | None = None) -> None:
        self.generator = one_generator(generator, seed)

    @property
    def _device(self) -> torch.device:
        return torch.device("cpu") if self.generator is None else self.generator.device

    def choice(self, size: int, count: int) -> Tensor:
        """``count`` indices below ``size``, uniform with replacement, as a LongTensor on the CPU."""
        if self.generator is None:
            return torch.from_numpy(np.random.choice(size, count)).long()  # noqa: NPY002  # the published global stream
        return torch.randint(size, (count,), generator=self.generator, device=self._device).cpu()

    def uniform(self, count: int) -> Tensor:
        """``count`` numbers in [0, 1), float64 on the CPU."""
        if self.generator is None:
            return torch.from_numpy(np.random.uniform(0.0, 1.0, count))  # noqa: NPY002  # the published global stream
        return torch.rand(count, generator=self.generator, device=self._device, dtype=torch.float64).cpu()

    def normal(self, rows: int, like: Tensor, std: float, alone: bool = True) -> Normal:
        """Draws of N(0, std²), ``(rows, *)``, in the shape, device and dtype of the rows of ``like``.

        Args:
            rows: how many rows.
            like: a tensor ``(B, *)``.
            std: standard deviation.
            alone: tells that no other normal draw follows before these are used, so that they may be drawn late.
        """
        return Normal(self.generator, (rows, *like.shape[1:]), std, like, alone)


def one_generator(generator: torch.Generator | None, seed: int | None) -> torch.Generator | None:
    """The generator to draw from: the given one, a fresh one on the CPU with ``seed``, or None: the global streams."""
    if seed is None:
        return generator
    if generator is not None:
        message = "Expected seed or generator, got both; pass one."
        raise InputError(message)
    try:
        return torch.Generator("cpu").manual_seed(operator.index(seed))
    except (TypeError, ValueError, RuntimeError):
        message = f"Expected seed as a whole number of 64 bits, got {str(seed)[:40]!r}."
        raise InputTypeError(message) from None


class Normal:
    """Rows of normal draws, the same whether taken at once or piece by piece."""

    def __init__(
        self, generator: torch.Generator | None, shape: tuple[int, ...], std: float, like: Tensor, alone: bool
    ) -> None:
        self._shape = shape
        self._std = std
        self._like = like
        self._start = 0
        # the global stream is read as torch.normal reads it for standard deviations of the default dtype
        self._dtype = torch.promote_types(
            torch.get_default_dtype() if generator is None else torch.float32, torch.float32
        )
        device = like.device if generator is None else generator.device
        width = int(np.prod(shape[1:], dtype=np.int64))
        block = max(WIDTH, WHOLE // 4 // max(width, 1) // WIDTH * WIDTH)
        late = alone and device.type == "cpu" and shape[0] * width > WHOLE and shape[0] >= 2 * block
        self._blocks = [shape[0]] if not late else _blocks(shape[0], block)
        if not late:
            self._clone = generator
            self._buffer = self._draw(shape[0], generator, device)
            self._blocks = []
            return
        self._clone = torch.Generator("cpu")
        self._clone.set_state(torch.get_rng_state() if generator is None else generator.get_state())
        for rows in self._blocks:
            self._draw(rows, generator, device)
        self._buffer = self._draw(self._blocks.pop(0), self._clone, device)

    def _draw(self, rows: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
        shape = (rows, *self._shape[1:])
        return torch.randn(shape, generator=generator, device=device, dtype=self._dtype)

    def take(self, start: int, stop: int) -> Tensor:
        """Rows from ``start`` to ``stop``; ``start`` never decreases from call to call."""
        while self._start + len(self._buffer) < stop:
            fresh = self._draw(self._blocks.pop(0), self._clone, torch.device("cpu"))
            self._buffer = torch.cat([self._buffer[start - self._start :], fresh])
            self._start = start
        noise = self._buffer[start - self._start : stop - self._start]
        return noise.to(device=self._like.device, dtype=self._like.dtype) * self._std


class Samples:
    """Rows drawn from a baseline distribution, gathered piece by piece.

    Args:
        pools: the distribution, ``(N, *)`` per variable.
        picks: for each variable the chosen rows, LongTensor ``(B·k,)``, example by example.
    """

    def __init__(self, pools: list[Tensor], picks: list[Tensor]) -> None:
        self._pools = pools
        self._picks = picks

    def take(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """The draws from ``start`` to ``stop``."""
        pairs = zip(self._pools, self._picks, strict=True)
        return tuple(pool.index_select(0, pick[start:stop].to(pool.device)) for pool, pick in pairs)


def _blocks(rows: int, block: int) -> list[int]:
    """Rows per block; the last block takes the remainder, for torch fills the end of a draw differently."""
    count = rows // block
    return [block] * (count - 1) + [rows - block * (count - 1)]


def check_stdevs(stdevs: object, count: int) -> tuple[float, ...]:
    """One standard deviation per input tensor from a float or a tuple of floats."""
    values = stdevs if isinstance(stdevs, tuple) else (stdevs,) * count
    if len(values) != count:
        message = f"Expected {count} stdevs, one per input tensor, got {len(values)}."
        raise InputError(message)
    out: list[float] = []
    for value in values:
        if not isinstance(value, float):
            message = (
                f"Expected stdevs as a float or a tuple of floats, got a {type(value).__name__}; write 1.0, not 1."
            )
            raise InputError(message)
        if not value >= 0:
            message = f"Expected stdevs of at least 0, got {value}."
            raise InputError(message)
        out.append(value)
    return tuple(out)
