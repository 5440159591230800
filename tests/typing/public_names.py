"""What type checkers know of the public names; checked by pyright, never run."""

from __future__ import annotations

from typing import assert_type

import torch
from torch import Tensor

import captum
from captum import metrics
from captum.attr import FeatureAblation, IntegratedGradients, LLMAttribution, LLMAttributionResult, TextTemplateInput
from captum.attr import visualization as viz


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    return x / 2, x / 2


def methods_are_classes(model: torch.nn.Module, x: Tensor, language: LLMAttribution) -> None:
    assert_type(FeatureAblation(model), FeatureAblation)
    attributions: Tensor = IntegratedGradients(model).attribute(x, target=0)
    assert_type(captum.explain(model, x), captum.Explanation)
    assert_type(language.attribute(TextTemplateInput("{}", ["a"])), LLMAttributionResult)
    value: Tensor = metrics.infidelity(model, halves, x, attributions)
    viz.visualize_image_attr(value)
    assert_type(captum.__version__, str)
