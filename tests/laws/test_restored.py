"""A call, also a failed one, leaves nothing behind: on the model, its tensors, the inputs, the modes, the streams."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from captum.errors import CaptumWarning
from tests.cases import Case, keeping, pairs
from tests.laws.snapshots import assert_same, snapshot
from tests.subjects import Subject, fresh_subject

_MODELS = ("mlp", "cnn", "residual", "lstm", "pair", "embeddings", "tabular", "vit", "attention")


class ModelError(Exception):
    """An error of the user's model."""


def tensors_of(whole: Subject) -> list[Tensor]:
    """Every tensor of the subject that the caller owns."""
    found: list[Tensor] = []
    for value in (whole.inputs, whole.baselines, whole.cloud, whole.arguments, whole.target):
        found += [each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, Tensor)]
    return found


@contextmanager
def failing(model: nn.Module, call: int, error: type[BaseException]) -> Iterator[list[int]]:
    """Make the ``call``-th forward of a submodule of ``model`` raise; count the calls."""
    leaves = [module for module in model.modules() if not list(module.children())]
    seen, originals = [0], [(leaf, type(leaf)) for leaf in leaves]

    def patched(kind: type[nn.Module]) -> type[nn.Module]:
        def forward(self: nn.Module, *args: object, **kwargs: object) -> object:
            seen[0] += 1
            if seen[0] == call:
                raise error
            return kind.forward(self, *args, **kwargs)

        return type(kind.__name__, (kind,), {"forward": forward})

    for leaf in leaves:
        leaf.__class__ = patched(type(leaf))
    try:
        yield seen
    finally:
        for leaf, kind in originals:
            leaf.__class__ = kind


@pytest.mark.parametrize(("case", "name"), pairs("restored", *_MODELS))
def test_a_call_leaves_nothing_behind(case: Case, name: str) -> None:
    whole = fresh_subject(name)
    for parameter in whole.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    next(whole.model.parameters()).requires_grad_(False)
    before = snapshot(whole.model, *tensors_of(whole), generators=not case.random)
    case.run(whole, **case.quick())
    assert_same(snapshot(whole.model, *tensors_of(whole), generators=not case.random), before)


@pytest.mark.parametrize("error", [ModelError, KeyboardInterrupt])
@pytest.mark.parametrize(("case", "name"), pairs("restored", "cnn", "embeddings", "attention"))
def test_a_failing_model_is_left_as_it_was(case: Case, name: str, error: type[BaseException]) -> None:
    """The error is raised inside the model at every call in turn, and comes out unchanged."""
    whole = fresh_subject(name)
    more = case.quick()
    if case.chunk == "internal_batch_size":
        more["internal_batch_size"] = 4
    generators = not case.random
    before = snapshot(whole.model, *tensors_of(whole), generators=generators)
    with failing(whole.model, 0, error) as seen:
        case.run(whole, **more)
    calls = seen[0]
    assert calls > 0
    for call in sorted({*range(1, min(calls, 5) + 1), calls // 2, calls}):
        with failing(whole.model, call, error), pytest.raises(error):
            case.run(whole, **more)
        assert_same(snapshot(whole.model, *tensors_of(whole), generators=generators), before)


@pytest.mark.parametrize("case", keeping("restored", attends=None))
def test_inputs_that_require_grad_still_do(case: Case) -> None:
    whole = fresh_subject(case.home)
    leaf = whole.inputs.clone().requires_grad_(True)
    leaf.grad = torch.full_like(leaf, 2.0)
    values = case.run(whole.but(inputs=leaf))
    assert leaf.requires_grad
    assert torch.equal(leaf.grad, torch.full_like(leaf, 2.0))
    assert not values.requires_grad, "values are detached unless create_graph asks otherwise"
    torch.testing.assert_close(values, case.run(whole))


@pytest.mark.parametrize("case", keeping("restored", attends=None))
def test_inputs_inside_a_graph_are_taken(case: Case) -> None:
    whole = fresh_subject(case.home)
    weight = torch.ones((), requires_grad=True)
    values = case.run(whole.but(inputs=whole.inputs * weight))
    assert weight.grad is None
    torch.testing.assert_close(values, case.run(whole))


@pytest.mark.parametrize("case", keeping("restored", attends=None))
def test_values_are_the_callers_own(case: Case) -> None:
    """Writing into the values changes neither the inputs nor the next result."""
    whole = fresh_subject(case.home)
    before = whole.inputs.clone()
    values = case.run(whole)
    want = values.clone()
    values.fill_(9.0)
    assert torch.equal(whole.inputs, before)
    torch.testing.assert_close(case.run(whole), want)


@pytest.mark.filterwarnings("ignore:Module .* is in training mode")  # which methods with rules say
@pytest.mark.parametrize("case", keeping("restored", attends=None))
def test_training_mode_is_kept_and_dropout_still_drops(case: Case) -> None:
    whole = fresh_subject(case.home)
    whole.model.head = nn.Sequential(nn.Dropout(0.5), whole.model.head)
    whole.model.train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptumWarning)  # dropout changes from pass to pass, so completeness is missed
        case.run(whole)
    assert all(module.training for module in whole.model.modules())


@pytest.mark.parametrize("case", keeping("restored", attends=None))
def test_a_users_own_hooks_stay_and_run(case: Case) -> None:
    whole, seen = fresh_subject(case.home), []
    handles = [module.register_forward_hook(lambda m, i, o: seen.append(m)) for module in whole.model.modules()]
    before = snapshot(whole.model, generators=False)
    case.run(whole, **case.quick())
    assert_same(snapshot(whole.model, generators=False), before)
    assert {id(module) for module in seen} == {id(module) for module in whole.model.modules()}
    for handle in handles:
        handle.remove()
