"""From a tokenizer's pieces to readable text: space and continuation marks, and whole words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from captum.attr.visualization.arrays import Floats, Values, as_floats
from captum.errors import InputError

__all__ = ["MergedWords", "Piece", "merge_tokens", "read_tokens"]

MARKERS = ("wordpiece", "bpe", "sentencepiece", "end_of_word", "continued", "none")
_SPECIAL = re.compile(r"\[[A-Z]{2,}[A-Z0-9_]*\]|<\|.{1,80}\|>|(?!</w>)</?[A-Za-z_][A-Za-z0-9_]{0,30}>", re.DOTALL)
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Piece(NamedTuple):
    """One token as it reads: its text without marks, and whether a space stands before it.

    ``special`` marks tokens such as ``[CLS]``; ``part`` those whose bytes are only a part of a letter.
    """

    text: str
    space: bool
    special: bool = False
    part: bool = False


class MergedWords(NamedTuple):
    """Words with one value each, and the positions of the tokens that each is made of."""

    words: list[str]
    values: Floats
    groups: list[list[int]]


def _is_special(token: str) -> bool:
    return _SPECIAL.fullmatch(token) is not None


def find_marker(tokens: Sequence[str]) -> str:
    """The convention that these tokens follow: the first whose mark any ordinary token carries."""
    plain = [token for token in tokens if not _is_special(token)]
    marks = {
        "wordpiece": any(token.startswith("##") and len(token) > 2 for token in plain),
        "sentencepiece": any(token.startswith("▁") for token in plain),
        "bpe": any(token[:1] in {"Ġ", "Ċ"} for token in plain),
        "end_of_word": any(token.endswith("</w>") for token in plain),
        "continued": any(token.endswith("@@") and len(token) > 2 for token in plain),
    }
    return next((name for name, found in marks.items() if found), "none")


@lru_cache(maxsize=1)
def _letters_of_bytes() -> dict[str, int]:
    """The printable letter that byte-level tokenizers write for each byte.

    Printable Latin-1 stands for itself; the other bytes are numbered from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + index): byte for index, byte in enumerate(others)}


def _from_bytes(token: str) -> str | None:
    """What a byte-level token spells; None if its bytes are only a part of a letter."""
    table = _letters_of_bytes()
    if any(letter not in table for letter in token):
        return token
    try:
        return bytes(table[letter] for letter in token).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _ascii_byte(token: str) -> str | None:
    """The letter of a byte token such as ``<0x0A>``, if one byte makes a letter."""
    found = _BYTE.fullmatch(token)
    byte = int(found[1], 16) if found else 256
    return chr(byte) if byte < 128 else None


def _read(token: str, marker: str, first: bool) -> Piece:
    if _is_special(token):
        return Piece(token, space=not first, special=True)
    if marker == "wordpiece":
        inside = token.startswith("##") and len(token) > 2
        return Piece(token[2:] if inside else token, space=not inside and not first)
    if marker == "bpe":
        text = _from_bytes(token)
        if text is None:
            return Piece(token.removeprefix("Ġ"), space=token.startswith("Ġ"), part=True)
        return Piece(text.removeprefix(" "), space=text.startswith(" "))
    if marker == "sentencepiece":
        text = _ascii_byte(token) or token.replace("▁", " ")
        return Piece(text.removeprefix(" "), space=text.startswith(" "))
    return Piece(token, space=not first)


def read_tokens(tokens: Sequence[str], marker: str = "auto") -> list[Piece]:
    """How tokens read: marks taken off, byte-level letters decoded, spaces where a word begins.

    Args:
        tokens: the tokenizer's own pieces.
        marker: ``"wordpiece"`` (``##ing``), ``"bpe"`` (``Ġword``), ``"sentencepiece"`` (``▁word``), ``"end_of_word"``
            (``word</w>``), ``"continued"`` (``wo@@``), ``"none"`` (every token is a word) or ``"auto"``.

    Returns:
        One piece per token.

    Raises:
        InputError: if the marker is unknown.

    >>> [piece.text for piece in read_tokens(["un", "##believ", "##able", "!"])]
    ['un', 'believ', 'able', '!']
    """
    if marker == "auto":
        marker = find_marker(tokens)
    if marker not in MARKERS:
        message = f"marker must be one of auto, {', '.join(MARKERS)}; got {marker!r}."
        raise InputError(message)
    if marker not in {"end_of_word", "continued"}:
        return [_read(token, marker, first=index == 0) for index, token in enumerate(tokens)]
    ending, glues = ("</w>", False) if marker == "end_of_word" else ("@@", True)
    pieces: list[Piece] = []
    space = False
    for token in tokens:
        special = _is_special(token)
        marked = not special and token.endswith(ending) and len(token) > len(ending)
        pieces.append(
            Piece(token.removesuffix(ending) if marked else token, space or (special and bool(pieces)), special)
        )
        space = special or marked != glues
    return pieces


def _stands_alone(piece: Piece) -> bool:
    wordless = piece.text != "" and not any(letter.isalnum() for letter in piece.text)
    return piece.special or (wordless and not piece.part)


def merge_tokens(tokens: Sequence[str], values: Values, marker: str = "auto") -> MergedWords:
    """Words from tokens, with the sum of the tokens' attributions.

    A word ends where the tokenizer's marks say so; special tokens and tokens without a letter or digit stand alone.

    Args:
        tokens: the tokenizer's own pieces, T of them.
        values: ``(T,)`` attributions, or ``(T, *)``.
        marker: as in :func:`read_tokens`.

    Returns:
        The words, their values ``(W,)`` or ``(W, *)``, and for each word the positions of its tokens.

    Raises:
        InputError: if the numbers of tokens and values differ, or the marker is unknown.

    >>> merge_tokens(["a", "play", "##ing", "child"], [1.0, 2.0, 3.0, 4.0]).values
    array([1., 5., 4.])
    """
    array = as_floats(values, "values")
    if array.ndim == 0 or array.shape[0] != len(tokens):
        message = f"values must have one entry per token: expected {len(tokens)}, got shape {array.shape}."
        raise InputError(message)
    marker = find_marker(tokens) if marker == "auto" else marker
    pieces = read_tokens(tokens, marker)
    groups: list[list[int]] = []
    for index, piece in enumerate(pieces):
        joins = bool(groups) and not piece.space and not _stands_alone(piece) and not _stands_alone(pieces[index - 1])
        if joins:
            groups[-1].append(index)
        else:
            groups.append([index])
    words = [_spelt([tokens[index] for index in group], [pieces[index] for index in group], marker) for group in groups]
    starts = [group[0] for group in groups]
    return MergedWords(words, np.add.reduceat(array, starts, axis=0) if starts else array, groups)


def _spelt(tokens: list[str], pieces: list[Piece], marker: str) -> str:
    """The word; letters whose bytes lie in several tokens are put together."""
    if marker == "bpe" and len(tokens) > 1:
        text = _from_bytes("".join(tokens))
        return "".join(tokens) if text is None else text.removeprefix(" ")
    if marker == "sentencepiece" and any(_BYTE.fullmatch(token) for token in tokens):
        written = b"".join(
            bytes.fromhex(found[1]) if (found := _BYTE.fullmatch(token)) else piece.text.encode()
            for token, piece in zip(tokens, pieces, strict=True)
        )
        return written.decode("utf-8", errors="replace")
    return "".join(piece.text for piece in pieces)
