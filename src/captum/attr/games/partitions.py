"""Feature masks: grids, superpixels, time segments, words and sentences.

Each function returns ids for ``feature_mask=``; every id is a feature.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor

from captum._engine.values import describe
from captum.errors import InputError, MissingDependencyError

__all__ = ["grid", "sentences", "superpixels", "time_segments", "token_groups", "words"]

Span = tuple[int, int]


def grid(inputs: Tensor, cells: int | tuple[int, ...]) -> Tensor:
    """Cells of a regular grid over the dims after the channels.

    Args:
        inputs: tensor ``(B, C, *spatial)``.
        cells: number of cells per spatial dim, or one number for all.

    Returns:
        LongTensor ``(1, 1, *spatial)``, ids row by row.

    Raises:
        InputError: when a dim has fewer elements than cells.

    Example:
        >>> grid(torch.zeros(1, 3, 2, 4), (1, 2))[0, 0].tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    _require_tensor(inputs, "inputs (B, C, *spatial)")
    spatial = tuple(inputs.shape[2:])
    counts = tuple(cells) if isinstance(cells, (tuple, list)) else (cells,) * len(spatial)
    counts = tuple(int(c) if isinstance(c, Integral) else c for c in counts)
    if not spatial or not _divide(counts, spatial):
        message = f"Expected cells from 1 to the size of each of the dims {spatial} after (B, C), got {cells}."
        raise InputError(message)
    ids = torch.zeros(spatial, dtype=torch.int64, device=inputs.device)
    for dim, (size, count) in enumerate(zip(spatial, counts, strict=True)):
        place = torch.div(torch.arange(size, device=inputs.device) * count, size, rounding_mode="floor")
        ids = ids * count + place.reshape(-1, *([1] * (len(spatial) - dim - 1)))
    return ids[None, None]


def _require_tensor(value: object, what: str) -> None:
    if not isinstance(value, Tensor):
        message = f"Expected {what} as a Tensor, got {describe(value)}."
        raise InputError(message)


def _divide(counts: Sequence[object], sizes: Sequence[int]) -> bool:
    return len(counts) == len(sizes) and all(
        isinstance(count, int) and 1 <= count <= size for count, size in zip(counts, sizes, strict=True)
    )


def superpixels(
    images: Tensor, n_segments: int = 50, method: Literal["slic", "felzenszwalb"] = "slic", **options: Any
) -> Tensor:
    """Superpixels of each image, by scikit-image.

    Args:
        images: tensor ``(B, C, H, W)``; each image is scaled to 0…1 first.
        n_segments: about how many, at least 1, for SLIC.
        method: ``"slic"`` (R. Achanta et al., 2012) or ``"felzenszwalb"`` (P. Felzenszwalb, D. Huttenlocher, 2004).
        options: further arguments of the function in ``skimage.segmentation``.

    Returns:
        LongTensor ``(B, 1, H, W)``, ids from 0 in each image.

    Raises:
        MissingDependencyError: when scikit-image is not installed.
    """
    _require_tensor(images, "images (B, C, H, W)")
    if images.dim() != 4 or method not in ("slic", "felzenszwalb") or n_segments < 1:
        message = (
            "Expected images (B, C, H, W), at least one segment, and method 'slic' or 'felzenszwalb'; got "
            f"{tuple(images.shape)}, {n_segments} and {method!r}."
        )
        raise InputError(message)
    if not bool(images.isfinite().all()):
        message = "Expected images of finite numbers, got some that are NaN or inf: replace these first."
        raise InputError(message)
    try:
        segmentation = import_module("skimage.segmentation")
    except ImportError as fault:
        message = "Superpixels need scikit-image: pip install scikit-image, or use grid()."
        raise MissingDependencyError(message) from fault
    function: Callable[..., Any] = getattr(segmentation, method)
    if method == "slic":
        options = {"n_segments": n_segments, "start_label": 0, **options}
    out: list[Tensor] = []
    for image in images.detach().to("cpu", torch.float64):
        low, high = image.min(), image.max()
        scaled = ((image - low) / (high - low).clamp(min=1e-12)).permute(1, 2, 0).numpy()
        found = function(scaled, channel_axis=-1, **options)
        out.append(torch.unique(torch.from_numpy(found).long(), return_inverse=True)[1])
    return torch.stack(out)[:, None].to(images.device)


def time_segments(series: Tensor, n_segments: int, channels: Literal["together", "apart"] = "together") -> Tensor:
    """Runs of time steps of nearly equal length.

    Args:
        series: tensor ``(B, C, T)``, or ``(B, T)``.
        n_segments: how many, from 1 to T.
        channels: whether a segment covers all channels, or each channel has its own.

    Returns:
        LongTensor ``(1, 1, T)``, ``(1, C, T)`` for channels apart, or ``(1, T)``.

    Raises:
        InputError: when there are fewer steps than segments.

    Example:
        >>> time_segments(torch.zeros(1, 5), 2).tolist()
        [[0, 0, 0, 1, 1]]
    """
    _require_tensor(series, "series (B, C, T) or (B, T)")
    if series.dim() not in (2, 3) or channels not in ("together", "apart"):
        message = (
            "Expected series (B, C, T) or (B, T), and channels 'together' or 'apart'; got "
            f"{tuple(series.shape)} and {channels!r}."
        )
        raise InputError(message)
    if series.dim() == 2:
        return time_segments(series[:, None], n_segments)[:, 0]
    ids = grid(series, n_segments)
    if channels == "together":
        return ids
    return ids + n_segments * torch.arange(series.shape[1], device=series.device)[None, :, None]


def words(text: str) -> list[Span]:
    """Where the words of a text start and end, numbers such as 3.5 among them; marks between them belong to none.

    Args:
        text: the text.

    Returns:
        Pairs ``(start, end)`` of character positions.

    Example:
        >>> words("Don't panic!")
        [(0, 5), (6, 11)]
    """
    return [m.span() for m in re.finditer(r"\w+(?:['’\-]\w+|(?<=\d)[.,]\d+)*", text)]


def sentences(text: str) -> list[Span]:
    """Where the sentences of a text start and end: at ``.``, ``!``, ``?`` or ``…`` before a blank, and at line breaks.

    ``。``, ``！``, ``？`` and ``।`` need no blank.

    Args:
        text: the text.

    Returns:
        Pairs ``(start, end)`` of character positions.

    Example:
        >>> sentences("Go. Now!")
        [(0, 3), (4, 8)]
    """
    ends = r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？।]+[\"'”’)\]」』]*|(?=\s*\n)|\s*$"  # of other scripts, too
    return [(m.start(), m.start() + len(m.group().rstrip())) for m in re.finditer(rf"\S[^\n]*?(?:{ends})", text)]


def token_groups(offsets: Iterable[Sequence[int]], spans: Sequence[Span]) -> Tensor:
    """One feature per word or sentence: tokens that overlap a span share its id.

    Args:
        offsets: ``(start, end)`` of each token in the text, as tokenizers return with ``return_offsets_mapping=True``.
        spans: from :func:`words` or :func:`sentences`.

    Returns:
        LongTensor ``(1, L)``; tokens outside of all spans, such as marks and special tokens, are features of their own.

    Example:
        >>> token_groups([(0, 0), (0, 2), (2, 5), (5, 6)], [(0, 5)]).tolist()
        [[1, 0, 0, 2]]
    """
    ids: list[int] = []
    others = len(spans)
    for offset in offsets:
        try:
            start, end = map(int, offset)
        except (TypeError, ValueError) as fault:
            message = (
                "Expected one pair (start, end) of character positions per token of one text, got "
                f"{describe(offset)}; of a batch of texts, pass the offsets of one at a time."
            )
            raise InputError(message) from fault
        found = next((i for i, (a, b) in enumerate(spans) if start < b and end > a), None)
        ids.append(others if found is None else found)
        others += found is None
    return torch.tensor([ids])
