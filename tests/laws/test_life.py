"""Objects can be copied, kept and called again; the caller's grad mode does not matter."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from tests.cases import CASES, Case, keeping, pairs
from tests.subjects import fresh_subject, subject


@contextmanager
def only_new_objects() -> Iterator[None]:
    """Hide all objects that exist already from the garbage collector, which makes looking at the others quick."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("case", keeping("pickle"))
def test_the_object_can_be_pickled_and_copied(case: Case) -> None:
    whole = subject("cnn")
    method = case.build(whole)
    want = case.call(method, whole)
    for twin in (pickle.loads(pickle.dumps(method)), copy.deepcopy(method), copy.copy(method)):
        assert type(twin) is type(method)
        torch.testing.assert_close(case.call(twin, whole), want)
    torch.testing.assert_close(case.call(method, whole), want)


@pytest.mark.parametrize("case", keeping("growth", attends=None))
def test_a_hundred_calls_pile_up_no_tensors(case: Case) -> None:
    whole = subject(case.home).but(target=1)
    method = case.build(whole)

    for _ in range(3):
        case.call(method, whole, **case.quick())
    with only_new_objects():
        for _ in range(100):
            case.call(method, whole, **case.quick())
        gc.collect()
        assert not [each for each in gc.get_objects() if issubclass(type(each), Tensor)]


@pytest.mark.parametrize("case", keeping("growth"))
def test_the_object_does_not_keep_the_inputs(case: Case) -> None:
    whole = subject("cnn")
    method = case.build(whole)
    x = whole.inputs.clone()
    gone = weakref.ref(x)
    with only_new_objects():
        case.call(method, whole.but(inputs=x))
        del x
        gc.collect()
        assert gone() is None


@pytest.mark.parametrize("case", keeping("modes"))
def test_no_grad_callers_get_the_same(case: Case) -> None:
    whole = subject("cnn")
    want = case.run(whole)
    with torch.no_grad():
        values = case.run(whole)
        assert not torch.is_grad_enabled()
    torch.testing.assert_close(values, want)


@pytest.mark.parametrize(("case", "name"), pairs("modes", "cnn", "embeddings", "attention"))
def test_inference_mode_callers_get_the_same(case: Case, name: str) -> None:
    """Also with inputs made inside inference mode, which autograd refuses."""
    whole = subject(name)
    want = case.run(whole)
    with torch.inference_mode():
        values = case.run(whole)
        inside = case.run(whole.but(inputs=whole.inputs.clone()))
        assert torch.is_inference_mode_enabled()
    torch.testing.assert_close(values.clone(), want)
    torch.testing.assert_close(inside.clone(), want)


@pytest.mark.parametrize("case", keeping("modes"))
def test_a_frozen_model_is_explained_alike(case: Case) -> None:
    whole = fresh_subject("cnn")
    want = case.run(whole)
    whole.model.requires_grad_(False)
    torch.testing.assert_close(case.run(whole), want)


@pytest.mark.parametrize("case", keeping("modes", attends=None))
def test_autocast_callers_get_close_values(case: Case) -> None:
    """bfloat16 kernels under autocast; the values keep the dtype of the inputs."""
    whole = subject(case.home)
    want = case.run(whole)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = case.run(whole)
    if case.place != "layer":
        assert values.dtype == whole.inputs.dtype
    assert torch.isfinite(values).all()
    assert (values.float() - want).abs().max() <= 0.1 * want.abs().max() + 0.02


@pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))
def test_public_facts(case: Case) -> None:
    """Contract 1.9: the name in words, and what the class says of itself."""
    method = case.build(subject("cnn"))
    words = method.get_name()
    assert words.replace(" ", "") == case.cls
    assert words.count(" ") == sum(letter.isupper() for letter in case.cls) - 1
    if case.cls == "NoiseTunnel":
        inner = CASES[case.wraps].build(subject("cnn"))
        assert method.multiplies_by_inputs == inner.multiplies_by_inputs
        assert method.has_convergence_delta() == inner.has_convergence_delta()
        return
    delta = {
        "IDGI",
        "IntegratedGradients",
        "GradientShap",
        "LayerIntegratedGradients",
        "LayerConductance",
        "LayerGradientShap",
        "DeepLift",
        "DeepLiftShap",
        "LayerDeepLift",
        "LayerDeepLiftShap",
        "LRP",
        "LayerLRP",
    }
    multiplies = {
        "Saliency",
        "NeuronGradient",
        "InternalInfluence",
        "Lime",
        "LayerGradCam",
        "GuidedBackprop",
        "Deconvolution",
        "GuidedGradCam",
        "NeuronGuidedBackprop",
        "NeuronDeconvolution",
        "AttentionRollout",
        "AttentionRelevance",
    }
    assert method.has_convergence_delta() == (case.cls in delta)
    assert method.multiplies_by_inputs == (case.cls not in multiplies)
