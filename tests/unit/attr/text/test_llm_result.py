"""Results of language models: shapes, names, pictures, files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from captum.attr import ImageMaskInput, LLMAttributionResult
from captum.attr.text.wording import tokens_of
from captum.errors import CaptumWarning
from tests.unit.attr.text.llm_toys import tokenizer


def result(**changes: object) -> LLMAttributionResult:
    given: dict[str, object] = {
        "input_tokens": ["Ann", "Oslo", "tall"],
        "output_tokens": ["and", "then"],
        "seq_attr": [1.0, -2.0, 0.5],
        "token_attr": [[0.75, -1.0, 0.25], [0.25, -1.0, 0.25]],
    }
    return LLMAttributionResult(**{**given, **changes})  # pyright: ignore[reportArgumentType]


def test_lists_become_tensors():
    found = result(output_probs=[0.5, 0.25])
    assert isinstance(found.seq_attr, torch.Tensor)
    assert found.token_attr is not None
    assert found.token_attr.shape == (2, 3)
    assert found.output_probs is not None
    assert found.seq_attr_dict == {"Ann": 1.0, "Oslo": -2.0, "tall": 0.5}
    assert result(token_attr=None).token_attr is None
    assert "'Oslo': -2" in repr(found)


@pytest.mark.parametrize(
    "change",
    [{"seq_attr": [1.0]}, {"token_attr": [[1.0, 2.0, 3.0]]}, {"output_probs": [1.0]}, {"seq_attr": torch.ones(1, 3)}],
)
def test_shapes_that_do_not_agree_are_told(change):
    with pytest.raises(AssertionError, match=f"{next(iter(change))} of shape"):
        result(**change)


def test_files_keep_names_and_numbers(tmp_path):
    found = result()
    found.seq_std_error = torch.tensor([0.1, 0.2, 0.3])
    found.save(tmp_path / "said.json")
    again = LLMAttributionResult.load(tmp_path / "said.json")
    assert again.to_dict() == found.to_dict()
    assert again.input_tokens == ["Ann", "Oslo", "tall"]
    torch.testing.assert_close(again.seq_std_error, found.seq_std_error)


def test_a_heat_map_of_tokens_has_its_numbers():
    figure, axes = result().plot_token_attr() or pytest.fail("no figure")
    assert [t.get_text() for t in axes.texts] == ["0.75", "-1", "0.25", "0.25", "-1", "0.25"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["Ann", "Oslo", "tall"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["and", "then"]
    assert axes.images[0].get_clim() == (-1.0, 1.0)
    assert len(figure.axes) == 2
    with pytest.raises(ValueError, match="token_attr"):
        result(token_attr=None).plot_token_attr()


def test_bars_have_signs_and_errors():
    found = result()
    found.seq_std_error = torch.tensor([0.1, 0.2, 0.3])
    _, axes = found.plot_seq_attr() or pytest.fail("no figure")
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [1.0, -2.0, 0.5]
    assert axes.patches[0].get_facecolor() == axes.patches[2].get_facecolor() != axes.patches[1].get_facecolor()
    assert len(axes.containers) == 2


def test_segments_of_an_image_are_coloured():
    image = Image.fromarray(np.zeros((4, 6, 3), dtype=np.uint8))
    inp = ImageMaskInput(image, torch.tensor([[0, 0, 1, 1, 2, 2]] * 4))
    found = result(input_tokens=inp.values, inp=inp)
    for position, expected in (
        (None, [1.0, -2.0, 0.5]),
        (1, [0.25, -1.0, 0.25]),
        ((0, 2), [1.0, -2.0, 0.5]),
    ):
        _, axes = found.plot_image_heatmap(target_token_pos=position) or pytest.fail("no figure")
        assert np.asarray(axes.images[1].get_array())[0, ::2].tolist() == expected
        assert axes.texts[0].get_text().startswith("image_feature_0")
    with pytest.raises(ValueError, match="within the 2 tokens"):
        found.plot_image_heatmap(target_token_pos=2)
    with pytest.raises(ValueError, match="ImageMaskInput"):
        result().plot_image_heatmap()


def test_tokens_are_read_as_text():
    ids = torch.tensor(tokenizer().encode("and then", add_special_tokens=False))
    assert tokens_of(ids, tokenizer()) == ["and", "then"]


class Letters:
    """A tokenizer of bytes: letters beyond ASCII take several."""

    def encode(self, text: str, **_: object) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int], **_: object) -> str:
        return bytes(ids).decode(errors="replace")

    def __call__(self, text: str, **_: object) -> dict[str, object]:
        spans = [(i, i + 1) for i, letter in enumerate(text) for _ in letter.encode()]
        return {"input_ids": self.encode(text), "offset_mapping": spans}


def test_parts_of_a_letter_and_line_breaks_are_shown():
    ids = torch.tensor(Letters().encode("a\né"))
    assert tokens_of(ids, Letters()) == ["a", "\\n", "é", "é [OVERLAP]"]
    broken = torch.tensor([97, 0xC3])  # half a letter: read again it is another text
    with pytest.warns(CaptumWarning, match="one by one"):
        assert tokens_of(broken, Letters()) == ["a", "�"]
