"""Coloured tokens as HTML and for terminals."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from captum.attr.visualization import text_ansi, text_html
from captum.attr.visualization.canvas import token_colours
from tests.unit.attr.visualization.wellformed import ATTACKS, read

ALLOWED = {"div", "span", "b", "p", "sub", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}
TOKENS = ["[CLS]", "un", "##kind", "words", "!"]
VALUES = [0.0, 0.5, -1.0, float("nan"), 0.25]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def marks(markup):
    return [
        attributes for name, attributes in read(markup, ALLOWED).elements if name == "span" and "title" in attributes
    ]


def test_html_has_one_mark_per_token_with_its_number_and_colour():
    found = marks(text_html(TOKENS, torch.tensor(VALUES, requires_grad=True)))
    assert [mark["title"] for mark in found] == ["0", "+0.5", "−1", "NaN", "+0.25"]
    back, front = token_colours(-1.0)
    assert "background:#{:02x}{:02x}{:02x}".format(*back) in found[2]["style"]
    assert "color:#{:02x}{:02x}{:02x}".format(*front) in found[2]["style"]
    assert "dashed" in found[3]["style"]


def test_html_reads_as_text_with_spaces_where_words_begin():
    reader = read(text_html(TOKENS, VALUES, legend=False, table=False), ALLOWED)
    assert "".join(reader.text) == "[CLS] unkind words!".replace("words!", "words !")
    shown = "".join(read(text_html(["a", "b"], [1.0, -1.0], show_values=True, legend=False, table=False), ALLOWED).text)
    assert shown == "a+1 b−1"


def test_html_legend_and_table_carry_the_numbers():
    text = read(text_html(TOKENS, VALUES, title="T"), ALLOWED).text
    assert text[0] == "T"
    assert text[text.index("Show as table") - 2 : text.index("Show as table")] == ["−1", "+1"]
    cells = text[text.index("attribution") + 1 :]
    assert cells == ["2", "kind", "−1", "1", "un", "+0.5", "4", "!", "+0.25", "0", "[CLS]", "0"]
    assert "(the 50 largest of 60)" in text_html(["a"] * 60, np.ones(60))


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_breaks_out(attack):
    markup = text_html([attack, "x"], [1.0, -1.0], title=attack, show_values=True, marker="none")
    reader = read(markup, ALLOWED)
    assert not any(character in markup for character in "\u202e\u2066\x00\x1b\x08")
    if attack.strip() and attack.isascii() and attack.isprintable():
        assert reader.text.count(attack) == 3
    line = text_ansi([attack, "x"], [1.0, -1.0])
    assert ESCAPE.sub("", line).isprintable()


def test_page_needs_nothing_else():
    markup = text_html(TOKENS, VALUES)
    assert not re.search(r"https?:|url\(|class=|id=|<script|<style|@import", markup)


@pytest.mark.parametrize("colors", ["truecolor", "256", "none"])
def test_terminal_text(colors):
    line = text_ansi(TOKENS, VALUES, colors=colors)
    if colors == "none":
        assert line == "[CLS](0) un(+0.5)kind(−1) words(NaN) !(+0.25)"
        return
    assert ESCAPE.sub("", line) == "[CLS] unkind words !"
    assert line.count("\x1b[0m") == 5
    code = "48;2;" if colors == "truecolor" else "48;5;"
    assert line.count(code) == 5


def test_limit_makes_texts_comparable():
    half, full = marks(text_html(["a"], [1.0], limit=2.0))[0], marks(text_html(["a"], [2.0], limit=2.0))[0]
    assert half["style"] != full["style"]
    assert marks(text_html(["a"], [9.0], limit=2.0))[0]["style"] == full["style"]
