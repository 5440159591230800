"""Tokens as they read, and words as sums of tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum.attr.visualization import merge_tokens, read_tokens
from captum.attr.visualization.wording import drawable, short_number, shorten, visible
from captum.errors import InputError

CASES = {
    "wordpiece": (
        ["[CLS]", "un", "##believ", "##able", "film", ",", "don", "'", "t", "!", "[SEP]"],
        ["[CLS]", "unbelievable", "film", ",", "don", "'", "t", "!", "[SEP]"],
    ),
    "bpe": (
        ["<s>", "The", "Ġun", "believ", "able", "Ġna", "Ã", "¯", "ve", "Ġfilm", ".", "Ċ", "ĠÃ©tÃ©", "</s>"],
        ["<s>", "The", "unbelievable", "naïve", "film", ".", "\n", "été", "</s>"],
    ),
    "sentencepiece": (
        ["▁The", "▁un", "believ", "able", "▁", "<0xE4>", "<0xBD>", "<0xA0>", "<0x0A>", "▁film", ".", "<unk>", "</s>"],
        ["The", "unbelievable", "你", "\n", "film", ".", "<unk>", "</s>"],
    ),
    "end_of_word": (
        ["<|startoftext|>", "un", "believ", "able</w>", "film</w>", "!</w>", "<|endoftext|>"],
        ["<|startoftext|>", "unbelievable", "film", "!", "<|endoftext|>"],
    ),
    "continued": (["un@@", "believ@@", "able", "film", "."], ["unbelievable", "film", "."]),
    "none": (["a", "good", "film"], ["a", "good", "film"]),
}


@pytest.mark.parametrize("marker", CASES)
def test_words_of_every_convention_are_found_without_being_told(marker):
    tokens, words = CASES[marker]
    values = 2.0 ** np.arange(len(tokens))
    merged = merge_tokens(tokens, values)
    assert merged.words == words
    assert merged == (words, pytest.approx(merged.values), merge_tokens(tokens, values, marker).groups)
    for value, group in zip(merged.values, merged.groups, strict=True):
        assert value == sum(values[index] for index in group)
    assert [index for group in merged.groups for index in group] == list(range(len(tokens)))


def test_special_tokens_never_join():
    tokens = ["Ġa", "<|endoftext|>", "b", "c"]
    assert merge_tokens(tokens, [1, 2, 3, 4]).groups == [[0], [1], [2, 3]]


def test_values_may_be_tensors_of_rows():
    values = torch.arange(8.0, requires_grad=True).reshape(4, 2)
    merged = merge_tokens(["a", "##b", "c", "##d"], values)
    np.testing.assert_array_equal(merged.values, [[2, 4], [10, 12]])


@given(st.lists(st.text(alphabet="a.#Ġ▁ @<s>/w0xE\n[]", max_size=6), max_size=12))
def test_no_value_is_lost_whatever_the_tokens(tokens):
    values = np.arange(1.0, len(tokens) + 1)
    for marker in ("auto", *CASES):
        merged = merge_tokens(tokens, values, marker)
        assert [index for group in merged.groups for index in group] == list(range(len(tokens)))
        assert merged.values.sum() == values.sum()
        assert len(merged.words) == len(merged.values) == len(merged.groups)
        assert len(read_tokens(tokens, marker)) == len(tokens)


@pytest.mark.parametrize("marker", ["auto", "bpe"])
def test_lengths_must_agree(marker):
    with pytest.raises(InputError, match="expected 2, got shape"):
        merge_tokens(["a", "b"], [1.0], marker)
    with pytest.raises(InputError, match="marker must be one of auto, wordpiece"):
        read_tokens(["a"], "bogus")


HIDDEN = (
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"  # direction
    "\u200b\u2060\ufeff\u2028\u2029\x00\x1b\x7f\x85\xad\U000e0041"  # no width, line ends, controls, tags
)


def test_hidden_characters_become_escapes():
    for character in HIDDEN:
        assert visible(f"a{character}b") == f"a\\{character.encode('unicode_escape').decode()[1:]}b"
    assert visible("\ud800") == "\\ud800"
    assert visible("a\n\tb\r") == "a\\n\\tb\\r"
    untouched = "naïve 你好 مرحبا नमस्ते 👩‍👧 №½"
    assert visible(untouched) == untouched


def test_only_glyphs_that_exist_are_drawn():
    assert drawable("aé\u202e") == "aé\\u202e"
    assert "\\U00013000" in drawable("\U00013000")


def test_short_numbers_and_names():
    shown = [short_number(v) for v in (0.0, -0.5, 1234.6, 123456.0, -1e-7, float("nan"), float("-inf"), 99.95)]
    assert shown == ["0", "−0.5", "1235", "1.23e5", "−1e−7", "NaN", "−inf", "100"]
    assert short_number(0.25, sign=True) == "+0.25"
    assert short_number(0.0, sign=True) == "0"
    assert shorten("x" * 30 + "y" * 30, 20) == "x" * 12 + "…" + "y" * 7
    assert shorten("short") == "short"
