"""Feature permutation: features take the values of other rows of the batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.futures import Future

from captum._engine.rows import Rows
from captum._engine.values import describe
from captum.attr.base import LayerAttribution
from captum.attr.games.ablation import FeatureAblation, ablate, ablate_later
from captum.attr.games.features import Groups
from captum.attr.games.fills import ConstantReady, Ready, permutation
from captum.attr.games.marginals import Moments, leave_one_out
from captum.attr.games.play import Estimate, Estimator, play
from captum.attr.games.setting import Setting, at_inputs, at_layer, progress, score_of
from captum.attr.games.stopping import parse_generator
from captum.errors import CaptumWarning, InputError
from captum.log import log_usage

__all__ = ["FeaturePermutation", "LayerFeaturePermutation", "permute_rows"]

PermFunction = Callable[[Tensor, Tensor], Tensor]


def permute_rows(x: Tensor, feature_mask: Tensor) -> Tensor:
    """Move the rows of one feature by a random permutation that is not the identity.

    Args:
        x: tensor ``(B, *)``, B ≥ 2.
        feature_mask: bool tensor ``(1, *)`` or ``(B, *)``: the feature's elements.

    Returns:
        ``x`` with the feature's elements from other rows.
    """
    order = permutation(len(x), None).to(x.device)
    return torch.where(feature_mask.to(x.device), x[order], x)


_permute_feature = permute_rows  # the name under which earlier releases kept the default


class PermutedByFunction(Ready):
    """Features as the user's function leaves them; it sees the whole batch, one feature at a time."""

    whole = True

    def __init__(self, function: PermFunction) -> None:
        self._function = function

    def replace(
        self, values: tuple[Tensor, ...], keep: tuple[Tensor, ...], rows: Rows | None, draws: Tensor
    ) -> tuple[Tensor, ...]:
        """See :class:`Ready`."""
        del rows, draws
        return tuple(torch.stack([self._moved(v, kept) for kept in k]) for k, v in zip(keep, values, strict=True))

    def _moved(self, values: Tensor, kept: Tensor) -> Tensor:
        if bool(kept.all()):
            return values
        moved = self._function(values.clone(), ~kept.expand(-1, *values.shape[1:]))
        if not isinstance(moved, Tensor) or moved.shape != values.shape:  # pyright: ignore[reportUnnecessaryIsInstance]  # users' code
            message = f"Expected perm_func to return a Tensor of shape {tuple(values.shape)}, got {describe(moved)}."
            raise InputError(message)
        return moved


def permuted_features(
    features: Groups, tensors: tuple[Tensor, ...], batch: int, generator: torch.Generator | None
) -> tuple[Tensor, ...]:
    """Every feature's values under its own permutation of the rows, the same one in all tensors that it touches."""
    moves = ((player, permutation(batch, generator)) for player in features.visits())
    return moved_features(features, tensors, batch, moves)


def moved_features(
    features: Groups, tensors: tuple[Tensor, ...], batch: int, moves: Iterable[tuple[int, Tensor]]
) -> tuple[Tensor, ...]:
    """The tensors with the rows of some features in another order; a batch of one row stays as it is.

    Args:
        features: the features.
        tensors: the tensors that they are parts of.
        batch: number of rows.
        moves: features and the orders of their rows, ``(batch,)`` each.
    """
    orders = torch.arange(batch, device="cpu").repeat(features.players, 1)
    if batch < 2:
        message = "Expected a batch of at least 2 rows to permute, got 1: its features stay as they are."
        warnings.warn(message, CaptumWarning, stacklevel=6)
    else:
        for player, order in moves:
            orders[player] = order
    bases: list[Tensor] = []
    for ids, values in zip(features.ids, tensors, strict=True):
        flat = ids.reshape(len(ids), -1)
        source = orders[flat[0]].T if len(flat) == 1 else orders[flat, torch.arange(batch, device="cpu")[:, None]]
        wide = values.expand(batch, *values.shape[1:]).reshape(batch, -1)
        bases.append(wide.gather(0, source.to(values.device)).reshape(batch, *values.shape[1:]))
    return tuple(bases)


def check_rounds(n_samples: object) -> int:
    """Require a number of permutations of at least 1."""
    n_samples = int(n_samples) if isinstance(n_samples, np.integer) else n_samples
    if isinstance(n_samples, bool) or not isinstance(n_samples, int) or n_samples < 1:
        message = f"Expected n_samples (permutations of each feature) to be an int of at least 1, got {n_samples!r}."
        raise InputError(message)
    return n_samples


def repeated(players: int, rounds: int, begin: Callable[[int], object]) -> Estimator[Estimate]:
    """The mean over permutations of what the score loses, and its standard error, infinite for a single one.

    Args:
        players: number of features.
        rounds: number of permutations of each feature.
        begin: called with the number of a round before it, to permute anew.
    """
    moments, evaluations = Moments(), 0
    for number in range(rounds):
        begin(number)
        estimate = yield from leave_one_out(players)
        moments.add(estimate.values[None])
        evaluations += estimate.evaluations
    return Estimate(moments.mean, moments.error(), evaluations)


class FeaturePermutation(FeatureAblation):
    r"""Feature permutation: :math:`a_i = F(x) - F(x \text{ with } i \text{ permuted among the rows})`.

    A. Fisher, C. Rudin, F. Dominici, "All models are wrong, but many are useful", 2018, arXiv:1801.01489.

    Args:
        forward_func: the model or function.
        perm_func: ``(x, feature_mask) -> x`` with the feature's elements moved between rows; the default permutes at
            random.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 5.0], [2.0, 6.0]])
        >>> FeaturePermutation(lambda x: x[:, 0] + 2 * x[:, 1]).attribute(x)
        tensor([[-1., -2.],
                [ 1.,  2.]])
    """

    def __init__(self, forward_func: Callable[..., Any], perm_func: PermFunction = permute_rows) -> None:
        super().__init__(forward_func)
        self.perm_func = perm_func

    @log_usage()
    def attribute(  # pyright: ignore[reportIncompatibleMethodOverride]  # there are no baselines here
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        *,
        n_samples: int = 1,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        return_std_error: bool = False,
    ) -> Any:
        """What the score loses when a feature takes the values of other rows.

        Args:
            inputs: tensor ``(B, *)`` with B ≥ 2, tuple, dict or dataclass.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            feature_mask: integer tensors that broadcast to the inputs; equal ids, also in several tensors, are one
                feature, whose rows move together.
            perturbations_per_eval: features per forward pass; 1 (default) plans it.
            show_progress: whether to draw a progress bar.
            n_samples: permutations of each feature, whose mean is taken (default 1).
            generator: source of randomness; None draws from torch's global one, ``torch.randperm(B)`` per feature.
            seed: or a seed for a generator of its own.
            return_std_error: whether to return standard errors of the mean over permutations too; ±1.96 of them make a
                95 % interval when there are some dozens, and for one permutation they are infinite.

        Returns:
            Attributions in the structure of ``inputs``; shapes as for :meth:`FeatureAblation.attribute`; with their
            standard errors in the same form, if asked for.

        Raises:
            InputError: when arguments do not fit.
        """
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        features, source = setting.masks(feature_mask), parse_generator(generator, seed)
        rounds = check_rounds(n_samples)
        return self._permute(
            setting, features, source, rounds, perturbations_per_eval, return_std_error, self._label(show_progress)
        )

    def attribute_future(  # pyright: ignore[reportIncompatibleMethodOverride]  # there are no baselines here
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Future[Any]:
        """Like :meth:`attribute` for a ``forward_func`` that returns a future of its output; returns a future."""
        del show_progress
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        features = setting.masks(feature_mask)
        return ablate_later(setting, features, self._fill(setting, features, None), perturbations_per_eval)

    def _permute(
        self,
        setting: Setting,
        features: Groups,
        source: torch.Generator | None,
        rounds: int,
        per_eval: int,
        with_errors: bool,
        label: str | None,
    ) -> Any:
        """The mean over permutations, and its standard errors if asked for, in the structure of the variable."""
        fill = self._fill(setting, features, source)
        if rounds == 1 and not with_errors:
            return setting.restore(ablate(setting, features, fill, per_eval, label))
        game = setting.game(features, fill, per_eval)

        def begin(number: int) -> None:
            if number:
                game.fill = self._fill(setting, features, source)

        with progress(game, label, rounds * (features.players + 2)):
            estimate = play(repeated(features.players, rounds, begin), game)
        wanted = (estimate.values, estimate.errors) if with_errors else (estimate.values,)
        found = tuple(setting.restore(setting.spread(game, part, keep_shape=False)) for part in wanted)
        return found if with_errors else found[0]

    def _fill(self, setting: Setting, features: Groups, generator: torch.Generator | None) -> Ready:
        if self.perm_func is permute_rows:
            variable = setting.variable
            return ConstantReady(permuted_features(features, variable.values, variable.batch, generator))
        if generator is not None:
            message = "A perm_func draws its own permutations: pass it the generator, not attribute()."
            raise InputError(message)
        return PermutedByFunction(self.perm_func)


class LayerFeaturePermutation(LayerAttribution, FeaturePermutation):
    r"""Feature permutation of a layer's value.

    Args:
        forward_func: the model or function.
        layer: the module whose output, or input, is permuted.
        device_ids: accepted for compatibility.
        perm_func: as for :class:`FeaturePermutation`.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: Any,
        device_ids: list[int] | None = None,
        perm_func: PermFunction = permute_rows,
    ) -> None:
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        self.perm_func = perm_func

    @property
    def attributor(self) -> type[FeaturePermutation]:
        """The method that is applied to the layer."""
        return FeaturePermutation

    @log_usage()
    def attribute(  # pyright: ignore[reportIncompatibleMethodOverride]  # upstream's names of a layer's mask
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        layer_mask: Any = None,
        perturbations_per_eval: int = 1,
        *,
        attribute_to_layer_input: bool = False,
        show_progress: bool = False,
        n_samples: int = 1,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        return_std_error: bool = False,
    ) -> Any:
        """What the score loses when a part of the layer's value comes from other rows.

        Args:
            inputs: inputs of the model, B ≥ 2 rows.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            layer_mask: integer tensors that broadcast to the layer's value; equal ids are one feature.
            perturbations_per_eval: features per forward pass; 1 (default) plans it.
            attribute_to_layer_input: permute what the layer receives, rather than what it returns.
            show_progress: whether to draw a progress bar.
            n_samples: permutations of each feature, whose mean is taken (default 1).
            generator: source of randomness; None draws from torch's global one.
            seed: or a seed for a generator of its own.
            return_std_error: whether to return standard errors too, as for :meth:`FeaturePermutation.attribute`.

        Returns:
            Tensor like the layer's value, or a tuple when the layer has several; with their standard errors in the same
            form, if asked for.

        Raises:
            LayerError: when the layer is not reached.
        """
        score = score_of(self.forward_func, inputs, target, additional_forward_args)
        setting = at_layer(score, self._layers(attribute_to_layer_input))
        features, source = setting.masks(layer_mask, "layer_mask"), parse_generator(generator, seed)
        rounds = check_rounds(n_samples)
        return self._permute(
            setting, features, source, rounds, perturbations_per_eval, return_std_error, self._label(show_progress)
        )

    def attribute_future(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Future[Any]:
        """Not offered, since a model that answers later may run its layers later: raises NotImplementedError."""
        del inputs, target, additional_forward_args, feature_mask, perturbations_per_eval, show_progress
        message = "attribute_future is not implemented for LayerFeaturePermutation: use attribute."
        raise NotImplementedError(message)
