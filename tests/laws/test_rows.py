"""Rows are strangers to each other, and how many are evaluated at a time is nobody's business."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.cases import Case, keeping, pairs
from tests.subjects import Subject, subject

_SMALL = ("mlp", "cnn", "lstm", "pair", "embeddings", "bert", "gpt2", "vit", "attention")


def _chunked(case: Case) -> bool:
    return case.chunk is not None


def _splits_rows(case: Case) -> bool:
    return case.chunk == "internal_batch_size"


def rows_of(value: object, index: int) -> object:
    """Row ``index`` of whatever runs along the batch, as a batch of one."""
    if isinstance(value, tuple):
        return tuple(rows_of(each, index) for each in value)
    return value[index : index + 1] if isinstance(value, Tensor) and value.dim() else value


def only(whole: Subject, index: int) -> Subject:
    """The subject with one row of its batch."""
    count = len(whole.inputs[0] if isinstance(whole.inputs, tuple) else whole.inputs)

    def row(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(row(each) for each in value)
        fits = isinstance(value, Tensor) and value.dim() > 0 and len(value) == count
        return rows_of(value, index) if fits else value

    target = [whole.target[index]] if isinstance(whole.target, list) else row(whole.target)
    if isinstance(whole.target, tuple):
        target = whole.target
    return replace(
        whole, inputs=rows_of(whole.inputs, index), baselines=row(whole.baselines), target=target,
        arguments=row(whole.arguments),
    )  # fmt: skip


def near(got: object, want: object, scale: float = 1e-5) -> None:
    """Equal up to the rounding of another batch size, relative to the largest value."""
    if isinstance(want, tuple):
        assert isinstance(got, tuple)
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            near(one, other, scale)
        return
    assert isinstance(got, Tensor)
    assert isinstance(want, Tensor)
    assert got.dtype == want.dtype
    torch.testing.assert_close(got, want, rtol=1e-4, atol=scale * (1e-3 + float(want.abs().max())))


@pytest.mark.parametrize(("case", "name"), pairs("rows", *_SMALL))
def test_a_batch_gives_what_its_rows_give(case: Case, name: str) -> None:
    whole = subject(name)
    if case.name == "Saliency(signed)" and name == "bert":
        pytest.skip("layer norm ignores shifts, so gradients summed over an embedding are zero")
    together = case.run(whole, **case.quick())
    count = len(whole.inputs[0] if isinstance(whole.inputs, tuple) else whole.inputs)
    for index in range(count):
        near(rows_of(together, index), case.run(only(whole, index), **case.quick()))


@pytest.mark.parametrize("case", keeping("mixing", spatial=False))
def test_a_row_does_not_see_its_neighbours(case: Case) -> None:
    whole = subject("residual")
    other = whole.inputs.clone()
    other[1:] += 3.0
    near(rows_of(case.run(whole), 0), rows_of(case.run(whole.but(inputs=other)), 0))


@pytest.mark.parametrize(
    ("case", "name"), pairs("chunks", "mlp", "cnn", "pair", "embeddings", "tabular", where=_chunked)
)
def test_the_chunk_size_is_invisible(case: Case, name: str) -> None:
    whole = subject(name)
    sizes = (1, 3, 7, 100) if case.chunk == "internal_batch_size" else (1, 2, 3, 100)
    want = case.run(whole, **{case.chunk: None}, **case.quick(9))
    for size in sizes:
        near(case.run(whole, **{case.chunk: size}, **case.quick(9)), want)


@pytest.mark.parametrize("case", keeping("chunks", random=True, where=_chunked))
def test_the_chunk_size_does_not_move_the_stream(case: Case) -> None:
    """The next draw after a call is the same, however the call was cut."""
    whole, after = subject("mlp"), set()
    for size in (None, 1, 3, 100):
        case.run(whole, **{case.chunk: size})
        after.add((float(torch.rand(())), float(np.random.rand())))  # noqa: NPY002 - the stream the methods read
    assert len(after) == 1


@pytest.mark.parametrize(("case", "name"), pairs("chunks", "mlp", "cnn", where=_splits_rows))
def test_no_chunk_is_larger_than_asked(case: Case, name: str) -> None:
    """A number is obeyed, rows are split as well as steps."""
    whole, seen = subject(name), []
    handle = whole.model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    try:
        case.run(whole, internal_batch_size=1, **case.quick())
    finally:
        handle.remove()
    assert seen, "the model was never called"
    limit = 2 if "Conductance" in case.name else 1
    assert max(seen) <= limit, f"asked for 1 row at a time, the model saw {max(seen)}"
