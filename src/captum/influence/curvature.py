"""The Hessian of the summed loss of a data set: as a matrix, and as what it does to a vector."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from captum.errors import InputError
from captum.influence.batches import Batch, Batches
from captum.influence.gradients import refuse_batch_statistics
from captum.influence.losses import ExampleLoss

__all__ = ["Curvature", "inverse_root"]

#: Rows of a Hessian that are computed at once.
ROWS = 64


class Curvature:
    """Second derivatives of the loss of a data set, summed over its examples, by chosen parameters.

    Used while the model may be changed; what it sets is put back by :func:`captum.influence.checkpoints.untouched`.

    Args:
        model: the model.
        names: which parameters.
        batches: the data.
        loss: the loss of an example.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], batches: Batches, loss: ExampleLoss) -> None:
        refuse_batch_statistics(model)
        named = dict(model.named_parameters())
        model.requires_grad_(False)
        self._model = model
        self._parameters = [named[n].requires_grad_(True) for n in names]
        self._batches = batches
        self._loss = loss
        self.size = sum(p.numel() for p in self._parameters)

    def dense(self, step: Callable[[], object]) -> Tensor:
        """The Hessian ``(P, P)`` in double precision; ``step`` is called after each batch."""
        total = torch.zeros(self.size, self.size, dtype=torch.float64)
        for batch in self._batches:
            with self._gradient(batch) as gradient:
                if gradient is not None:
                    self._add_rows(total, gradient)
            step()
        return (total + total.T) / 2

    def product(self, vector: Tensor) -> Tensor:
        """The Hessian times a vector ``(P,)``, in the vector's precision."""
        total = torch.zeros_like(vector)
        for batch in self._batches:
            with self._gradient(batch) as gradient:
                if gradient is not None:
                    found = torch.autograd.grad(
                        gradient, self._parameters, vector.to(gradient), allow_unused=True, materialize_grads=True
                    )
                    total += _joined(found).to(total)
        return total

    @contextlib.contextmanager
    def _gradient(self, batch: Batch) -> Generator[Tensor | None]:
        """The gradient ``(P,)`` of the summed loss, to be differentiated; None where it is constant."""
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            value = self._loss.total(self._model(*batch.features), batch.labels, batch.size)
            if not value.requires_grad:
                yield None
                return
            found = torch.autograd.grad(
                value, self._parameters, create_graph=True, allow_unused=True, materialize_grads=True
            )
            gradient = _joined(found)
            yield gradient if gradient.requires_grad else None

    def _add_rows(self, total: Tensor, gradient: Tensor) -> None:
        """Add the Hessian of one batch, some rows at a time."""
        for start in range(0, self.size, ROWS):
            rows = [
                _joined(
                    torch.autograd.grad(
                        entry, self._parameters, retain_graph=True, allow_unused=True, materialize_grads=True
                    )
                )
                for entry in gradient[start : start + ROWS]
            ]
            total[start : start + ROWS] += torch.stack(rows).to(total)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.reshape(-1).to(parts[0].device) for p in parts])


def inverse_root(hessian: Tensor, regularization: float, tolerance: float, count: int | None) -> Tensor:
    r"""A matrix ``R`` with :math:`R R^\top \approx (H + \lambda I)^{-1}`.

    Args:
        hessian: ``(P, P)``, symmetric.
        regularization: ``λ``.
        tolerance: eigenvalues of ``H + λ I`` up to this are left out.
        count: how many of the largest are kept; None for all.

    Returns:
        ``(P, d)``, eigenvectors over the roots of their eigenvalues, the largest eigenvalue first.

    Raises:
        InputError: when no eigenvalue is left.
    """
    if not bool(hessian.isfinite().all()):
        message = "Expected a finite Hessian, got NaN or infinity: the loss cannot be differentiated twice there."
        raise InputError(message)
    values, vectors = torch.linalg.eigh(hessian + regularization * torch.eye(len(hessian)).to(hessian))
    values, vectors = values.flip(0), vectors.flip(1)
    kept = int((values > max(tolerance, 0.0)).sum())
    kept = kept if count is None else min(kept, count)
    if kept == 0:
        message = (
            f"Expected an eigenvalue above hessian_inverse_tol = {tolerance}, got none above {float(values[0]):.3g}: "
            "the loss has no curvature that can be inverted here. Lower the tolerance, or raise hessian_reg."
        )
        raise InputError(message)
    return vectors[:, :kept] / values[:kept].sqrt()
