"""A game whose score is a metric over a whole loader: coalitions → passes over the data → metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum._engine.entry import ordinary
from captum._engine.score import find_modules, read_output
from captum._engine.values import Leaves, describe
from captum.attr.averages.batches import Batch, InputRole, check_roles
from captum.attr.games.features import Features
from captum.attr.games.fills import ConstantReady, Ready
from captum.attr.games.game import NEEDS_GRAPH, thaw
from captum.attr.games.play import everyone
from captum.attr.games.similarity import finite
from captum.errors import InputError, OutputError

Tensors = tuple[Tensor, ...]
Reduce = Callable[[Any, Any, tuple[Any, ...]], Any]
Roles = Sequence[int] | Mapping[str, int]
#: What absent features become in the batch of that number, for some coalitions.
BatchFill = Callable[[Tensors, int, Tensor], Ready]


def concatenate(accum: list[Any] | None, output: Any, _inputs: tuple[Any, ...]) -> list[Any]:
    """Keep all outputs; the default ``reduce``. A number of Python keeps its double precision."""
    single = isinstance(output, float)
    return [*(accum or []), torch.tensor(output, dtype=torch.float64) if single else read_output(output).detach()]


class LoaderGame:
    """Coalitions → a metric over the loader, several coalitions per pass over the data.

    Args:
        forward: the model or function.
        dataloader: yields batches.
        roles: role of each element of a batch, or None.
        reduce: folds the outputs of a pass.
        to_metric: from what is folded to a Tensor, or None.
        per_pass: coalitions that share a traversal.

    Attributes:
        dtype: dtype of the metric.
        samples: one row of each element that is attributed, after :meth:`look`.
        names: what these elements are called.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        dataloader: Iterable[Any],
        roles: Roles | None,
        reduce: Reduce,
        to_metric: Callable[[Any], Any] | None,
        per_pass: int,
    ) -> None:
        self.dtype = torch.get_default_dtype()
        self.advance: Callable[[float], object] = lambda _: None
        self.fill: BatchFill = lambda tensors, _, __: ConstantReady(tensors)
        self.draws = 1
        self.begin: Callable[[int], object] = lambda _: None
        self.features: Features | None = None
        self.measured = False
        self.samples: Tensors = ()
        self.names: tuple[str, ...] = ()
        self._full: Tensor | None = None
        self._forward = forward
        self._modules = find_modules(forward)
        self._inference = True
        self._loader = dataloader
        self._given_roles = roles
        self._roles: tuple[int, ...] = ()
        self._elements: list[str] = []
        self._reduce = reduce
        self._to_metric = to_metric
        self._per_pass = per_pass
        self._products: list[Tensor] = []
        self._shape: torch.Size | None = None

    def __call__(self, coalitions: Tensor) -> Tensor:
        """Metrics ``(K, n)`` of coalitions; the metric of the unchanged data is known from :meth:`look`."""
        known = coalitions.all(1)
        if self._full is None or not bool(known.any()) or (self.measured and len(coalitions) > 1):
            return self._scores(coalitions)
        metrics = self._full.repeat(len(coalitions), 1)
        if not bool(known.all()):
            metrics[~known] = self._scores(coalitions[~known])
        return metrics

    def _scores(self, coalitions: Tensor) -> Tensor:
        self._products = []
        variants = coalitions.repeat_interleave(self.draws, 0)
        draws = torch.arange(len(variants), device="cpu") % self.draws
        passes = zip(variants.split(self._per_pass), draws.split(self._per_pass), strict=True)
        metrics = torch.cat([self._pass(block, draw) for block, draw in passes])
        return metrics.reshape(len(coalitions), self.draws, -1).mean(1)

    def look(self) -> Tensors:
        """Traverse the unchanged data once; one row of each element that is attributed."""
        self._full = self._pass(everyone(1), torch.zeros(1, dtype=torch.long, device="cpu"))
        return self.samples

    def products(self) -> list[Tensor]:
        """Of the last coalitions: x·x, x·y and y·y for the data x and the perturbed data y, ``(K, draws)`` each."""
        return list(torch.cat(self._products, 1).reshape(3, -1, self.draws))

    def _pass(self, coalitions: Tensor, draws: Tensor) -> Tensor:
        """One traversal of the loader."""
        totals: list[Any] = [None] * len(coalitions)
        batches = 0
        products = torch.zeros((3, len(coalitions)), dtype=torch.float64, device="cpu")
        for place, raw in enumerate(self._loader):
            batch = Batch(raw)
            given = self._given(batch)
            for number, tensors in enumerate(self._variants(given, place, coalitions, draws)):
                if self.measured:
                    products[:, number] += _products(given, tensors)
                elements = batch.filled(self._roles, tensors)
                totals[number] = self._reduce(totals[number], self._output(batch, elements), elements)
            self.advance(1)
            batches += 1
        if not batches:
            again = " when it is iterated again: pass a DataLoader or a list, no generator" if self.samples else ""
            message = f"Expected a dataloader with at least one batch, got none{again}."
            raise InputError(message)
        self._products.append(products)
        return torch.stack([self._metric(t) for t in totals])

    def _given(self, batch: Batch) -> Tensors:
        """The attributed elements of a batch, which has the form of the first one."""
        if not self.samples:
            self._elements = batch.names
            self._roles = check_roles(self._given_roles, batch.names)
            self.samples = tuple(t[:1].detach() for t in batch.attributed(self._roles))
            pairs = zip(batch.names, self._roles, strict=True)
            self.names = tuple(name for name, role in pairs if role == InputRole.need_attr)
        batch.arrange(self._elements)
        given = batch.attributed(self._roles)
        found, wanted = ([tuple(t.shape[1:]) for t in part] for part in (given, self.samples))
        if found != wanted:
            message = (
                f"Expected batches with features of the shapes {wanted} of the first one in {list(self.names)}, got "
                f"{found}: pad them to one size in the loader."
            )
            raise InputError(message)
        return given

    def _variants(self, tensors: Tensors, place: int, coalitions: Tensor, draws: Tensor) -> Iterable[Tensors]:
        """The attributed elements for each coalition: tensors that the model may write into."""
        if self.features is None or bool(coalitions.all()):
            return (tuple(t.clone() for t in tensors) for _ in coalitions)
        keeps = self.features.keep(coalitions[:, None].to(tensors[0].device), None)
        fill = self.fill(tensors, place, coalitions)
        return zip(*(t.unbind() for t in fill.replace(tensors, keeps, None, draws)), strict=True)

    def _output(self, batch: Batch, elements: tuple[Any, ...]) -> Any:
        """What the model gives, as tensors that any code may go on with."""
        if not self._inference:
            return batch.call(self._forward, self._roles, elements)
        before = _versions(elements)
        try:
            with torch.inference_mode():
                output = batch.call(self._forward, self._roles, elements)
        except RuntimeError as fault:
            written = before != _versions(elements)
            if written or not any(sign in str(fault) for sign in NEEDS_GRAPH):
                raise
            self._inference = False  # the model differentiates, or keeps tensors that were made for training
            return batch.call(self._forward, self._roles, elements)
        finally:
            thaw(self._modules)
        if isinstance(output, Tensor):
            return ordinary(output)
        leaves = Leaves([], [])
        rebuild = leaves.gather(output, "output")
        return rebuild(iter([ordinary(t) for t in leaves.tensors])) if leaves.tensors else output

    def _metric(self, total: Any) -> Tensor:
        if self._reduce is concatenate and isinstance(total, list):
            total = _joined([t if t.dim() else t[None] for t in total])
        metric = total if self._to_metric is None else self._to_metric(total)
        if not isinstance(metric, Tensor):
            message = f"Expected a Tensor as metric of the accumulated outputs, got {describe(metric)}; give to_metric."
            raise OutputError(message)
        if metric.is_complex():
            message = f"Expected a metric of real numbers, got {describe(metric)}: take .abs() or .real."
            raise OutputError(message)
        if not metric.numel() or (self._shape is not None and metric.shape != self._shape):
            before = (
                "at least one number" if self._shape is None else f"the shape {tuple(self._shape)} that it had before"
            )
            message = (
                f"Expected a metric of {before}, got shape {tuple(metric.shape)}: the batches have no rows, or the "
                "model or reduce changed its output."
            )
            raise OutputError(message)
        self.dtype, self._shape = metric.dtype, metric.shape
        return metric.detach().to("cpu", torch.float64).reshape(-1)


def _joined(outputs: list[Tensor]) -> Tensor:
    shapes = {tuple(o.shape[1:]) for o in outputs}
    if len(shapes) > 1:
        message = (
            f"Expected outputs of batches that differ in dim 0 only, got the other dims {sorted(shapes)}: give reduce."
        )
        raise OutputError(message)
    return torch.cat(outputs)


def _versions(elements: tuple[Any, ...]) -> list[int]:
    """How often each tensor was written into."""
    return [e._version for e in elements if isinstance(e, Tensor) and not e.is_inference()]


def _products(given: Tensors, perturbed: Tensors) -> Tensor:
    """The inner products x·x, x·y and y·y of a batch and its perturbed form, ``(3,)``; NaN and inf count as 0."""
    x, y = (torch.cat([finite(t).reshape(-1) for t in part]) for part in (given, perturbed))
    return torch.stack([x @ x, x @ y, y @ y])
