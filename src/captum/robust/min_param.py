"""The weakest setting of an attack that makes a model err."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from captum._engine.score import read_output
from captum._engine.values import describe
from captum.errors import InputError, OutputError, TargetError
from captum.log import log_usage
from captum.robust.comparator import check_attempts
from captum.robust.trials import Trials, check_function, copied

__all__ = ["MinParamPerturbation", "MinParamPerturbationMode", "default_correct_fn", "drange"]


class MinParamPerturbationMode(Enum):
    """How settings are searched."""

    LINEAR = 0
    BINARY = 1


def drange(min_val: float, max_val: float, step_val: float) -> Iterator[float]:
    """The settings ``min_val + i · step_val`` below ``max_val``; each is one product, so that errors do not add up.

    Args:
        min_val: the first setting.
        max_val: where settings end; not one of them, also where rounding would make it one.
        step_val: the distance of settings, positive.

    Yields:
        The settings, whole numbers if all arguments are.

    Raises:
        InputError: when an argument is not a finite number, or the step not positive.

    Example:
        >>> list(drange(0, 1, 0.25))
        [0.0, 0.25, 0.5, 0.75]
    """
    for index in range(_count(min_val, max_val, step_val)):
        yield min_val + index * step_val


def _count(least: Any, most: Any, step: Any) -> int:
    for value in (least, most, step):
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            message = (
                f"Expected finite numbers for the ends and the step of a range of settings, got {describe(value)}."
            )
            raise InputError(message)
    if step <= 0:
        message = f"Expected a positive step between settings, got {step}."
        raise InputError(message)
    steps = (most - least) / step
    return max(0, math.ceil(steps - 1e-9 * max(1.0, abs(steps))))


def default_correct_fn(model_out: Any, target: Any) -> bool:
    """Whether the class with the highest output is the target in every row.

    Args:
        model_out: output ``(B, C)``.
        target: a class for all rows, or a tensor, list or tuple with one for each.

    Returns:
        True if all rows are right.

    Raises:
        OutputError: when the output is not ``(B, C)``.
        TargetError: when there is no target, or another number of them than rows.

    Example:
        >>> import torch
        >>> default_correct_fn(torch.tensor([[1.0, 2.0], [4.0, 3.0]]), [1, 0])
        True
    """
    output = read_output(model_out)
    if output.dim() != 2:
        message = f"Expected an output (rows, classes), got {describe(output)}; pass correct_fn to judge other outputs."
        raise OutputError(message)
    if target is None:
        message = "A target is needed to tell whether the model is right: pass target to evaluate, or a correct_fn."
        raise TargetError(message)
    wanted = torch.as_tensor(target, device=output.device)
    if wanted.dtype.is_floating_point or wanted.dim() > 1 or (wanted.numel() not in (1, len(output))):
        message = f"Expected a class, or one for each of {len(output)} rows, as target, got {describe(target)}."
        raise TargetError(message)
    return bool((output.argmax(1) == wanted).all())


class MinParamPerturbation:
    """Finds the least value of one argument of an attack with which the attack makes the model err.

    Args:
        forward_func: the model or function; takes inputs as :class:`AttackComparator` says.
        attack: a :class:`Perturbation`, or a function of the inputs that returns perturbed ones.
        arg_name: name of the argument.
        arg_min: its least value.
        arg_max: where its values end; not tried itself.
        arg_step: distance of the values ``arg_min + i · arg_step`` that are tried; the result is one of them.
        mode: ``"linear"`` (default) tries them in order; ``"binary"`` bisects, which takes log₂ as many and supposes
            that an attack with a larger value does not succeed less.
        num_attempts: how often each value is tried (default 1); more for an attack that is random.
        preproc_fn: makes the model's input of ``inputs``; None (default) for none.
        apply_before_preproc: whether the attack gets the inputs before ``preproc_fn``, or after (default).
        correct_fn: ``correct_fn(model output, target=…, **correct_fn_kwargs)``: whether the model is right, without
            ``target`` when there is none; None (default) for :func:`default_correct_fn`.

    Raises:
        InputError: when arguments do not fit.

    Example:
        >>> import torch
        >>> search = MinParamPerturbation(lambda x: x, lambda x, by: x - torch.tensor([by, 0.0]), "by", 0, 4, 0.5)
        >>> search.evaluate(torch.tensor([[2.2, 1.0]]), target=0)
        (tensor([[0.7000, 1.0000]]), 1.5)
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        attack: Callable[..., Any],
        arg_name: str,
        arg_min: float,
        arg_max: float,
        arg_step: float,
        mode: str | MinParamPerturbationMode = "linear",
        num_attempts: int = 1,
        preproc_fn: Callable[..., Any] | None = None,
        apply_before_preproc: bool = False,
        correct_fn: Callable[..., bool] | None = None,
    ) -> None:
        check_function(forward_func, "forward_func")
        check_function(attack, "attack")
        check_attempts(num_attempts)
        if _count(arg_min, arg_max, arg_step) < 2:
            message = (
                f"Expected arg_max > arg_min + arg_step, so that there are values to choose from, got {arg_min}, "
                f"{arg_max} and a step of {arg_step}."
            )
            raise InputError(message)
        self.forward_func = forward_func
        self.attack = attack
        self.arg_name = arg_name
        self.arg_min = arg_min
        self.arg_max = arg_max
        self.arg_step = arg_step
        self.mode = _mode(mode)
        self.num_attempts = num_attempts
        self.preproc_fn = preproc_fn
        self.apply_before_preproc = apply_before_preproc
        self.correct_fn = default_correct_fn if correct_fn is None else correct_fn

    @log_usage()
    def evaluate(
        self,
        inputs: Any,
        additional_forward_args: Any = None,
        target: Any = None,
        perturbations_per_eval: int | None = 1,
        attack_kwargs: dict[str, Any] | None = None,
        correct_fn_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Any, float | None]:
        """Search for one batch, which counts as wrong when ``correct_fn`` says so of its output.

        Args:
            inputs: what ``preproc_fn`` and the attack take: anything; without them, what the model takes.
            additional_forward_args: constants of the model.
            target: passed to ``correct_fn`` unless it is None: the right classes.
            perturbations_per_eval: perturbed inputs in one forward pass (default 1); None to plan it. As many are made
                before the model judges them.
            attack_kwargs: the attack's other arguments, by name.
            correct_fn_kwargs: other arguments of ``correct_fn``, by name.

        Returns:
            What the attack returned with the least value that made the model err, and that value; ``(None, None)`` when
            none did.

        Raises:
            InputError: when arguments or outputs do not fit.
        """
        fixed = dict(attack_kwargs or {})
        if self.arg_name in fixed:
            message = f"Expected attack_kwargs without {self.arg_name!r}, the argument whose values are tried."
            raise InputError(message)
        trials = Trials(self.forward_func, additional_forward_args, perturbations_per_eval)
        judged = dict(correct_fn_kwargs or {})
        if target is not None:
            judged["target"] = target
        start = inputs if self.preproc_fn is None or self.apply_before_preproc else self.preproc_fn(copied(inputs))

        def attempts(places: range) -> Iterator[tuple[tuple[int, Any], Any]]:
            for place in places:
                setting = {self.arg_name: self.arg_min + place * self.arg_step}
                for _ in range(self.num_attempts):
                    attacked = self.attack(copied(start), **fixed, **setting)
                    yield (place, attacked), self._input_of(attacked)

        def first_error(places: range) -> tuple[int, Any] | None:
            for found, output in trials.outputs(attempts(places)):
                if not self._is_right(output, judged):
                    return found
            return None

        count = _count(self.arg_min, self.arg_max, self.arg_step)
        search = first_error if self.mode is MinParamPerturbationMode.LINEAR else _bisected(first_error)
        found = search(range(count))
        return (None, None) if found is None else (found[1], self.arg_min + found[0] * self.arg_step)

    def _input_of(self, attacked: Any) -> Any:
        """The model's input for what the attack returned."""
        if self.preproc_fn is None or not self.apply_before_preproc:
            return attacked
        return self.preproc_fn(copied(attacked))

    def _is_right(self, output: Any, judged: dict[str, Any]) -> bool:
        given = {"target": None, **judged} if self.correct_fn is default_correct_fn else judged
        right: Any = self.correct_fn(output, **given)
        if isinstance(right, Tensor) and right.numel() != 1:
            message = f"Expected correct_fn to return True or False for the batch, got {describe(right)}; use .all()."
            raise OutputError(message)
        return bool(right)


Search = Callable[[range], "tuple[int, Any] | None"]


def _bisected(first_error: Search) -> Search:
    """The search that halves the range: errors begin at one place, if anywhere, and go on behind it."""

    def search(places: range) -> tuple[int, Any] | None:
        right, wrong = -1, len(places)
        least = None
        while wrong - right > 1:
            place = (max(right, 0) + wrong) // 2
            found = first_error(places[place : place + 1])
            if found is None:
                right = place
            else:
                wrong, least = place, found
        return least

    return search


def _mode(mode: object) -> MinParamPerturbationMode:
    if isinstance(mode, MinParamPerturbationMode):
        return mode
    name = mode.upper() if isinstance(mode, str) else ""
    if name not in MinParamPerturbationMode.__members__:
        message = f"Expected mode to be 'linear' or 'binary', got {mode!r}."
        raise InputError(message)
    return MinParamPerturbationMode[name]
