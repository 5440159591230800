"""LimeBase: fit an interpretable model to scores of perturbed inputs, all parts supplied by the user."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from captum._engine.rows import Rows
from captum._engine.values import describe, parse_inputs
from captum.attr.base import PerturbationAttribution
from captum.attr.games.features import Groups
from captum.attr.games.fills import ConstantReady
from captum.attr.games.game import Game
from captum.attr.games.play import HOST
from captum.attr.games.setting import Setting, at_inputs, check_per_eval, progress
from captum.attr.games.stopping import parse_stopping
from captum.attr.games.variable import RawScore
from captum.errors import CaptumWarning, InputError, OutputError
from captum.linear.model import Model
from captum.log import log_usage

__all__ = ["LimeBase"]

Tensors = tuple[Tensor, ...]
#: Elements of the perturbed inputs that are held at once.
HELD = 1 << 24
#: Held while a model is fitted and read, as calls in other threads may share it.
FITTING = threading.RLock()


class _Listed(Game):
    """A game whose variants are perturbed inputs in a list: packed and checked like coalitions."""

    samples: list[Tensors]

    def filled(self, variants: Tensor, first: int = 0) -> tuple[Tensors, Rows]:
        """See :class:`Game`: variants are numbers in the list."""
        del first
        chosen = [self.samples[i] for i in variants[:, 0].tolist()]
        count = len(chosen)
        flat = tuple(torch.cat(parts) for parts in zip(*chosen, strict=True))
        return flat, Rows(self.batch, None if count == 1 else torch.arange(self.batch, device="cpu").repeat(count))


class _Whole(ConstantReady):
    """Perturbed inputs cover the whole batch."""

    whole = True


class _Rows(TensorDataset):
    """Rows of tensors, a batch of which is read at once; that of all rows in order is the tensors themselves."""

    def __getitems__(self, indices: list[int]) -> Tensors:
        """The rows of a batch, for a loader."""
        if indices == list(range(len(self.tensors[0]))):
            return self.tensors
        return tuple(tensor[indices] for tensor in self.tensors)


def _as_read(batch: list[Any]) -> list[Any]:
    return list(batch)


def fit_model(model: Any, samples: Tensor, scores: Tensor, weights: Tensor) -> Any:
    """Fit an interpretable model to samples ``(K, M)``, scores ``(K,)`` and weights ``(K,)``: its representation.

    The global stream is as before; :func:`spend_fit` moves it on.
    """
    data = _Rows(samples, scores, weights)
    with FITTING, torch.random.fork_rng(devices=[]), HOST:
        try:
            model.fit(DataLoader(data, batch_size=len(samples), collate_fn=_as_read))
        except Exception as fault:
            lost = int((~scores.isfinite()).sum())
            if not lost:
                raise
            message = (
                f"The model gave NaN or inf for {lost} of {len(scores)} perturbed inputs of an example, to which "
                f"{type(model).__name__} cannot be fitted: check the baselines, or replace such scores in the forward "
                "function."
            )
            raise OutputError(message) from fault
        return model.representation()


def spend_fit(players: int) -> None:
    """Take from torch's global stream what fitting a linear model to ``players`` features takes.

    A loader's seed and the start values of a linear layer: published numbers of all rows but the first depend on them.
    """
    torch.empty((), dtype=torch.int64, device="cpu").random_()
    if players:  # torch warns of layers without weights
        torch.nn.Linear(players, 1, device="cpu")


def one_score(game: Game, scores: Tensor) -> Tensor:
    """Require one number per perturbed input, ``(K,)``."""
    if scores.shape[1] != 1:
        message = (
            f"Expected one output per perturbed input, got {scores.shape[1]} for {game.batch} row(s), output shape "
            f"{game.shape}: give a target, or one example at a time."
        )
        raise OutputError(message)
    return scores[:, 0]


class LimeBase(PerturbationAttribution):
    """Local surrogate: an interpretable model fitted to the scores of perturbed inputs, weighted by their similarity.

    M. Ribeiro, S. Singh, C. Guestrin, "Why should I trust you?", 2016, arXiv:1602.04938.

    Args:
        forward_func: the model or function.
        interpretable_model: a :class:`captum.linear.Model`: ``fit(dataloader)`` and ``representation()``.
        similarity_func: ``(original_inp, perturbed_inp, interpretable_sample, **kwargs) -> float``.
        perturb_func: ``(original_inp, **kwargs) -> sample``, or a generator function that yields samples.
        perturb_interpretable_space: whether samples are interpretable vectors ``(1, M)``, or perturbed inputs.
        from_interp_rep_transform: ``(sample, original_inp, **kwargs) -> perturbed input``; needed if the former.
        to_interp_rep_transform: ``(perturbed_inp, original_inp, **kwargs) -> sample (1, M)``; needed if the latter.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        interpretable_model: Model,
        similarity_func: Callable[..., Any],
        perturb_func: Callable[..., Any],
        perturb_interpretable_space: bool,
        from_interp_rep_transform: Callable[..., Any] | None,
        to_interp_rep_transform: Callable[..., Any] | None,
    ) -> None:
        super().__init__(forward_func)
        self.interpretable_model = interpretable_model
        self.similarity_func = similarity_func
        self.perturb_func = perturb_func
        self.perturb_interpretable_space = perturb_interpretable_space
        self.from_interp_rep_transform = from_interp_rep_transform
        self.to_interp_rep_transform = to_interp_rep_transform
        needed = "from_interp_rep_transform" if perturb_interpretable_space else "to_interp_rep_transform"
        if getattr(self, needed) is None:
            message = f"perturb_interpretable_space={perturb_interpretable_space} needs {needed}, got None."
            raise InputError(message)

    @property
    def multiplies_by_inputs(self) -> bool:
        """False: coefficients belong to interpretable features, not to values."""
        return False

    @log_usage()
    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        n_samples: int = 50,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The representation of the model fitted around the inputs.

        Args:
            inputs: what is explained: tensor or tuple; a batch is one input.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            n_samples: number of perturbed inputs (default 50).
            perturbations_per_eval: perturbed inputs per forward pass; 1 (default) plans it when outputs grow with the
                batch.
            show_progress: whether to draw a progress bar.
            kwargs: passed on to the user's functions.

        Returns:
            ``interpretable_model.representation()`` as it is, usually ``(1, M)``.

        Raises:
            OutputError: when the output is not one number per perturbed input.
        """
        parse_stopping(n_samples, None, None)
        setting = at_inputs(self.forward_func, inputs, target, additional_forward_args)
        options = (n_samples, check_per_eval(perturbations_per_eval), show_progress)
        return self._fit_around(setting, inputs, options, kwargs)[0]

    def _fit_around(
        self, setting: Setting, inputs: Any, options: tuple[int, int, bool], kwargs: dict[str, Any]
    ) -> tuple[Any, Game]:
        """Draw, score and fit around one input; the model's representation, and the game that was played."""
        count, per_eval, show = options
        values = setting.variable.values
        game = _Listed(setting.variable, Groups((None,) * len(values), values), _Whole(values), per_eval)
        held = max(1, HELD // max(1, sum(v.numel() for v in values)))
        samples: list[Tensor] = []
        weights: list[Tensor] = []
        scores: list[Tensor] = []
        draws = self._draws(inputs, count, kwargs)
        with progress(game, self._label(show), count):
            while block := list(islice(draws, held)):
                game.samples = [self._tensors(perturbed) for _, perturbed, _ in block]
                numbers = torch.arange(len(block), device="cpu")[:, None]
                scores += [one_score(game, game(n)) for n in (numbers[:1], numbers[1:]) if len(n)]
                samples += [interpretable for interpretable, _, _ in block]
                weights += [
                    torch.as_tensor(weight, device="cpu").detach().reshape(-1)[:1].double() for _, _, weight in block
                ]
        if not samples:
            message = "perturb_func gave no samples."
            raise InputError(message)
        dtype = torch.float64 if game.dtype == torch.float64 else torch.float32
        parts = (torch.cat(samples).to(dtype), torch.cat(scores).to(dtype), torch.cat(weights).to(dtype))
        found = fit_model(self.interpretable_model, *parts)
        spend_fit(parts[0].shape[1])
        return found, game

    def attribute_future(self) -> None:
        """Not offered: raises NotImplementedError."""
        message = f"attribute_future is not implemented for {type(self).__name__}."
        raise NotImplementedError(message)

    def _evaluate_batch(
        self, curr_model_inputs: list[Any], expanded_target: Any, expanded_additional_args: Any, device: torch.device
    ) -> Tensor:
        """Scores ``(k,)`` of ``k`` perturbed inputs in one forward pass; for subclasses with a loop of their own.

        Args:
            curr_model_inputs: perturbed inputs, each a tensor or a tuple of tensors.
            expanded_target: target for all of their rows.
            expanded_additional_args: constants for all of their rows.
            device: where a number of Python goes.
        """
        several = [i if isinstance(i, tuple) else (i,) for i in curr_model_inputs]
        joined = tuple(torch.cat(parts) for parts in zip(*several, strict=True))
        inputs = parse_inputs(joined if isinstance(curr_model_inputs[0], tuple) else joined[0], self.forward_func)
        score = RawScore(self.forward_func, inputs, expanded_target, expanded_additional_args)
        output: Any = score.output(inputs.tensors, score.everyone())
        if isinstance(output, (int, float)):
            scores = torch.tensor([output], device=device)
        else:
            scores = score.select(output, score.everyone()).reshape(-1)
        if len(scores) != len(several):
            message = (
                f"Expected one output per perturbed input, got {len(scores)} for {len(several)} perturbed input(s) of "
                f"{inputs.batch} row(s) in all: give a target, or perturbations_per_eval=1."
            )
            raise OutputError(message)
        return scores

    def _draws(self, inputs: Any, n_samples: int, kwargs: dict[str, Any]) -> Iterator[tuple[Tensor, Any, Any]]:
        """Interpretable sample, perturbed input and weight, ``n_samples`` times or until the user's generator ends."""
        stream = self.perturb_func(inputs, **kwargs) if inspect.isgeneratorfunction(self.perturb_func) else None
        for number in range(n_samples):
            try:
                drawn = self.perturb_func(inputs, **kwargs) if stream is None else next(stream)
            except StopIteration:
                message = f"perturb_func ended after {number} of {n_samples} samples: the model is fitted to these."
                warnings.warn(message, CaptumWarning, stacklevel=4)
                return
            if self.perturb_interpretable_space and self.from_interp_rep_transform is not None:
                interpretable, perturbed = drawn, self.from_interp_rep_transform(drawn, inputs, **kwargs)
            elif self.to_interp_rep_transform is not None:
                interpretable, perturbed = self.to_interp_rep_transform(drawn, inputs, **kwargs), drawn
            else:
                return
            if not isinstance(interpretable, Tensor) or interpretable.dim() != 2:
                message = f"Expected interpretable samples as tensors (1, M), got {describe(interpretable)}."
                raise InputError(message)
            weight = self.similarity_func(inputs, perturbed, interpretable, **kwargs)
            yield interpretable.detach().cpu(), perturbed, weight

    def _tensors(self, perturbed: Any) -> Tensors:
        return tuple(t.detach() for t in parse_inputs(perturbed, self.forward_func).tensors)
