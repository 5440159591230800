"""The public face of a game: score coalitions of features, and write what was found on the features."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from captum._engine.values import describe
from captum.attr.games.play import Estimate, Estimator, host, play
from captum.attr.games.setting import at_inputs, check_per_eval
from captum.errors import InputError

__all__ = ["CoalitionGame"]


class CoalitionGame:
    r"""The game that perturbation methods play: which features are present :math:`\mapsto` score.

    :math:`v(S) = F(x_S, b_{\bar S})`: features outside of ``S`` are filled with ``baselines``. Coalitions and examples
    are packed into full forward passes.

    Args:
        forward_func: the model or function.
        inputs: tensor ``(B, *)``, tuple, dict or dataclass.
        baselines: None for zeros, numbers, tensors ``(1, *)`` or ``(B, *)``, or a fill of ``captum.attr.games``.
        target: which output is explained; see ``docs/conventions.md``.
        additional_forward_args: constants of the model.
        feature_mask: integer tensors that broadcast to the inputs; equal ids are one feature; None (default) makes each
            element one.
        perturbations_per_eval: coalitions per forward pass; None or 1 (default) plans it.

    Attributes:
        players: number of features M; player ``i`` is the ``i``-th smallest id.

    Raises:
        InputError: when arguments do not fit.

    Example:
        >>> game = CoalitionGame(lambda x: x.prod(1), torch.tensor([[2.0, 3.0]]), baselines=1)
        >>> game(torch.tensor([[True, True], [True, False]]))
        tensor([[6.],
                [2.]], dtype=torch.float64)
    """

    def __init__(
        self,
        forward_func: Any,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        perturbations_per_eval: int | None = None,
    ) -> None:
        self._setting = at_inputs(forward_func, inputs, target, additional_forward_args)
        features, fill = self._setting.masks(feature_mask), self._setting.fill(baselines)
        self._game = self._setting.game(features, fill, check_per_eval(perturbations_per_eval))
        self.players = self._game.players

    def __call__(self, coalitions: Tensor) -> Tensor:
        """Scores of coalitions.

        Args:
            coalitions: bool ``(K, M)``, True for features that are present; ``(K, B, M)`` for others in each example.

        Returns:
            Double ``(K, n)`` on the CPU, one column per element of the output: ``n = B`` for one score per example.

        Raises:
            InputError: when the shape or the dtype does not fit.
        """
        fits = isinstance(coalitions, Tensor) and coalitions.dtype == torch.bool and len(coalitions.shape) in (2, 3)  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass lists
        batch = (self._game.batch,) if fits and coalitions.dim() == 3 else ()
        if not fits or tuple(coalitions.shape[1:]) != (*batch, self.players) or not len(coalitions):
            message = (
                f"Expected coalitions as a bool Tensor (K, {self.players}) or (K, {self._game.batch}, {self.players}), "
                f"K > 0, True for features that are present; got {describe(coalitions)}."
            )
            raise InputError(message)
        return self._game(coalitions.cpu())

    def play(self, estimator: Estimator[Estimate]) -> Estimate:
        """Run an estimator: a generator that yields coalitions, receives their scores, and returns an Estimate."""
        return play(estimator, self)

    def attributions(self, values: Tensor) -> Any:
        """Values of the features on their elements.

        Args:
            values: ``(M, n)``, a value of each feature for each column of the scores.

        Returns:
            Tensors in the structure of the inputs: the shape of the output followed by that of one example.

        Raises:
            InputError: when the shape does not fit, or nothing was scored yet.
        """
        if not self._game.shape and not self._game.form:
            with host():
                self(torch.ones((1, self.players), dtype=torch.bool))
        shape = (self.players, math.prod(self._game.shape))
        if tuple(values.shape) != shape:
            message = f"Expected values {shape}, one row per feature and a column per score; got {describe(values)}."
            raise InputError(message)
        return self._setting.restore(self._setting.spread(self._game, values.to("cpu", torch.float64)))
