"""Pictures of attributions: images, text, tables and time series.

Two layers. The ``visualize_*`` and ``format_*`` functions draw the way they always did. The ``*_figure`` functions draw
for reading and publishing: they take plain arrays or tensors and names, return a figure that pyplot does not know of,
and use blue for negative and orange for positive, symmetric about 0. matplotlib and IPython are imported on use.
"""

from __future__ import annotations

from captum.attr.visualization.beeswarm import beeswarm_figure
from captum.attr.visualization.coloured_text import text_ansi, text_html
from captum.attr.visualization.image import (
    ImageVisualizationMethod,
    visualize_image_attr,
    visualize_image_attr_multiple,
)
from captum.attr.visualization.masks import draw_mask_border, draw_mask_legend
from captum.attr.visualization.panels import image_figure
from captum.attr.visualization.scaling import VisualizeSign, normalize_attributions
from captum.attr.visualization.tabular import bar_figure, waterfall_figure
from captum.attr.visualization.text import (
    HAS_IPYTHON,
    VisualizationDataRecord,
    format_classname,
    format_special_tokens,
    format_tooltip,
    format_word_importances,
    records_html,
    visualize_text,
)
from captum.attr.visualization.timeseries import TimeseriesVisualizationMethod, visualize_timeseries_attr
from captum.attr.visualization.tokens import MergedWords, Piece, merge_tokens, read_tokens
from captum.attr.visualization.traces import series_figure
from captum.attr.visualization.typesetting import text_figure

__all__ = [
    "HAS_IPYTHON",
    "ImageVisualizationMethod",
    "MergedWords",
    "Piece",
    "TimeseriesVisualizationMethod",
    "VisualizationDataRecord",
    "VisualizeSign",
    "bar_figure",
    "beeswarm_figure",
    "draw_mask_border",
    "draw_mask_legend",
    "format_classname",
    "format_special_tokens",
    "format_tooltip",
    "format_word_importances",
    "image_figure",
    "merge_tokens",
    "normalize_attributions",
    "read_tokens",
    "records_html",
    "series_figure",
    "text_ansi",
    "text_figure",
    "text_html",
    "visualize_image_attr",
    "visualize_image_attr_multiple",
    "visualize_text",
    "visualize_timeseries_attr",
    "waterfall_figure",
]
