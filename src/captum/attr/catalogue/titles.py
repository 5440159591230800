"""The names of methods as the literature spells them, for headings."""

from __future__ import annotations

import re

__all__ = ["averaged", "titled"]

#: Class names that are not the literature's words run together.
_SPELLINGS = {
    "DeepLift": "DeepLIFT",
    "DeepLiftShap": "DeepLIFT SHAP",
    "GradCam": "Grad-CAM",
    "GradientShap": "GradientSHAP",
    "GradientXActivation": "Gradient × Activation",
    "GuidedBackprop": "Guided Backpropagation",
    "GuidedGradCam": "Guided Grad-CAM",
    "InputXGradient": "Input × Gradient",
    "KernelShap": "KernelSHAP",
    "Lime": "LIME",
}
#: Values of ``variant=`` that are methods with names of their own.
_VARIANTS = {
    "grad_cam++": "Grad-CAM++",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "eigen_cam": "EigenCAM",
}
_AVERAGES = {"smoothgrad": "SmoothGrad", "smoothgrad_sq": "SmoothGrad-Squared", "vargrad": "VarGrad"}
_PLACE = re.compile(r"(Layer|Neuron)(?=[A-Z])")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]*|[a-z0-9]+")


def titled(name: str, variant: object = None) -> str:
    """Return a class's name as the literature spells it, with its place behind it.

    Args:
        name: The name of an attribution class.
        variant: The value of its argument ``variant``, where that is a method with a name of its own.

    >>> titled("LayerGradCam"), titled("LayerGradCam", "grad_cam++"), titled("IntegratedGradients")
    ('Grad-CAM (layer)', 'Grad-CAM++ (layer)', 'Integrated Gradients')
    """
    place = _PLACE.match(name)
    own = name[place.end() :] if place else name
    title = _SPELLINGS.get(own) or " ".join(_WORD.findall(own))
    if isinstance(variant, str):
        title = _VARIANTS.get(variant, title)
    return f"{title} ({place[1].lower()})" if place else title


def averaged(title: str, smoothing: object) -> str:
    """Return a title with the averaging over noisy copies, an ``nt_type``, if there is one.

    >>> averaged("Saliency", "vargrad"), averaged("Saliency", None)
    ('Saliency + VarGrad', 'Saliency')
    """
    return f"{title} + {_AVERAGES.get(str(smoothing), str(smoothing))}" if smoothing else title
