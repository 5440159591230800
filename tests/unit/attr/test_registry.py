from __future__ import annotations

import pytest

from captum.attr.registry import METHODS, Method, find_method, method_of
from captum.errors import InputError


def _rows() -> list[Method]:
    return list(METHODS.values())


@pytest.mark.parametrize("name", METHODS)
def test_name_summary_and_needs_are_in_form(name: str) -> None:
    row = METHODS[name]
    assert row.name == name
    assert name == name.lower()
    assert name.isidentifier()
    assert 20 < len(row.summary) <= 100
    assert row.summary.isprintable()
    assert not row.summary.endswith(".")
    assert ("layer" in row.needs) == (row.kind in ("layer", "neuron"))
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


def test_title_reads_as_words() -> None:
    assert find_method("layer_grad_cam").title == "Layer Grad Cam"
    assert find_method("saliency").title == "Saliency"


def test_foreign_class_has_no_row() -> None:
    assert method_of(dict) is None
