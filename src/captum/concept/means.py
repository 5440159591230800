"""Concept vectors from means of activations: one pass, a row of memory for each concept, no solver."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum._engine.draws import one_generator
from captum.concept.classifier import Classifier, require_classes, require_share
from captum.errors import InputError, InputTypeError

__all__ = ["MeanClassifier"]


class MeanClassifier(Classifier):
    r"""Weights that point to a concept's mean activation: :math:`w_c = \mu_c - \frac1K \sum_k \mu_k`.

    An example is told to be of the concept whose mean is nearest. Where activations of all concepts spread alike in all
    directions, this is the best linear classifier; activations are read batch by batch, so that neither memory nor time
    depends on a solver, as they do with :class:`DefaultClassifier`. scikit-learn is not needed.

    L. Schmalwasser, N. Penzel, J. Denzler, J. Niebling, "FastCAV: efficient computation of concept activation vectors
    for explaining deep neural networks", 2025.

    Example:
        >>> classifier = MeanClassifier()
        >>> _ = classifier.train_and_eval([(torch.tensor([[1.0, 0.0], [3.0, 2.0]]), torch.tensor([7, 9]))], 0.0)
        >>> classifier.weights()
        tensor([[-1., -1.],
                [ 1.,  1.]])
    """

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._means: Tensor | None = None
        self._dtype = torch.get_default_dtype()

    def train_and_eval(
        self,
        dataloader: Iterable[Sequence[Tensor]],
        test_split_ratio: float = 0.33,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Average the activations of a random part of the rows, and measure the accuracy on the others.

        Args:
            dataloader: batches of ``(activations (n, F), ids (n,))``, which can be read twice.
            test_split_ratio: share of the rows that are held out on average, at least 0 and below 1 (default 0.33).
            generator: torch generator that chooses them; None for torch's global one.
            seed: makes a fresh generator; not together with ``generator``.
            kwargs: none: there is nothing else to choose.

        Returns:
            ``accs``: share of the held-out rows whose concept is told, NaN when there is none.

        Raises:
            InputError: when there is nothing to tell apart.
            InputTypeError: when it is given other arguments.
        """
        if kwargs:
            message = f"MeanClassifier takes test_split_ratio, generator and seed, got {sorted(kwargs)}."
            raise InputTypeError(message)
        require_share(test_split_ratio)
        source = one_generator(generator, seed)
        device = "cpu" if source is None else source.device
        held: list[Tensor] = []
        seen: set[int] = set()
        sums: dict[int, Tensor] = {}
        counts: dict[int, int] = {}
        for x, y in dataloader:
            held.append(torch.rand(len(x), generator=source, device=device).cpu() < test_split_ratio)
            seen.update(y.tolist())
            self._dtype = x.dtype
            for number in sorted(set(y[~held[-1].to(y.device)].tolist())):
                rows = x[((y == number).cpu() & ~held[-1]).to(x.device)]
                sums[number] = sums.get(number, 0) + rows.double().sum(0)
                counts[number] = counts.get(number, 0) + len(rows)
        require_classes(seen, set(sums))
        self._ids = sorted(sums)
        means = torch.stack([sums[number] / counts[number] for number in self._ids])
        self._means = means
        return {"accs": _accuracy(dataloader, held, means, self._ids)}

    def weights(self) -> Tensor:
        """One row of weights for each concept, ``(n_concepts, F)``.

        Raises:
            InputError: before training.
        """
        if self._means is None:
            message = "The weights are found by training: call train_and_eval first."
            raise InputError(message)
        return (self._means - self._means.mean(0)).to(self._dtype)

    def classes(self) -> list[int]:
        """The ids of the concepts in the order of the weights."""
        return list(self._ids)


def _accuracy(data: Iterable[Sequence[Tensor]], held: list[Tensor], means: Tensor, ids: list[int]) -> Tensor:
    """Share of the held-out rows that are nearest to the mean of their own concept."""
    names = torch.tensor(ids, device="cpu")
    right = count = 0
    for (x, y), mask in zip(data, held, strict=False):
        if mask.any():
            rows = x[mask.to(x.device)].double()
            said = names[torch.cdist(rows, means).argmin(1).cpu()]
            right += int((said == y.cpu()[mask]).sum())
            count += len(rows)
    return torch.tensor(right / count if count else math.nan, device="cpu")
