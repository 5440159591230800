"""Pictures of attributions: images, text, tables and time series.

Two layers. The ``visualize_*`` and ``format_*`` functions draw the way they always did. The ``*_figure`` functions draw
for reading and publishing: they take plain arrays or tensors and names, return a figure that pyplot does not know of,
and use blue for negative and orange for positive, symmetric about 0. matplotlib and IPython are imported on use.
"""

from __future__ import annotations

from captum.attr.visualization.image import (
    ImageVisualizationMethod,
    visualize_image_attr,
    visualize_image_attr_multiple,
)
from captum.attr.visualization.masks import draw_mask_border, draw_mask_legend
from captum.attr.visualization.scaling import VisualizeSign
from captum.attr.visualization.timeseries import TimeseriesVisualizationMethod, visualize_timeseries_attr

__all__ = [
    "ImageVisualizationMethod",
    "TimeseriesVisualizationMethod",
    "VisualizeSign",
    "draw_mask_border",
    "draw_mask_legend",
    "visualize_image_attr",
    "visualize_image_attr_multiple",
    "visualize_timeseries_attr",
]
