"""Classifiers of concepts: their weights are the concept activation vectors."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum._engine.draws import one_generator
from captum.errors import InputError, InputTypeError
from captum.linear import SkLearnSGDClassifier

__all__ = ["Classifier", "DefaultClassifier", "require_classes", "require_share"]


class Classifier(ABC):
    """A linear classifier that tells concepts apart by the activations of a layer.

    TCAV calls :meth:`train_and_eval` once for each set of concepts and each layer, and reads :meth:`weights` and
    :meth:`classes` after it.

    Example:
        >>> class Means(Classifier):
        ...     def train_and_eval(self, dataloader, **kwargs):
        ...         x, y = (torch.cat(parts) for parts in zip(*dataloader))
        ...         self.ids, self.means = y.unique().tolist(), [x[y == i].mean(0) for i in y.unique()]
        ...     def weights(self): return torch.stack(self.means)
        ...     def classes(self): return self.ids
    """

    @abstractmethod
    def train_and_eval(self, dataloader: Iterable[Sequence[Tensor]], **kwargs: Any) -> Mapping[str, Any] | None:
        """Fit to activations.

        Args:
            dataloader: batches of ``(activations (n, F), ids of their concepts (n,))``, concept by concept.
            kwargs: the ``classifier_kwargs`` of TCAV.

        Returns:
            What was found about the fit, such as its accuracy; goes into the statistics of the CAV. May be None.
        """

    @abstractmethod
    def weights(self) -> Tensor:
        """One row of weights for each class, ``(n_concepts, F)``."""

    @abstractmethod
    def classes(self) -> Sequence[int]:
        """The ids of the concepts in the order of the weights."""


class DefaultClassifier(Classifier):
    """Linear support vector machine by stochastic gradient descent, ``sklearn.linear_model.SGDClassifier``.

    All activations of a set are held in memory at once.

    Attributes:
        lm: the linear model, before and after its fit.
    """

    def __init__(self) -> None:
        self.lm = SkLearnSGDClassifier(alpha=0.01, max_iter=1000, tol=1e-3)

    def train_and_eval(
        self,
        dataloader: Iterable[Sequence[Tensor]],
        test_split_ratio: float = 0.33,
        *,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Fit to a random part of the rows, and measure the accuracy on the others.

        Without a generator or a seed the global streams of Python's ``random`` and of NumPy are used.

        Args:
            dataloader: batches of ``(activations (n, F), ids (n,))``.
            test_split_ratio: share of the rows that are held out, at least 0 and below 1 (default 0.33).
            generator: torch generator of all draws.
            seed: makes a fresh generator; not together with ``generator``.
            kwargs: arguments of scikit-learn's classifier, such as ``alpha`` (default 0.01).

        Returns:
            ``accs``: share of the held-out rows whose concept is told, NaN when there is none.

        Raises:
            InputError: when there is nothing to tell apart.
            MissingDependencyError: scikit-learn is not installed.
        """
        require_share(test_split_ratio)
        source = one_generator(generator, seed)
        batches = [(x, y) for x, y in dataloader]
        if not batches:
            message = "Expected activations to train on, got no batch."
            raise InputError(message)
        features, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        order = _shuffled(len(features), source)
        held = int(test_split_ratio * len(order))
        train, test = order[held:], order[:held]
        self.lm = SkLearnSGDClassifier(**_options(kwargs, source))
        require_classes(set(labels.tolist()), set(labels[train].tolist()))
        try:
            with torch.random.fork_rng(devices=[]):  # a new linear layer draws its weights, in vain
                self.lm.fit([(features[train], labels[train])])
        except TypeError as fault:
            message = f"scikit-learn's SGDClassifier refused its arguments {sorted(kwargs)}: {fault}"
            raise InputTypeError(message) from fault
        return {"accs": self._accuracy(features[test], labels[test])}

    def weights(self) -> Tensor:
        """One row of weights for each concept; ``[−w, w]`` for two concepts.

        Raises:
            InputError: before training.
        """
        if self.lm.linear is None:
            message = "The weights are found by training: call train_and_eval first."
            raise InputError(message)
        weights = self.lm.representation()
        return torch.stack([-weights[0], weights[0]]) if len(weights) == 1 else weights

    def classes(self) -> list[int]:
        """The ids of the concepts in the order of the weights.

        Raises:
            InputError: before training.
        """
        labels = None if self.lm.linear is None else self.lm.classes()
        if labels is None:
            message = "The classes are found by training: call train_and_eval first."
            raise InputError(message)
        return [int(label) for label in labels]

    def _accuracy(self, features: Tensor, labels: Tensor) -> Tensor:
        if not len(features):
            return torch.tensor(math.nan, device="cpu")
        with torch.no_grad():
            scores = self.lm(features)
        best = (scores.flatten() > 0).long() if scores.shape[-1] == 1 else scores.argmax(1)
        said = torch.tensor(self.classes(), device=labels.device)[best.to(labels.device)]
        return (said == labels).float().mean().cpu()


def require_share(share: float) -> None:
    """Require a share of rows that leaves some."""
    if not 0 <= share < 1:
        message = f"Expected test_split_ratio of at least 0 and below 1, got {share!r}."
        raise InputError(message)


def _shuffled(count: int, generator: torch.Generator | None) -> Tensor:
    """The rows in random order."""
    if generator is not None:
        return torch.randperm(count, generator=generator, device=generator.device).cpu()
    order = list(range(count))
    random.shuffle(order)
    return torch.tensor(order, device="cpu")


def _options(given: Mapping[str, Any], generator: torch.Generator | None) -> dict[str, Any]:
    """The arguments of scikit-learn's classifier, whose draws come from the generator where there is one."""
    options = {"alpha": 0.01, "max_iter": 1000, "tol": 1e-3, **given}
    if generator is not None:
        state = torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device)
        options.setdefault("random_state", int(state))
    return options


def require_classes(every: set[int], trained: set[int]) -> None:
    """Require that there are concepts to tell apart, and that each of them has rows to train on."""
    if not every:
        message = "Expected activations to train on, got no batch."
        raise InputError(message)
    if len(every) < 2:
        message = f"Expected at least two concepts to tell apart; the number of classes is {len(every)}."
        raise InputError(message)
    if every != trained:
        message = (
            f"No example of the concepts with ids {sorted(every - trained)} is left to train on: give more examples, "
            "or lower test_split_ratio."
        )
        raise InputError(message)
