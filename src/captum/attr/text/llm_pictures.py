"""Pictures of what a language model's words owe to its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from captum.attr.text.image_input import ImageMaskInput
from captum.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captum.attr.text.llm_result import LLMAttributionResult

__all__ = ["draw_image_heatmap", "draw_seq_attr", "draw_token_attr"]

#: Cells of a heat map up to which each shows its number.
MOST_NUMBERS = 600
POSITIVE, NEGATIVE = "#93003a", "#00429d"
LONGEST = 24


def _shown(figure: Figure, axes: Axes, show: bool) -> tuple[Figure, Axes] | None:
    import matplotlib.pyplot as plt

    if not show:
        plt.close(figure)  # the caller's to keep; pyplot would hold it for good
        return figure, axes
    plt.show()
    return None


def _short(names: list[str]) -> list[str]:
    return [name if len(name) <= LONGEST else name[: LONGEST - 1] + "…" for name in names]


def draw_token_attr(result: LLMAttributionResult, show: bool) -> tuple[Figure, Axes] | None:
    """Heat map of ``token_attr``: rows are tokens of the target, columns features."""
    import matplotlib.pyplot as plt

    values = (
        np.asarray(result.token_attr.detach().cpu().double()) if result.token_attr is not None else np.zeros((0, 0))
    )
    rows, columns = values.shape
    figure, axes = plt.subplots(figsize=(max(4.0, 1.6 + 0.75 * columns), max(2.5, 1.2 + 0.42 * rows)))
    limit = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    image = axes.imshow(values, cmap="coolwarm", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(columns), _short(result.input_tokens), rotation=45, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(rows), _short(result.output_tokens))
    axes.set_ylabel("token of the target")
    figure.colorbar(image, ax=axes, label="attribution")
    if values.size <= MOST_NUMBERS:
        for row, column in np.ndindex(rows, columns):
            strong = abs(values[row, column]) > 0.6 * limit
            axes.text(
                column,
                row,
                f"{values[row, column]:.3g}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if strong else "black",
            )
    figure.tight_layout()
    return _shown(figure, axes, show)


def draw_seq_attr(result: LLMAttributionResult, show: bool) -> tuple[Figure, Axes] | None:
    """Bars of ``seq_attr``."""
    import matplotlib.pyplot as plt

    values = np.asarray(result.seq_attr.detach().cpu().double())
    errors = None if result.seq_std_error is None else np.asarray(result.seq_std_error.detach().cpu().double())
    figure, axes = plt.subplots(figsize=(max(4.0, 1.4 + 0.6 * len(values)), 3.6))
    colours = [POSITIVE if v >= 0 else NEGATIVE for v in values]
    axes.bar(range(len(values)), values, color=colours, yerr=errors, capsize=3)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(values)), _short(result.input_tokens), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_ylabel("attribution")
    figure.tight_layout()
    return _shown(figure, axes, show)


def draw_image_heatmap(
    result: LLMAttributionResult,
    show: bool,
    position: int | tuple[int, int] | None,
    looks: tuple[int, bool],
) -> tuple[Figure, Axes] | None:
    """The prompt's image under its segments' attributions; ``looks``: width of borders, and whether names are shown."""
    import matplotlib.pyplot as plt

    if not isinstance(result.inp, ImageMaskInput):
        message = f"Expected an ImageMaskInput as the prompt of an image heat map, got {type(result.inp).__name__}."
        raise InputError(message)
    values = _of_tokens(result, position)
    pixels = np.asarray(result.inp.format_pixel_attr(values[None])[0].double())
    limit = float(np.abs(pixels).max(initial=0.0)) or 1.0
    figure, axes = plt.subplots()
    axes.imshow(result.inp.image)
    image = axes.imshow(pixels, cmap="coolwarm", vmin=-limit, vmax=limit, alpha=0.6)
    figure.colorbar(image, ax=axes, label="attribution")
    width, names = looks
    labels = [f"{n}: {v:.3g}" for n, v in zip(result.inp.values, values.tolist(), strict=True)] if names else None
    result.inp.outline(axes, width, labels)
    axes.set_axis_off()
    figure.tight_layout()
    return _shown(figure, axes, show)


def _of_tokens(result: LLMAttributionResult, position: int | tuple[int, int] | None) -> Tensor:
    """Attributions ``(M,)`` of the whole target, of one of its tokens, or of a span of them."""
    if position is None:
        return result.seq_attr.detach().cpu()
    if result.token_attr is None:
        message = "Expected token_attr for target_token_pos: this method explains the whole target only."
        raise InputError(message)
    count = len(result.token_attr)
    start, stop = position if isinstance(position, tuple) else (position, position + 1)
    if not 0 <= start < stop <= count:
        message = f"Expected target_token_pos within the {count} tokens of the target, got {position!r}."
        raise InputError(message)
    return result.token_attr[start:stop].detach().sum(0).cpu()
