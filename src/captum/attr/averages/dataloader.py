"""DataLoaderAttribution: perturbation methods whose score is a metric over a whole DataLoader."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from captum._engine.values import Inputs, describe, parse_baselines
from captum.attr.averages.batches import InputRole, per_element
from captum.attr.averages.drivers import SUPPORTED_METHODS, Options, check_method, counts, estimator_of, features_of
from captum.attr.averages.loader_game import BatchFill, LoaderGame, Reduce, Roles, Tensors, concatenate
from captum.attr.base import Attribution, PerturbationAttribution
from captum.attr.games.exact import Hierarchy
from captum.attr.games.features import Features, Groups
from captum.attr.games.fills import ConstantReady, Fill, Permuted, Ready, permutation
from captum.attr.games.lime import Lime
from captum.attr.games.permutation import FeaturePermutation, PermutedByFunction, moved_features, permute_rows
from captum.attr.games.play import play
from captum.attr.games.setting import check_per_eval, result_dtype
from captum.attr.games.stopping import Samples, parse_generator
from captum.errors import CaptumWarning, InputError, InputTypeError
from captum.log import log_usage

__all__ = ["SUPPORTED_METHODS", "DataLoaderAttribution", "InputRole"]


def _check_loader(loader: object, by_row: bool) -> None:
    """Require something that yields batches, in the same order each time where outputs are compared row by row."""
    if isinstance(loader, Tensor) or not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        message = f"Expected a DataLoader, or a list of batches, got {describe(loader)}."
        raise InputTypeError(message)
    if not by_row:
        return
    from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler

    samplers = (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None))
    if any(isinstance(s, (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)) for s in samplers):
        message = (
            "The loader yields its rows in another order in every pass, so that outputs of two passes belong to other "
            "rows: pass shuffle=False, or a reduce whose metric does not depend on the order."
        )
        warnings.warn(message, CaptumWarning, stacklevel=4)


class DataLoaderAttribution(Attribution):
    """Attribution of a metric over a whole DataLoader: each perturbation is applied to every batch.

    Args:
        attr_method: a :class:`FeatureAblation`, :class:`FeaturePermutation`, :class:`Occlusion`,
            :class:`ShapleyValues`, :class:`ShapleyValueSampling`, :class:`OwenValues`, :class:`KernelShap` or
            :class:`Lime` of the model, or of a subclass that leaves ``attribute`` as it is; it is not changed. Lime
            weighs a coalition by the similarity of the whole data with what the coalition leaves of it.

    Example:
        >>> import torch
        >>> from captum.attr import FeatureAblation
        >>> loader = torch.utils.data.DataLoader(torch.arange(6.0).reshape(3, 2))
        >>> method = DataLoaderAttribution(FeatureAblation(lambda x: x.sum(1)))
        >>> method.attribute(loader, reduce=lambda total, out, _: out.sum() + (0 if total is None else total))
        (tensor([[6., 9.]]),)
    """

    def __init__(self, attr_method: PerturbationAttribution) -> None:
        check_method(attr_method)
        super().__init__(attr_method.forward_func)
        self.attr_method = attr_method

    @log_usage()
    def attribute(
        self,
        dataloader: Iterable[Any],
        input_roles: Roles | None = None,
        baselines: Any = None,
        feature_mask: Any = None,
        reduce: Reduce | None = None,
        to_metric: Callable[[Any], Tensor] | None = None,
        perturbations_per_pass: int = 1,
        show_progress: bool = False,
        return_input_shape: bool = True,
        *,
        n_samples: Samples | None = None,
        sliding_window_shapes: Any = None,
        strides: Any = None,
        groups: Hierarchy | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        tol: float | None = None,
        max_evals: int | None = None,
        return_std_error: bool = False,
    ) -> Any:
        """How much each feature makes of a metric over the data.

        Args:
            dataloader: yields batches: tensors; sequences, whose elements are passed to the model one by one; mappings,
                whose entries are passed by name, or as a mapping where the model wants that; dataclasses.
            input_roles: role of each element of a batch, see :class:`InputRole`: a tuple, or a mapping by name; None:
                all are attributed.
            baselines: None for zeros, numbers, or tensors ``(1, *)``, for the elements of role 0: a tuple, or a mapping
                by name; or a fill of ``captum.attr.games.fills``.
            feature_mask: integer tensors ``(1, *)`` for the elements of role 0, likewise; equal ids, also in several
                elements, are one feature.
            reduce: ``(accum, output, batch) -> accum``, accum None at first, batch a tuple of all its elements; None
                concatenates outputs.
            to_metric: from what is accumulated to a Tensor; None when it is one.
            perturbations_per_pass: perturbations that share a traversal of the data.
            show_progress: whether to draw a progress bar, of batches.
            return_input_shape: whether values are spread over elements, or returned as a matrix ``(n, M)``.
            n_samples: of sampling methods: orders (ShapleyValueSampling, OwenValues) or coalitions (KernelShap, Lime),
                or ``"auto"``; None for 25, and for exact Owen values. Of FeaturePermutation: permutations of each
                feature; None for one.
            sliding_window_shapes: of Occlusion: window shape without the batch, or a tuple of them.
            strides: of Occlusion, as for :meth:`Occlusion.attribute`.
            groups: of OwenValues: the hierarchy of features.
            generator: source of randomness; None for torch's global one. Rows that are permuted keep their permutation
                in every pass over the data.
            seed: or a seed for a generator of its own.
            tol: of sampling methods: relative error to reach (default 0.02 for ``"auto"``).
            max_evals: of sampling methods: most coalitions to evaluate (16384 for ``"auto"``).
            return_std_error: whether to return standard errors too, zero for exact values.

        Returns:
            A tuple with a tensor ``(n, *)`` per element of role 0, for a metric of ``n`` elements; or a matrix
            ``(n, M)``. With their standard errors in the same form, if asked for. A tuple of these
            results when the representation of Lime's model is a tuple.

        Raises:
            InputError: when roles, baselines or masks do not fit the batches.
        """
        check_per_eval(perturbations_per_pass, "perturbations_per_pass")
        source = parse_generator(generator, seed)
        _check_loader(dataloader, by_row=reduce is None and to_metric is None)
        reduce = reduce or concatenate
        game = LoaderGame(self.forward_func, dataloader, input_roles, reduce, to_metric, perturbations_per_pass)
        with torch.no_grad(), _bar(game, self._label(show_progress), dataloader) as bar:
            samples = game.look()
            limits = (tol, max_evals, return_std_error)
            mask = per_element(feature_mask, game.names, "feature_mask")
            options = Options(mask, sliding_window_shapes, strides, groups, n_samples, source, *limits)
            features = features_of(self.attr_method, options, samples)
            game.features = features
            seeds = _Seeds(baselines.generator or source if isinstance(baselines, Permuted) else source)
            game.fill, game.draws = self._fill(features, baselines, _as_inputs(samples, game.names), seeds)
            game.begin = seeds.begin
            game.measured = isinstance(self.attr_method, Lime)
            body, count = estimator_of(self.attr_method, features.players, options, game)
            bar.expect(count, perturbations_per_pass)
            found = play(body, game)
        dtype = game.dtype if counts(self.attr_method, options, game) else result_dtype(game.dtype)

        def shaped(values: Tensor) -> Any:
            if not return_input_shape:
                return values.T.to(dtype).to(samples[0].device)
            parts = features.spread(values, 1)
            return tuple(p.to(dtype).to(t.device) for p, t in zip(parts, samples, strict=True))

        return tuple(shaped(values) for values in found) if isinstance(found, tuple) else shaped(found)

    def attribute_future(self) -> None:
        """Not offered: raises NotImplementedError."""
        message = "attribute_future is not implemented for DataLoaderAttribution."
        raise NotImplementedError(message)

    def _fill(self, features: Features, baselines: Any, samples: Inputs, seeds: _Seeds) -> tuple[BatchFill, int]:
        """What absent features become in a batch, the same in every pass; and how many fillings are averaged."""
        method = self.attr_method
        if isinstance(method, FeaturePermutation) and isinstance(features, Groups):
            if baselines is not None:
                message = "FeaturePermutation takes no baselines: features take the values of other rows."
                raise InputError(message)
            return _permuting(features, method, seeds), 1
        if isinstance(baselines, Permuted):
            return lambda tensors, place, _: Permuted(seeds.of(place)).ready(_as_inputs(tensors, samples.names)), 1
        if isinstance(baselines, Fill):
            draws = baselines.ready(samples).draws
            return lambda tensors, _, __: baselines.ready(_as_inputs(tensors, samples.names)), draws
        entries = per_element(baselines, samples.names, "baselines")
        fixed = parse_baselines(entries, replace(samples, form="tuple"))

        def constant(tensors: Tensors, *_: object) -> Ready:
            return ConstantReady(tuple(b.to(t.device) for b, t in zip(fixed, tensors, strict=True)))

        return constant, 1


#: Between the seeds of two features: odd, so that they all differ.
_STEP = 0x9E3779B97F4A7C15


class _Seeds:
    """A generator for each batch, and each of its features, the same in every pass over the data in a round.

    Seeds are drawn when a batch is met first.
    """

    def __init__(self, source: torch.Generator | None) -> None:
        self.source = source
        self._drawn: list[int] = []

    def begin(self, number: int) -> None:
        """A round of other permutations begins, unless it is the first."""
        if number:
            self._drawn = []

    def of(self, place: int, feature: int = 0) -> torch.Generator:
        """The generator of the batch of that number, for a feature."""
        while len(self._drawn) <= place:
            self._drawn.append(int(torch.randint(1 << 62, (), generator=self.source, device="cpu")))
        return torch.Generator("cpu").manual_seed((self._drawn[place] + feature * _STEP) % (1 << 62))


def _permuting(features: Groups, method: FeaturePermutation, seeds: _Seeds) -> BatchFill:
    """Features take the values of other rows of their batch."""
    if method.perm_func is permute_rows:

        def permuted(tensors: Tensors, place: int, coalitions: Tensor) -> Ready:
            rows = max(len(t) for t in tensors)
            if not rows:
                return ConstantReady(tensors)
            absent = (~coalitions).any(0).nonzero()[:, 0].tolist()
            moves = ((player, permutation(rows, seeds.of(place, player))) for player in absent)
            return ConstantReady(moved_features(features, tensors, rows, moves))

        return permuted
    if seeds.source is not None:
        message = "A perm_func draws its own permutations: pass it the generator, not attribute()."
        raise InputError(message)
    function = method.perm_func
    return lambda _, __, ___: PermutedByFunction(function)


def _as_inputs(tensors: Tensors, names: tuple[str, ...]) -> Inputs:
    return Inputs(tensors, names, "tensor" if len(tensors) == 1 else "tuple")


def _length(loader: Iterable[Any]) -> int | None:
    """Number of batches; None where it is not known, as for a DataLoader of an IterableDataset."""
    try:
        return len(loader)  # pyright: ignore[reportArgumentType]  # asked by trying
    except TypeError:
        return None


class _bar:  # noqa: N801  # used like a function in a with statement
    """A progress bar of batches."""

    def __init__(self, game: LoaderGame, label: str | None, loader: Iterable[Any]) -> None:
        self._bar: Any = None
        if label is not None:
            from tqdm.auto import tqdm

            self._batches = _length(loader)
            self._bar = tqdm(desc=label, unit="batch")
            self._bar.leave = self._bar.pos == 0  # below another bar it vanishes when done
            game.advance = self._bar.update

    def expect(self, count: int | None, per_pass: int) -> None:
        """Set the length of the bar, if coalitions and batches can be counted; the first coalition has its own pass."""
        if self._bar is not None and self._batches is not None and count is not None:
            self._bar.total = (1 - (1 - count) // per_pass) * self._batches
            self._bar.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bar is None:
            return
        if kind is None:
            self._bar.total = self._bar.n  # estimators remember, and stop early
            self._bar.refresh()
        self._bar.close()
