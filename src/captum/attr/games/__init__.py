"""Games: what stands behind the perturbation methods of :mod:`captum.attr`, to use and to build on.

- Features, as ids for ``feature_mask=``: :func:`grid`, :func:`superpixels`, :func:`time_segments`, :func:`words`,
  :func:`sentences`, :func:`token_groups`.
- Fills, for ``baselines=``: :class:`Constant`, :class:`Mean`, :class:`Blur`, :class:`Background`, :class:`Permuted`,
  :class:`Function`; a new one derives from :class:`Fill`.
- Models that are no PyTorch code: :func:`numpy_function`, :func:`sklearn_estimator`, :func:`onnx_session`.
- :class:`CoalitionGame`: scores of coalitions, for estimators and interactions of one's own; :class:`Estimate`.

docs/how-to/play-games.md shows all of them at work.
"""

from __future__ import annotations

from captum.attr.games.adapters import numpy_function, onnx_session, sklearn_estimator
from captum.attr.games.coalitions import CoalitionGame
from captum.attr.games.fills import Background, Blur, Constant, Fill, Function, Mean, Permuted, Ready
from captum.attr.games.partitions import grid, sentences, superpixels, time_segments, token_groups, words
from captum.attr.games.play import Estimate

__all__ = [
    "Background",
    "Blur",
    "CoalitionGame",
    "Constant",
    "Estimate",
    "Fill",
    "Function",
    "Mean",
    "Permuted",
    "Ready",
    "grid",
    "numpy_function",
    "onnx_session",
    "sentences",
    "sklearn_estimator",
    "superpixels",
    "time_segments",
    "token_groups",
    "words",
]
