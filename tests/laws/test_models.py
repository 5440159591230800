"""Every algorithm on every kind of model: real layers, real answers, no toy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cases import Case, pairs
from tests.subjects import SUBJECTS, TENSOR_SUBJECTS, Subject, subject


def leaves(value: object) -> tuple[Tensor, ...]:
    """A tensor, or a tuple of them, as a tuple."""
    return value if isinstance(value, tuple) else (value,)  # type: ignore[return-value]


@pytest.mark.parametrize(("case", "name"), pairs("", *SUBJECTS))
def test_every_algorithm_runs_on_every_model(case: Case, name: str) -> None:
    """Values have the shape of what they explain, are finite, and are not all zero."""
    whole = subject(name)
    values = leaves(case.run(whole, **case.quick()))
    assert all(torch.isfinite(leaf).all() for leaf in values)
    assert any(leaf.abs().max() > 0 for leaf in values)
    if case.attends:
        assert [leaf.shape[0] for leaf in values] == [len(whole.inputs)]
    elif case.place != "layer":
        assert [leaf.shape for leaf in values] == [each.shape for each in leaves(whole.inputs)]


def change_of(whole: Subject) -> Tensor:
    """``F(x) - F(x0)`` of each row, by hand."""
    inputs = leaves(whole.inputs)
    given = whole.baselines if isinstance(whole.baselines, tuple) else (whole.baselines,) * len(inputs)
    start = []
    for value, baseline in zip(inputs, given, strict=True):
        point = torch.as_tensor(0 if baseline is None else baseline, dtype=value.dtype)
        start.append(point.expand(value.shape))
    return whole.score(*inputs) - whole.score(*start)


def _complete(case: Case) -> bool:
    return case.baselines == "point" and case.takes("return_convergence_delta") and case.wraps is None


@pytest.mark.parametrize(("case", "name"), pairs("completeness", *TENSOR_SUBJECTS, "pair", where=_complete))
def test_real_models_are_explained_completely(case: Case, name: str) -> None:
    """The sum over all features, or over a layer that cuts the graph, is the change; the delta says what is missing."""
    whole = subject(name)
    steps = 60 if name == "resnet18" else 400
    values, delta = case.run(whole, **case.quick(steps), return_convergence_delta=True)
    change = change_of(whole)
    total = torch.stack([leaf.flatten(1).sum(1) for leaf in leaves(values)]).sum(0)
    scale = float(change.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(delta, total - change, rtol=0, atol=1e-4 * scale)
    if case.place == "input" or name in _CUT:
        assert (total - change).abs().max() < 2e-2 * scale


_CUT = ("mlp", "cnn", "resnet18", "lstm", "pair", "residual")
