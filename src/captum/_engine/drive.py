"""The score as a function of the value at one place, with its derivatives: what gradient and path methods drive."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from captum._engine.derivative import differentiate, leaf
from captum._engine.draws import Samples, Source
from captum._engine.integers import as_floats, check_floats, takes
from captum._engine.layout import Layout, shared_layout
from captum._engine.line import MOST_ELEMENTS, Line, points_on_path
from captum._engine.lookups import Lookup, Replace, Watch
from captum._engine.place import Layers, Neuron
from captum._engine.recollection import Recollection
from captum._engine.rows import Chunk, Rows
from captum._engine.score import Score
from captum._engine.sweep import Plan, parameter_count, sharing_rows
from captum._engine.values import Inputs, parse_baselines, parse_distribution
from captum.errors import BaselineError, InputError

T = TypeVar("T")
Reduce = Literal["sum"] | None
GradientFunction = Callable[..., tuple[Tensor, ...]]


_AT_BASELINES = "captum ran the model at the baselines, by default id 0: pass ids with the special tokens it needs."
_CLOSURE = (
    "A forward function without parameters is a closure over its inputs: it can only be differentiated there, by "
    "inputs that require gradients. Give it the inputs as parameters: lambda x: …"
)


class Function(ABC):
    """F(variable) for the rows of one call: the score as a function of the value at a place.

    Attributes:
        score: the score, of the model's output or of a neuron.
        values: the variable for the user's inputs, ``(B, *)`` each.
        names: a name of each variable for messages; empty when unused ones are no news.
    """

    score: Score | Neuron
    values: tuple[Tensor, ...]
    names: tuple[str, ...] = ()
    gradient_func: GradientFunction | None = None
    layout: Layout | None = None
    _line: Line | None = None

    @property
    def batch(self) -> int:
        """Number of examples."""
        return self.score.batch

    @abstractmethod
    def value(self, variables: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """One number per row, ``(n,)``."""

    def everyone(self) -> Rows:
        """All examples, each once."""
        return Rows(self.batch)

    def end(self, keep_graph: bool = False) -> tuple[Tensor, ...]:
        """The variable for the user's inputs, detached unless a graph is kept."""
        return self.values if keep_graph else tuple(v.detach() for v in self.values)

    def gradients(self, points: tuple[Tensor, ...], rows: Rows, *, create_graph: bool = False) -> tuple[Tensor, ...]:
        """∂F/∂variable at ``points``, ``(n, *)`` each."""
        return self.value_and_gradients(points, rows, create_graph=create_graph)[1]

    def value_and_gradients(
        self, points: tuple[Tensor, ...], rows: Rows, *, create_graph: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """F and ∂F/∂variable at ``points``."""
        with torch.enable_grad():
            variables = tuple([leaf(p, create_graph) for p in points])
            values = self.value(variables, rows)
            with self.differentiating():
                grads = differentiate(values, variables, self.names, create_graph=create_graph)
        self.names = ()  # one note per call is enough
        return (values if create_graph else values.detach()), grads

    def differentiating(self) -> contextlib.AbstractContextManager[object]:
        """What holds while the score is differentiated; nothing in general."""
        return contextlib.nullcontext()

    def plan(self, limit: int | None, larger: int = 1) -> Plan:
        """Rows per forward pass; ``larger``: how many times more fit where a part of the pass keeps no graph."""
        if self.score.nothing:
            raise InputError(_CLOSURE)
        if any(len(v) != self.batch for v in self.values):
            shapes = [tuple(v.shape) for v in self.values]
            message = f"Expected inputs whose dim 0 is the batch of {self.batch} throughout, got shapes {shapes}."
            raise InputError(message)
        elements = sum(v[0].numel() for v in self.values) // larger
        recall = self.layout.recall if self.layout is not None and self.layout.learns_from(self.values) else None
        work = parameter_count(self.score.modules()) // larger
        return Plan(limit, elements, work, recall=recall, least=sharing_rows(self.values))

    def values_at(self, points: tuple[Tensor, ...], limit: int | None = None) -> Tensor:
        """F without a graph, for one point per example (dim 0 is B or 1), ``(B,)``; ``limit`` rows at a time."""
        with torch.no_grad():
            parts = [self.value(tuple(r.pick(p) for p in points), r) for r in self.everyone().pieces(limit)]
        return torch.cat(parts).detach()

    def tune(self, read: Sequence[nn.Module] = ()) -> None:
        """Choose how many chunks are run fastest, while modules are read; not worth it for one."""
        known = Recollection(self.score.forward, (*read, *self.score.read_modules), self.values)
        self.layout = self.layout or Layout(self.score.modules(), recollection=known)

    def run_points(self, points: tuple[Tensor, ...], body: Callable[[tuple[Tensor, ...]], T]) -> T:
        """``body(points)``, with images in the memory format that is faster."""
        keeps = any(p.requires_grad for p in points)
        return body(points) if self.layout is None or keeps else self.layout.run(points, body)

    def run_on_path(
        self,
        ends: tuple[tuple[Tensor, ...], tuple[Tensor, ...]],
        chunk: Chunk,
        nodes: Tensor,
        body: Callable[[tuple[Tensor, ...]], T],
    ) -> T:
        """``body(points)`` at a chunk's points of a path, whose gradients by the points nobody needs."""
        if self._line is None and not any(e.requires_grad for e in (*ends[0], *ends[1])):
            self._line = self.line(*ends)
        found = [] if self._line is None else self._line.run(chunk, nodes, body)
        return found[0] if found else self.run_points(points_on_path(*ends, chunk, nodes), body)

    def line(self, *_ends: tuple[Tensor, ...]) -> Line | None:
        """The straight path between two values of the variable, behind the model's first convolution if it has one."""
        return None

    def running(self) -> contextlib.AbstractContextManager[object]:
        """The state of torch that the call needs."""
        return self.score.running()


class AtInputs(Function):
    """The variable is the model's input; for token ids, the outputs of the embeddings that read them.

    Args:
        score: the score of the call.
        reduce: ``"sum"`` adds token scores over the embedding dimension, None keeps ``(B, L, D)``.
    """

    def __init__(self, score: Score, reduce: Reduce = "sum") -> None:
        if reduce not in ("sum", None):
            message = f"Expected embedding_reduce='sum' (one score per token) or None ((B, L, D)), got {reduce!r}."
            raise InputError(message)
        self.score = score
        self.inputs: Inputs = score.inputs
        self.reduce: Reduce = reduce
        self.base = self.inputs.tensors
        self.lookups: list[Lookup] = []
        self._reads = 0
        self.layout = shared_layout(score.forward)
        if all(t.dtype.is_floating_point or t.dtype.is_complex for t in self.base):
            self.varied = tuple(range(len(self.base)))
            self.values, self.names = self.base, self.inputs.names
            return
        self._vary_integers(score)

    def _vary_integers(self, score: Score | Neuron) -> None:
        varied = [i for i, t in enumerate(self.base) if t.dtype.is_floating_point]
        floats = as_floats(self.base)
        try:
            watch = self.watch(score, self.base)
            self.lookups, self._reads = watch.lookups, watch.count
        except RuntimeError:  # a model of numbers takes columns of 0 and 1 as floats only
            if varied or self.inputs.form not in ("tensor", "tuple") or not takes(score, floats):
                raise
        if not varied and not self.lookups:
            if isinstance(score.forward, (torch.jit.ScriptModule, torch.fx.GraphModule)):
                message = (
                    f"The inputs {list(self.inputs.names)} are integers, and embeddings inside a scripted or exported "
                    "model cannot be seen. Explain the eager model, or pass floating-point inputs."
                )
                raise InputError(message)
            if self.inputs.form not in ("tensor", "tuple"):
                message = (
                    f"None of the inputs {list(self.inputs.names)} is floating point, and no embedding reads them, "
                    "so there is nothing to differentiate by. Pass floats, or use a Layer… or perturbation method."
                )
                raise InputError(message)
            self.base, varied = floats, list(range(len(self.base)))
            check_floats(score, self.base, self.inputs.names)
        self.varied = tuple(varied)
        self.values = (*[self.base[i] for i in varied], *[u.value for u in self.lookups])
        self.names = (*[self.inputs.names[i] for i in varied], *[f"embedding {u.order}" for u in self.lookups])

    def watch(self, score: Score | Neuron, tensors: tuple[Tensor, ...]) -> Watch:
        """The embedding look-ups that read the integer tensors among ``tensors``, with what they return."""
        tensors = tuple(t.clone() for t in tensors)
        integers = {i: t for i, t in enumerate(tensors) if not t.dtype.is_floating_point}
        watch = Watch(integers, score.batch)
        with torch.no_grad(), score.running(), watch:
            score.output(tensors, score.everyone())
        return watch

    def fill(self, variables: tuple[Tensor, ...], rows: Rows) -> tuple[Tensor, ...]:
        """The model's inputs for these rows, with the variables in their places; copies, safe from in-place code."""
        if len(self.varied) == len(self.base):
            return tuple([v.clone() for v in variables])
        tensors = [rows.pick(t) if i in self.varied else rows.pick(t).clone() for i, t in enumerate(self.base)]
        for place, variable in zip(self.varied, variables, strict=False):
            tensors[place] = variable.clone()
        return tuple(tensors)

    def replaced(self, variables: tuple[Tensor, ...]) -> contextlib.AbstractContextManager[object]:
        """The mode that puts the look-ups' variables in; nothing to do without look-ups."""
        if not self.lookups:
            return contextlib.nullcontext()
        fresh = variables[len(self.varied) :]
        return Replace(list(zip(self.lookups, fresh, strict=True)), self._reads)

    def value(self, variables: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """One number per row, ``(n,)``."""
        if not self.lookups:
            return self.score(self.fill(variables, rows), rows)
        with self.replaced(variables):
            return self.score(self.fill(variables, rows), rows)

    def value_and_gradients(
        self, points: tuple[Tensor, ...], rows: Rows, *, create_graph: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """F and ∂F/∂variable at ``points``; images go in channels last where that is faster."""
        if self.gradient_func is not None:
            return self._by_user(self.gradient_func, points, rows)
        if self.score.nothing:
            return self._at_own_inputs(points, rows, create_graph)
        if self.layout is None or create_graph:
            return super().value_and_gradients(points, rows, create_graph=create_graph)
        parent = super().value_and_gradients
        return self.layout.run(points, lambda p: parent(p, rows))

    def line(self, *ends: tuple[Tensor, ...]) -> Line | None:
        """The path behind the first convolution, when that alone reads the variable."""
        head = None if self.layout is None else self.layout.head
        if self.layout is None or head is None or self.lookups or len(self.base) != 1 or self.gradient_func is not None:
            return None
        if not isinstance(self.score, Score) or head.elements(ends[1][0].shape) > MOST_ELEMENTS:
            return None
        return Line(self.layout, head, self.score, (ends[0][0].detach(), ends[1][0].detach()))

    def _by_user(
        self, function: GradientFunction, points: tuple[Tensor, ...], rows: Rows
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if self.lookups or self.inputs.rebuild is not None or len(self.varied) < len(self.base):
            message = "A gradient_func of your own takes floating-point tensors, not token ids, dicts or structures."
            raise InputError(message)
        variables = tuple(leaf(p) for p in points)
        target = self.score.resolve()
        picked = rows.pick(target) if isinstance(target, Tensor) else target
        picked = rows.pick_list(picked) if isinstance(picked, list) else picked
        constants = tuple(rows.pick_constant(c) for c in self.score.constants)
        grads = function(self.score.forward, variables, picked, constants or None)
        return torch.full((rows.count,), torch.nan, device="cpu"), tuple(grads)  # such a function tells no scores

    def _at_own_inputs(
        self, points: tuple[Tensor, ...], rows: Rows, create_graph: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A function without parameters closes over its inputs: the only point is there, the inputs are the leaves."""
        variables = self.inputs.tensors
        there = all(p is v for p, v in zip(points, variables, strict=False))
        if rows.index is not None or not there or not all(v.requires_grad for v in variables):
            raise InputError(_CLOSURE)
        with torch.enable_grad():
            values = self.score(variables, rows)
            return values, differentiate(values, variables, self.names, create_graph=create_graph)

    def baseline_values(self, baselines: Any) -> tuple[Tensor, ...]:
        """The variable at the baselines, ``(1, *)`` or ``(B, *)`` each."""
        tensors = parse_baselines(baselines, self.inputs)
        return self._values_of(tensors)

    def _values_of(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept = [tensors[i].to(self.base[i].dtype) for i in self.varied]
        if not self.lookups:
            return tuple(kept)
        rows = self.score.everyone()
        ids = [rows.pick(_as_ids(t, b)) for t, b in zip(tensors, self.base, strict=True)]
        read = {leaf for u in self.lookups for leaf in u.starts}
        full = tuple(i if place in read else b for place, (i, b) in enumerate(zip(ids, self.base, strict=True)))
        try:
            found = self.watch(self.score, full).lookups
        except IndexError as fault:
            highest = [int(t.max()) for place, t in enumerate(full) if place in read]
            message = (
                f"The baselines hold ids, up to {max(highest)}, that the model's embeddings do not have ({fault}): "
                "pass ids of its vocabulary, such as that of the padding token."
            )
            raise BaselineError(message) from fault
        except (RuntimeError, ValueError) as fault:
            fault.add_note(_AT_BASELINES)
            raise
        if [(u.order, u.value.shape) for u in found] != [(u.order, u.value.shape) for u in self.lookups]:
            message = "The model reads other embeddings for the baselines than for the inputs; use a Layer… method."
            raise InputError(message)
        return (*kept, *[u.value for u in found])

    def samples(self, baselines: Any, raw: Any, source: Source, per_row: int) -> Samples:
        """Random rows of a baseline distribution, ``per_row`` for each example; see :class:`Samples`."""
        found = parse_distribution(baselines, self.inputs, raw)
        picks = [source.choice(len(s), self.batch * per_row) for s in found]
        if not self.lookups:
            return Samples([found[i].to(self.base[i].dtype) for i in self.varied], [picks[i] for i in self.varied])
        chosen = [s.index_select(0, p.to(s.device)) for s, p in zip(found, picks, strict=True)]
        turns = [torch.arange(self.batch, device="cpu") * per_row + k for k in range(per_row)]
        parts = [self._values_of(tuple(c[t.to(c.device)] for c in chosen)) for t in turns]
        values = [torch.stack([p[i] for p in parts], 1).flatten(0, 1) for i in range(len(self.values))]
        return Samples(values, [torch.arange(len(v), device="cpu") for v in values])

    def restore(self, attributions: Sequence[Tensor]) -> Any:
        """Attributions of the variables in the structure of the user's inputs: zeros for constants, sums for tokens."""
        out = list(attributions)
        if len(self.varied) == len(self.base) and not self.lookups:
            return self.inputs.restore(tuple(out))
        full: list[Tensor] = [_zeros(t, len(out[0])) for t in self.inputs.tensors]
        for place, attribution in zip(self.varied, out, strict=False):
            full[place] = attribution
        tokens = out[len(self.varied) :]
        for number in sorted({k for u in self.lookups for k in u.starts}):
            parts = [(u, a) for u, a in zip(self.lookups, tokens, strict=True) if number in u.starts]
            full[number] = self._tokens(parts, number)
        return self.inputs.restore(tuple(full))

    def _tokens(self, parts: list[tuple[Lookup, Tensor]], number: int) -> Tensor:
        ids = self.inputs.tensors[number]
        if self.reduce is None:
            return torch.cat([u.scatter(a, number, ids) for u, a in parts], -1)
        return torch.stack([u.scatter(a.sum(-1, keepdim=True), number, ids)[..., 0] for u, a in parts]).sum(0)

    def tap(
        self,
        layers: Layers,
        points: tuple[Tensor, ...],
        rows: Rows,
        keep_graph: bool = False,
        from_here: bool = False,
    ) -> tuple[Any, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Run the model at ``points``: its output, the layer's values, and the variables, all in one graph.

        With ``from_here`` the graph begins at the layer where it can; see :meth:`Layers.tap`.
        """
        variables = tuple(leaf(p, keep_graph) for p in points)
        with self.replaced(variables):
            output, taps = layers.tap(self.score_of_model(), self.fill(variables, rows), rows, from_here)
        return output, taps, variables

    def score_of_model(self) -> Score:
        """The score of the model's own output, also when a neuron is explained."""
        if not isinstance(self.score, Score):
            message = "Expected the score of the model's output here."
            raise InputError(message)
        return self.score


def _as_ids(baseline: Tensor, ids: Tensor) -> Tensor:
    """A baseline in the dtype of an input; for token ids it must hold whole numbers."""
    if ids.dtype.is_floating_point or not baseline.dtype.is_floating_point:
        return baseline.to(ids.dtype)
    if bool((baseline != baseline.round()).any()):
        message = (
            f"Expected token ids (whole numbers) as baselines of an input of dtype {ids.dtype}, got {baseline.dtype} "
            "with fractions. Pass ids, such as that of the padding token."
        )
        raise BaselineError(message)
    return baseline.to(ids.dtype)


def _zeros(tensor: Tensor, rows: int) -> Tensor:
    """Attributions of an input that nothing was attributed to."""
    dtype = tensor.dtype if tensor.dtype.is_floating_point else torch.get_default_dtype()
    return torch.zeros((rows, *tensor.shape[1:]), dtype=dtype, device=tensor.device)
