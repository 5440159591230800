"""Methods that differentiate the score: at the input, or along a path to it."""

from __future__ import annotations

from captum.attr.catalogue.method import Method

__all__ = ["GRADIENTS"]

_LAYER = ("layer",)
_NEURON = ("layer", "neuron_selector")

GRADIENTS = (
    Method(
        "saliency",
        "How fast the score moves with each value, whichever way (size of the gradient)",
        "captum.attr:Saliency",
        multiplies_by_inputs=False,
    ),
    Method(
        "input_x_gradient",
        "Gradient times value: each value's share of the score if the model were linear here",
        "captum.attr:InputXGradient",
    ),
    Method(
        "integrated_gradients",
        "Each value's share of the score's change from the baseline to the input",
        "captum.attr:IntegratedGradients",
        has_convergence_delta=True,
    ),
    Method(
        "idgi",
        "The score's change from the baseline, shared at each step by where the gradient points",
        "captum.attr:IDGI",
        has_convergence_delta=True,
    ),
    Method(
        "gradient_shap",
        "Each value's expected share of the score's change from randomly drawn baselines",
        "captum.attr:GradientShap",
        needs=("baselines",),
        has_convergence_delta=True,
    ),
    Method(
        "layer_activation",
        "What the layer computes for this input, whatever the score",
        "captum.attr:LayerActivation",
        "layer",
        _LAYER,
        reads_target=False,
    ),
    Method(
        "layer_gradient_x_activation",
        "Gradient times activation at the layer: a unit's share if the rest were linear",
        "captum.attr:LayerGradientXActivation",
        "layer",
        _LAYER,
    ),
    Method(
        "layer_grad_cam",
        "Where the layer sees evidence for the target, as a coarse map",
        "captum.attr:LayerGradCam",
        "layer",
        _LAYER,
        multiplies_by_inputs=False,
    ),
    Method(
        "layer_integrated_gradients",
        "Each unit's share of the score's change, integrated in the space of the layer",
        "captum.attr:LayerIntegratedGradients",
        "layer",
        _LAYER,
        has_convergence_delta=True,
    ),
    Method(
        "layer_conductance",
        "How much of the integrated gradients of the input flows through each unit",
        "captum.attr:LayerConductance",
        "layer",
        _LAYER,
        has_convergence_delta=True,
    ),
    Method(
        "internal_influence",
        "Average gradient at each unit on the way from the baseline to the input",
        "captum.attr:InternalInfluence",
        "layer",
        _LAYER,
        multiplies_by_inputs=False,
    ),
    Method(
        "layer_gradient_shap",
        "Each unit's expected share of the score's change from randomly drawn baselines",
        "captum.attr:LayerGradientShap",
        "layer",
        ("layer", "baselines"),
        has_convergence_delta=True,
    ),
    Method(
        "neuron_gradient",
        "How fast one neuron moves with each value of the input",
        "captum.attr:NeuronGradient",
        "neuron",
        _NEURON,
        multiplies_by_inputs=False,
        reads_target=False,
    ),
    Method(
        "neuron_integrated_gradients",
        "Each value's share of one neuron's change from the baseline to the input",
        "captum.attr:NeuronIntegratedGradients",
        "neuron",
        _NEURON,
        reads_target=False,
    ),
    Method(
        "neuron_conductance",
        "Each value's share of the score that flows through one neuron",
        "captum.attr:NeuronConductance",
        "neuron",
        _NEURON,
    ),
    Method(
        "neuron_gradient_shap",
        "Each value's expected share of one neuron's change from randomly drawn baselines",
        "captum.attr:NeuronGradientShap",
        "neuron",
        (*_NEURON, "baselines"),
        reads_target=False,
    ),
)
