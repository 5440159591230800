"""LIME: a sparse linear model over features that are kept or replaced by a baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from captum._engine.rows import Rows
from captum._engine.values import parse_inputs
from captum.attr.games.features import Groups, parse_masks
from captum.attr.games.fills import ConstantReady, Fill
from captum.attr.games.game import Game
from captum.attr.games.play import HOST, block_rows, everyone
from captum.attr.games.setting import Setting, at_inputs, progress
from captum.attr.games.similarity import ExponentialKernel, get_exp_kernel_similarity_function, similarities
from captum.attr.games.stopping import parse_generator, parse_stopping
from captum.attr.games.surrogate import LimeBase, fit_model, spend_fit
from captum.attr.games.surrogate_errors import coefficient_errors
from captum.errors import InputError, OutputError
from captum.linear import SkLearnLasso
from captum.linear.model import Model
from captum.log import log_usage

__all__ = [
    "Lime",
    "construct_feature_mask",
    "default_from_interp_rep_transform",
    "default_perturb_func",
    "get_exp_kernel_similarity_function",
]

#: The method by which subclasses run the samples themselves.
HOOK = "_attribute_kwargs"
#: Coefficients ``(R, M)`` of R models; several such tensors when a model's representation is a tuple.
Fits = Tensor | tuple[Tensor, ...]


def default_perturb_func(original_inp: Any, **kwargs: Any) -> Tensor:
    """Keep each of ``num_interp_features`` features with probability 1/2: LongTensor ``(1, M)``.

    Args:
        original_inp: the input; the sample goes to its device.
        kwargs: ``num_interp_features``.
    """
    first = original_inp if isinstance(original_inp, Tensor) else original_inp[0]
    return torch.bernoulli(0.5 * torch.ones(1, kwargs["num_interp_features"])).long().to(first.device)


def default_from_interp_rep_transform(curr_sample: Tensor, original_inputs: Any, **kwargs: Any) -> Any:
    """Replace the features that a sample ``(1, M)`` switches off.

    Args:
        curr_sample: 1 for features that stay.
        original_inputs: the input.
        kwargs: ``feature_mask`` with ids ``0…M−1`` and ``baselines``, both in the structure of the inputs.
    """
    inputs = parse_inputs(original_inputs)
    entries = (kwargs["feature_mask"], kwargs["baselines"])
    masks, bases = (e if isinstance(e, tuple) else (e,) for e in entries)
    filled = tuple(
        torch.where(
            curr_sample[0].bool().to(m.device)[m].to(x.device), x, torch.as_tensor(b, device=x.device).to(x.dtype)
        )
        for x, m, b in zip(inputs.tensors, masks, bases, strict=True)
    )
    return inputs.restore(filled)


def construct_feature_mask(feature_mask: Any, formatted_inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], int]:
    """Masks with ids from 0, one ``(1, *)`` or ``(B, *)`` per input, and the number of ids.

    Args:
        feature_mask: None for a feature per element, or integer tensors.
        formatted_inputs: the inputs as a tuple.
    """
    features = parse_masks(feature_mask, parse_inputs(formatted_inputs))
    return tuple(i.to(t.device) for i, t in zip(features.ids, formatted_inputs, strict=True)), features.players


class Lime(LimeBase):
    r"""LIME: the weights of a sparse linear model around the input.

    :math:`\min_c \sum_s w_s (F(x_s) - b - z_s \cdot c)^2 + \alpha \lVert c \rVert_1` over random coalitions ``z_s``.

    Coefficients ``c`` are the attributions; ``x_s`` keeps the features of ``z_s`` and takes the baseline elsewhere.

    M. Ribeiro, S. Singh, C. Guestrin, "Why should I trust you?", 2016, arXiv:1602.04938.

    Args:
        forward_func: the model or function.
        interpretable_model: default ``SkLearnLasso(alpha=0.01)``, which needs scikit-learn.
        similarity_func: default ``get_exp_kernel_similarity_function()``.
        perturb_func: default: each feature stays with probability 1/2.

    Example:
        >>> import torch
        >>> from captum.linear import ClosedFormLinearRegression
        >>> lime = Lime(lambda x: x @ torch.tensor([1.0, 2.0]), ClosedFormLinearRegression())
        >>> lime.attribute(torch.tensor([[1.0, 1.0]]), n_samples=20, seed=0).round(decimals=3)
        tensor([[1., 2.]])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        interpretable_model: Model | None = None,
        similarity_func: Callable[..., Any] | None = None,
        perturb_func: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(
            forward_func,
            SkLearnLasso(alpha=0.01) if interpretable_model is None else interpretable_model,
            ExponentialKernel() if similarity_func is None else similarity_func,
            default_perturb_func if perturb_func is None else perturb_func,
            perturb_interpretable_space=True,
            from_interp_rep_transform=default_from_interp_rep_transform,
            to_interp_rep_transform=None,
        )

    @log_usage()
    def attribute(  # pyright: ignore[reportIncompatibleMethodOverride]  # masks and baselines take the place of **kwargs
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        n_samples: int = 25,
        perturbations_per_eval: int = 1,
        return_input_shape: bool = True,
        show_progress: bool = False,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        return_std_error: bool = False,
    ) -> Any:
        """Coefficients of the features in a model fitted around each example.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; examples are explained together, a model each.
            baselines: None for zeros, numbers, tensors ``(1, *)`` or ``(B, *)``, or a fill of
                ``captum.attr.games.fills``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            feature_mask: integer tensors that broadcast to the inputs; equal ids, also in several tensors, are one
                feature.
            n_samples: perturbed inputs per example (default 25).
            perturbations_per_eval: perturbed inputs per forward pass; 1 (default) plans it.
            return_input_shape: whether coefficients are spread over the inputs, or returned as a matrix.
            show_progress: whether to draw a progress bar.
            generator: source of randomness; None draws from torch's global one, for each example anew.
            seed: or a seed for a generator of its own; then all examples share their coalitions.
            return_std_error: whether to return standard errors too: of least squares and ridge regression by a formula,
                infinite for too few samples; of other models, such as the default, by 100 more fits (bootstrap).

        Returns:
            Attributions in the structure of ``inputs`` (``(1, *)`` when the output is one number for the batch); or a
            matrix ``(B, M)``, ids ascending; with their standard errors in the same form, if asked for.

        Raises:
            OutputError: when the output is neither one number per example nor one for the batch.
        """
        source = parse_generator(generator, seed)
        kernel = own_kernel(self)
        if kernel is None:
            if source is not None or return_std_error:
                message = (
                    "A generator, a seed and return_std_error need the class's own perturb_func and an exponential "
                    "similarity."
                )
                raise InputError(message)
            return self._attribute_kwargs(
                inputs=inputs,
                baselines=baselines,
                target=target,
                additional_forward_args=additional_forward_args,
                feature_mask=feature_mask,
                n_samples=n_samples,
                perturbations_per_eval=perturbations_per_eval,
                return_input_shape=return_input_shape,
                show_progress=show_progress,
            )
        count = parse_stopping(n_samples, None, None).samples or 1
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        game = setting.game(setting.masks(feature_mask), setting.fill(baselines), perturbations_per_eval)
        with progress(game, self._label(show_progress), count + 1):
            rows, errors = self._fit_rows(game, kernel, count, source, return_std_error)
        values = finish(setting, game, rows, return_input_shape)
        return (values, finish(setting, game, errors, return_input_shape)) if return_std_error else values

    def _attribute_kwargs(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        **kwargs: Any,
    ) -> Any:
        """:meth:`attribute` with functions of the user or a subclass, sample by sample; further keywords are theirs."""
        n_samples, per_eval = kwargs.pop("n_samples", 25), kwargs.pop("perturbations_per_eval", 1)
        shaped, show = kwargs.pop("return_input_shape", True), kwargs.pop("show_progress", False)
        count = parse_stopping(n_samples, None, None).samples or 1
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        features, fill = setting.masks(feature_mask), setting.fill(baselines)
        if isinstance(baselines, Fill) or not isinstance(fill, ConstantReady):
            message = "A fill needs the class's own perturb_func and similarity."
            raise InputError(message)
        game = setting.game(features, fill, per_eval)
        rows = self._user_rows(setting, game, fill, (count, per_eval, show), kwargs)
        return finish(setting, game, rows, shaped)

    def _convert_output_shape(
        self,
        formatted_inp: tuple[Tensor, ...],
        feature_mask: tuple[Tensor, ...],
        coefs: Any,
        num_interp_features: int,
        is_inputs_tuple: bool,
    ) -> Any:
        """Coefficients of one model written on the elements of their features, for subclasses."""
        values = torch.as_tensor(coefs, device=_device(coefs)).detach().reshape(num_interp_features)
        parts = tuple(
            values.to(x.device)[m.to(x.device)]
            .expand(1, *x.shape[1:])
            .to(torch.promote_types(values.dtype, torch.float32))
            for x, m in zip(formatted_inp, feature_mask, strict=True)
        )
        return parts if is_inputs_tuple else parts[0]

    def _fit_rows(
        self, game: Game, kernel: ExponentialKernel, count: int, source: torch.Generator | None, with_errors: bool
    ) -> tuple[Fits, Fits]:
        """Coefficients ``(B, M)`` and their standard errors, from coalitions that are scored together."""
        models = count_models(game, game(everyone(game.players)))
        if not game.players:
            nothing = torch.zeros((models, 0), device="cpu")
            return nothing, nothing
        joint = models != game.batch
        if source is None and models > 1:
            coalitions = torch.empty((count, models, game.players), dtype=torch.bool, device="cpu")
            for own in coalitions.unbind(1):
                own.copy_(flip_coins(count, game.players, None))
        else:
            coalitions = flip_coins(count, game.players, source)
        scores = game(coalitions)
        weights = similarities(kernel, game, coalitions, joint and game.batch > 1)
        dtype = torch.float64 if game.dtype == torch.float64 else torch.float32
        fits: list[Any] = []
        errors: list[Any] = []
        for row in range(models):
            design = coalitions if coalitions.dim() == 2 else coalitions[:, row]
            parts = (design.to(dtype), scores[:, row].to(dtype), weights[:, row].to(dtype))
            if with_errors:
                errors.append(coefficient_errors(self.interpretable_model, *parts, source))
            fits.append(fit_model(self.interpretable_model, *parts))
        return merged(fits), merged(errors or fits)

    def _user_rows(
        self,
        setting: Setting,
        game: Game,
        fill: ConstantReady,
        options: tuple[int, int, bool],
        more: dict[str, Any],
    ) -> Fits:
        """Coefficients ``(B, M)`` with the user's functions, example by example; ``more`` keywords are for these."""
        features = game.features
        if not isinstance(features, Groups):
            message = "Expected features that are groups of elements."
            raise InputError(message)
        models = count_models(game, game(everyone(game.players))) if game.batch > 1 else 1
        out: list[Any] = []
        for row in range(models):
            pick = Rows(game.batch, torch.tensor([row]) if models > 1 else None)
            tensors = tuple(pick.pick(v) for v in setting.variable.values)
            ids = tuple(pick.spread(i).to(t.device) for i, t in zip(features.ids, tensors, strict=True))
            kwargs = {
                "feature_mask": setting.restore(ids),
                "baselines": setting.restore(tuple(pick.spread(b) for b in fill.bases)),
                "num_interp_features": features.players,
                **more,
            }
            local = at_inputs(_RowOf(setting.variable.score, pick), setting.restore(tensors), None, None)
            found, inner = self._fit_around(local, setting.restore(tensors), options, kwargs)
            game.shape, game.dtype = game.shape or (1,), inner.dtype
            out.append(found)
        return merged(out)


class _RowOf:
    """The score of the call for copies of one of its examples, or for copies of the batch."""

    def __init__(self, score: Any, rows: Rows) -> None:
        self._score = score
        self._rows = rows

    def __call__(self, *tensors: Any) -> Tensor:
        """One number per copy."""
        values = tuple(t for tensor in tensors for t in parse_inputs(tensor).tensors)
        if self._rows.index is None:
            copies = len(values[0]) // self._rows.batch
            rows = Rows(self._rows.batch, None if copies == 1 else torch.arange(self._rows.batch).repeat(copies))
        else:
            rows = Rows(self._rows.batch, self._rows.index.expand(len(values[0])))
        return self._score(values, rows)


def hooked(method: Lime) -> bool:
    """Whether a subclass runs the samples itself."""
    return getattr(type(method), HOOK) is not getattr(Lime, HOOK)


def own_kernel(method: Lime) -> ExponentialKernel | None:
    """The similarity when nothing that draws and weighs samples is a user's, so that they can be scored together."""
    kernel = method.similarity_func
    own = (
        method.perturb_func is default_perturb_func
        and method.from_interp_rep_transform is default_from_interp_rep_transform
        and method.perturb_interpretable_space
        and not hooked(method)
    )
    return kernel if own and isinstance(kernel, ExponentialKernel) and type(kernel) is ExponentialKernel else None


def flip_coins(count: int, players: int, source: torch.Generator | None) -> Tensor:
    """Coalitions, bool ``(count, M)``; from the global stream also what a fit takes from it."""
    flips = torch.empty((count, players), dtype=torch.bool, device="cpu")
    for block in flips.split(block_rows(players, 1)):
        block.copy_(torch.bernoulli(torch.full(block.shape, 0.5, device="cpu"), generator=source))
    if source is None:
        spend_fit(players)
    return flips


def count_models(game: Game, full: Tensor) -> int:
    """How many models to fit: one per example, or one when the output is a single number."""
    numbers = full.shape[1]
    if numbers not in (1, game.batch):
        message = (
            f"Expected one number per example or one for the batch, got an output of shape {game.shape} for "
            f"{game.batch} "
            "example(s): give a target."
        )
        raise OutputError(message)
    return numbers


def merged(found: list[Any]) -> Fits:
    """Representations of R models as ``(R, M)``; tuples, such as means and intervals, as tuples of these."""
    if isinstance(found[0], tuple):
        return tuple(_matrix(parts) for parts in zip(*found, strict=True))
    return _matrix(found)


def _matrix(parts: Iterable[Any]) -> Tensor:
    """One row per part, a tensor or an array."""
    rows = [torch.as_tensor(part, device=_device(part)).detach().reshape(1, -1) for part in parts]
    return torch.cat(rows) + 0.0  # a lasso's -0.0 is 0


def _device(part: Any) -> torch.device:
    return part.device if isinstance(part, Tensor) else HOST


def finish(setting: Setting, game: Game, rows: Fits, return_input_shape: bool) -> Any:
    """Coefficients ``(R, M)`` of R models, spread over the inputs or as they are; a tuple of results for a tuple."""
    if isinstance(rows, tuple):
        return tuple(finish(setting, game, part, return_input_shape) for part in rows)
    if return_input_shape:
        if rows.shape[1] != game.players:
            message = (
                f"Expected representation() to give a coefficient for each of the {game.players} features, got "
                f"{rows.shape[1]}: use return_input_shape=False."
            )
            raise OutputError(message)
        return setting.restore(setting.spread(game, rows.T.double(), keep_shape=False))
    dtype = game.dtype if game.dtype.is_floating_point else torch.get_default_dtype()
    return rows.to(dtype).to(setting.variable.values[0].device)
