"""Projected gradient descent: many sign steps, each followed by a projection onto a ball around the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.draws import one_generator
from captum._engine.entry import differentiable
from captum.errors import InputError
from captum.log import log_usage
from captum.robust.ascent import Amount, Ascent, Tensors
from captum.robust.fgsm import FGSM
from captum.robust.perturbation import Perturbation

__all__ = ["PGD"]

NORMS = ("Linf", "L2")


class PGD(Perturbation):
    r"""Projected gradient descent: FGSM steps, each projected onto a ball around the inputs.

    :math:`x_{k+1} = \Pi_{\lVert \cdot - x \rVert \le r}(x_k + \alpha\,\mathrm{sign}(\nabla L(F(x_k), t)) \odot m)`, and
    with a minus towards a target; then values are brought within the bounds.

    A. Madry, A. Makelov, L. Schmidt, D. Tsipras, A. Vladu, "Towards deep learning models resistant to adversarial
    attacks", 2017, arXiv:1706.06083.

    Args:
        forward_func: the model or function.
        loss_func: as in :class:`FGSM`.
        lower_bound: least value of perturbed inputs; a number, or a tensor that broadcasts to them.
        upper_bound: largest value of perturbed inputs, like ``lower_bound``.

    Example:
        >>> import torch
        >>> attack = PGD(lambda x: torch.softmax(x, 1))
        >>> attack.perturb(torch.tensor([[0.0, 2.0]]), radius=0.25, step_size=0.1, step_num=5, target=0)
        tensor([[-0.2500,  2.2500]])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        loss_func: Callable[..., Any] | None = None,
        lower_bound: Amount = float("-inf"),
        upper_bound: Amount = float("inf"),
    ) -> None:
        self.forward_func = forward_func
        self.fgsm = FGSM(forward_func, loss_func, lower_bound, upper_bound)
        self.bound = self.fgsm.bound

    @log_usage()
    @differentiable
    def perturb(
        self,
        inputs: Any,
        radius: Any,
        step_size: Any,
        step_num: int,
        target: Any,
        additional_forward_args: Any = None,
        targeted: bool = False,
        random_start: bool = False,
        norm: str = "Linf",
        mask: Any = None,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        return_success: bool = False,
    ) -> Any:
        """Perturb inputs by ``step_num`` steps inside a ball.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; tensors of whole numbers in it stay as they are.
            radius: radius of the ball around each row of each input, in units of the inputs; a number, a tensor with
                the dims of the input or 1 in their places, or a tuple or mapping with one of these per input.
            step_size: size of a step, like ``radius``.
            step_num: number of steps; 0 for the start alone.
            target: the true class, whose loss is raised; see ``docs/conventions.md``. Handed to ``loss_func`` as it is.
            additional_forward_args: constants of the model.
            targeted: whether to lower the loss: ``target`` is what the model shall predict (default False).
            random_start: whether to start at a random point of the ball (default False: at the inputs).
            norm: ``"Linf"`` (default), the largest change of an element, or ``"L2"``, the root of the sum of squares
                over all elements of a row.
            mask: 1 where inputs may change and 0 where not: a tensor that broadcasts to the input, or one (or None) per
                input; None (default) for everywhere.
            seed: makes the random start repeatable; None for torch's global stream.
            generator: source of randomness in the place of ``seed``.
            return_success: whether to return too for which rows the model's class is now the target (or, untargeted, is
                another); one more forward pass.

        Returns:
            Perturbed inputs in the structure of ``inputs``, detached. With ``return_success`` also a bool tensor
            ``(B,)``.

        Raises:
            InputError: when arguments do not fit; its kinds ``TargetError``, ``MaskError``, ``OutputError``.
        """
        _check(step_num, norm)
        source = one_generator(generator, seed)
        ascent = Ascent(self.forward_func, self.fgsm.loss_func, inputs, target, additional_forward_args)
        radii = ascent.amounts(radius, "radius", 0.0)
        if norm == "L2":
            _check_one_per_row(radii)
        sizes = ascent.amounts(step_size, "step_size")
        sizes = tuple(-s for s in sizes) if targeted else sizes
        masks = ascent.masks(mask)
        found = ascent.start
        if random_start:
            places = zip(range(len(found)), found, radii, masks, strict=True)
            draw = _in_cube if norm == "Linf" else _in_ball
            found = tuple(t + draw(t, r, source) * m if i in ascent.varied else t for i, t, r, m in places)
            found = ascent.within(found, self.bound)
        for _ in range(step_num):
            found = ascent.moved(found, sizes, masks, self.fgsm.zero_thresh)
            found = ascent.within(_projected(ascent, found, radii, norm), self.bound)
        return ascent.result(found, targeted, return_success)


def _check(step_num: object, norm: object) -> None:
    if isinstance(step_num, bool) or not isinstance(step_num, int) or step_num < 0:
        message = f"Expected step_num as an int of at least 0, got {step_num!r}."
        raise InputError(message)
    if norm not in NORMS:
        message = f"Expected norm to be one of {', '.join(map(repr, NORMS))}, got {norm!r}."
        raise InputError(message)


def _check_one_per_row(radii: tuple[Amount, ...]) -> None:
    for radius in radii:
        if isinstance(radius, Tensor) and radius.dim() and radius[0].numel() != 1:
            message = (
                f"Expected a radius for each row with norm='L2', a number or a tensor ({len(radius)}, 1, …), got shape "
                f"{tuple(radius.shape)}."
            )
            raise InputError(message)


def _random(tensor: Tensor, source: torch.Generator | None, normal: bool) -> Tensor:
    """Random numbers in the shape, dtype and place of ``tensor``."""
    if source is None:
        return torch.randn_like(tensor) if normal else torch.rand_like(tensor)
    draw = torch.randn if normal else torch.rand
    return draw(tensor.shape, generator=source, dtype=tensor.dtype, device=source.device).to(tensor.device)


def _in_cube(tensor: Tensor, radius: Amount, source: torch.Generator | None) -> Tensor:
    """Uniform draws from ``[−r, r)``."""
    return (_random(tensor, source, normal=False) * 2 - 1) * radius


def _in_ball(tensor: Tensor, radius: Amount, source: torch.Generator | None) -> Tensor:
    """Uniform draws from the ball of each row: a direction, and a distance whose d-th power is uniform."""
    direction = _random(tensor, source, normal=True)
    place = torch.device("cpu") if source is None else source.device
    share = torch.rand(len(tensor), generator=source, device=place).to(tensor.device)
    length = _lengths(direction)
    share = share.to(length.dtype).pow(1 / max(1, tensor[0].numel())).reshape(_per_row(tensor))
    return (direction / torch.where(length == 0, torch.ones_like(length), length) * share * radius).to(tensor.dtype)


def _projected(ascent: Ascent, tensors: Tensors, radii: tuple[Amount, ...], norm: str) -> Tensors:
    """The nearest points of the balls around the inputs."""
    found = list(tensors)
    for place in ascent.varied:
        center, radius = ascent.start[place], radii[place]
        change = tensors[place] - center
        if norm == "Linf":
            bound = torch.as_tensor(radius, dtype=change.dtype, device=change.device)
            change = torch.minimum(torch.maximum(change, -bound), bound)
        else:
            length = _lengths(change)
            scale = torch.where(length > radius, radius / length, torch.ones_like(length))
            change = (change * scale).to(change.dtype)
        found[place] = center + change
    return tuple(found)


def _lengths(tensor: Tensor) -> Tensor:
    """The Euclidean norm of each row, at least in single precision, ``(B, 1, …)``."""
    wide = torch.promote_types(tensor.dtype, torch.float32)
    return torch.linalg.vector_norm(tensor.to(wide).reshape(len(tensor), -1), dim=1).reshape(_per_row(tensor))


def _per_row(tensor: Tensor) -> tuple[int, ...]:
    return (-1, *[1] * (tensor.dim() - 1))
