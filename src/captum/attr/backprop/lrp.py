"""Layer-wise relevance propagation to inputs and layers."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.drive import Reduce
from captum._engine.entry import differentiable
from captum._engine.place import Layers
from captum._engine.ruled import Pass, require_visible, run_ruled
from captum._engine.ruled_inputs import AtRuled, at_ruled
from captum._engine.rules import OnUnknown, RuleMode
from captum._engine.values import describe, parse_inputs
from captum.attr.backprop.composites import Composite, read_composite
from captum.attr.backprop.contrast import check_on_unknown, nothing_for_each, warn_of_training
from captum.attr.backprop.relevance_flow import RelevanceFlow, to_stdout
from captum.attr.backprop.relevance_rules import EpsilonRule, PropagationRule
from captum.attr.base import GradientAttribution, LayerAttribution, default_gradients
from captum.errors import CaptumWarning, InputError, InputTypeError
from captum.log import log_usage

__all__ = ["LRP", "SUPPORTED_LAYERS_WITH_RULES", "SUPPORTED_NON_LINEAR_LAYERS", "LayerLRP"]

#: Kept for code that reads them. Rules live on operators, so layers that are not listed work too.
SUPPORTED_LAYERS_WITH_RULES: dict[type[nn.Module], type[PropagationRule]] = dict.fromkeys(
    (
        nn.MaxPool1d,
        nn.MaxPool2d,
        nn.MaxPool3d,
        nn.Conv2d,
        nn.AvgPool2d,
        nn.AdaptiveAvgPool2d,
        nn.Linear,
        nn.BatchNorm2d,
    ),
    EpsilonRule,
)
SUPPORTED_NON_LINEAR_LAYERS: list[type[nn.Module]] = [nn.ReLU, nn.Dropout, nn.Tanh]


class LRP(GradientAttribution):
    r"""Layer-wise relevance propagation: :math:`R_i = \sum_j \frac{x_i w_{ij}}{z_j} R_j`, from the score to the inputs.

    Rules act on operators, however they are called. An affine operator takes the rule that its module carries as
    ``.rule``, else that of the composite; activations and norms pass relevance on; sums, residual connections and
    pooling share it in proportion to values.

    S. Bach et al., "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
    propagation", 2015; G. Montavon et al., "Layer-wise relevance propagation: an overview", 2019.

    Args:
        model: the model.
        composite: which rule goes where: a :class:`~captum.attr.composites.Composite`, its name (``"epsilon_plus"``,
            ``"attn_lrp"``, …), or None for ε everywhere.
        on_unknown: at an operator without a rule: ``"raise"`` (default), ``"warn"``, or use its gradient
            (``"linear"``).

    Raises:
        InputTypeError: when a module's ``.rule`` is no PropagationRule.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
        >>> LRP(model).attribute(torch.tensor([[3.0, 4.0]]))
        tensor([[3., 8.]])
    """

    model: nn.Module

    def __init__(
        self, model: nn.Module, *, composite: Composite | str | None = None, on_unknown: OnUnknown = "raise"
    ) -> None:
        self._set_up(model, composite, on_unknown)
        GradientAttribution.__init__(self, model)

    def _set_up(self, model: nn.Module, composite: Composite | str | None, on_unknown: OnUnknown) -> None:
        require_visible(model, type(self).__name__)
        self.model = model
        self.composite = read_composite(composite)
        check_on_unknown(on_unknown)
        self.on_unknown: OnUnknown = on_unknown
        for name, module in model.named_modules():
            rule: object = getattr(module, "rule", None)
            if (
                rule is not None
                and not isinstance(rule, (PropagationRule, nn.Module, Tensor))
                and not inspect.ismethod(rule)
            ):
                shown = f"the class {rule.__name__}: make one of it" if isinstance(rule, type) else describe(rule)
                message = f"Expected a PropagationRule as .rule of module {name!r}, got {shown}."
                raise InputTypeError(message)

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: relevance is in units of the score."""
        return True

    def has_convergence_delta(self) -> bool:
        """True."""
        return True

    def compute_convergence_delta(self, attributions: Any, output: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # relevance has no baseline
        r"""What biases and stabilisers absorbed: :math:`\delta = F(x) - \sum R` per row.

        Args:
            attributions: tensor or tuple, dim 0 is the batch.
            output: F(x), with one row per example.

        Returns:
            Tensor ``(B,)``.
        """
        tensors = parse_inputs(attributions).tensors
        if len({len(t) for t in tensors}) > 1:
            shapes = [tuple(t.shape) for t in tensors]
            message = (
                f"Expected attributions with the same rows in dim 0, got shapes {shapes}: choose a module inside the "
                "layer."
            )
            raise InputError(message)
        sums = torch.stack([t.reshape(len(t), -1).sum(1) for t in tensors]).sum(0)
        return output.reshape(len(sums), -1).sum(1) - sums

    def _run(self, function: AtRuled, layers: Layers | None, verbose: bool) -> Pass:
        """One forward and one backward pass."""
        warn_of_training(self.model)
        flow = RelevanceFlow(self.model, self.composite, to_stdout if verbose else None)
        mode = RuleMode(flow.table(), self.model, on_unknown=self.on_unknown)
        points = tuple(v.detach() for v in function.values)
        with function.running(), flow.stack.followed():
            done = run_ruled(
                function, mode, (points, None), function.everyone(), layers=layers, seeds=lambda scores: scores
            )
        done.grads = nothing_for_each(done.grads, function.batch)
        _warn_of_cancelling(done)
        unused = flow.unused()
        if unused:
            message = (
                f"The rule of module {unused[0]!r} was not used: it calls no operator with parameters, nor pools; "
                "set it on the modules that do, or pass a composite."
            )
            warnings.warn(message, CaptumWarning, stacklevel=4)
        return done

    @log_usage()
    @differentiable
    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        verbose: bool = False,
        *,
        embedding_reduce: Reduce = "sum",
    ) -> Any:
        """Relevance of the inputs for the score.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; token ids get the relevance of their embeddings.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            return_convergence_delta: whether to return the delta too.
            verbose: whether to print the rule of every affine operator.
            embedding_reduce: ``"sum"`` for one score per token (default), None for ``(B, L, D)``.

        Returns:
            Relevance in the structure of ``inputs``, in score units; with the delta ``(B,)``, ``F(x) − Σ R``, if asked
            for.

        Raises:
            UnknownOperatorError: when the model uses an operator without a rule.
        """
        function = at_ruled(self.model, inputs, target, additional_forward_args, embedding_reduce)
        done = self._run(function, None, verbose)
        result = function.restore(done.grads)
        return (result, self.compute_convergence_delta(done.grads, done.scores)) if return_convergence_delta else result


class LayerLRP(LRP, LayerAttribution):
    """Layer-wise relevance propagation down to a layer.

    Args:
        model: the model.
        layer: a module of it, or a list of modules.
        composite: which rule goes where; see :class:`LRP`.
        on_unknown: at an operator without a rule: ``"raise"`` (default), ``"warn"`` or ``"linear"``.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Any,
        *,
        composite: Composite | str | None = None,
        on_unknown: OnUnknown = "raise",
    ) -> None:
        LayerAttribution.__init__(self, model, layer)
        self.gradient_func = default_gradients
        self._set_up(model, composite, on_unknown)

    @log_usage()
    @differentiable
    def attribute(  # pyright: ignore[reportIncompatibleMethodOverride]  # a layer has a side
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        verbose: bool = False,
    ) -> Any:
        """Relevance of the layer's value for the score.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            return_convergence_delta: whether to return the delta too.
            attribute_to_layer_input: whether to use the layer's input.
            verbose: whether to print the rule of every affine operator.

        Returns:
            Relevance shaped like the layer's value: a tensor, a tuple, or a list for a list of layers; with the delta
            ``(B,)``, one per layer for a list, if asked for.

        Raises:
            UnknownOperatorError: when the model uses an operator without a rule.
            LayerError: when the layer is not reached.
        """
        function = at_ruled(self.model, inputs, target, additional_forward_args)
        layers = self._layers(attribute_to_layer_input, several=True)
        done = self._run(function, layers, verbose)
        result = self._by_layer(done.grads, layers)
        if not return_convergence_delta:
            return result
        deltas = [self.compute_convergence_delta(g, done.scores) for g in layers.group(done.grads)]
        return result, deltas if isinstance(self.layer, (list, tuple)) else deltas[0]


def _warn_of_cancelling(done: Pass) -> None:
    """Warn where relevance cancels in so large parts that their rounding alone is larger than the score."""
    scores = done.scores.detach().abs().to(torch.float64)
    if scores.is_meta:
        return
    size = sum(float(g.detach().abs().sum(dtype=torch.float64)) for g in done.grads)
    total, eps = float(scores.sum()), torch.finfo(done.scores.dtype).eps
    if size * eps <= total:
        return
    message = (
        f"Relevance cancels in parts that are {size / max(total, 1e-300):.1g} times the score, more than "
        f"{done.scores.dtype} has digits for: somewhere a sum nearly vanishes. Use a composite with a larger epsilon "
        "or one for the architecture, such as 'attn_lrp' for transformers, or explain the model in a wider dtype."
    )
    warnings.warn(message, CaptumWarning, stacklevel=4)
