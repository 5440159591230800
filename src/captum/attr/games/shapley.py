"""Shapley values: exact, by random orders, and Owen values on a hierarchy of features."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.futures import Future

from captum.attr.base import PerturbationAttribution
from captum.attr.games.exact import Hierarchy, OwenPlan, check_hierarchy, exact_owen, exact_shapley
from captum.attr.games.game import Game
from captum.attr.games.later import ask_later
from captum.attr.games.marginals import global_orders, hierarchical_orders, random_orders, seeded_orders
from captum.attr.games.play import Estimate, Estimator, play
from captum.attr.games.setting import Setting, at_inputs, progress
from captum.attr.games.stopping import Samples, parse_generator, parse_stopping
from captum.errors import CaptumWarning, InputError
from captum.log import log_usage

__all__ = ["OwenValues", "ShapleyValueSampling", "ShapleyValues"]

#: More features than this make exact values expensive: the user is told.
MANY = 16


class _Games(PerturbationAttribution):
    """What the classes of this file share: play an estimator, spread its values."""

    @staticmethod
    def _play(
        setting: Setting, game: Game, body: Estimator[Estimate], label: str | None, with_errors: bool = False
    ) -> Any:
        """Values in the structure of the inputs, with their standard errors if asked for."""
        with progress(game, label, None):
            estimate = play(body, game)
        values = setting.restore(setting.spread(game, estimate.values))
        return (values, setting.restore(setting.spread(game, estimate.errors))) if with_errors else values

    @staticmethod
    def _play_later(setting: Setting, game: Game, per_eval: int, body: Estimator[Estimate]) -> Future[Any]:
        return ask_later(game, per_eval, body, lambda e: setting.restore(setting.spread(game, e.values)))


class ShapleyValueSampling(_Games):
    r"""Shapley values by sampling: mean contribution of a feature when features join in random order.

    :math:`\varphi_i = \mathbb{E}_\pi [F(x_{\pi \le i}) - F(x_{\pi < i})]`, absent features at the baseline. Each order
    sums to ``F(x) − F(x')``.

    J. Castro, D. Gómez, J. Tejada, "Polynomial calculation of the Shapley value based on sampling", 2009. Antithetic
    pairs: R. Mitchell, J. Cooper, E. Frank, G. Holmes, "Sampling permutations for Shapley value estimation", 2022,
    arXiv:2104.12199.

    Args:
        forward_func: the model or function.

    Example:
        >>> import torch
        >>> sampling = ShapleyValueSampling(lambda x: x[:, 0] * x[:, 1])
        >>> sampling.attribute(torch.tensor([[2.0, 3.0]]), n_samples=8, seed=0)
        tensor([[3., 3.]])
    """

    @log_usage()
    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        n_samples: Samples = 25,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        *,
        antithetic: bool | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        tol: float | None = None,
        max_evals: int | None = None,
        return_std_error: bool = False,
    ) -> Any:
        """Sampled Shapley values of the features.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            baselines: None for zeros, numbers, tensors ``(1, *)`` or ``(B, *)``, or a fill of
                ``captum.attr.games.fills``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            feature_mask: integer tensors that broadcast to the inputs; equal ids, also in several tensors, are one
                feature.
            n_samples: number of orders (default 25), or ``"auto"`` to draw until ``tol`` is met.
            perturbations_per_eval: coalitions per forward pass; 1 (default) plans it when outputs grow with the batch.
            show_progress: whether to draw a progress bar.
            antithetic: follow each order by its reverse, which halves the variance or better at the same cost. None
                (default) does so unless orders come from torch's global stream, one ``torch.randperm(M)`` each, as
                published numbers do.
            generator: source of randomness; None draws from torch's global one.
            seed: or a seed for a generator of its own.
            tol: relative error to reach: ‖standard errors‖ ≤ tol · ‖values‖ for every output (default 0.02 for
                ``"auto"``).
            max_evals: most coalitions to evaluate (16384 for ``"auto"``); one order is followed in any case.
            return_std_error: whether to return standard errors too; ±1.96 of them make a 95 % interval, also for few
                samples.

        Returns:
            Attributions in the structure of ``inputs``, in score units: the shape of the output (``(1,)`` for a number
            per batch) followed by that of one example; with their standard errors in the same form, if asked for.

        Raises:
            InputError: when arguments do not fit.
        """
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        game = setting.game(setting.masks(feature_mask), setting.fill(baselines), perturbations_per_eval)
        source = parse_generator(generator, seed)
        stopping = parse_stopping(n_samples, tol, max_evals)
        draw = global_orders(game.players) if source is None else seeded_orders(game.players, source)
        pairs = (source is not None or stopping.samples is None) if antithetic is None else antithetic
        body = random_orders(game.players, draw, stopping, pairs)
        return self._play(setting, game, body, self._label(show_progress), return_std_error)

    def attribute_future(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        n_samples: int = 25,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Future[Any]:
        """Like :meth:`attribute` for a ``forward_func`` that returns a future of its output; returns a future."""
        del show_progress
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        game = setting.game(setting.masks(feature_mask), setting.fill(baselines), perturbations_per_eval)
        stopping = parse_stopping(n_samples, None, None)
        body = random_orders(game.players, global_orders(game.players), stopping, antithetic=False)
        return self._play_later(setting, game, perturbations_per_eval, body)


class ShapleyValues(ShapleyValueSampling):
    r"""Exact Shapley values from all ``2**M`` coalitions of ``M`` features.

    :math:`\varphi_i = \sum_{S \not\ni i} \frac{|S|!\,(M-|S|-1)!}{M!} [F(x_{S \cup i}) - F(x_S)]`, absent features at
    the baseline.

    L. Shapley, "A value for n-person games", 1953.

    Args:
        forward_func: the model or function.

    Example:
        >>> import torch
        >>> ShapleyValues(lambda x: x[:, 0] * x[:, 1]).attribute(torch.tensor([[2.0, 3.0]]))
        tensor([[3., 3.]])
    """

    @log_usage()
    def attribute(  # pyright: ignore[reportIncompatibleMethodOverride]  # nothing is sampled
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """Exact Shapley values of the features.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            baselines: as for :meth:`ShapleyValueSampling.attribute`.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            feature_mask: integer tensors that broadcast to the inputs; equal ids are one feature.
            perturbations_per_eval: coalitions per forward pass; 1 (default) plans it when outputs grow with the batch.
            show_progress: whether to draw a progress bar.

        Returns:
            Attributions; shapes as for :meth:`ShapleyValueSampling.attribute`.

        Raises:
            InputError: when arguments do not fit, or for more than 30 features.
        """
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        game = setting.game(setting.masks(feature_mask), setting.fill(baselines), perturbations_per_eval)
        check_cost(game.players)
        return self._play(setting, game, exact_shapley(game.players, again=True), self._label(show_progress))

    def attribute_future(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        n_samples: int = 25,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Future[Any]:
        """Like :meth:`attribute` for a ``forward_func`` that returns a future; ``n_samples`` has no meaning here."""
        del show_progress, n_samples
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        game = setting.game(setting.masks(feature_mask), setting.fill(baselines), perturbations_per_eval)
        check_cost(game.players)
        return self._play_later(setting, game, perturbations_per_eval, exact_shapley(game.players))


def check_cost(players: int) -> None:
    """Refuse, or warn of, exact values that cost too much; called by what the user calls."""
    if players > 30:
        message = (
            f"Exact Shapley values of {players} features need 2**{players} evaluations: group features with "
            "feature_mask, or use KernelShap or ShapleyValueSampling."
        )
        raise InputError(message)
    if players > MANY:
        message = (
            f"Exact Shapley values of {players} features need {2**players} evaluations per example; KernelShap and "
            "ShapleyValueSampling need far fewer for a small error."
        )
        warnings.warn(message, CaptumWarning, stacklevel=4)


class OwenValues(_Games):
    r"""Owen values: Shapley values when the features of a group join together (partition SHAP).

    At each level of the hierarchy the members of a group arrive in random order, each with everything that is in it.

    G. Owen, "Values of games with a priori unions", 1977.

    Args:
        forward_func: the model or function.

    Example:
        >>> import torch
        >>> owen = OwenValues(lambda x: x.prod(1))
        >>> owen.attribute(torch.tensor([[1.0, 2.0, 3.0]]), groups=[[0, 1], 2])
        tensor([[1.5000, 1.5000, 3.0000]])
    """

    @log_usage()
    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        n_samples: Samples | None = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        *,
        groups: Hierarchy,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        tol: float | None = None,
        max_evals: int | None = None,
        return_std_error: bool = False,
    ) -> Any:
        """Owen values of the features.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass.
            baselines: as for :meth:`ShapleyValueSampling.attribute`.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            feature_mask: integer tensors that broadcast to the inputs; equal ids are one feature.
            n_samples: number of orders, or ``"auto"`` to draw until ``tol`` is met; None (default) for exact values,
                unless ``tol`` or ``max_evals`` is given.
            perturbations_per_eval: coalitions per forward pass; 1 (default) plans it when outputs grow with the batch.
            show_progress: whether to draw a progress bar.
            groups: the hierarchy: nested lists of feature numbers ``0…M−1`` (ids in ascending order), each once.
            generator: source of randomness; None draws from torch's global one.
            seed: or a seed for a generator of its own.
            tol: relative error to reach, as for :meth:`ShapleyValueSampling.attribute`.
            max_evals: most coalitions to evaluate; one order is followed in any case.
            return_std_error: whether to return standard errors too; zero for exact values.

        Returns:
            Attributions; shapes as for :meth:`ShapleyValueSampling.attribute`.

        Raises:
            MaskError: when ``groups`` do not hold each feature once, or groups are too large for exact values.
        """
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        game = setting.game(setting.masks(feature_mask), setting.fill(baselines), perturbations_per_eval)
        check_hierarchy(groups, game.players)
        if n_samples is None and tol is None and max_evals is None:
            body = exact_owen(OwenPlan(groups, game.players), again=True)
        else:
            stopping = parse_stopping("auto" if n_samples is None else n_samples, tol, max_evals)
            draw = hierarchical_orders(groups, parse_generator(generator, seed))
            body = random_orders(game.players, draw, stopping, antithetic=True)
        return self._play(setting, game, body, self._label(show_progress), return_std_error)
