from __future__ import annotations

import re

import pytest

import captum.attr
from captum.attr.registry import METHODS, Method, find_method, method_of
from captum.errors import InputError


@pytest.mark.parametrize("name", METHODS)
def test_name_summary_and_needs_are_in_form(name: str) -> None:
    row = METHODS[name]
    assert row.name == name
    assert name == name.lower()
    assert name.isidentifier()
    assert 20 < len(row.summary) <= 100
    assert row.summary.isprintable()
    assert not row.summary.endswith(".")
    assert row.kind == "input" or "layer" in row.needs
    assert ("neuron_selector" in row.needs) == (row.kind == "neuron")


@pytest.mark.parametrize("name", METHODS)
def test_row_says_what_its_class_says(name: str) -> None:
    row = METHODS[name]
    cls = row.load()
    assert method_of(cls) is row
    parameters = row.parameters()
    assert ("target" in parameters) == row.reads_target
    assert ("return_convergence_delta" in parameters) == row.has_convergence_delta
    assert ("neuron_selector" in parameters) == (row.kind == "neuron")
    assert (row.delta_sign == 1) or row.has_convergence_delta
    for argument in row.needs:
        assert argument in {*parameters, "layer"}
    for argument in row.defaults:
        assert argument in parameters


@pytest.mark.parametrize(
    "name", ["integrated_gradients", "Integrated Gradients", "IntegratedGradients", "integrated-gradients"]
)
def test_spellings_are_forgiven(name: str) -> None:
    assert find_method(name).name == "integrated_gradients"


def test_unknown_name_lists_close_ones() -> None:
    with pytest.raises(InputError, match="integrated_gradients") as caught:
        find_method("intergrated_gradients")
    assert "did you mean" in str(caught.value)


def test_hopeless_name_lists_all() -> None:
    with pytest.raises(InputError) as caught:
        find_method("zzzz")
    assert all(name in str(caught.value) for name in METHODS)


TITLES = {
    "saliency": "Saliency",
    "input_x_gradient": "Input × Gradient",
    "integrated_gradients": "Integrated Gradients",
    "layer_integrated_gradients": "Integrated Gradients (layer)",
    "idgi": "IDGI",
    "layer_gradient_x_activation": "Gradient × Activation (layer)",
    "layer_grad_cam": "Grad-CAM (layer)",
    "internal_influence": "Internal Influence",
    "neuron_conductance": "Conductance (neuron)",
    "gradient_shap": "GradientSHAP",
    "deep_lift": "DeepLIFT",
    "layer_deep_lift_shap": "DeepLIFT SHAP (layer)",
    "guided_grad_cam": "Guided Grad-CAM",
    "neuron_guided_backprop": "Guided Backpropagation (neuron)",
    "LRP": "LRP",
    "layer_lrp": "LRP (layer)",
    "lime": "LIME",
    "kernel_shap": "KernelSHAP",
    "shapley_value_sampling": "Shapley Value Sampling",
}


@pytest.mark.parametrize("name", TITLES)
def test_titles_are_spelled_as_in_the_literature(name: str) -> None:
    assert find_method(name).title == TITLES[name]


@pytest.mark.parametrize("row", METHODS.values(), ids=lambda row: row.name)
def test_every_title_is_in_words_and_finds_its_method(row: Method) -> None:
    assert not re.search(r"Cam\b|Shap\b|Lift|Lime|Lrp|Layer|Neuron|\bX\b", row.title)
    assert find_method(row.title) is row


def test_foreign_class_has_no_row() -> None:
    assert method_of(dict) is None


def test_every_public_method_has_a_row() -> None:
    """A class with ``attribute`` that wraps no other method can be found by name."""
    wrappers = {"DataLoaderAttribution", "LLMAttribution", "LLMGradientAttribution", "LimeBase", "NoiseTunnel"}
    wrappers |= {"RemoteLLMAttribution"}
    classes = [getattr(captum.attr, name) for name in captum.attr.__all__]
    methods = [c for c in classes if isinstance(c, type) and callable(getattr(c, "attribute", None))]
    missing = {c.__name__ for c in methods if method_of(c) is None} - wrappers
    assert not missing
