from __future__ import annotations

import math
from collections import UserDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum.attr.explanation import Explanation
from captum.attr.results.features import Numbered
from captum.errors import InputError, InputTypeError


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@dataclass
class Record:
    a: torch.Tensor
    b: torch.Tensor


def table(rows: int = 5, **more: object) -> Explanation:
    x = torch.arange(rows * 3, dtype=torch.float32).reshape(rows, 3)
    return Explanation(
        **{
            "attributions": x * torch.tensor([1.0, -2.0, 0.5]),
            "inputs": x,
            "method": "integrated_gradients",
            "targets": tuple(i % 2 for i in range(rows)),
            "scores": x @ torch.tensor([1.0, -2.0, 0.5]) + 7.0,
            "outputs": torch.stack([x.sum(1), -x.sum(1)], 1),
            "residual": torch.zeros(rows),
            "class_names": ("yes", "no"),
            "feature_names": {"": ("age", "debt", "income")},
            **more,
        }
    )


def numbers(tree: object) -> object:
    if isinstance(tree, torch.Tensor):
        return tree.tolist()
    if isinstance(tree, dict | UserDict):
        return {key: numbers(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [numbers(value) for value in tree]
    return tree if not isinstance(tree, Record) else [numbers(tree.a), numbers(tree.b)]


@pytest.mark.parametrize("index", [0, 3, -1, -5])
def test_one_row_is_that_row(index: int) -> None:
    e = table()
    one = e[index]
    assert len(one) == 1
    assert torch.equal(one.attributions, e.attributions[index][None])
    assert torch.equal(one.inputs, e.inputs[index][None])
    assert one.targets == (e.targets[index],)
    assert torch.equal(one.scores, e.scores[index][None])
    assert torch.equal(one.outputs, e.outputs[index][None])


@given(st.integers(-7, 7) | st.none(), st.integers(-7, 7) | st.none(), st.integers(1, 3))
def test_slices_of_slices_are_slices(start: int | None, stop: int | None, step: int) -> None:
    e = table()
    chosen = list(range(5))[start:stop:step]
    part = e[start:stop:step]
    assert len(part) == len(chosen)
    for i, row in enumerate(chosen):
        assert torch.equal(part[i].attributions, e[row].attributions)
        assert part[i].targets == e[row].targets


def test_lists_masks_and_tensors_choose_rows() -> None:
    e = table()
    expected = e.attributions[[4, 0]]
    assert torch.equal(e[[4, 0]].attributions, expected)
    assert torch.equal(e[torch.tensor([4, 0])].attributions, expected)
    mask = torch.tensor([True, False, False, False, True])
    assert torch.equal(e[mask].attributions, e.attributions[mask])
    assert e[np.int64(2)].targets == e[2].targets
    for same in (mask.tolist(), mask.numpy(), pd.Series(mask.numpy())):
        assert torch.equal(e[same].attributions, e.attributions[mask])
    for same in (np.array([4, 0]), np.array([4, 0], np.uint8), pd.Series([4, 0]), (4, 0)):
        assert torch.equal(e[same].attributions, expected)


def test_iteration_gives_every_row_once() -> None:
    e = table()
    assert torch.equal(torch.cat([one.attributions for one in e]), e.attributions)


@pytest.mark.parametrize("index", [5, -6, [0, 9]])
def test_missing_row_is_an_index_error(index: object) -> None:
    with pytest.raises(IndexError, match="5 row"):
        table()[index]
    with pytest.raises(InputError):
        table()[index]


@pytest.mark.parametrize(
    "index", [1.5, None, True, torch.tensor([0.5]), np.array([0.5]), np.array(["a"]), (0, "age"), [1, True], ["age"]]
)
def test_index_of_another_type_is_refused(index: object) -> None:
    with pytest.raises(InputTypeError):
        table()[index]


def test_wrong_mask_names_both_lengths() -> None:
    with pytest.raises(InputError, match=r"\(5,\).*\(3,\)"):
        table()[torch.tensor([True, False, True])]
    with pytest.raises(InputError, match=r"\(5,\).*\(3,\)"):
        table()[[True, False, True]]


@pytest.mark.parametrize("make", [dict, UserDict])
def test_structures_keep_their_kind(make: type) -> None:
    tree = make(a=torch.ones(4, 2), b=[torch.zeros(4, 1), None, "x"], c=Pair(torch.ones(4), torch.zeros(4)))
    part = Explanation(tree, tree, "saliency")[1:3].attributions
    assert type(part) is make
    assert type(part["c"]) is Pair
    assert part["b"][1:] == [None, "x"]
    assert part["a"].shape == (2, 2)
    assert tree["a"].shape == (4, 2)


def test_dataclasses_are_sliced_without_touching_the_original() -> None:
    record = Record(torch.arange(4.0), torch.arange(8.0).reshape(4, 2))
    part = Explanation(record, record, "saliency")[2].inputs
    assert isinstance(part, Record)
    assert part.b.tolist() == [[4.0, 5.0]]
    assert record.a.shape == (4,)


def test_name_of_a_dict_input() -> None:
    tree = {"age": torch.arange(3.0)[:, None], "pixels": torch.ones(3, 4)}
    e = Explanation(tree, tree, "saliency", feature_names={"pixels": ("a", "b", "c", "d")}, residual=torch.zeros(3))
    assert torch.equal(e["age"].attributions, tree["age"])
    assert torch.equal(e.feature("age"), tree["age"])
    assert e["age"].residual is None
    assert e["pixels"].feature_names == {"": ("a", "b", "c", "d")}
    assert torch.equal(e["pixels"]["c"].attributions, torch.ones(3, 1))
    assert torch.equal(e["c"].attributions, torch.ones(3, 1))


def test_name_of_a_feature_commutes_with_rows() -> None:
    e = table()
    assert torch.equal(e["debt"][2].attributions, e[2]["debt"].attributions)
    assert torch.equal(e.feature("debt"), e.attributions[:, 1:2])
    assert e["debt"].top(1)[0].name == "debt"


def test_channel_names_choose_channels_of_a_series() -> None:
    x = torch.randn(2, 5, 3)
    e = Explanation(x, x, "saliency", feature_names={"": ("t", "u", "v")})
    assert torch.equal(e.feature("u"), x[:, :, 1:2])


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="'age', 'debt', 'income'"):
        table()["wage"]
    with pytest.raises(InputError, match="no names were given"):
        table(feature_names={})["wage"]


def test_top_of_one_row_is_signed_and_of_many_a_mean() -> None:
    e = table()
    assert [(f.name, f.attribution, f.value) for f in e[1].top(2)] == [("debt", -8.0, 4.0), ("age", 3.0, 3.0)]
    many = e.top(9)
    assert [f.name for f in many] == ["debt", "age", "income"]
    assert many[0].attribution == pytest.approx(float(e.attributions[:, 1].abs().mean()))
    assert many[0].value is None
    assert e[:0].top() == []


def test_top_sums_image_channels_and_embedding_dims() -> None:
    image = torch.zeros(1, 3, 4, 5)
    image[0, :, 2, 3] = torch.tensor([1.0, 2.0, -0.5])
    assert Explanation(image, image, "saliency").top(1)[0][:2] == ("pixel (2, 3)", 2.5)
    ids, scores = torch.tensor([[5, 6]]), torch.tensor([[[1.0, 2.0], [4.0, -9.0]]])
    e = Explanation(scores, ids, "layer_integrated_gradients", tokens=(("good", "bad"),))
    assert [f[:2] for f in e.top()] == [("bad", -5.0), ("good", 3.0)]


def test_names_of_pixels_are_made_on_demand() -> None:
    names = Numbered(6, lambda i: f"pixel {i}")
    assert len(names) == 6
    assert (names[-1], names[1:3]) == ("pixel 5", ("pixel 1", "pixel 2"))
    assert list(names)[2] == "pixel 2"
    with pytest.raises(IndexError):
        names[6]


def test_baseline_scores_close_the_sum() -> None:
    e = table(residual=torch.full((5,), 0.25))
    total = e.attributions.sum(1)
    assert torch.allclose(e.scores.double() - e.baseline_scores, total.double() - 0.25)
    assert table(residual=None).baseline_scores is None


def test_frame_holds_every_number_once() -> None:
    e = table(2)
    frame = e.to_frame()
    assert list(frame.columns) == ["row", "input", "position", "feature", "value", "attribution", "target"]
    assert frame["row"].tolist() == [0, 0, 0, 1, 1, 1]
    assert frame["feature"].tolist() == ["age", "debt", "income"] * 2
    assert frame["attribution"].tolist() == e.attributions.reshape(-1).tolist()
    assert frame["value"].tolist() == e.inputs.reshape(-1).tolist()
    assert frame["target"].tolist() == ["yes"] * 3 + ["no"] * 3
    wide = frame.pivot_table(index="row", columns="feature", values="attribution")
    assert wide.loc[1, "debt"] == e.attributions[1, 1]


def test_frame_of_several_inputs_names_them() -> None:
    tree = {"x": torch.ones(2, 2), "deep": [torch.zeros(2, 1, 2)]}
    frame = Explanation(tree, tree, "saliency").to_frame()
    assert sorted(set(frame["input"])) == ["deep.0", "x"]
    assert frame.loc[frame["input"] == "deep.0", "feature"].tolist() == ["0, 0", "0, 1"] * 2
    assert frame["target"].isna().all()


def test_frame_of_tokens_names_each_rows_own() -> None:
    ids = torch.tensor([[1, 2], [3, 0]])
    e = Explanation(ids.float(), ids, "saliency", tokens=(("a", "b"), ("c",)))
    assert e.to_frame()["feature"].tolist() == ["a", "b", "c", "1"]
    assert isinstance(e.to_frame(), pd.DataFrame)


def test_frame_of_a_layer_has_no_values() -> None:
    frame = Explanation(torch.ones(2, 7), torch.ones(2, 3), "layer_activation").to_frame()
    assert frame["value"].isna().all()
    assert len(frame) == 14


def test_target_names() -> None:
    assert table().target_names == ("yes", "no", "yes", "no", "yes")
    assert table(class_names=()).target_names[0] == "class 0"
    assert table(targets=((1, 2),) * 5).target_names[0] == "(1, 2)"
    assert table(targets=(-1,) * 5).target_names[0] == "no"


def test_predicted_is_sorted_and_named() -> None:
    assert table()[1].predicted(1) == [[("yes", 12.0)]]
    assert [name for name, _ in table()[1].predicted(9)[0]] == ["yes", "no"]
    assert table(outputs=None).predicted() == [[]] * 5


def test_repr_is_short_and_says_the_main_things() -> None:
    text = repr(table()[1])
    assert text.splitlines()[0].startswith("Explanation(integrated_gradients, 1 row, target no, score")
    assert "debt" in text
    assert "residual" in text
    assert len(text.splitlines()) <= 5
    assert max(map(len, text.splitlines())) < 120


def test_repr_shows_control_characters_as_escapes() -> None:
    text = repr(table(feature_names={"": ("a\u202eb\x1b[31m", "b\nc", "d")})[1])
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert len(text.splitlines()) <= 5


def test_nan_does_not_break_reading() -> None:
    x = torch.tensor([[math.nan, 1.0, -3.0]])
    e = Explanation(x, x, "saliency", residual=torch.tensor([math.nan]), scores=torch.tensor([1.0]))
    assert [f.attribution for f in e.top(2)] == [-3.0, 1.0]
    assert "Explanation" in repr(e)
