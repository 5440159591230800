"""The text table: cells, colours, escaping, and what a notebook gets."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from captum.attr import visualization as viz
from captum.errors import InputError, MissingDependencyError
from tests.unit.attr.visualization.wellformed import ATTACKS, read

ALLOWED = {"div", "span", "b", "table", "tr", "th", "td", "mark"}


def record(words=("good", "film"), attributions=(0.5, -0.25), **changes):
    fields = {
        "word_attributions": attributions,
        "pred_prob": 0.987,
        "pred_class": "pos",
        "true_class": 1,
        "attr_class": "pos",
        "attr_score": 0.25,
        "raw_input_ids": words,
        "convergence_score": 0.1,
    }
    return viz.VisualizationDataRecord(**{**fields, **changes})


def marks(cell):
    return [attributes for name, attributes in read(cell, ALLOWED).elements if name == "mark"]


def test_record_has_slots_and_positional_arguments():
    one = viz.VisualizationDataRecord(torch.zeros(2), 0.5, 1, 0, 1, 0.1, ["a", "b"], 0.0)
    assert one.raw_input_ids == ["a", "b"]
    assert viz.VisualizationDataRecord.__slots__ == (
        "word_attributions",
        "pred_prob",
        "pred_class",
        "true_class",
        "attr_class",
        "attr_score",
        "raw_input_ids",
        "convergence_score",
    )
    assert not hasattr(one, "__dict__")


@pytest.mark.parametrize(
    ("value", "colour"),
    [
        (0.5, "hsl(120, 75%, 75%)"),
        (-0.3, "hsl(0, 75%, 88%)"),
        (1.0, "hsl(120, 75%, 50%)"),
        (7.0, "hsl(120, 75%, 50%)"),
        (-1.0, "hsl(0, 75%, 60%)"),
        (-7.0, "hsl(0, 75%, 60%)"),
        (0.0, "hsl(0, 75%, 100%)"),
        (float("nan"), "hsl(0, 75%, 100%)"),
        (float("inf"), "hsl(120, 75%, 50%)"),
    ],
)
def test_word_colours(value, colour):
    (mark,) = marks(viz.format_word_importances(["a"], [value]))
    assert f"background-color: {colour};" in mark["style"]


@pytest.mark.parametrize(
    "importances", [[0.5, -1], np.array([0.5, -1]), torch.tensor([0.5, -1], requires_grad=True), [0.5, -1, 9]]
)
def test_importances_of_any_kind(importances):
    cell = viz.format_word_importances(["a", "<s>"], importances)
    assert [m["title"] for m in marks(cell)] == ["0.5", "-1"]
    assert "".join(read(cell, ALLOWED).text).split() == ["a", "#s"]


@pytest.mark.parametrize(("words", "importances"), [(None, None), ([], [1.0]), (["a"], None), (["a"], [])])
def test_nothing_gives_an_empty_cell(words, importances):
    assert viz.format_word_importances(words, importances) == "<td></td>"


@pytest.mark.parametrize("importances", [[1.0], [[1.0], [2.0]], torch.ones(2, 2)])
def test_too_few_or_flat_importances(importances):
    with pytest.raises(InputError, match="2 words") as caught:
        viz.format_word_importances(["a", "b"], importances)
    assert isinstance(caught.value, AssertionError)


def test_small_formatters():
    assert viz.format_special_tokens("<unk>") == "#unk"
    assert viz.format_special_tokens("a") == "a"
    assert viz.format_special_tokens("<>") == "<>"
    assert "".join(read(viz.format_classname(3), ALLOWED).text) == "3"
    tooltip = read(viz.format_tooltip("item", "text"), ALLOWED)
    assert tooltip.elements == [("div", {"class": "tooltip"}), ("span", {"class": "tooltiptext"})]
    assert tooltip.text == ["item", "text"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_breaks_out(attack):
    cells = [
        viz.format_classname(attack),
        viz.format_tooltip(attack, attack),
        viz.format_word_importances([attack, "x"], [1.0, 2.0]),
        viz.records_html([record([attack], [1.0], pred_class=attack, true_class=attack, attr_class=attack)]),
    ]
    for cell in cells:
        reader = read(cell, ALLOWED)
        assert not any(character in cell for character in "\u202e\u2066\x00\x1b\x08")
        if attack.isascii() and attack.isprintable() and not attack.startswith("<"):
            assert attack in "".join(reader.text)


def test_table_shows_every_column():
    reader = read(
        viz.records_html([record(), record(attr_score=torch.tensor(1.5), pred_prob=np.float32(0.5))]), ALLOWED
    )
    text = "|".join(part.strip() for part in reader.text if part.strip())
    assert text == (
        "Legend:|Negative|Neutral|Positive|True Label|Predicted Label|Attribution Label|Attribution Score"
        "|Word Importance|1|pos (0.99)|pos|0.25|good|film|1|pos (0.50)|pos|1.50|good|film"
    )
    assert "Legend" not in viz.records_html([], legend=False)


def test_notebook_gets_the_same_table(monkeypatch):
    from IPython import display as notebook

    shown = []
    monkeypatch.setattr(notebook, "display", shown.append)
    result = viz.visualize_text(iter([record()]))
    assert isinstance(result, notebook.HTML)
    assert shown == [result]
    assert result.data == viz.records_html([record()])
    assert viz.HAS_IPYTHON is True


def test_without_ipython_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    with pytest.raises(MissingDependencyError, match=r"pip install ipython.*records_html") as caught:
        viz.visualize_text([record()])
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, AssertionError)
