from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from captum.attr.explanation import Explanation
from captum.attr.results.pictures import KINDS, choose_kind
from captum.errors import InputError


def made(inputs: object, attributions: object = None, **more: object) -> Explanation:
    return Explanation(inputs if attributions is None else attributions, inputs, "integrated_gradients", **more)


def rows(count: int, residual: bool = True, **more: object) -> Explanation:
    x = torch.arange(count * 3.0).reshape(count, 3)
    numbers = torch.zeros(count) if residual else None
    return made(x, targets=(0,) * count, scores=x.sum(1), residual=numbers, **more)


IDS = torch.tensor([[3, 1, 2]])
CASES = [
    (rows(1), "waterfall"),
    (rows(1, residual=False), "bar"),
    (rows(3), "bar"),
    (rows(10), "beeswarm"),
    (made(torch.rand(2, 3, 6, 5)), "image"),
    (made(torch.rand(2, 1, 6, 5)), "image"),
    (made(torch.rand(1, 3, 6, 5), torch.rand(1, 1, 2, 2)), "image"),
    (made(torch.rand(1, 3, 6, 5), torch.rand(1, 10)), "bar"),
    (made(torch.rand(1, 9, 2)), "series"),
    (made(IDS, IDS.float()), "text"),
    (made(IDS, torch.rand(1, 3, 4)), "text"),
    (made(IDS, IDS.float(), feature_names={"": ("city", "sex", "job")}), "bar"),
    (made(torch.rand(1, 3, 4), tokens=(("a", "b", "c"),)), "text"),
    (made({"x": torch.rand(1, 2), "image": torch.rand(1, 3, 4, 4)}), "bar"),
    (made({"age": torch.rand(12), "income": torch.rand(12, 1)}), "beeswarm"),
    (made({"ids": IDS, "mask": IDS.clamp(max=1)}, {"ids": IDS.float(), "mask": IDS * 0.0}), "text"),
    (made({"ids": IDS, "mask": IDS.clamp(max=1)}, {"ids": IDS * 0.0, "mask": IDS * 0.0}), "text"),
    (made({"ids": IDS, "kinds": IDS}, {"ids": IDS.float(), "kinds": IDS.float()}), "bar"),
    (made(torch.rand(1, 4, 4), modality="image"), "image"),
    (made(torch.rand(1, 7), modality="series"), "series"),
]


@pytest.mark.parametrize(("explanation", "kind"), CASES)
def test_kind_follows_modality_and_rows(explanation: Explanation, kind: str, tmp_path: Path) -> None:
    assert choose_kind(explanation) == kind
    before = plt.get_fignums()
    figure = explanation.plot(path=tmp_path / "deep" / "picture.png")
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == before
    assert (tmp_path / "deep" / "picture.png").read_bytes().startswith(b"\x89PNG")


def texts(figure: Figure) -> str:
    found = [text.get_text() for axes in figure.axes for text in [*axes.texts, *axes.get_yticklabels()]]
    return " ".join([*found, *(text.get_text() for text in figure.texts)])


def test_waterfall_starts_at_the_baseline_and_ends_at_the_score() -> None:
    x = torch.tensor([[1.0, 2.0]])
    e = made(
        x, scores=torch.tensor([10.0]), residual=torch.tensor([0.5]), targets=(0,), feature_names={"": ("age", "debt")}
    )
    assert float(e.baseline_scores[0]) == 7.5
    words = texts(e.plot())
    for word in ("7.5", "10", "age = 1", "debt = 2", "residual", "−0.5"):
        assert word in words


@pytest.mark.parametrize(
    ("method", "arguments", "step"),
    [
        ("integrated_gradients", {}, "missed between steps (residual)"),
        ("integrated_gradients", {"noise_tunnel": {}}, "missed by the draws (residual)"),
        ("gradient_shap", {}, "missed by the draws (residual)"),
        ("deep_lift", {}, "not explained (residual)"),
        ("lrp", {}, "kept by biases and ε"),
        ("mine", {}, "not explained (residual)"),
    ],
)
def test_what_a_waterfall_misses_is_named_for_the_method(method: str, arguments: dict[str, object], step: str) -> None:
    x = torch.tensor([[1.0, 2.0]])
    found = made(x, scores=torch.tensor([10.0]), residual=torch.tensor([0.5]), targets=(0,))
    assert step in texts(dataclasses.replace(found, method=method, arguments=arguments).plot("waterfall"))


def test_a_text_beside_its_mask_is_read_by_its_words() -> None:
    """What a tokenizer makes is a text, and the words are its features; a row of zeros is drawn among the others."""
    ids = torch.tensor([[5, 7], [6, 8]])
    scores = torch.tensor([[2.0, -1.0], [0.0, 0.0]])
    inputs, values = {"ids": ids, "mask": torch.ones_like(ids)}, {"ids": scores, "mask": scores * 0}
    explanation = made(inputs, values, tokens=(("good", "day"), ("so", "so")))
    assert [feature.name for feature in explanation[0].top()] == ["good", "day"]
    assert "good" in texts(explanation[0].plot())
    assert len(explanation.plot().axes) == 2
    assert explanation.plot("text", title="twice") is not None


def test_parts_beside_an_image_are_summed() -> None:
    image = torch.zeros(1, 3, 4, 4)
    image[0, :, 1, 1] = 2.0
    e = made({"age": torch.tensor([[3.0]]), "photo": image})
    words = texts(e.plot())
    assert "+6" in words
    assert "photo" in words
    assert "age" in words


@pytest.mark.parametrize("kind", ["bar", "waterfall", "beeswarm"])
def test_kind_overrides_the_choice(kind: str) -> None:
    assert isinstance(rows(4).plot(kind), Figure)


def test_options_reach_the_picture_and_wrong_ones_are_named() -> None:
    assert "3 other features" in texts(made(torch.arange(1.0, 6.0)[None]).plot("bar", top=2))
    with pytest.raises(InputError, match=r"no option .tops.*top"):
        rows(1).plot(tops=2)


def test_several_rows_are_stacked() -> None:
    one = made(torch.rand(1, 3, 6, 5)).plot()
    three = made(torch.rand(3, 3, 6, 5)).plot()
    assert three.get_size_inches()[1] == pytest.approx(3 * one.get_size_inches()[1], rel=0.02)
    assert len(three.axes) == 3
    assert not three.texts


def test_rows_that_are_not_drawn_are_counted() -> None:
    figure = made(torch.rand(11, 3, 6, 5)).plot()
    assert len(figure.axes) == 8
    assert [text.get_text() for text in figure.texts] == ["8 of 11 rows are shown."]


def test_channel_names_say_where_the_channels_are() -> None:
    e = made(torch.rand(1, 3, 9), feature_names={"": ("x", "y", "z")})
    titles = [axes.get_title(loc="left") for axes in e.plot().axes]
    assert [title for title in titles if title] == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: rows(1).plot("pie"), "beeswarm"),
        (lambda: rows(2, residual=False).plot("waterfall"), "kind='bar'"),
        (lambda: rows(1).plot("image"), r"\(1, 3\)"),
        (lambda: made({"a": IDS.float(), "b": IDS.float()}).plot("text"), r"e\[name\]"),
        (rows(2)[:0].plot, "no rows"),
    ],
)
def test_what_cannot_be_drawn_is_said(call: object, text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()


def test_every_kind_has_a_case() -> None:
    assert {kind for _, kind in CASES} == set(KINDS)


def test_numbers_that_are_no_map_say_how_to_draw_them() -> None:
    image = Explanation(torch.ones(1, 5), torch.rand(1, 3, 8, 8), "attention_rollout", modality="image")
    with pytest.raises(InputError, match=r"these are \(1, 5\): arrange them as a map .* or choose kind='bar'"):
        image.plot()
    assert image.plot(kind="bar").axes


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in a format of pictures, .*png.*; got '\.xyz'"):
        rows(1).plot(path=tmp_path / "new" / "picture.xyz")
    assert not (tmp_path / "new").exists()
    rows(1).plot(path=tmp_path / "new" / "picture.PNG")
    assert (tmp_path / "new" / "picture.PNG").stat().st_size > 1000
