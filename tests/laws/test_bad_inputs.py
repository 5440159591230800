"""Mistakes are told: every failure is an ``InputError`` with a message, and the model is as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum import attr
from captum.errors import CaptumWarning, InputError
from tests.cases import Case, keeping
from tests.laws.snapshots import assert_same, snapshot
from tests.subjects import drawn, fresh_subject, subject

WHOLE = subject("mlp").but(target=1)
X, MODEL = WHOLE.inputs, WHOLE.model
ACT = MODEL.act1
IG = attr.IntegratedGradients(MODEL)
SHAP = attr.GradientShap(MODEL)
TUNNEL = attr.NoiseTunnel(attr.Saliency(MODEL))
CLOUD = WHOLE.cloud
PAIR = subject("pair")


def ig(**more: object) -> Callable[[], object]:
    """A call of integrated gradients with one thing wrong."""
    return lambda: IG.attribute(**{"inputs": X, "target": 1, **more})


def shap(**more: object) -> Callable[[], object]:
    """A call of gradient SHAP with one thing wrong."""
    return lambda: SHAP.attribute(**{"inputs": X, "baselines": CLOUD, "target": 1, **more})


def tunnel(**more: object) -> Callable[[], object]:
    """A call of the noise tunnel with one thing wrong."""
    return lambda: TUNNEL.attribute(**{"inputs": X, "target": 1, **more})


def neuron(selector: object, layer: nn.Module = ACT, model: nn.Module = MODEL, x: object = X) -> Callable[[], object]:
    """A neuron gradient with one thing wrong."""
    return lambda: attr.NeuronGradient(model, layer).attribute(x, selector)


class Unused(nn.Module):
    """Has a layer that is never called, one that gives integers, and one whose value nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.never = nn.Linear(4, 4)
        self.dead = nn.Linear(4, 4)
        self.live = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.dead(x)
        return self.live(x)


UNUSED = Unused().eval()


def _conv() -> tuple[nn.Module, nn.Module, Tensor]:
    whole = subject("cnn")
    return whole.model.conv2, whole.model, whole.inputs


_MISTAKES: dict[str, Callable[[], object]] = {
    "inputs: None": ig(inputs=None),
    "inputs: number": ig(inputs=3.0),
    "inputs: text": ig(inputs="a photo"),
    "inputs: array": ig(inputs=np.zeros((2, 4), np.float32)),
    "inputs: empty tuple": ig(inputs=()),
    "inputs: tuple of numbers": ig(inputs=(1.0, 2.0)),
    "inputs: empty dict": ig(inputs={}),
    "inputs: no rows": ig(inputs=X[:0]),
    "inputs: 0-dim": ig(inputs=torch.tensor(1.0)),
    "inputs: different rows": lambda: attr.IntegratedGradients(PAIR.model).attribute((drawn(2, 3), drawn(3, 2)), 0, 0),
    "baselines: shape": ig(baselines=torch.zeros(3, 5)),
    "baselines: rows": ig(baselines=torch.zeros(2, 4)),
    "baselines: no batch": ig(baselines=torch.zeros(4)),
    "baselines: text": ig(baselines="zero"),
    "baselines: list": ig(baselines=[0.0]),
    "baselines: count": ig(baselines=(0.0, 0.0)),
    "baselines: count of two": lambda: attr.IntegratedGradients(PAIR.model).attribute(PAIR.inputs, 0.0, 0),
    "n_steps: zero": ig(n_steps=0),
    "n_steps: negative": ig(n_steps=-3),
    "n_steps: one for riemann": ig(n_steps=1, method="riemann_trapezoid"),
    "n_steps: float": ig(n_steps=2.5),
    "n_steps: word": ig(n_steps="many"),
    "method: unknown": ig(method="simpson"),
    "internal_batch_size: zero": ig(internal_batch_size=0),
    "internal_batch_size: negative": ig(internal_batch_size=-1),
    "internal_batch_size: float": ig(internal_batch_size=2.5),
    "tol: negative": ig(n_steps="auto", tol=-1.0),
    "embedding_reduce: unknown": ig(embedding_reduce="mean"),
    "shap: no distribution": shap(baselines=0.0),
    "shap: features": shap(baselines=torch.zeros(3, 5)),
    "shap: no rows": shap(baselines=torch.zeros(0, 4)),
    "shap: None": shap(baselines=None),
    "shap: two-argument function": shap(baselines=lambda a, b: CLOUD),
    "shap: int stdevs": shap(stdevs=1),
    "shap: text stdevs": shap(stdevs="a lot"),
    "shap: stdevs count": shap(stdevs=(0.1, 0.2)),
    "shap: negative stdevs": shap(stdevs=-0.1),
    "shap: no samples": shap(n_samples=0),
    "shap: float samples": shap(n_samples=2.5),
    "tunnel: type": tunnel(nt_type="smooth"),
    "tunnel: no samples": tunnel(nt_samples=0),
    "tunnel: negative samples": tunnel(nt_samples=-2),
    "tunnel: no batch": tunnel(nt_samples_batch_size=0),
    "tunnel: int stdevs": tunnel(stdevs=1),
    "tunnel: stdevs count": tunnel(stdevs=(0.1, 0.2)),
    "tunnel: negative stdevs": tunnel(stdevs=-1.0),
    "layer: never called": lambda: attr.LayerActivation(UNUSED, UNUSED.never).attribute(X),
    "layer: elsewhere": lambda: attr.LayerActivation(MODEL, nn.ReLU()).attribute(X),
    "layer: a name": lambda: attr.LayerActivation(MODEL, "act1").attribute(X),
    "layer: list to grad-cam": lambda: attr.LayerGradCam(MODEL, [ACT]).attribute(X, 1),
    "layer: list to conductance": lambda: attr.LayerConductance(MODEL, [ACT]).attribute(X, target=1),
    "layer: empty list": lambda: attr.LayerActivation(MODEL, []).attribute(X),
    "grad-cam: variant": lambda: attr.LayerGradCam(MODEL, ACT).attribute(X, 1, variant="cam"),
    "neuron: too many indices": neuron((1, 2)),
    "neuron: too few indices": neuron(1, *_conv()),
    "neuron: outside": neuron(6),
    "neuron: float": neuron(1.5),
    "neuron: text": neuron("first"),
    "neuron: None": neuron(None),
    "neuron: bool": neuron(True),
    "neuron: bools": neuron((True,)),
    "neuron: float tensor": neuron(torch.tensor(1.0)),
    "neuron: empty slice": neuron((slice(3, 2),)),
    "neuron: no function of rows": neuron(lambda y: y.sum()),
    "neuron: function of maps": neuron(lambda y: y),
    "model: not callable": lambda: attr.Saliency(3).attribute(X, 1),
    "model: None": lambda: attr.Saliency(None).attribute(X, 1),
    "model: no tensor": lambda: attr.Saliency(lambda x: "cat").attribute(X),
    "model: nothing": lambda: attr.Saliency(lambda x: None).attribute(X),
    "model: no rows": lambda: attr.Saliency(lambda x: x.sum()).attribute(X),
    "model: other rows": lambda: attr.Saliency(lambda x: x[:1].sum(1)).attribute(X),
    "model: cut graph": lambda: attr.Saliency(lambda x: x.detach().sum(1)).attribute(X),
    "model: integer answer": lambda: attr.Saliency(lambda x: x.argmax(1)).attribute(X),
    "model: complex answer": lambda: attr.IntegratedGradients(lambda x: torch.complex(x[:, 0], x[:, 1])).attribute(X),
    "model: under no_grad": lambda: attr.Saliency(torch.no_grad()(MODEL.forward)).attribute(X, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", list(_MISTAKES))
def test_a_mistake_is_told_and_nothing_is_left(name: str) -> None:
    before = snapshot(MODEL, X, CLOUD)
    with pytest.raises(InputError) as caught:
        _MISTAKES[name]()
    message = str(caught.value)
    assert len(message) > 20, "say what was expected, what came, what to do"
    assert "tensor([" not in message, "never tensor contents"
    assert_same(snapshot(MODEL, X, CLOUD), before)


@pytest.mark.parametrize("case", keeping("restored"))
def test_every_algorithm_refuses_the_same_inputs(case: Case) -> None:
    whole = fresh_subject("cnn")
    before = snapshot(whole.model, whole.inputs)
    bad = [None, 3.0, "a", (), {}, whole.inputs[:0], torch.tensor(1.0), [1, 2], object()]
    for inputs in bad:
        with pytest.raises(InputError) as caught:
            case.run(whole.but(inputs=inputs))
        assert len(str(caught.value)) > 20
    assert_same(snapshot(whole.model, whole.inputs, generators=not case.random),
                {k: v for k, v in before.items() if not (case.random and k == "streams")})  # fmt: skip


@pytest.mark.parametrize("case", keeping("restored", where=lambda case: case.targeted))
def test_every_algorithm_refuses_the_same_targets(case: Case) -> None:
    whole = fresh_subject("cnn")
    before = snapshot(whole.model, whole.inputs, generators=False)
    several = case.chunk == "perturbations_per_eval" and case.cls != "KernelShap"  # these explain all outputs at once
    for target in (
        *(() if several else (None,)),
        4,
        -5,
        True,
        1.0,
        "cat",
        [0],
        [0, 1, 2],
        (0, 1),
        torch.tensor([0.0, 1.0]),
        {},
        [0, 9],
    ):
        with pytest.raises(InputError) as caught:
            case.run(whole.but(target=target))
        assert len(str(caught.value)) > 20
    assert_same(snapshot(whole.model, whole.inputs, generators=False), before)


@pytest.mark.parametrize("case", keeping("restored", where=lambda case: case.baselines == "point"))
def test_every_algorithm_refuses_the_same_baselines(case: Case) -> None:
    whole = fresh_subject("mlp")
    for baselines in (torch.zeros(2, 4), torch.zeros(4), torch.zeros(3, 5), "zero", [0.0], (0.0, 0.0), object()):
        with pytest.raises(InputError):
            case.run(whole.but(baselines=baselines))


@pytest.mark.parametrize("case", keeping("restored"))
def test_a_misspelt_argument_is_a_type_error(case: Case) -> None:
    with pytest.raises(TypeError, match="n_stepz"):
        case.run(subject("cnn"), n_stepz=3)


def test_errors_are_what_old_code_catches() -> None:
    """Code for earlier releases catches ``AssertionError``; new code may catch ``ValueError``."""
    for kind in (AssertionError, ValueError):
        with pytest.raises(kind):
            IG.attribute(X, target=1, n_steps=-1)
    with pytest.raises(TypeError):
        attr.Saliency(lambda x: {"a": x, "b": x}).attribute(X, 1)


def test_a_shape_error_of_the_model_is_the_models_own() -> None:
    """What the user's model raises is not dressed up."""
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        IG.attribute(torch.zeros(2, 5), target=1)


def test_a_batch_size_below_the_batch_is_obeyed_or_noted() -> None:
    """Rows are split too, so there is nothing to warn about."""
    torch.testing.assert_close(
        IG.attribute(X, target=1, internal_batch_size=2, n_steps=7), IG.attribute(X, target=1, n_steps=7)
    )


_ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.floats(-9, 9), st.text(max_size=3),
    st.lists(st.integers(-2, 4), max_size=4), st.tuples(st.integers(-2, 4), st.integers(-2, 4)),
    st.sampled_from([torch.zeros(3, 4), torch.zeros(3, 5), torch.zeros(4), torch.tensor(2)]),
    st.sampled_from([torch.ones(3).long(), np.int64(1), object()]),
)  # fmt: skip


def _outcome(calls: dict[str, object]) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CaptumWarning)
            return IG.attribute(**calls)
    except (InputError, RuntimeError, TypeError) as error:
        return error


_NAMES = ("target", "baselines", "n_steps", "method", "internal_batch_size", "additional_forward_args", "inputs")


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.dictionaries(st.sampled_from(_NAMES), _ANYTHING, min_size=1, max_size=3))
def test_anything_gives_values_or_an_input_error(arguments: dict[str, object]) -> None:
    """Fuzz: values of the right shape, an ``InputError``, or an error raised by the model's own call."""
    calls = {"inputs": X, "target": 1, "n_steps": 4, **arguments}
    before = snapshot(MODEL, X)
    outcome = _outcome(calls)
    if isinstance(outcome, InputError):
        assert len(str(outcome)) > 20
    elif isinstance(outcome, Exception):
        called = "additional_forward_args" in arguments or isinstance(arguments.get("inputs"), Tensor)
        assert called, f"only a model called with what it does not take may raise by itself: {outcome!r}"
    else:
        assert isinstance(outcome, Tensor)
        assert torch.isfinite(outcome).all()
    assert_same(snapshot(MODEL, X), before)
