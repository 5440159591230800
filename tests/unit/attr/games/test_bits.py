"""Choosing by bits is torch.where to the last bit."""

from __future__ import annotations

import math

import pytest
import torch

from captum.attr.games.bits import SMALL, all_zero, where
from captum.attr.games.fills import ConstantReady
from tests.subjects import drawn

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
WHOLE = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
EDGES = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 0.0, 1e-40, -1.5, 3.0])


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE, torch.complex64], ids=str)
@pytest.mark.parametrize("rows", [1, 3])
def test_every_dtype(dtype: torch.dtype, rows: int) -> None:
    edges = EDGES if dtype.is_floating_point else torch.arange(8) - 2
    value = edges.repeat(rows, 40).to(dtype)
    base = (edges.flip(0).repeat(1, 40) if dtype != torch.bool else torch.tensor([True, False]).repeat(1, 160)).to(
        dtype
    )
    keep = (drawn(5, 1, 320, seed=1) > 0) if rows == 1 else (drawn(5, 3, 320, seed=2) > 0)
    assert keep.numel() >= SMALL
    assert torch.equal(bits(where(keep, value, base)), bits(torch.where(keep, value, base)))
    zero = torch.zeros_like(base)
    assert all_zero(zero) == (dtype != torch.complex64)
    assert torch.equal(bits(where(keep, value, zero, all_zero(zero))), bits(torch.where(keep, value, zero)))


def test_dtypes_that_differ_widen_as_ever() -> None:
    keep, value = drawn(4, 400, seed=3) > 0, torch.arange(400)
    found = where(keep, value, torch.full((1, 400), 0.5))
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.where(keep, value, torch.tensor(0.5)))


def test_a_base_of_minus_zero_is_kept() -> None:
    assert not all_zero(torch.tensor([0.0, -0.0]))
    value, keep = torch.ones(1, 2000), torch.zeros(1, 2000, dtype=torch.bool)
    fill = ConstantReady((torch.full((1, 2000), -0.0),))
    (found,) = fill.replace((value,), (keep[None],), None, torch.zeros(1))
    assert bool(torch.signbit(found).all())
