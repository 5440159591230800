"""The fast gradient sign method: one step along the sign of the loss's gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum._engine.entry import differentiable
from captum.log import log_usage
from captum.robust.ascent import Amount, Ascent, Box
from captum.robust.perturbation import Perturbation

__all__ = ["FGSM"]


class FGSM(Perturbation):
    r"""Fast gradient sign method: one step of size ε along the sign of the gradient of a loss.

    :math:`\tilde x = x + \varepsilon\,\mathrm{sign}(\nabla_x L(F(x), t)) \odot m`, and with a minus towards a target.
    Elements whose gradient is at most ``zero_thresh`` (1e-6) stay.

    I. Goodfellow, J. Shlens, C. Szegedy, "Explaining and harnessing adversarial examples", 2014, arXiv:1412.6572.

    Args:
        forward_func: the model or function.
        loss_func: ``loss_func(outputs, target)``, the tensor of outputs ``(B, *)`` and the target as given; returns one
            value per row, or their mean or sum. None (default): ``−log`` of the target's output, which has to be a
            probability.
        lower_bound: least value of perturbed inputs; a number, or a tensor that broadcasts to them.
        upper_bound: largest value of perturbed inputs, like ``lower_bound``.

    Example:
        >>> import torch
        >>> attack = FGSM(lambda x: torch.softmax(x, 1), upper_bound=2.0)
        >>> attack.perturb(torch.tensor([[0.0, 2.0]]), epsilon=0.5, target=0)
        tensor([[-0.5000,  2.0000]])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        loss_func: Callable[..., Any] | None = None,
        lower_bound: Amount = float("-inf"),
        upper_bound: Amount = float("inf"),
    ) -> None:
        self.forward_func = forward_func
        self.loss_func = loss_func
        self.bound: Callable[[Tensor], Tensor] = Box(lower_bound, upper_bound)
        self.zero_thresh = 1e-6

    @log_usage()
    @differentiable
    def perturb(
        self,
        inputs: Any,
        epsilon: Any,
        target: Any,
        additional_forward_args: Any = None,
        targeted: bool = False,
        mask: Any = None,
        *,
        return_success: bool = False,
    ) -> Any:
        """Perturb inputs by one step.

        Args:
            inputs: tensor ``(B, *)``, tuple, dict or dataclass; tensors of whole numbers in it stay as they are.
            epsilon: size of the step in units of the inputs; a number, a tensor with the dims of the input or 1 in
                their places, or a tuple or mapping with one of these per input.
            target: the true class, whose loss is raised; see ``docs/conventions.md``. Handed to ``loss_func`` as it is.
            additional_forward_args: constants of the model.
            targeted: whether to lower the loss: ``target`` is what the model shall predict (default False).
            mask: 1 where inputs may change and 0 where not: a tensor that broadcasts to the input, or one (or None) per
                input; None (default) for everywhere.
            return_success: whether to return too for which rows the model's class is now the target (or, untargeted, is
                another); one more forward pass.

        Returns:
            Perturbed inputs in the structure of ``inputs``, detached, with their ``requires_grad``. With
            ``return_success`` also a bool tensor ``(B,)``.

        Raises:
            InputError: when arguments do not fit; its kinds ``TargetError``, ``MaskError``, ``OutputError``.
        """
        ascent = Ascent(self.forward_func, self.loss_func, inputs, target, additional_forward_args)
        sizes = ascent.amounts(epsilon, "epsilon")
        sizes = tuple(-s for s in sizes) if targeted else sizes
        moved = ascent.moved(ascent.start, sizes, ascent.masks(mask), self.zero_thresh)
        moved = ascent.within(moved, self.bound)
        for place in ascent.varied:
            moved[place].requires_grad_(ascent.inputs.tensors[place].requires_grad)
        return ascent.result(moved, targeted, return_success)
