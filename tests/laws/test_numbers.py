"""Dtypes and devices are the inputs' own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.cases import CASES, Case, keeping, pairs
from tests.subjects import Subject, drawn, fresh_subject, staged, subject

_EPSILON = {torch.float16: 2e-2, torch.bfloat16: 1.5e-1, torch.float32: 1e-5, torch.float64: 1e-12}
_DTYPES = [pytest.param(dtype, id=str(dtype).removeprefix("torch.")) for dtype in _EPSILON]


def moved(value: object, *, dtype: torch.dtype | None = None, device: str | None = None) -> object:
    """A tree of tensors in another dtype (floating ones only) or on another device."""
    if isinstance(value, tuple):
        return tuple(moved(each, dtype=dtype, device=device) for each in value)
    if not isinstance(value, Tensor):
        return value
    return value.to(device=device, dtype=dtype if value.is_floating_point() else None)


def converted(whole: Subject, **to: object) -> Subject:
    """The subject with its model and all its tensors moved."""
    fields = ("inputs", "baselines", "cloud", "arguments")
    changes = {name: moved(getattr(whole, name), **to) for name in fields}
    target = moved(whole.target, device=to.get("device"))
    return replace(whole, model=whole.model.to(**{k: v for k, v in to.items() if v}), target=target, **changes)


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize(
    ("case", "name"), pairs("dtype", "mlp", "cnn", "pair", "embeddings", "attention", random=False)
)
def test_values_have_the_dtype_of_the_model(case: Case, name: str, dtype: torch.dtype) -> None:
    """Weights and inputs that the dtype can hold, worked out in it and in double precision."""
    held = converted(fresh_subject(name), dtype=dtype)
    exact = case.run(converted(held, dtype=torch.float64), **case.quick())
    values = case.run(converted(fresh_subject(name), dtype=dtype), **case.quick())
    both = (values, exact) if isinstance(exact, tuple) else ((values,), (exact,))
    for value, true in zip(*both, strict=True):
        assert value.dtype == dtype
        scale = float(true.abs().max())
        torch.testing.assert_close(value.double(), true, rtol=0, atol=_EPSILON[dtype] * max(scale, 1e-3))


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("case", keeping("dtype", random=True, spatial=False))
def test_random_methods_keep_the_dtype(case: Case, dtype: torch.dtype) -> None:
    """The same draws in every precision, so the same values up to its rounding."""
    exact = case.run(converted(fresh_subject("residual"), dtype=torch.float32))
    values = case.run(converted(fresh_subject("residual"), dtype=dtype))
    assert values.dtype == dtype
    scale = float(exact.abs().max())
    torch.testing.assert_close(values.float(), exact, rtol=0, atol=max(_EPSILON[dtype], 1e-5) * scale)


_PATHS = ("IntegratedGradients", "LayerIntegratedGradients", "NeuronIntegratedGradients", "InternalInfluence")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ["gausslegendre", "riemann_left", "riemann_trapezoid"])
@pytest.mark.parametrize("name", _PATHS)
def test_quadrature_does_not_round_in_low_precision(name: str, method: str, dtype: torch.dtype) -> None:
    """Hundreds of weights of a linear function sum to 1: half precision would stall on the way."""
    case = CASES[name]
    body = nn.Linear(4, 3).to(dtype)
    x = drawn(2, 4).to(dtype)
    whole = staged(body, x, 1, place="neuron" if case.place == "neuron" else "input")
    values = case.run(whole, n_steps=600, method=method)
    weight = body.weight[1].detach()
    want = weight.expand_as(x) if name == "InternalInfluence" else x * weight
    assert values.dtype == dtype
    torch.testing.assert_close(values.float(), want.float(), rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(("case", "name"), pairs("device", "mlp", "cnn", "pair", "attention", random=False))
def test_everything_stays_on_the_inputs_device(case: Case, name: str) -> None:
    """On the ``meta`` device every operator refuses partners from the CPU."""
    whole = converted(fresh_subject(name), device="meta")
    if isinstance(whole.target, Tensor):
        whole = whole.but(target=1)
    values = case.run(whole)
    shapes = [each.shape for each in ((values,) if isinstance(values, Tensor) else values)]
    want = case.run(subject(name).but(target=1))
    assert shapes == [each.shape for each in ((want,) if isinstance(want, Tensor) else want)]
    assert all(each.device.type == "meta" for each in ((values,) if isinstance(values, Tensor) else values))


@pytest.mark.parametrize("case", keeping("device"))
def test_a_default_device_is_not_followed(case: Case) -> None:
    """With another default device, a tensor made without naming its device would land there and fail."""
    whole = subject("cnn")
    want = case.run(whole)
    with torch.device("meta"):
        values = case.run(whole)
    assert values.device.type == "cpu"
    torch.testing.assert_close(values, want)


@pytest.mark.parametrize("case", keeping("dtype", attends=None))
def test_a_default_dtype_is_not_followed(case: Case) -> None:
    """float32 inputs stay float32 when the caller works in another default dtype."""
    whole = subject(case.home)
    want = case.run(whole)
    torch.set_default_dtype(torch.float64)
    try:
        values = case.run(whole)
    finally:
        torch.set_default_dtype(torch.float32)
    assert values.dtype == torch.float32
    if not case.random:
        torch.testing.assert_close(values, want)
