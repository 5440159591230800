"""Setting: what one call varies (inputs or a layer's values), and how values of players become attributions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum._engine.place import Layers, Neuron
from captum._engine.rows import Rows
from captum._engine.score import Score
from captum._engine.values import Inputs, parse_inputs
from captum.attr.games.features import Features, Groups, groups_of, parse_masks
from captum.attr.games.fills import Ready, parse_fill
from captum.attr.games.game import Game
from captum.attr.games.variable import RawScore, Variable
from captum.errors import InputError


class Setting:
    """One call: the variable, its structure, and the way back.

    Args:
        variable: what is varied.
        inputs: the variable as parsed inputs: masks and baselines are read against it.
        back: brings tensors with the rows in dim 0 into the form of the variable, where that has them elsewhere.
    """

    def __init__(
        self, variable: Variable, inputs: Inputs, back: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] | None = None
    ) -> None:
        self.variable = variable
        self.inputs = inputs
        self._back = back

    def masks(self, feature_mask: Any, name: str = "feature_mask") -> Groups:
        """The features that a mask describes."""
        if self.inputs.form == "layer":
            entries = feature_mask if isinstance(feature_mask, tuple) else (feature_mask,) * len(self.inputs.tensors)
            return groups_of(entries, self.inputs.tensors, self.inputs.names, name)
        return parse_masks(feature_mask, self.inputs, name)

    def fill(self, baselines: Any) -> Ready:
        """The fill that baselines describe."""
        return parse_fill(baselines, self.inputs)

    def game(self, features: Features, fill: Ready, per_eval: int = 1) -> Game:
        """The game of these features under this fill."""
        return Game(self.variable, features, fill, check_per_eval(per_eval))

    def spread(self, game: Game, values: Tensor, keep_shape: bool = True) -> tuple[Tensor, ...]:
        """Values ``(M, n)`` of the players as attributions, one tensor per tensor of the variable.

        Args:
            game: the game that was played.
            values: values of its players.
            keep_shape: lead with the shape of the output; else with its number of elements.
        """
        lead = (game.shape or (1,)) if keep_shape else (values.shape[1],)
        parts = game.features.spread(values, game.batch)
        return tuple(
            p.reshape(*lead, *p.shape[1:]).to(result_dtype(game.dtype, v.dtype)).to(v.device)
            for p, v in zip(parts, self.variable.values, strict=True)
        )

    def restore(self, parts: tuple[Tensor, ...]) -> Any:
        """Tensors in the structure of the variable."""
        return self.inputs.restore(parts if self._back is None else self._back(parts))


def result_dtype(dtype: torch.dtype, own: torch.dtype | None = None) -> torch.dtype:
    """Attributions have the dtype of the output, or of the varied tensor ``own`` where that is wider.

    Of counts and booleans, the default dtype.
    """
    if not dtype.is_floating_point:
        return torch.get_default_dtype()
    return torch.promote_types(dtype, own) if own is not None and own.is_floating_point else dtype


def check_per_eval(per_eval: object, name: str = "perturbations_per_eval") -> int:
    """Require an int of at least 1; None is 1, planned."""
    if per_eval is None:
        return 1
    per_eval = int(per_eval) if isinstance(per_eval, np.integer) else per_eval
    if isinstance(per_eval, bool) or not isinstance(per_eval, int) or per_eval < 1:
        message = f"Expected {name} to be an int of at least 1, got {per_eval!r}."
        raise InputError(message)
    return per_eval


def score_of(forward: Callable[..., Any], inputs: Any, target: Any, constants: Any) -> RawScore:
    """The score of a call, from what the user passes."""
    return RawScore(forward, parse_inputs(inputs, forward), target, constants)


def at_inputs(forward: Callable[..., Any], inputs: Any, target: Any, constants: Any) -> Setting:
    """The variable is the model's input."""
    score = score_of(forward, inputs, target, constants)
    score.resolve()
    values = _aligned(score.inputs)
    return Setting(Variable(values, score, score, score.batch), replace(score.inputs, tensors=values))


def _aligned(inputs: Inputs) -> tuple[Tensor, ...]:
    """The tensors of the inputs, which all have a row per example, or one that examples share."""
    shapes = [tuple(t.shape) for t in inputs.tensors]
    if any(not shape or shape[0] not in (1, inputs.batch) for shape in shapes):
        message = (
            f"Expected inputs with one row per example in dim 0, {inputs.batch} as in the first, or a single row; got "
            f"shapes {shapes}. For nn.EmbeddingBag pass ids as a padded matrix (B, L) and make the offsets in the "
            "forward function; what is no row of an example belongs into additional_forward_args."
        )
        raise InputError(message)
    return tuple(t.detach() for t in inputs.tensors)


def at_layer(score: RawScore, layers: Layers) -> Setting:
    """The variable is the value of a layer, which may be integers, as what an embedding receives."""
    for layer in layers.layers:
        layer.integers = True
    tensors, everyone = score.inputs.tensors, score.everyone()
    score.resolve()
    with quiet(score):
        values = layers.read(score, tensors, everyone)

    def evaluate(variables: tuple[Tensor, ...], rows: Rows) -> Tensor:
        own = tuple(t.clone() if rows.index is None else rows.pick(t) for t in tensors)
        return layers.score(score, variables, own, rows)

    names = tuple(f"layer value {i}" for i in range(len(values)))
    form = "tensor" if len(values) == 1 else "tuple"
    return Setting(Variable(values, evaluate, score, score.batch), Inputs(values, names, form), layers.as_made)


def at_neuron(score: RawScore, layers: Layers, selector: Any) -> Setting:
    """The variable is the model's input, the score a neuron."""
    values = _aligned(score.inputs)
    neuron = Neuron(score, layers, selector)
    return Setting(Variable(values, neuron, score, score.batch), replace(score.inputs, tensors=values))


@contextlib.contextmanager
def quiet(score: Score) -> Generator[None]:
    """No graph, and the state that the model needs."""
    with contextlib.ExitStack() as stack:
        if score.needs_context():
            stack.enter_context(score.running())
        stack.enter_context(torch.no_grad())
        yield


@contextlib.contextmanager
def progress(game: Game, label: str | None, total: int | None) -> Generator[None]:
    """A progress bar that counts coalitions, when there is a label."""
    if label is None:
        yield
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label) as bar:
        bar.leave = bar.pos == 0  # below another bar it vanishes when done
        game.advance = bar.update
        yield
        bar.total = bar.n  # games remember, and stop early
        bar.refresh()
