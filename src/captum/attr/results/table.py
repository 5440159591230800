"""A result as a tidy table: one line per number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from captum.attr.results.features import View, element_names, views
from captum.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd

    from captum.attr.explanation import Explanation

__all__ = ["frame"]


def frame(explanation: Explanation) -> pd.DataFrame:
    """Return the table of :meth:`captum.attr.Explanation.to_frame`."""
    try:
        import pandas as pd
    except ImportError as error:
        message = "a table of an explanation needs the package pandas: pip install pandas"
        raise MissingDependencyError(message) from error
    parts = [pd.DataFrame(_lines(explanation, view)) for view in views(explanation)]
    empty = pd.DataFrame(columns=["row", "input", "position", "feature", "value", "attribution", "target"])
    return pd.concat(parts, ignore_index=True) if parts else empty


def _lines(explanation: Explanation, view: View) -> dict[str, object]:
    attribution = view.leaf.value
    rows = len(attribution) if attribution.dim() else 1
    shape = tuple(attribution.shape[1:])
    size = attribution[:1].numel() if rows and attribution.dim() else 1
    size = size if rows else 0
    targets = explanation.target_names
    return {
        "row": np.repeat(np.arange(rows), size),
        "input": np.full(rows * size, view.leaf.name, dtype=object),
        "position": np.tile(np.arange(size), rows),
        "feature": np.array(_names(view, shape, rows), dtype=object),
        "value": _numbers(view.value, attribution),
        "attribution": _numbers(attribution, attribution),
        "target": np.repeat(np.array(targets or [None] * rows, dtype=object), size)
        if len(targets) in (0, rows)
        else None,
    }


def _names(view: View, shape: tuple[int, ...], rows: int) -> list[str]:
    if not view.tokens or len(view.tokens) != rows:
        return list(element_names(shape, view.names, view.axis)) * rows
    padded = [[*words, *(str(i) for i in range(len(words), shape[0]))] for words in view.tokens]
    return [name for words in padded for name in element_names(shape, words, 1)]


def _numbers(tensor: Tensor | None, like: Tensor) -> object:
    if tensor is None or tensor.shape != like.shape:
        return np.full(like.numel(), np.nan)
    flat = tensor.detach().cpu().reshape(-1)
    return (flat.double() if flat.is_floating_point() else flat).numpy()
