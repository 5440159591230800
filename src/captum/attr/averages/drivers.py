"""How perturbation methods are played over a loader: which can be, their features and their estimators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from captum._engine.values import describe
from captum.attr.base import LayerAttribution, NeuronAttribution, PerturbationAttribution
from captum.attr.games.ablation import FeatureAblation
from captum.attr.games.exact import Hierarchy, OwenPlan, check_hierarchy, exact_owen, exact_shapley
from captum.attr.games.features import Features, groups_of
from captum.attr.games.kernel_shap import KernelShap, overridden
from captum.attr.games.lime import Fits, Lime, flip_coins, merged, own_kernel
from captum.attr.games.marginals import global_orders, hierarchical_orders, leave_one_out, random_orders, seeded_orders
from captum.attr.games.occlusion import Occlusion
from captum.attr.games.permutation import FeaturePermutation, check_rounds, repeated
from captum.attr.games.play import Estimate, Estimator, everyone
from captum.attr.games.regression import paired_regression
from captum.attr.games.shapley import OwenValues, ShapleyValues, ShapleyValueSampling, check_cost
from captum.attr.games.similarity import ExponentialKernel
from captum.attr.games.stopping import Samples, Stopping, parse_stopping
from captum.attr.games.surrogate import LimeBase, fit_model
from captum.attr.games.surrogate_errors import coefficient_errors
from captum.attr.games.windows import parse_windows
from captum.errors import InputError

#: Methods that are played over a loader; subclasses too, when they leave ``attribute`` as it is.
SUPPORTED_METHODS = {
    FeatureAblation, FeaturePermutation, KernelShap, Lime, Occlusion, OwenValues, ShapleyValueSampling, ShapleyValues,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller says about features and samples."""

    feature_mask: tuple[Any, ...]
    windows: Any
    strides: Any
    groups: Hierarchy | None
    n_samples: Samples | None
    source: torch.Generator | None
    tol: float | None = None
    max_evals: int | None = None
    with_errors: bool = False

    def samples_told(self) -> bool:
        """Whether the caller says how much to sample."""
        return (self.n_samples, self.tol, self.max_evals) != (None, None, None)

    def stopping(self, usual: Samples = 25) -> Stopping:
        """When sampling methods stop; ``usual`` samples unless the caller says how many."""
        return parse_stopping(usual if self.n_samples is None else self.n_samples, self.tol, self.max_evals)


class Played(Protocol):
    """What estimators ask a game over a loader beside scores.

    Attributes:
        dtype: dtype of the metric.
        draws: how many fillings of a coalition are averaged.
        begin: called with the number of a round before it; rows are permuted anew.
    """

    dtype: torch.dtype
    draws: int
    begin: Callable[[int], object]

    def products(self) -> list[Tensor]:
        """Of the last coalitions: x·x, x·y and y·y for the data x and the perturbed data y, ``(K, draws)`` each."""
        ...


def check_method(method: PerturbationAttribution) -> None:
    """Require a method whose coalitions do not depend on one example."""
    reason = _obstacle(method)
    if reason is not None:
        names = ", ".join(sorted(m.__name__ for m in SUPPORTED_METHODS))
        message = f"Expected attr_method to be one of {names}, got {describe(method)}: {reason}."
        raise InputError(message)


def _obstacle(method: PerturbationAttribution) -> str | None:
    """Why a method cannot be played over a loader."""
    if isinstance(method, (LayerAttribution, NeuronAttribution)):
        return "it changes or reads values of a layer, which batches of a loader do not hold"
    base = next((kind for kind in type(method).__mro__ if kind in SUPPORTED_METHODS), None)
    if base is None:
        if isinstance(method, LimeBase):
            return "its samples are made by functions of a single input, not by features that come and go"
        return "it does not score coalitions of features"
    if type(method).attribute is not getattr(base, "attribute"):  # noqa: B009  # the class is known at run time
        return f"its class replaces {base.__name__}.attribute, which a loader does not call"
    theirs = isinstance(method, Lime) and (
        overridden(method) if isinstance(method, KernelShap) else not own_kernel(method)
    )
    return "its samples or weights are a user's functions of a single input" if theirs else None


def counts(method: PerturbationAttribution, options: Options, game: Played) -> bool:
    """Whether values are plain differences of a metric of whole numbers, and whole numbers themselves."""
    whole = not game.dtype.is_floating_point and game.dtype != torch.bool
    plain = isinstance(method, FeatureAblation) and not isinstance(method, Occlusion)
    return whole and plain and game.draws == 1 and not options.with_errors and options.n_samples in (None, 1)


def features_of(method: PerturbationAttribution, options: Options, samples: tuple[Tensor, ...]) -> Features:
    """Features of the elements that are attributed; masks have one row."""
    if isinstance(method, Occlusion):
        if options.windows is None or any(mask is not None for mask in options.feature_mask):
            message = "Occlusion over a loader needs sliding_window_shapes and takes no feature_mask."
            raise InputError(message)
        return parse_windows(options.windows, options.strides, samples)
    if options.windows is not None or options.strides is not None:
        message = f"sliding_window_shapes and strides are for Occlusion, got {describe(method)}."
        raise InputError(message)
    names = tuple(f"element {i}" for i in range(len(samples)))
    return groups_of(options.feature_mask, samples, names)


def estimator_of(
    method: PerturbationAttribution, players: int, options: Options, game: Played
) -> tuple[Estimator[Fits], int | None]:
    """The method's estimator of values ``(M, n)``, and how many coalitions it will ask for when that is known.

    Args:
        method: the method.
        players: number of features.
        options: what the caller says.
        game: the game that is played.
    """
    if isinstance(method, OwenValues):
        body, count = _owen(players, options)
        return _values(body, options), count
    if options.groups is not None:
        message = f"groups are for OwenValues, got {describe(method)}."
        raise InputError(message)
    if isinstance(method, FeaturePermutation) and (options.tol, options.max_evals) == (None, None):
        rounds = 1 if options.n_samples is None else check_rounds(options.n_samples)
        return _values(repeated(players, rounds, game.begin), options), rounds * players + 1
    if isinstance(method, (FeatureAblation, ShapleyValues)) and options.samples_told():
        message = f"n_samples, tol and max_evals are for methods that sample, got {describe(method)}."
        raise InputError(message)
    if isinstance(method, FeatureAblation):
        return _values(leave_one_out(players), options), players + 1
    if isinstance(method, ShapleyValues):
        check_cost(players)
        return _values(exact_shapley(players), options), 2**players
    stopping = options.stopping()
    if isinstance(method, KernelShap):
        body = paired_regression(players, stopping, "leverage", options.source, with_errors=options.with_errors)
        return _values(body, options), stopping.samples
    if isinstance(method, Lime):
        kernel = own_kernel(method)
        if stopping.samples is None or kernel is None or options.max_evals is not None:
            message = "Lime over a loader takes a number of samples, and none of tol and max_evals."
            raise InputError(message)
        coalitions = flip_coins(stopping.samples, players, options.source)
        return _lime(method.interpretable_model, kernel, coalitions, game, options), stopping.samples + 1
    draw = global_orders(players) if options.source is None else seeded_orders(players, options.source)
    pairs = options.source is not None or stopping.samples is None
    return _values(random_orders(players, draw, stopping, pairs), options), None


def _owen(players: int, options: Options) -> tuple[Estimator[Estimate], int | None]:
    if options.groups is None:
        message = "OwenValues over a loader needs groups."
        raise InputError(message)
    check_hierarchy(options.groups, players)
    if not options.samples_told():
        plan = OwenPlan(options.groups, players)
        return exact_owen(plan), len(plan.coalitions)
    draw = hierarchical_orders(options.groups, options.source)
    return random_orders(players, draw, options.stopping("auto"), antithetic=True), None


def _values(body: Estimator[Estimate], options: Options) -> Estimator[Fits]:
    estimate = yield from body
    return (estimate.values, estimate.errors) if options.with_errors else estimate.values


def _lime(model: Any, kernel: ExponentialKernel, coalitions: Tensor, game: Played, options: Options) -> Estimator[Fits]:
    """One fit per number of the metric; a coalition weighs as much as the whole data is like itself under it."""
    full = yield everyone(coalitions.shape[1])
    if not coalitions.shape[1]:
        return (full[:0], full[:0]) if options.with_errors else full[:0]
    scores = yield coalitions
    dtype = torch.float64 if game.dtype == torch.float64 else torch.float32
    weights = kernel.of_products(*game.products()).mean(1)
    design, share = coalitions.to(dtype), weights.to(dtype)
    columns = scores[:, : full.shape[1]].to(dtype).unbind(1)
    errors = [coefficient_errors(model, design, c, share, options.source) for c in columns if options.with_errors]
    rows = merged([fit_model(model, design, column, share) for column in columns])
    if isinstance(rows, tuple):
        return tuple(part.T.double() for part in rows)
    return (rows.T.double(), torch.stack(errors, 1)) if errors else rows.T.double()
