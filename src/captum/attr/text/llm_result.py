"""The result of attributing what a language model said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum._engine.values import describe
from captum.attr.text.inputs import InterpretableInput
from captum.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LLMAttributionResult"]


class LLMAttributionResult:
    """Attributions of a target's text and of each of its tokens to the features of a prompt.

    Args:
        input_tokens: a name of each of ``M`` features.
        output_tokens: the ``T`` tokens of the target.
        seq_attr: attributions of the whole target, ``(M,)``; a list will do.
        token_attr: attributions of each token, ``(T, M)``; None where the method gives none.
        output_probs: probabilities of the tokens, ``(T,)``, or None.
        inp: the prompt.

    Attributes:
        seq_std_error: standard errors of ``seq_attr``, ``(M,)``, or None.
        token_std_error: standard errors of ``token_attr``, ``(T, M)``, or None.

    Raises:
        InputError: when shapes do not agree.
    """

    def __init__(
        self,
        *,
        input_tokens: list[str],
        output_tokens: list[str],
        seq_attr: Any,
        token_attr: Any = None,
        output_probs: Any = None,
        inp: InterpretableInput | None = None,
    ) -> None:
        self.input_tokens = list(input_tokens)
        self.output_tokens = list(output_tokens)
        self.seq_attr = seq_attr
        self.token_attr = token_attr
        self.output_probs = output_probs
        self.inp = inp
        self.seq_std_error: Tensor | None = None
        self.token_std_error: Tensor | None = None

    @property
    def seq_attr(self) -> Tensor:
        """Attributions of the whole target, ``(M,)``."""
        return self._seq_attr

    @seq_attr.setter
    def seq_attr(self, values: Any) -> None:
        self._seq_attr = _checked(values, (len(self.input_tokens),), "seq_attr")

    @property
    def token_attr(self) -> Tensor | None:
        """Attributions of each token of the target, ``(T, M)``, or None."""
        return self._token_attr

    @token_attr.setter
    def token_attr(self, values: Any) -> None:
        shape = (len(self.output_tokens), len(self.input_tokens))
        self._token_attr = None if values is None else _checked(values, shape, "token_attr")

    @property
    def output_probs(self) -> Tensor | None:
        """Probabilities of the target's tokens, ``(T,)``, or None."""
        return self._output_probs

    @output_probs.setter
    def output_probs(self, values: Any) -> None:
        self._output_probs = None if values is None else _checked(values, (len(self.output_tokens),), "output_probs")

    @property
    def seq_attr_dict(self) -> dict[str, float]:
        """Attribution of the whole target by name of the feature; of features with one name, that of the last."""
        return dict(zip(self.input_tokens, self.seq_attr.tolist(), strict=True))

    def __repr__(self) -> str:
        best = sorted(self.seq_attr_dict.items(), key=lambda item: -abs(item[1]))[:3]
        shown = ", ".join(f"{name!r}: {value:+.3g}" for name, value in best)
        return f"LLMAttributionResult({len(self.input_tokens)} features, {len(self.output_tokens)} tokens; {shown})"

    def to_dict(self) -> dict[str, Any]:
        """Names and numbers in lists, for JSON."""
        arrays = ("seq_attr", "token_attr", "output_probs", "seq_std_error", "token_std_error")
        found = {name: getattr(self, name) for name in arrays}
        texts = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        return {**texts, **{name: None if value is None else value.tolist() for name, value in found.items()}}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> LLMAttributionResult:
        """What :meth:`to_dict` wrote."""
        names = ("input_tokens", "output_tokens", "seq_attr", "token_attr", "output_probs")
        result = cls(**{name: stored.get(name) for name in names})  # pyright: ignore[reportArgumentType]  # checked there
        for name in ("seq_std_error", "token_std_error"):
            values = stored.get(name)
            setattr(result, name, None if values is None else torch.tensor(values))
        return result

    def save(self, path: str | Path) -> None:
        """Write names and numbers as JSON; the prompt object is not kept."""
        Path(path).write_text(json.dumps(self.to_dict(), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> LLMAttributionResult:
        """Read what :meth:`save` wrote."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    def plot_token_attr(self, show: bool = False) -> tuple[Figure, Axes] | None:
        """Heat map of the attribution of each token of the target (rows) to each feature (columns), with numbers.

        Args:
            show: whether to show the figure at once.

        Returns:
            Figure and axes; None when shown.

        Raises:
            ValueError: when there are no attributions of tokens.
        """
        from captum.attr.text.llm_pictures import draw_token_attr

        if self.token_attr is None:
            message = "Expected token_attr: surrogates such as Lime and KernelShap explain the whole target only."
            raise InputError(message)
        return draw_token_attr(self, show)

    def plot_seq_attr(self, show: bool = False) -> tuple[Figure, Axes] | None:
        """Bars of the attribution of the whole target to each feature, with standard errors where there are some.

        Args:
            show: whether to show the figure at once.

        Returns:
            Figure and axes; None when shown.
        """
        from captum.attr.text.llm_pictures import draw_seq_attr

        return draw_seq_attr(self, show)

    def plot_image_heatmap(
        self,
        show: bool = False,
        target_token_pos: int | tuple[int, int] | None = None,
        border_width: int = 2,
        show_legends: bool = True,
    ) -> tuple[Figure, Axes] | None:
        """The image of the prompt with its segments coloured by attribution.

        Args:
            show: whether to show the figure at once.
            target_token_pos: attribution of which token of the target, or of the tokens from … up to …; None (default)
                for the whole target.
            border_width: pixels of the lines around segments; 0 for none.
            show_legends: whether segments carry their names and values.

        Returns:
            Figure and axes; None when shown.

        Raises:
            ValueError: when the prompt is no :class:`ImageMaskInput`, or there is no such token.
        """
        from captum.attr.text.llm_pictures import draw_image_heatmap

        return draw_image_heatmap(self, show, target_token_pos, (border_width, show_legends))


def _checked(values: Any, shape: tuple[int, ...], name: str) -> Tensor:
    tensor = values if isinstance(values, Tensor) else torch.tensor(values)
    if tuple(tensor.shape) != shape:
        message = f"Expected {name} of shape {shape}, by the names of inputs and outputs, got {describe(tensor)}."
        raise InputError(message)
    return tensor
