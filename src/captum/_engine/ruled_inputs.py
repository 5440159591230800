"""The model's inputs under rules: embedding look-ups are found, and made variables, inside the ruled pass itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.calls import MARK, Call, Mark, tensors_in
from captum._engine.derivative import leaf
from captum._engine.draws import Samples, Source
from captum._engine.drive import AtInputs, Reduce
from captum._engine.lookups import Watch
from captum._engine.place import Layers, Neuron
from captum._engine.rules import RuleMode, Table
from captum._engine.score import Score
from captum._engine.shadows import Shadow
from captum._engine.sweep import Plan, parameter_count
from captum._engine.values import parse_baselines, parse_distribution, parse_inputs
from captum.errors import InputError

Tensors = tuple[Tensor, ...]


class AtRuled(AtInputs):
    """The score as a function of the inputs, for passes under rules.

    Integer inputs wait for the pass, which finds the look-ups that read them; so no pass is spent on finding them. The
    baselines are those of all inputs.

    Attributes:
        pending: whether there are integer inputs, so that look-ups are to be found in each pass.
    """

    pending = False

    def _vary_integers(self, score: Score | Neuron) -> None:  # noqa: ARG002  # nothing is run yet
        self.pending = True
        self.varied = tuple(i for i, t in enumerate(self.base) if t.dtype.is_floating_point)
        self.values = tuple(self.base[i] for i in self.varied)
        self.names = tuple(self.inputs.names[i] for i in self.varied)

    def vary_as_floats(self) -> None:
        """No look-up was found: integers are explained as floats, where that can be."""
        self.pending = False
        super()._vary_integers(self.score)

    def plan(self, limit: int | None, larger: int = 1) -> Plan:
        """Rows per forward pass; a token id stands for its embedding."""
        plan = super().plan(limit, larger)
        if not self.pending:
            return plan
        modules = self.score.modules()
        width = max((m.embedding_dim for m in modules if isinstance(m, nn.Embedding)), default=1)
        elements = sum(t[0].numel() * (1 if t.dtype.is_floating_point else width) for t in self.base)
        return Plan(limit, elements, parameter_count(modules))

    def baseline_values(self, baselines: Any) -> Tensors:
        """The baselines of all inputs, ``(1, *)`` or ``(B, *)`` each."""
        if not self.pending:
            return super().baseline_values(baselines)
        return tuple(t.to(b.dtype) for t, b in zip(parse_baselines(baselines, self.inputs), self.base, strict=True))

    def samples(self, baselines: Any, raw: Any, source: Source, per_row: int) -> Samples:
        """Rows of a baseline distribution of all inputs, ``per_row`` for each example."""
        if not self.pending:
            return super().samples(baselines, raw, source, per_row)
        found = parse_distribution(baselines, self.inputs, raw)
        picks = [source.choice(len(s), self.batch * per_row) for s in found]
        return Samples([f.to(b.dtype) for f, b in zip(found, self.base, strict=True)], picks)

    def replaced(self, variables: Tensors) -> contextlib.AbstractContextManager[object]:
        """Nothing to do: the pass puts the variables in where it finds look-ups."""
        return contextlib.nullcontext() if self.pending else super().replaced(variables)

    def of_variables(self, baselines: Tensors) -> Tensors:
        """The baselines of the floating-point inputs."""
        return tuple(baselines[i] for i in self.varied) if self.pending else baselines

    @contextlib.contextmanager
    def finding(
        self, mode: RuleMode, filled: Tensors, twins: Tensors | None, *, inside: bool
    ) -> Generator[list[Tensor]]:
        """Find the look-ups of a pass and make them variables; what is yielded grows by them.

        Args:
            mode: the rules of the pass.
            filled: the model's inputs.
            twins: their baselines, in a paired pass.
            inside: whether the values of a layer are wanted: then nothing leads back from the look-ups to the ids.
        """
        integers = {i: t for i, t in enumerate(filled) if not t.dtype.is_floating_point}
        if not self.pending:
            yield []
            return
        pairs = None if twins is None else IdTwins(mode)
        finder = Finder(integers, len(filled[0]), mode, pairs, inside=inside)
        with contextlib.ExitStack() as stack:
            if pairs is not None and twins is not None:
                stack.callback(pairs.close)
                for number, tensor in integers.items():
                    pairs.marks.set(tensor, Mark(pairs, twins[number].clone()))
                stack.enter_context(pairs)
            stack.enter_context(finder)
            yield finder.leaves
        if not inside and finder.leaves:
            self._adopt(finder)

    def _adopt(self, finder: Finder) -> None:
        """Keep what leads from the look-ups back to the ids."""
        if self.lookups and [u.order for u in self.lookups] != [u.order for u in finder.lookups]:
            message = (
                "The model reads other embeddings for some rows than for others, perhaps one per row. Leave "
                "internal_batch_size alone, or attribute to the embedding layer with a Layer… method."
            )
            raise InputError(message)
        names = tuple(f"embedding {u.order}" for u in finder.lookups)
        self.names = (*[self.inputs.names[i] for i in self.varied], *names)
        self.lookups = finder.lookups


def at_ruled(forward: Callable[..., Any], inputs: Any, target: Any, constants: Any, reduce: Reduce = "sum") -> AtRuled:
    """The score as a function of the inputs, for passes under rules."""
    return AtRuled(Score(forward, parse_inputs(inputs, forward), target, constants), reduce)


def neuron_at_ruled(
    forward: Callable[..., Any], inputs: Any, constants: Any, neuron: tuple[Layers, Any], reduce: Reduce = "sum"
) -> AtRuled:
    """A neuron, (layer, selector), as a function of the inputs, for passes under rules."""
    score = Neuron(Score(forward, parse_inputs(inputs, forward), None, constants), *neuron)
    return AtRuled(score, reduce)  # pyright: ignore[reportArgumentType]  # a Neuron offers all that AtInputs asks of a Score


class IdTwins(RuleMode):
    """Carry the baselines' ids beside those of the inputs, through integer operators up to the look-ups.

    What is computed of ids otherwise, such as attention masks, stays that of the inputs.

    Args:
        rules: the mode of the pass.
    """

    def __init__(self, rules: RuleMode) -> None:
        super().__init__(Table({}, {}, fallback=Call.native), rules.root, paired=True, on_unknown=rules.on_unknown)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See one torch call; one that reads floats has nothing to do with ids."""
        tensors = tensors_in((args, kwargs), [])
        if any(t.dtype.is_floating_point for t in tensors):
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)

    def _read(self, call: Call) -> Any:
        """Whether an id is among the ids is asked for warnings, as for padding without a mask."""
        return call.function(*call.args, **call.kwargs) if call.name == "__contains__" else super()._read(call)

    def mark_all(self, out: Any, twin: Any, *, beside: bool = False) -> None:
        """Mark integers that no other mode follows."""
        if isinstance(out, Tensor) and (out.dtype.is_floating_point or getattr(out, MARK, None) is not None):
            return
        super().mark_all(out, twin, beside=beside)


class Finder(Watch):
    """Put a variable in the place of every look-up that reads an integer input.

    Args:
        tensors: the inputs, by their number; only integer ones are followed.
        batch: number of rows.
        mode: the rules of the pass; the variables are on its path.
        pairs: gives the baselines' ids, in a paired pass.
        inside: whether nothing is to lead back from the look-ups to the ids.
    """

    def __init__(
        self, tensors: dict[int, Tensor], batch: int, mode: RuleMode, pairs: IdTwins | None, *, inside: bool
    ) -> None:
        super().__init__(tensors, batch)
        self.leaves: list[Tensor] = []
        self._mode = mode
        self._pairs = pairs
        self._inside = inside

    def seen(self, shadow: Shadow, ids: Tensor, out: Tensor, again: Callable[[Tensor], Tensor]) -> Tensor:
        """The variable, in the place of what the look-up returned."""
        value = _floating(out)
        found = None if self._inside else self.lookup(shadow, ids, out)
        other = None if self._pairs is None else _floating(again(self._pairs.twin(ids)))
        if other is not None and other.shape != value.shape:
            message = (
                f"A look-up gives a tensor {tuple(value.shape)} for the inputs and {tuple(other.shape)} for the "
                "baselines; give it one width, as in one_hot(ids, num_classes)."
            )
            raise InputError(message)
        if found is not None:
            self.lookups.append(found)
            value = found.value
            other = None if other is None else found.arrangements[0].by_example(other, self.batch)
        variable = leaf(value)
        self._mode.begin((variable,), None if other is None else (other,))
        self.leaves.append(variable)
        return (variable if found is None else found.as_read(variable, ids)).clone()


def _floating(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.dtype.is_floating_point else tensor.to(torch.get_default_dtype())
