"""Tokens as people read them."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from captum.attr.text.inputs import Tokenizer
from captum.errors import CaptumWarning

__all__ = ["tokens_of"]


def tokens_of(ids: Tensor, tokenizer: Tokenizer) -> list[str]:
    """A readable text for each token of ``ids`` ``(T,)``: what it stands for in the text, line breaks escaped.

    Tokens that share characters, as bytes of one letter do, all show the letter, marked as overlapping.
    """
    listed = [int(i) for i in ids]
    text = tokenizer.decode(listed)
    found = _spans(text, tokenizer)
    if found is None or found[0] != listed:
        if found is not None:
            message = "The target's text has other tokens when it is read again: tokens are shown one by one."
            warnings.warn(message, CaptumWarning, stacklevel=4)
        return [_shown(tokenizer.decode([i])) for i in listed]
    names: list[str] = []
    end = 0
    for start, stop in found[1]:
        names.append(_shown(text[start:stop]) + (" [OVERLAP]" if start < end else ""))
        end = max(end, stop)
    return names


def _spans(text: str, tokenizer: Any) -> tuple[list[int], list[tuple[int, int]]] | None:
    """Ids of a text and the characters that each covers; None when the tokenizer cannot tell."""
    if not callable(tokenizer):
        return None
    try:
        read: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(read["input_ids"]), [(int(a), int(b)) for a, b in read["offset_mapping"]]
    except (NotImplementedError, TypeError, KeyError, ValueError):
        return None


def _shown(part: str) -> str:
    shown = part.replace("\r", "\\r").replace("\n", "\\n")
    return shown.strip(" ") or shown
