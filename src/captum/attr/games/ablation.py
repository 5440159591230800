"""Feature ablation of inputs, of a layer's values, and for a neuron: one game, three places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.futures import Future

from captum.attr.base import LayerAttribution, NeuronAttribution, PerturbationAttribution
from captum.attr.games.features import Features
from captum.attr.games.fills import Ready
from captum.attr.games.game import Game
from captum.attr.games.later import ask_later
from captum.attr.games.marginals import leave_one_out
from captum.attr.games.play import Estimate, play
from captum.attr.games.setting import Setting, at_inputs, at_layer, at_neuron, progress, score_of
from captum.attr.games.windows import Windows
from captum.log import log_usage

__all__ = ["FeatureAblation", "LayerFeatureAblation", "NeuronFeatureAblation"]


def ablate(
    setting: Setting,
    features: Features,
    fill: Ready,
    per_eval: int,
    label: str | None = None,
    through: Callable[[Game], Callable[[Tensor], Tensor]] = lambda game: game,
) -> tuple[Tensor, ...]:
    """Full score minus the score without each player, ``(n, *)`` per tensor of the variable.

    Args:
        setting: what is varied.
        features: the players.
        fill: what stands in for them.
        per_eval: players per forward pass.
        label: name of the progress bar, or None.
        through: another way to answer for the game.
    """
    game = setting.game(features, fill, per_eval)
    with progress(game, label, features.players + 2):  # the unchanged input is scored alone and among the others
        estimate = play(leave_one_out(features.players), through(game))
    return _differences(setting, game, estimate)


def ablate_later(setting: Setting, features: Features, fill: Ready, per_eval: int) -> Future[Any]:
    """The same for a model that answers later."""
    game = setting.game(features, fill, per_eval)
    return ask_later(
        game, per_eval, leave_one_out(features.players), lambda e: setting.restore(_differences(setting, game, e))
    )


def _differences(setting: Setting, game: Any, estimate: Estimate) -> tuple[Tensor, ...]:
    parts = setting.spread(game, estimate.values, keep_shape=False)
    counts = not game.dtype.is_floating_point and game.dtype != torch.bool
    plain = game.fill.draws == 1 and not isinstance(game.features, Windows)  # no means of several differences
    return tuple(p.round().to(game.dtype) for p in parts) if counts and plain else parts


class FeatureAblation(PerturbationAttribution):
    r"""Feature ablation: :math:`a_i = F(x) - F(x \text{ without } i)`.

    A feature is an element of the input, or a group of elements with the same id in ``feature_mask``; without means
    replaced by the baseline. Every element of a group receives the group's value.

    Args:
        forward_func: the model or function.

    Example:
        >>> import torch
        >>> ablation = FeatureAblation(lambda x: x[:, 0] * x[:, 1] + x[:, 2])
        >>> ablation.attribute(torch.tensor([[2.0, 3.0, 4.0]]))
        tensor([[6., 6., 4.]])
    """

    @log_usage()
    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """What the score loses without each feature.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            baselines: None for zeros, numbers, tensors ``(1, *)`` or ``(B, *)``, or a fill of
                ``captum.attr.games.fills``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            feature_mask: integer tensors that broadcast to the inputs; equal ids, also in several tensors, are one
                feature.
            perturbations_per_eval: features per forward pass; 1 (default) plans it when outputs grow with the batch.
            show_progress: whether to draw a progress bar.

        Returns:
            Attributions in the structure of ``inputs``, in score units. ``(B, *)`` when the output has one number per
            row, ``(1, *)`` when it has one in all, else ``(n, *)`` for an output of ``n`` elements.

        Raises:
            InputError: when arguments do not fit.
        """
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        features, fill = setting.masks(feature_mask), setting.fill(baselines)
        parts = ablate(setting, features, fill, perturbations_per_eval, self._label(show_progress))
        return setting.restore(parts)

    def attribute_future(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Future[Any]:
        """Like :meth:`attribute` for a ``forward_func`` that returns a future of its output; returns a future."""
        del show_progress
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        return ablate_later(setting, setting.masks(feature_mask), setting.fill(baselines), perturbations_per_eval)


class LayerFeatureAblation(LayerAttribution, PerturbationAttribution):
    r"""Feature ablation of a layer: :math:`a_i = F(y) - F(y \text{ without } i)` for the layer's value ``y``.

    Args:
        forward_func: the model or function.
        layer: the module whose output, or input, is ablated.
        device_ids: accepted for compatibility.
    """

    def __init__(self, forward_func: Callable[..., Any], layer: Any, device_ids: list[int] | None = None) -> None:
        super().__init__(forward_func, layer, device_ids)

    @property
    def attributor(self) -> type[FeatureAblation]:
        """The method that is applied to the layer."""
        return FeatureAblation

    @log_usage()
    def attribute(
        self,
        inputs: Any,
        layer_baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        layer_mask: Any = None,
        attribute_to_layer_input: bool = False,
        perturbations_per_eval: int = 1,
        *,
        show_progress: bool = False,
    ) -> Any:
        """What the score loses without each part of the layer's value.

        Args:
            inputs: inputs of the model.
            layer_baselines: None for zeros, numbers, or tensors like the layer's value, ``(1, *)`` or ``(B, *)``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            layer_mask: integer tensors that broadcast to the layer's value; equal ids are one feature.
            attribute_to_layer_input: ablate what the layer receives, rather than what it returns.
            perturbations_per_eval: features per forward pass; 1 (default) plans it when outputs grow with the batch.
            show_progress: whether to draw a progress bar.

        Returns:
            Tensor like the layer's value, or a tuple when the layer has several; see :meth:`FeatureAblation.attribute`.

        Raises:
            LayerError: when the layer is not reached.
        """
        score = score_of(self.forward_func, inputs, target, additional_forward_args)
        setting = at_layer(score, self._layers(attribute_to_layer_input))
        features, fill = setting.masks(layer_mask, "layer_mask"), setting.fill(layer_baselines)
        return setting.restore(ablate(setting, features, fill, perturbations_per_eval, self._label(show_progress)))


class NeuronFeatureAblation(NeuronAttribution, PerturbationAttribution):
    r"""Feature ablation for a neuron: :math:`a_i = y_j(x) - y_j(x \text{ without } i)`.

    Args:
        forward_func: the model or function.
        layer: the module that the neuron belongs to.
        device_ids: accepted for compatibility.
    """

    def __init__(self, forward_func: Callable[..., Any], layer: Any, device_ids: list[int] | None = None) -> None:
        super().__init__(forward_func, layer, device_ids)

    @log_usage()
    def attribute(
        self,
        inputs: Any,
        neuron_selector: Any,
        baselines: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        attribute_to_neuron_input: bool = False,
        perturbations_per_eval: int = 1,
        *,
        show_progress: bool = False,
    ) -> Any:
        """What the neuron loses without each feature.

        Args:
            inputs: inputs of the model.
            neuron_selector: int, tuple of ints and slices (summed), or a function of the layer's value.
            baselines: as for :meth:`FeatureAblation.attribute`.
            additional_forward_args: constants of the model.
            feature_mask: as for :meth:`FeatureAblation.attribute`.
            attribute_to_neuron_input: read the neuron in what the layer receives.
            perturbations_per_eval: features per forward pass; 1 (default) plans it.
            show_progress: whether to draw a progress bar.

        Returns:
            Attributions in the structure of ``inputs``, ``(B, *)``.

        Raises:
            LayerError: when the layer is not reached or the selector does not name one number per row.
        """
        score = score_of(self.forward_func, inputs, None, additional_forward_args)
        setting = at_neuron(score, self._layers(attribute_to_neuron_input), neuron_selector)
        features, fill = setting.masks(feature_mask), setting.fill(baselines)
        return setting.restore(ablate(setting, features, fill, perturbations_per_eval, self._label(show_progress)))
