"""Methods that give operators another backward rule, and those that follow attention."""

from __future__ import annotations

from captum.attr.catalogue.method import Method

__all__ = ["BACKPROP"]

_LAYER = ("layer",)
_NEURON = ("layer", "neuron_selector")

BACKPROP = (
    Method(
        "deep_lift",
        "Each value's share of the score's change, by slopes between baseline and input",
        "captum.attr:DeepLift",
        has_convergence_delta=True,
    ),
    Method(
        "deep_lift_shap",
        "DeepLIFT averaged over a distribution of baselines: approximate Shapley values",
        "captum.attr:DeepLiftShap",
        needs=("baselines",),
        baseline_rows=2,
        has_convergence_delta=True,
    ),
    Method(
        "layer_deep_lift",
        "Each unit's share of the score's change, by slopes between baseline and input",
        "captum.attr:LayerDeepLift",
        "layer",
        _LAYER,
        has_convergence_delta=True,
    ),
    Method(
        "layer_deep_lift_shap",
        "DeepLIFT at the layer, averaged over a distribution of baselines",
        "captum.attr:LayerDeepLiftShap",
        "layer",
        ("layer", "baselines"),
        baseline_rows=2,
        has_convergence_delta=True,
    ),
    Method(
        "neuron_deep_lift",
        "Each value's share of one neuron's change, by slopes between baseline and input",
        "captum.attr:NeuronDeepLift",
        "neuron",
        _NEURON,
        reads_target=False,
    ),
    Method(
        "neuron_deep_lift_shap",
        "DeepLIFT of one neuron, averaged over a distribution of baselines",
        "captum.attr:NeuronDeepLiftShap",
        "neuron",
        (*_NEURON, "baselines"),
        baseline_rows=2,
        reads_target=False,
    ),
    Method(
        "guided_backprop",
        "Gradient that lets only raising influences pass each ReLU: sharp, but not faithful",
        "captum.attr:GuidedBackprop",
        multiplies_by_inputs=False,
    ),
    Method(
        "deconvolution",
        "Positive influences projected back through the network, whatever the input was",
        "captum.attr:Deconvolution",
        multiplies_by_inputs=False,
    ),
    Method(
        "guided_grad_cam",
        "Guided backpropagation where Grad-CAM sees evidence for the target",
        "captum.attr:GuidedGradCam",
        needs=_LAYER,
        multiplies_by_inputs=False,
    ),
    Method(
        "neuron_guided_backprop",
        "Guided backpropagation of one neuron",
        "captum.attr:NeuronGuidedBackprop",
        "neuron",
        _NEURON,
        reads_target=False,
        multiplies_by_inputs=False,
    ),
    Method(
        "neuron_deconvolution",
        "Positive influences on one neuron, projected back through the network",
        "captum.attr:NeuronDeconvolution",
        "neuron",
        _NEURON,
        reads_target=False,
        multiplies_by_inputs=False,
    ),
    Method(
        "lrp",
        "The score itself, handed back layer by layer to the values that made it",
        "captum.attr:LRP",
        delta_sign=-1,
        has_convergence_delta=True,
    ),
    Method(
        "layer_lrp",
        "The score itself, handed back layer by layer as far as this layer",
        "captum.attr:LayerLRP",
        "layer",
        _LAYER,
        delta_sign=-1,
        has_convergence_delta=True,
    ),
    Method(
        "attention_relevance",
        "How much each token matters to the score through attention, weighted by gradients",
        "captum.attr:AttentionRelevance",
        multiplies_by_inputs=False,
    ),
    Method(
        "attention_rollout",
        "How much of each token reaches the reading token through attention, whatever the score",
        "captum.attr:AttentionRollout",
        reads_target=False,
        multiplies_by_inputs=False,
    ),
)
