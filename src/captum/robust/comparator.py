"""Compare attacks: a metric of a model's outputs, before and after each of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from captum.errors import CaptumWarning, InputError, NameInUseError
from captum.log import log_usage
from captum.robust.outcomes import Tally, averaged, outcome
from captum.robust.trials import Trials, check_function, copied

__all__ = ["ORIGINAL_KEY", "AttackComparator", "AttackInfo", "MetricResultType", "agg_metric"]

ORIGINAL_KEY = "Original"
MetricResultType = TypeVar("MetricResultType", float, Tensor, tuple[float | Tensor, ...])


class AttackInfo(NamedTuple):
    """An attack, and how it is applied.

    Attributes:
        attack_fn: the attack.
        name: its name in results.
        num_attempts: how often it is tried.
        apply_before_preproc: whether it gets the inputs as they are, and its result is preprocessed.
        attack_kwargs: arguments of every call.
        additional_args: names of arguments that ``evaluate`` is given.
    """

    attack_fn: Callable[..., Any]
    name: str
    num_attempts: int
    apply_before_preproc: bool
    attack_kwargs: dict[str, Any]
    additional_args: list[str]


def agg_metric(inp: Any) -> Any:
    """The mean over dim 0 of what a metric returned: of each tensor in it, while numbers stay.

    Args:
        inp: a tensor, a number, or a tuple, named tuple, list or mapping of these.

    Returns:
        The same structure.

    Example:
        >>> import torch
        >>> agg_metric((torch.tensor([1.0, 3.0]), 2.0))
        (tensor(2.), 2.0)
    """
    return averaged(inp)


class AttackComparator(Generic[MetricResultType]):
    """Measures a model on inputs as they are, and after each of several attacks.

    Args:
        forward_func: the model or function. It gets what ``preproc_fn`` or an attack returns: a tuple as one argument,
            spread where it does not take it so; a mapping as keywords where it has these parameters.
        metric: ``metric(model output, **kwargs of evaluate)``: a number, a tensor, or a tuple, named tuple, list or
            mapping of these; tensors with a row per example are averaged over rows by :meth:`summary`.
        preproc_fn: makes the model's input of ``inputs`` (of texts or images, for instance); None (default) for none.

    Example:
        >>> import torch
        >>> compare = AttackComparator(lambda x: 2 * x, lambda out: out.amax(1))
        >>> compare.add_attack(lambda x, by: x + by, "shift", attack_kwargs={"by": 1.0})
        >>> compare.evaluate(torch.tensor([[1.0, 3.0]]))
        {'Original': tensor([6.]), 'shift': {'mean': tensor([8.])}}
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        metric: Callable[..., MetricResultType],
        preproc_fn: Callable[..., Any] | None = None,
    ) -> None:
        check_function(forward_func, "forward_func")
        check_function(metric, "metric")
        self.forward_func = forward_func
        self.metric = metric
        self.preproc_fn = preproc_fn
        self.attacks: dict[str, AttackInfo] = {}
        self._totals: dict[str, Tally] = {}

    def add_attack(
        self,
        attack: Callable[..., Any],
        name: str | None = None,
        num_attempts: int = 1,
        apply_before_preproc: bool = True,
        attack_kwargs: dict[str, Any] | None = None,
        additional_attack_arg_names: list[str] | None = None,
    ) -> None:
        """Add an attack.

        Args:
            attack: a :class:`Perturbation`, or a function of the inputs that returns perturbed ones.
            name: its name in results; None (default) for the name of its class.
            num_attempts: how often it is tried (default 1); more for one that is random.
            apply_before_preproc: whether it gets the inputs before ``preproc_fn`` (default), or after.
            attack_kwargs: arguments of every call, by name.
            additional_attack_arg_names: names of arguments of :meth:`evaluate` that it takes, such as the target.

        Raises:
            NameInUseError: when the name is taken.
            InputError: when arguments do not fit.
        """
        check_function(attack, "attack")
        name = type(attack).__name__ if name is None else name
        if name == ORIGINAL_KEY or name in self.attacks:
            message = f"The name {name!r} is in use: pass another name= to add_attack."
            raise NameInUseError(message)
        check_attempts(num_attempts)
        fixed, later = dict(attack_kwargs or {}), list(additional_attack_arg_names or [])
        twice = sorted(set(fixed) & set(later))
        if twice:
            message = f"Expected {twice} either in attack_kwargs or in additional_attack_arg_names, got both."
            raise InputError(message)
        self.attacks[name] = AttackInfo(attack, name, num_attempts, apply_before_preproc, fixed, later)

    @log_usage()
    def evaluate(
        self,
        inputs: Any,
        additional_forward_args: Any = None,
        perturbations_per_eval: int | None = 1,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Measure the model on one batch.

        Args:
            inputs: what ``preproc_fn`` and attacks take: anything; without them, what the model takes.
            additional_forward_args: constants of the model.
            perturbations_per_eval: perturbed inputs in one forward pass (default 1); None to plan it. Inputs that
                differ in shape, or hold more than tensors, run alone.
            kwargs: passed to ``metric``, and to attacks that name them.

        Returns:
            The metric under ``"Original"``; under the name of each attack ``{"mean": metric}``, and with several
            attempts also ``"max"`` and ``"min"``, taken number by number. Numbers are tensors, detached.

        Raises:
            InputError: when arguments or what functions return do not fit.
        """
        trials = Trials(self.forward_func, additional_forward_args, perturbations_per_eval)
        tallies: dict[str, Tally] = {}
        for name, output in trials.outputs(self._candidates(inputs, kwargs)):
            tallies.setdefault(name, Tally()).add(outcome(self.metric(output, **kwargs)))
        results: dict[str, Any] = {}
        for name, tally in tallies.items():
            results[name] = tally.mean() if name == ORIGINAL_KEY else {"mean": tally.mean()}
            if name != ORIGINAL_KEY and self.attacks[name].num_attempts > 1:
                results[name].update(max=tally.largest(), min=tally.least())
        for label, value in self._labelled(results):
            self._totals.setdefault(label, Tally()).add(averaged(value))
        return results

    def _candidates(self, inputs: Any, given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Inputs of the model, with the names of the attacks that made them."""
        ready = self._prepared(inputs)
        yield ORIGINAL_KEY, ready
        for info in self.attacks.values():
            missing = [name for name in info.additional_args if name not in given]
            if missing:
                message = f"The attack {info.name!r} names the arguments {missing}: pass them to evaluate by name."
                warnings.warn(message, CaptumWarning, stacklevel=2)
            arguments = {**info.attack_kwargs, **{n: given[n] for n in info.additional_args if n in given}}
            for _ in range(info.num_attempts):
                if info.apply_before_preproc:
                    yield info.name, self._prepared(info.attack_fn(copied(inputs), **arguments))
                else:
                    yield info.name, info.attack_fn(copied(ready), **arguments)

    def _prepared(self, value: Any) -> Any:
        return value if self.preproc_fn is None else self.preproc_fn(copied(value))

    def _labelled(self, results: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in results.items():
            if name == ORIGINAL_KEY:
                yield name, value
            elif self.attacks[name].num_attempts == 1:
                yield name, value["mean"]
            else:
                for key, part in value.items():
                    yield f"{name} {key.title()} Attempt", part

    def summary(self) -> dict[str, Any]:
        """Means over the batches that were measured.

        Returns:
            ``{"mean": metric}``, tensors averaged over dim 0 before, under ``"Original"`` and the name of each attack;
            for several attempts under ``"<name> Mean Attempt"``, ``"<name> Max Attempt"`` and ``"<name> Min Attempt"``.
            Every call of :meth:`evaluate` counts alike.
        """
        return {label: {"mean": tally.mean()} for label, tally in self._totals.items()}

    def reset(self) -> None:
        """Forget what was measured; attacks stay."""
        self._totals = {}


def check_attempts(value: object) -> None:
    """Require a positive whole number of attempts."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        message = f"Expected num_attempts as an int of at least 1, got {value!r}."
        raise InputError(message)
