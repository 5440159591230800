"""Occlusion: ablation whose features are the positions of a sliding window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum.attr.games.ablation import FeatureAblation, ablate
from captum.attr.games.game import Game
from captum.attr.games.incremental import IncrementalGame
from captum.attr.games.setting import at_inputs
from captum.attr.games.windows import parse_windows
from captum.log import log_usage

__all__ = ["Occlusion"]


class Occlusion(FeatureAblation):
    r"""Occlusion: what the score loses when a window over an element is hidden, averaged over windows.

    :math:`a_e = \operatorname{mean}_{w \ni e} F(x) - F(x \text{ with window } w \text{ at the baseline})`.

    M. Zeiler, R. Fergus, "Visualizing and understanding convolutional networks", 2013, arXiv:1311.2901.

    Args:
        forward_func: the model or function.

    Example:
        >>> import torch
        >>> Occlusion(lambda x: x.sum(1)).attribute(torch.tensor([[1.0, 2.0, 3.0]]), sliding_window_shapes=(2,))
        tensor([[3., 4., 5.]])
    """

    @log_usage()
    def attribute(  # pyright: ignore[reportIncompatibleMethodOverride]  # windows take the place of masks
        self,
        inputs: Any,
        sliding_window_shapes: Any,
        strides: Any = None,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        *,
        incremental: bool = False,
    ) -> Any:
        """What the score loses when a window is covered, averaged over the windows of each element.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            sliding_window_shapes: window shape without the batch, ``(C, h, w)`` for all channels of an image; a tuple
                of shapes for several inputs.
            strides: None for 1, an int, a tuple with one per dimension, or a tuple of these for several inputs.
            baselines: None for zeros, numbers, tensors ``(1, *)`` or ``(B, *)``, or a fill of
                ``captum.attr.games.fills``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            perturbations_per_eval: windows per forward pass; 1 (default) plans it when outputs grow with the batch.
            show_progress: whether to draw a progress bar.
            incremental: compute again only what a window changes, layer after layer, where operators are local
                (convolution, pooling, element-wise ones): equal up to rounding, and faster for windows that are small
                in convolutional networks. Where that saves nothing, a warning says why and the usual way is taken.
                After Nakandala, Kumar, Papakonstantinou, "Incremental and approximate inference for faster
                occlusion-based deep CNN explanations", SIGMOD 2019.

        Returns:
            Attributions in the structure of ``inputs``; shapes as for :meth:`FeatureAblation.attribute`.

        Raises:
            InputError: when windows or strides do not fit.
        """
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        features = parse_windows(sliding_window_shapes, strides, setting.variable.values)
        fill = setting.fill(baselines)

        def answer(game: Game) -> Callable[[Tensor], Tensor]:
            return IncrementalGame(game, features, perturbations_per_eval) if incremental else game

        parts = ablate(setting, features, fill, perturbations_per_eval, self._label(show_progress), answer)
        return setting.restore(parts)

    def attribute_future(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # not offered
        """Not offered: raises NotImplementedError."""
        message = "attribute_future is not implemented for Occlusion."
        raise NotImplementedError(message)
