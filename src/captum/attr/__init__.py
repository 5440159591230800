"""Attribution: which parts of the input, a layer or a neuron made the score.

Names only. Every name is loaded from its room on first use, so that ``import captum`` stays light.
"""

from __future__ import annotations

from importlib import import_module

_HOMES: dict[str, tuple[str, ...]] = {
    "captum.attr.base": (
        "Attribution",
        "GradientAttribution",
        "InternalAttribution",
        "LayerAttribution",
        "NeuronAttribution",
        "PerturbationAttribution",
    ),
    "captum.attr.gradients.saliency": ("InputXGradient", "NeuronGradient", "Saliency"),
    "captum.attr.gradients.activation": ("LayerActivation", "LayerGradientXActivation"),
    "captum.attr.gradients.grad_cam": ("LayerGradCam",),
    "captum.attr.paths.integrated_gradients": (
        "IntegratedGradients",
        "LayerIntegratedGradients",
        "NeuronIntegratedGradients",
    ),
    "captum.attr.paths.conductance": ("LayerConductance", "NeuronConductance"),
    "captum.attr.paths.idgi": ("IDGI",),
    "captum.attr.paths.influence": ("InternalInfluence",),
    "captum.attr.paths.gradient_shap": ("GradientShap", "LayerGradientShap", "NeuronGradientShap"),
    "captum.attr.backprop.guided": (
        "Deconvolution",
        "GuidedBackprop",
        "GuidedGradCam",
        "NeuronDeconvolution",
        "NeuronGuidedBackprop",
    ),
    "captum.attr.backprop.lrp": ("LRP", "LayerLRP"),
    "captum.attr.backprop.attention": ("AttentionRelevance", "AttentionRollout"),
    "captum.attr.backprop.deep_lift": ("DeepLift", "LayerDeepLift", "NeuronDeepLift"),
    "captum.attr.backprop.deep_lift_shap": ("DeepLiftShap", "LayerDeepLiftShap", "NeuronDeepLiftShap"),
    "captum.attr.games.ablation": ("FeatureAblation", "LayerFeatureAblation", "NeuronFeatureAblation"),
    "captum.attr.games.kernel_shap": ("KernelShap",),
    "captum.attr.games.lime": ("Lime",),
    "captum.attr.games.occlusion": ("Occlusion",),
    "captum.attr.games.permutation": ("FeaturePermutation", "LayerFeaturePermutation"),
    "captum.attr.games.shapley": ("OwenValues", "ShapleyValueSampling", "ShapleyValues"),
    "captum.attr.games.surrogate": ("LimeBase",),
    "captum.attr.averages.dataloader": ("DataLoaderAttribution", "InputRole"),
    "captum.attr.averages.noise_tunnel": ("NoiseTunnel",),
    "captum.attr.averages.moments": (
        "CommonStats",
        "Count",
        "MSE",
        "Max",
        "Mean",
        "Min",
        "StatValue",
        "StdDev",
        "Sum",
        "Var",
    ),
    "captum.attr.averages.summarizer": ("ClassSummarizer", "Summarizer", "SummarizerSingleTensor"),
    "captum.attr.baselines": ("ProductBaselines",),
    "captum.attr.text.embedding": (
        "InterpretableEmbeddingBase",
        "TokenReferenceBase",
        "configure_interpretable_embedding_layer",
        "remove_interpretable_embedding_layer",
    ),
    "captum.attr.text.inputs": ("InterpretableInput", "TextTemplateInput", "TextTokenInput"),
    "captum.attr.text.image_input": ("ImageMaskInput",),
    "captum.attr.text.llm": ("LLMAttribution",),
    "captum.attr.text.llm_gradient": ("LLMGradientAttribution",),
    "captum.attr.text.llm_result": ("LLMAttributionResult",),
    "captum.attr.text.remote": ("RemoteLLMAttribution", "RemoteLLMProvider", "VLLMProvider"),
    "captum.attr.explanation": ("Explanation",),
}
_MODULES = {
    "composites": "captum.attr.composites",
    "rules": "captum.attr.rules",
    "targets": "captum.attr.targets",
    "visualization": "captum.attr.visualization",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = import_module(_MODULES[name])
    else:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
