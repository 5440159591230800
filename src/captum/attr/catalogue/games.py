"""Methods that change the input and compare scores."""

from __future__ import annotations

from captum.attr.catalogue.method import Method

__all__ = ["GAMES"]

_LAYER = ("layer",)
_NEURON = ("layer", "neuron_selector")

GAMES = (
    Method(
        "feature_ablation",
        "What the score loses when this value is replaced by its baseline",
        "captum.attr:FeatureAblation",
    ),
    Method(
        "occlusion",
        "What the score loses when a window over this place is hidden, averaged over windows",
        "captum.attr:Occlusion",
        needs=("sliding_window_shapes",),
    ),
    Method(
        "feature_permutation",
        "What the score loses when this value is swapped with another row's",
        "captum.attr:FeaturePermutation",
    ),
    Method(
        "shapley_value_sampling",
        "Each value's share of the score's change, averaged over random orders of arrival",
        "captum.attr:ShapleyValueSampling",
    ),
    Method(
        "shapley_values",
        "Each value's share of the score's change, averaged over every order of arrival",
        "captum.attr:ShapleyValues",
    ),
    Method(
        "owen_values",
        "Shapley values when features arrive in groups that stay together",
        "captum.attr:OwenValues",
        needs=("groups",),
    ),
    Method(
        "layer_feature_ablation",
        "What the score loses when this unit is replaced by its baseline",
        "captum.attr:LayerFeatureAblation",
        "layer",
        _LAYER,
    ),
    Method(
        "layer_feature_permutation",
        "What the score loses when this unit is swapped with another row's",
        "captum.attr:LayerFeaturePermutation",
        "layer",
        _LAYER,
    ),
    Method(
        "neuron_feature_ablation",
        "What one neuron loses when this value is replaced by its baseline",
        "captum.attr:NeuronFeatureAblation",
        "neuron",
        _NEURON,
        reads_target=False,
    ),
    Method(
        "lime",
        "Weights of a sparse linear model that mimics the score around this input",
        "captum.attr:Lime",
        multiplies_by_inputs=False,
    ),
    Method(
        "kernel_shap",
        "Shapley values estimated by a weighted linear fit to sampled coalitions",
        "captum.attr:KernelShap",
    ),
)
