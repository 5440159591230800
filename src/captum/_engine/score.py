"""Score: forward function + constant arguments + target → one number per row."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._C import Future as AnyFuture  # also what Future.then gives

from captum._engine.entry import ordinary
from captum._engine.rows import Rows
from captum._engine.target import ARGMAX, argmax_of, one_per_row, parse_target, select
from captum._engine.values import Inputs, describe, is_mapping, is_record, parse_constants, takes_nothing
from captum.errors import CaptumError, InputTypeError, OutputError, TargetError

Forward = Callable[..., Any]

_ROWS = "captum called the model with "


def _is_of_shapes(fault: Exception) -> bool:
    """Whether it may be what a model raises at shapes that it does not take."""
    kinds = (RuntimeError, AssertionError, ValueError, IndexError)
    return isinstance(fault, kinds) and not isinstance(fault, (CaptumError, torch.OutOfMemoryError))


def tell_rows(fault: Exception, rows: int, batch: int) -> None:
    """Note on a model's own error that the model was called with another number of rows than the inputs have.

    Args:
        fault: what the model raised.
        rows: how many rows it was called with.
        batch: how many the user's inputs have.
    """
    if rows == batch or not _is_of_shapes(fault):
        return
    said: list[str] = getattr(fault, "__notes__", [])
    fault.__notes__ = [note for note in said if not note.startswith(_ROWS)]
    fault.add_note(
        f"{_ROWS}{rows} rows, where the inputs have {batch}. If it takes only batches of {batch}, as exported programs "
        f"and fixed views do, pass internal_batch_size={batch} (NoiseTunnel also needs nt_samples_batch_size=1), or "
        "export it with a dynamic batch."
    )


def read_output(output: Any) -> Tensor:
    """The tensor of scores in a model's output: itself, ``.logits``, or the only floating-point tensor."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (bool, int, float)):
        return torch.tensor(output, device="cpu")
    parts = _parts(output)
    logits = parts.get("logits")
    if isinstance(logits, Tensor):
        return logits
    floating = [v for v in parts.values() if isinstance(v, Tensor) and v.dtype.is_floating_point]
    if len(floating) == 1:
        return floating[0]
    listed = ", ".join(f"{k}: {describe(v)}" for k, v in parts.items())
    got = f"a {type(output).__name__} with {listed}" if listed else describe(output)
    remedy = "Choose one with a target function, such as target=lambda out: out[0][:, 3], or wrap the forward function."
    if isinstance(output, AnyFuture):
        remedy = "Call attribute_future where the method has it, or wait for the result in the forward function."
    elif hasattr(output, "__array__"):
        remedy = "For methods that perturb, wrap the function with captum.attr.games.adapters.numpy_function."
    message = f"Expected a model output with one tensor of scores, got {got}. {remedy}"
    raise OutputError(message)


def _parts(output: Any) -> dict[str, Any]:
    if is_mapping(output):
        return dict(output)
    if isinstance(output, (list, tuple)):
        fields = getattr(output, "_fields", range(len(output)))
        return {str(k): v for k, v in zip(fields, output, strict=True)}
    if is_record(output):
        return {k: getattr(output, k) for k in output.__dataclass_fields__}
    return {}


class Score:
    """What is explained: the model with its constants and target, as one number per row.

    Args:
        forward: the user's model or function.
        inputs: the parsed inputs of the call.
        target: any form of ``docs/conventions.md``.
        additional_forward_args: constants of the model; tensors with one row per example follow the examples.
    """

    __slots__ = ("constants", "forward", "inputs", "nothing", "target")

    def __init__(
        self, forward: Forward, inputs: Inputs, target: Any = None, additional_forward_args: Any = None
    ) -> None:
        self.forward = forward
        self.constants = parse_constants(additional_forward_args)
        if any(t.is_inference() for t in (*inputs.tensors, *self.constants) if isinstance(t, Tensor)):
            inputs = replace(inputs, tensors=tuple(ordinary(t) for t in inputs.tensors))
            self.constants = tuple(ordinary(c) if isinstance(c, Tensor) else c for c in self.constants)
        self.inputs = inputs
        self.nothing = takes_nothing(forward)
        if not callable(forward):
            message = f"Expected a model or a function as forward_func, got {describe(forward)}."
            raise InputTypeError(message)
        if inputs.batch == 0:
            message = "The batch is empty: inputs have 0 rows in dim 0. Pass at least one example."
            raise InputTypeError(message)
        self.target = parse_target(target, inputs.batch)
        self.resolve()

    @property
    def read_modules(self) -> Sequence[torch.nn.Module]:
        """Modules whose values are read: none, the score is the model's own output."""
        return ()

    @property
    def batch(self) -> int:
        """Number of examples."""
        return self.inputs.batch

    def everyone(self) -> Rows:
        """All examples, each once."""
        return Rows(self.batch)

    def output(self, tensors: tuple[Tensor, ...], rows: Rows) -> Any:
        """The model's own output for these inputs, whatever its type."""
        if self.nothing:
            return self.forward()
        args, keywords = self.inputs.arguments(tensors)
        if rows.index is None:
            return self.forward(*args, *self.constants, **keywords)
        constants = tuple(rows.pick_constant(c) for c in self.constants)
        try:
            return self.forward(*args, *constants, **keywords)
        except Exception as fault:
            tell_rows(fault, rows.count, self.batch)
            self._tell_constants(fault)
            raise

    def _tell_constants(self, fault: Exception) -> None:
        """Note which constants were not repeated with the rows."""
        shapes = [tuple(c.shape) for c in self.constants if isinstance(c, Tensor) and c.dim() and len(c) != self.batch]
        if shapes and _is_of_shapes(fault):
            fault.add_note(
                f"captum repeats constants in additional_forward_args with the rows only when their dim 0 is "
                f"{self.batch}, the batch; it passed on as it is a tensor of shape {shapes[0]}."
            )

    def select(self, output: Any, rows: Rows) -> Tensor:
        """The target's part of a model output; may leave more than one number per row."""
        if callable(self.target) and not hasattr(self.target, "select"):
            return read_output(self.target(output))
        return select(read_output(output), self.target, rows)

    def __call__(self, tensors: tuple[Tensor, ...], rows: Rows) -> Tensor:
        """One number per row, ``(n,)``."""
        return self.read(self.output(tensors, rows), rows)

    def read(self, output: Any, rows: Rows) -> Tensor:
        """One number per row from a model output, ``(n,)``."""
        values = self.select(output, rows)
        if values.is_complex():
            message = (
                f"The score is complex, {describe(values)}: read it into real numbers, such as target=lambda out: "
                "out.abs()."
            )
            raise OutputError(message)
        if values.dim() == 1 and len(values) == rows.count:
            return values
        return one_per_row(values, values if callable(self.target) else read_output(output), self.target, rows)

    def at(self, tensors: tuple[Tensor, ...], limit: int | None = None) -> Tensor:
        """The score at other inputs, ``(1, *)`` or ``(B, *)`` each, ``limit`` rows at a time, ``(B,)``."""
        parts = [self(tuple(rows.pick(t).clone() for t in tensors), rows) for rows in self.everyone().pieces(limit)]
        return torch.cat(parts)

    def resolve(self) -> Any:
        """Fix ``target='argmax'`` to the classes that the model predicts for the inputs, before anything is changed."""
        if self.target == ARGMAX and isinstance(self.target, str):
            with torch.no_grad(), self.running():
                output = self.output(tuple(t.clone() for t in self.inputs.tensors), self.everyone())
            if isinstance(output, AnyFuture):
                message = "target='argmax' asks the model first, and this one answers later: give the classes."
                raise TargetError(message)
            self.target = argmax_of(read_output(output))
        return self.target

    def modules(self) -> list[torch.nn.Module]:
        """The modules of the forward function that can be found: its own, or those that a function closes over."""
        return find_modules(self.forward)

    def running(self) -> contextlib.AbstractContextManager[None]:
        """The state that a call needs: eager code for compiled models, gradients through RNNs on CUDA."""
        return self._in_context() if self.needs_context() else contextlib.nullcontext()

    @contextlib.contextmanager
    def _in_context(self) -> Generator[None]:
        with contextlib.ExitStack() as stack:
            if _may_be_compiled() and not torch.compiler.is_compiling():
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if self.inputs.tensors[0].is_cuda and any(isinstance(m, torch.nn.RNNBase) for m in self.modules()):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            yield

    def needs_context(self) -> bool:
        """Tell whether :meth:`running` has anything to do."""
        return self.inputs.tensors[0].is_cuda or _may_be_compiled()


def find_modules(forward: Any) -> list[torch.nn.Module]:
    """All modules below a model, a bound method of one, or a function that closes over some."""
    if isinstance(forward, torch.nn.Module):
        return list(forward.modules())
    owners = [getattr(forward, "__self__", None), getattr(forward, "func", None)]
    owners += [cell.cell_contents for cell in getattr(forward, "__closure__", None) or () if _filled(cell)]
    found: dict[int, torch.nn.Module] = {}
    for owner in owners:
        if isinstance(owner, torch.nn.Module):
            found.update({id(m): m for m in owner.modules()})
    return list(found.values())


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _may_be_compiled() -> bool:
    """Tell whether anything can be compiled in this process.

    Compiled code hides its operators from hooks and modes, and it may sit anywhere: a wrapped model,
    ``module.compile()`` on any part of it, a decorated method, a function that a closure calls. Asking eager code to be
    eager costs less than a search.
    """
    return "torch._dynamo.eval_frame" in sys.modules
