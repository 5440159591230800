"""The front door: one function for every method, one result for every input."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import torch
from torch import Tensor

import captum
from captum._engine.place import telling_rows
from captum.attr.binding import Call, Model, bind, described
from captum.attr.explanation import Explanation
from captum.attr.question import AUTO, Question, ask
from captum.attr.results.features import MODALITIES
from captum.attr.results.leaves import is_sequence, leaves, map_tensors
from captum.attr.results.naming import Names, class_names_of, feature_names_of, layer_name, tokens_of
from captum.attr.tables import read_tables
from captum.errors import CaptumWarning, InputError, InputTypeError, LayerError

__all__ = ["explain"]

MethodLike = str | type | object


@overload
def explain(
    model: Model,
    inputs: object,
    method: str | type = ...,
    target: object = ...,
    *,
    layer: object = ...,
    neuron_selector: object = ...,
    baselines: object = ...,
    noise_tunnel: str | bool | Mapping[str, object] | None = ...,
    additional_forward_args: object = ...,
    class_names: Names | None = ...,
    feature_names: object = ...,
    tokens: object = ...,
    modality: str | None = ...,
    **arguments: object,
) -> Explanation: ...
@overload
def explain(
    model: Model,
    inputs: object,
    method: Sequence[MethodLike],
    target: object = ...,
    *,
    layer: object = ...,
    neuron_selector: object = ...,
    baselines: object = ...,
    noise_tunnel: str | bool | Mapping[str, object] | None = ...,
    additional_forward_args: object = ...,
    class_names: Names | None = ...,
    feature_names: object = ...,
    tokens: object = ...,
    modality: str | None = ...,
    **arguments: object,
) -> dict[str, Explanation]: ...
def explain(
    model: Model,
    inputs: object,
    method: MethodLike = "integrated_gradients",
    target: object = AUTO,
    *,
    layer: object = None,
    neuron_selector: object = None,
    baselines: object = None,
    noise_tunnel: str | bool | Mapping[str, object] | None = None,
    additional_forward_args: object = None,
    class_names: Names | None = None,
    feature_names: object = None,
    tokens: object = None,
    modality: str | None = None,
    **arguments: object,
) -> Explanation | dict[str, Explanation]:
    """Explain the score of a model for some inputs.

    Args:
        model: A model, or a function of the inputs that returns scores ``(N,)`` or ``(N, C)``.
        inputs: ``N`` rows: a tensor ``(N, *)``, a tuple, or a dict, ``BatchEncoding`` or dataclass of tensors; or a
            pandas table of numeric columns, whose names become ``feature_names``.
        method: A name in ``captum.attr.registry.METHODS``, an attribution class, an object of one, or a list of these.
            With ``layer=`` a name such as ``"integrated_gradients"`` means its layer sibling, with ``neuron_selector=``
            its neuron sibling.
        target: Which score to explain, in any form of ``docs/conventions.md``. By default each row's highest score, or
            the only one.
        layer: A module of the model or its dotted name, for layer and neuron methods.
        neuron_selector: The neuron of the layer: an index, a tuple of indices, or a function of the layer's value.
        baselines: What counts as "nothing there", zero by default. Methods that draw from a distribution of baselines
            take ``(M, *)``, and a single row of zeros when none is given. Beside a pandas table also a table.
        noise_tunnel: Average over noisy copies of the inputs: ``"smoothgrad"``, ``"smoothgrad_sq"`` or ``"vargrad"``,
            ``True`` for the first, or a dict of the arguments of ``NoiseTunnel.attribute``. ``stdevs`` is by default
            15 % of the range of each input, and for token ids half the standard deviation of the embeddings.
        additional_forward_args: Constants of the model, passed after the inputs.
        class_names: Names of the scores: a list, or a dict from index to name. Models of ``transformers`` bring them.
        feature_names: Names along one axis of the input; a dict of such lists where there are several inputs.
        tokens: The tokens of the only row, or one list for each row.
        modality: ``"tabular"``, ``"text"``, ``"image"`` or ``"series"``, where the shape of the input does not tell.
        arguments: Further arguments of the method: ``n_steps``, ``internal_batch_size``, ``seed``, ``show_progress`` …
            ``quadrature`` is what path methods call ``method``: ``"gausslegendre"``, ``"riemann_trapezoid"`` …

    Returns:
        The explanation; for a list of methods a dict of explanations by name.

    Raises:
        InputError: An argument does not fit; the message says which, and what would.

    >>> import torch
    >>> model = torch.nn.Linear(2, 1, bias=False).eval()
    >>> _ = model.weight.data.copy_(torch.tensor([[2.0, -1.0]]))
    >>> explain(model, torch.tensor([[3.0, 1.0]]), feature_names=["age", "debt"]).top(1)
    [Feature(name='age', attribution=6.0, value=3.0)]
    """
    if modality is not None and modality not in MODALITIES:
        message = f"expected modality as one of {', '.join(MODALITIES)}, got {str(modality)[:40]!r}"
        raise InputError(message)
    _warn_if_training(model)
    inputs, baselines, feature_names = read_tables(model, inputs, baselines, feature_names)
    call = Call(
        model, inputs, layer, neuron_selector, baselines, noise_tunnel, additional_forward_args, dict(arguments)
    )
    question = ask(model, inputs, target, additional_forward_args)
    if question.inputs.form in ("tensor", "tuple"):
        call = replace(call, inputs=question.inputs.restore(question.inputs.tensors))
    names = _Names(
        class_names_of(class_names, model),
        feature_names_of(feature_names, inputs),
        tokens_of(tokens, question.inputs.batch),
        modality,
    )
    if is_sequence(method):
        found = [_explained(call, question, one, names) for one in method]
        return {_free_name(found, i): explanation for i, explanation in enumerate(found)}
    return _explained(call, question, method, names)


@dataclass(frozen=True)
class _Names:
    classes: tuple[str, ...]
    features: dict[str, tuple[str, ...]]
    tokens: tuple[tuple[str, ...], ...]
    modality: str | None


def _explained(call: Call, question: Question, method: MethodLike, names: _Names) -> Explanation:
    bound = bind(call, question, method)
    attribute: object = getattr(bound.method, "attribute", None)
    if not callable(attribute):
        message = f"expected an attribution method with attribute(), got {type(bound.method).__name__}"
        raise InputTypeError(message)
    _wait_for_device(question)
    start = time.perf_counter()
    with telling_rows():
        result: object = attribute(call.inputs, **bound.arguments)
    _wait_for_device(question)
    seconds = time.perf_counter() - start
    residual = None
    if bound.arguments.get("return_convergence_delta") is True and isinstance(result, tuple):
        result, delta = _two(result)
        residual = _per_row(delta, question.inputs.batch, bound.row.delta_sign)
    row = bound.row
    if row.kind == "layer":
        result = _rows_first(result, question.inputs.batch, getattr(bound.method, "batch_dims", ()))
        result = _row_by_row(result, question.inputs.batch)
    keeps_units = getattr(bound.method, "multiplies_by_inputs", row.multiplies_by_inputs) is True
    squared = bound.arguments.get("nt_type", "smoothgrad") != "smoothgrad"
    return Explanation(
        attributions=result,
        inputs=map_tensors(Tensor.detach, call.inputs),
        method=row.name,
        arguments=described(call, bound),
        targets=question.targets if row.reads_target else (),
        scores=question.scores if row.reads_target else None,
        outputs=question.outputs,
        residual=residual if keeps_units and not squared else None,
        class_names=names.classes,
        feature_names=names.features,
        tokens=names.tokens,
        modality=MODALITIES[names.modality] if names.modality is not None else None,
        layer=layer_name(call.model, getattr(bound.method, "layer", None)),
        seconds=seconds,
        version=captum.__version__,
        notes=bound.notes,
    )


def _rows_first(result: object, rows: int, dims: Sequence[int]) -> object:
    """Values of a layer with the batch in dim 0: the dim that the method found, else the only one of that size."""
    known = iter(dims)

    def moved(tensor: Tensor) -> Tensor:
        dim = next(known, 0)
        places = [d for d, size in enumerate(tensor.shape) if size == rows]
        if not dim and len(places) == 1:
            dim = places[0]
        return tensor.movedim(dim, 0) if dim else tensor

    return map_tensors(moved, result)


def _row_by_row(result: object, rows: int) -> object:
    """Values of a layer that has several rows for each row of the inputs, as parts of the only row."""
    tensors = [leaf.value for leaf in leaves(result)]
    if not tensors or tensors[0].dim() == 0 or len(tensors[0]) in (1, rows):
        return result
    if rows == 1:
        return map_tensors(lambda t: t.unsqueeze(0) if t.dim() and len(t) != 1 else t, result)
    message = (
        f"The layer's values {tuple(tensors[0].shape)} cannot be told apart by the {rows} rows of the inputs, as in "
        "window attention, or frames that lie beside the batch. Explain one row at a time, choose another layer, or "
        "call attribute() of the method itself, which returns the values as they are."
    )
    raise LayerError(message)


def _two(result: tuple[object, ...]) -> tuple[object, object]:
    return result[0], result[1]


def _per_row(delta: object, rows: int, sign: int) -> Tensor | None:
    """Average the deltas of the samples of each row."""
    if not isinstance(delta, Tensor) or delta.numel() == 0 or delta.numel() % rows:
        return None
    return sign * delta.detach().reshape(rows, -1).mean(1)


def _free_name(found: Sequence[Explanation], index: int) -> str:
    """Return the method's name, with a number from the second use on."""
    name = found[index].method
    before = sum(explanation.method == name for explanation in found[:index])
    return f"{name}_{before + 1}" if before else name


def _warn_if_training(model: Model) -> None:
    if isinstance(model, torch.nn.Module) and model.training:
        message = (
            "The model is in training mode, so dropout and batch normalisation would make the explanation random or "
            "dependent on the other rows: call model.eval() first."
        )
        warnings.warn(message, CaptumWarning, stacklevel=3)


def _wait_for_device(question: Question) -> None:
    if question.scores.is_cuda:
        torch.cuda.synchronize(question.scores.device)
