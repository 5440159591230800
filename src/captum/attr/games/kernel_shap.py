"""KernelShap: Shapley values by regression, exact when the budget covers all coalitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from captum.attr.games.game import Game
from captum.attr.games.lime import Lime, count_models, default_from_interp_rep_transform, finish, hooked
from captum.attr.games.play import HOST, block_rows, everyone, nobody, play
from captum.attr.games.regression import paired_regression
from captum.attr.games.setting import at_inputs, progress
from captum.attr.games.stopping import Samples, parse_generator, parse_stopping
from captum.attr.games.surrogate import spend_fit
from captum.errors import InputError
from captum.linear import SkLearnLinearRegression, least_squares
from captum.log import log_usage

__all__ = ["KernelShap"]

Sampling = Literal["leverage", "kernel", "upstream"]
#: Weight of the full and the empty coalition in place of an infinite one.
ENDS = 1_000_000.0


def _sizes(players: int) -> torch.distributions.Categorical:
    """Distribution over coalition sizes ``0…M−1``: size k with odds (M−1)/(k (M−k)), never 0."""
    odds = [0.0, *((players - 1) / (k * (players - k)) for k in range(1, players))]
    return torch.distributions.Categorical(torch.tensor(odds))


def _one(players: int, sizes: torch.distributions.Categorical) -> Tensor:
    """One coalition from torch's global stream, bool ``(1, M)``: a size, then its members."""
    size = int(sizes.sample())
    keys = torch.randn(1, players)
    members = torch.zeros((1, players), dtype=torch.bool)
    return members.scatter_(1, keys.topk(size, 1).indices, True)


class KernelShap(Lime):
    r"""Kernel SHAP: Shapley values as the solution of a weighted least-squares problem over coalitions.

    :math:`\min_\varphi \sum_z \frac{M-1}{\binom{M}{|z|}\,|z|\,(M-|z|)} (F(x_z) - F(x') - z \cdot \varphi)^2` under
    :math:`\sum \varphi = F(x) - F(x')`, absent features at the baseline ``x'``.

    When ``n_samples`` covers all ``2**M`` coalitions they are all scored and the values are exact. Else coalitions are
    drawn in complementary pairs, without replacement, small and large ones first, and a surrogate with three-way
    products takes up what it can before the fit.

    S. Lundberg, S. Lee, "A unified approach to interpreting model predictions", 2017, arXiv:1705.07874. Leverage
    weights: C. Musco, R. Witter, arXiv:2410.01917. Adjustment: R. Witter, Y. Liu, C. Musco, arXiv:2506.11849.

    Args:
        forward_func: the model or function.

    Example:
        >>> import torch
        >>> KernelShap(lambda x: x[:, 0] * x[:, 1]).attribute(torch.tensor([[2.0, 3.0]]))
        tensor([[3., 3.]])
    """

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        super().__init__(
            forward_func,
            interpretable_model=SkLearnLinearRegression(),
            similarity_func=self.kernel_shap_similarity_kernel,
            perturb_func=self.kernel_shap_perturb_generator,
        )
        self._own_model = self.interpretable_model

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: values are shares of ``F(x) − F(x')``."""
        return True

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
        return_input_shape: bool = True,
        show_progress: bool = False,
        *,
        sampling: Sampling = "leverage",
        adjusted: bool = True,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        tol: float | None = None,
        max_evals: int | None = None,
        return_std_error: bool = False,
    ) -> Any:
        """Shapley values of the features.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; examples are explained together with the same
                coalitions.
            baselines: None for zeros, numbers, tensors ``(1, *)`` or ``(B, *)``, or a fill of
                ``captum.attr.games.fills``.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            feature_mask: integer tensors that broadcast to the inputs; equal ids, also in several tensors, are one
                feature.
            n_samples: evaluations per example (default 25), the full and the empty coalition included; or ``"auto"`` to
                go on until ``tol`` is met.
            perturbations_per_eval: coalitions per forward pass; 1 (default) plans it.
            return_input_shape: whether values are spread over the inputs, or returned as a matrix.
            show_progress: whether to draw a progress bar.
            sampling: how draws spread over coalition sizes: ``"leverage"`` (default), ``"kernel"``; or ``"upstream"``
                for the stream of captum 0.9: with replacement, unpaired, never exact, new coalitions for each example.
            adjusted: whether to fit the surrogate first (default).
            generator: source of randomness; None draws from torch's global one.
            seed: or a seed for a generator of its own.
            tol: relative error to reach: ‖standard errors‖ ≤ tol · ‖values‖ for every example (default 0.02 for
                ``"auto"``).
            max_evals: most evaluations per example (16384 for ``"auto"``).
            return_std_error: whether to return standard errors too, zero where values are exact.

        Returns:
            Attributions in the structure of ``inputs`` (``(1, *)`` when the output is one number for the batch), or a
            matrix ``(B, M)``; with their standard errors in the same form, if asked for.

        Raises:
            OutputError: when the output is neither one number per example nor one for the batch.
        """
        stopping = parse_stopping(n_samples, tol, max_evals)
        source = parse_generator(generator, seed)
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        if overridden(self):
            ours = sampling == "leverage" and adjusted and source is None and tol is None and max_evals is None
            if not ours or stopping.samples is None or return_std_error:
                message = (
                    "This KernelShap has its own samples, weights or interpretable model: it takes a number of "
                    "samples, and none of sampling, adjusted, generator, seed, tol, max_evals, return_std_error."
                )
                raise InputError(message)
            players = setting.masks(feature_mask).players
            return self._attribute_kwargs(
                inputs=inputs,
                baselines=baselines,
                target=target,
                additional_forward_args=additional_forward_args,
                feature_mask=feature_mask,
                n_samples=stopping.samples,
                perturbations_per_eval=perturbations_per_eval,
                return_input_shape=return_input_shape,
                show_progress=show_progress,
                num_select_distribution=_sizes(players) if players > 1 else None,
            )
        game = setting.game(setting.masks(feature_mask), setting.fill(baselines), perturbations_per_eval)
        if sampling not in ("leverage", "kernel", "upstream"):
            message = f"Expected sampling to be 'leverage', 'kernel' or 'upstream', got {sampling!r}."
            raise InputError(message)
        with progress(game, self._label(show_progress), stopping.samples):
            full = game(everyone(game.players))
            count_models(game, full)
            if sampling == "upstream":
                if stopping.samples is None or source is not None or return_std_error:
                    message = (
                        "sampling='upstream' takes a number of samples from torch's global stream, without errors."
                    )
                    raise InputError(message)
                with HOST:
                    values = _published(game, full, stopping.samples)
                return finish(setting, game, values.T, return_input_shape)
            body = paired_regression(game.players, stopping, sampling, source, adjusted, return_std_error)
            with HOST:
                next(body)
            estimate = play(_resumed(body, full), game)
        values, errors = (finish(setting, game, t.T, return_input_shape) for t in (estimate.values, estimate.errors))
        return (values, errors) if return_std_error else values

    def kernel_shap_similarity_kernel(self, _: Any, __: Any, interpretable_sample: Tensor, **kwargs: Any) -> Tensor:
        """Weight of a coalition: very large for the full and the empty one, else 1, as sizes are drawn by the kernel.

        Args:
            _: not used.
            __: not used.
            interpretable_sample: the coalition, ``(1, M)``.
            kwargs: ``num_interp_features``.
        """
        size = int(interpretable_sample.sum())
        return torch.tensor([ENDS if size in (0, kwargs["num_interp_features"]) else 1.0])

    def kernel_shap_perturb_generator(self, original_inp: Any, **kwargs: Any) -> Iterator[Tensor]:
        """The full coalition, the empty one, then random ones, LongTensors ``(1, M)``.

        Args:
            original_inp: the input; samples go to its device.
            kwargs: ``num_interp_features``, and ``num_select_distribution`` over sizes (default: by the kernel).
        """
        first = original_inp if isinstance(original_inp, Tensor) else original_inp[0]
        players = kwargs["num_interp_features"]
        yield everyone(players).long().to(first.device)
        yield nobody(players).long().to(first.device)
        while players < 2:
            yield everyone(players).long().to(first.device)
            yield nobody(players).long().to(first.device)
        sizes = kwargs.get("num_select_distribution") or _sizes(players)
        while True:
            yield _one(players, sizes).long().to(first.device)


def overridden(method: KernelShap) -> bool:
    """Whether a subclass, or somebody on this object, replaced a part: then samples are drawn as it says."""
    changed = hooked(method)
    for name, source in (
        ("perturb_func", "kernel_shap_perturb_generator"),
        ("similarity_func", "kernel_shap_similarity_kernel"),
    ):
        own = getattr(KernelShap, source)
        if source in vars(method) and getattr(getattr(method, name), "__func__", None) is own:
            setattr(method, name, vars(method)[source])
        changed = changed or getattr(getattr(method, name), "__func__", None) is not own
    return (
        changed
        or method.interpretable_model is not vars(method).get("_own_model")
        or method.from_interp_rep_transform is not default_from_interp_rep_transform
    )


def _resumed(body: Any, full: Tensor) -> Any:
    """An estimator whose first question is answered already."""
    try:
        asked = body.send(full)
        while True:
            asked = body.send((yield asked))
    except StopIteration as end:
        return end.value


def _published(game: Game, full: Tensor, count: int) -> Tensor:
    """Values ``(M, R)`` from the draws of captum 0.9: sizes by the kernel, with replacement, one fit per example."""
    players, models = game.players, full.shape[1]
    empty = game(nobody(players))
    if players < 2:
        return (full - empty)[:players]
    sizes = _sizes(players)
    drawn: list[Tensor] = []
    for _ in range(models):
        others = [_one(players, sizes) for _ in range(count - 2)]
        spend_fit(players)
        drawn.append(torch.cat([everyone(players), nobody(players), *others])[:count])
    scores = torch.cat([full, empty])
    if count > 2:
        asked = torch.stack([d[2:] for d in drawn], 1)
        scores = torch.cat([scores, game(asked if models > 1 else asked[:, 0])])
    step = block_rows(count * players, 1)
    fits: list[Tensor] = []
    for start in range(0, models, step):
        design = torch.stack(drawn[start : start + step]).double()
        weights = torch.ones(design.shape[:2], dtype=torch.float64)
        weights[:, :2] = ENDS
        fits.append(least_squares(design, scores[:count, start : start + step].T, weights).coefficients)
    return torch.cat(fits).T
