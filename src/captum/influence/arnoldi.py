"""Influence functions by the curvature in a Krylov space, for models whose Hessian does not fit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captum.errors import InputError
from captum.influence.checkpoints import LoadCheckpoint, load_checkpoint
from captum.influence.curvature import Curvature, inverse_root
from captum.influence.influence_function import IntermediateQuantitiesInfluenceFunction
from captum.influence.results import positive_count

__all__ = ["ArnoldiInfluenceFunction", "krylov"]


def krylov(curvature: Curvature, start: Tensor, dim: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """An orthonormal basis of ``start``, its image under the Hessian, the image of that …, and the Hessian in it.

    As published, of ``dim`` vectors the last is dropped, and so is the one whose image is almost in the space. A space
    that holds all its images up to rounding stays whole.

    Args:
        curvature: the Hessian.
        start: ``(P,)``.
        dim: vectors, at most, the one that is dropped among them.
        tolerance: norm of what an image adds to the space, below which it grows no more.

    Returns:
        The basis ``(P, d)``, and the Hessian in it ``(d, d)``, symmetric.

    Raises:
        InputError: when no vector is left.
    """
    basis = (start / start.norm())[None]
    images: list[Tensor] = []
    scale = 0.0
    while True:
        images.append(curvature.product(basis[-1]))
        rest = images[-1]
        for _ in range(2):  # once more, since rounding leaves some of the basis
            rest = rest - basis.T @ (basis @ rest)
        size, scale = float(rest.norm()), max(scale, float(images[-1].norm()))
        if len(basis) == min(dim - 1, curvature.size) or size <= torch.finfo(rest.dtype).eps ** 0.5 * scale:
            break
        if size < tolerance:
            basis, images = basis[:-1], images[:-1]
            break
        basis = torch.cat([basis, (rest / size)[None]])
    if not images:
        message = f"Expected more than one dimension, got one with arnoldi_tol = {tolerance}: lower it."
        raise InputError(message)
    inside = basis @ torch.stack(images).T
    return basis.T, (inside + inside.T) / 2


class ArnoldiInfluenceFunction(IntermediateQuantitiesInfluenceFunction):
    r"""Influence of training examples by the inverse of the Hessian in a Krylov space.

    :math:`\mathrm{score}(z, z') = \nabla L(z)^\top R R^\top \nabla L(z')`, where ``R`` holds eigenvectors over the
    roots of their eigenvalues as :class:`captum.influence.NaiveInfluenceFunction` has them, of the Hessian in the space
    that a random vector and its images under the Hessian span. The default tolerance is loose: a smaller one and more
    dimensions come closer to the naive scores.

    A. Schioppa, P. Zablotskaia, D. Vilar, A. Sokolov, "Scaling up influence functions", 2022, arXiv:2112.03052.

    Args:
        model: the module; after the constructor and every call it is as it was before.
        train_dataset: a data set of ``(features …, label)``, or a DataLoader of such batches that does not shuffle.
        checkpoint: what the load function takes, once.
        checkpoints_load_func: ``(model, checkpoint) -> learning rate``, which is not used.
        layers: names of modules whose parameters count, also frozen ones; None (default) for all that are not frozen.
        loss_fn: the loss of training; each example's is computed as in a batch of its own.
        batch_size: examples in a batch, where data are no DataLoader (default 1).
        hessian_dataset: the data whose loss has the Hessian, may shuffle; None (default) for the training data.
        test_loss_fn: the loss of the examples to be explained; None (default) for ``loss_fn``.
        sample_wise_grads_per_batch: which reduction the losses of torch must have: ``"none"`` (False, default), or
            ``"sum"`` or ``"mean"`` (True).
        projection_dim: how many of the largest eigenvalues are kept (default 50); None for all.
        seed: of the random vector (default 0); the global random streams are left alone.
        arnoldi_dim: vectors that span the space, at most, the last of which is dropped (default 200).
        arnoldi_tol: norm below which an image adds no dimension (default 0.1).
        hessian_reg: ``λ`` (default 1e-3).
        hessian_inverse_tol: eigenvalues of ``H + λ I`` up to this (default 1e-4) are left out.
        projection_on_cpu: whether ``R`` lies on the CPU (default), or where the model does.
        show_progress: whether to draw a progress bar while the space is built.

    Raises:
        InputError: when an argument cannot be used, or no eigenvalue is left.
        InputTypeError: when an argument has another type.
    """

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Any,
        checkpoint: Any,
        checkpoints_load_func: LoadCheckpoint = load_checkpoint,
        layers: list[str] | None = None,
        loss_fn: Any = None,
        batch_size: int = 1,
        hessian_dataset: Any = None,
        test_loss_fn: Any = None,
        sample_wise_grads_per_batch: bool = False,
        projection_dim: int | None = 50,
        seed: int = 0,
        arnoldi_dim: int = 200,
        arnoldi_tol: float = 1e-1,
        hessian_reg: float = 1e-3,
        hessian_inverse_tol: float = 1e-4,
        projection_on_cpu: bool = True,
        show_progress: bool = False,
    ) -> None:
        positive_count(projection_dim, "projection_dim")
        positive_count(arnoldi_dim, "arnoldi_dim")
        if arnoldi_dim < 2 or arnoldi_tol < 0:
            message = f"Expected arnoldi_dim ≥ 2 and arnoldi_tol ≥ 0, got {arnoldi_dim} and {arnoldi_tol}."
            raise InputError(message)
        super().__init__(
            model,
            train_dataset,
            checkpoint,
            checkpoints_load_func,
            layers,
            loss_fn,
            batch_size,
            hessian_dataset,
            test_loss_fn,
            sample_wise_grads_per_batch,
        )
        self.projection_dim = projection_dim
        self.seed = seed
        self.arnoldi_dim = arnoldi_dim
        self.arnoldi_tol = arnoldi_tol
        self.hessian_reg = hessian_reg
        self.hessian_inverse_tol = hessian_inverse_tol
        self._find_root(projection_on_cpu, self._label(show_progress, "Hessian"))

    def _inverse_root(self, step: Any) -> Tensor:
        named = dict(self.model.named_parameters())
        generator = torch.Generator().manual_seed(self.seed)
        parts = [torch.randn(named[n].shape, dtype=named[n].dtype, generator=generator) for n in self._names]
        start = torch.cat([p.flatten() for p in parts]).to(named[self._names[0]].device)
        start = start.to(torch.promote_types(start.dtype, torch.float32))
        basis, hessian = krylov(self._curvature(), start, self.arnoldi_dim, self.arnoldi_tol)
        step()
        root = inverse_root(hessian.double().cpu(), self.hessian_reg, self.hessian_inverse_tol, self.projection_dim)
        return basis.double().cpu() @ root
