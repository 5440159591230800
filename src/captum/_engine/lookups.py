"""Embedding look-ups that consume an integer input, found by watching the operators of a forward pass.

Token ids carry no gradient. The variable moves to the outputs of the look-ups that read them, and shadows of the ids,
carried through the operators between input and look-up, bring the scores back to the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum._engine.bags import MODES, bag_slots, pool, require_bags
from captum._engine.shadows import Shadow, Shadows
from captum.errors import LayerError


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Where the examples lie in the ids of a look-up.

    Attributes:
        axis: the dim that counts examples.
        inner: how many entries of that dim belong to one example.
        major: whether the entries of one example lie side by side.
    """

    axis: int
    inner: int
    major: bool

    def by_example(self, tensor: Tensor, batch: int) -> Tensor:
        """``tensor``, shaped like the ids or with more dims, as ``(B, …)``."""
        shape = list(tensor.shape)
        shape[self.axis : self.axis + 1] = [batch, self.inner] if self.major else [self.inner, batch]
        out = tensor.reshape(shape).movedim(self.axis + (not self.major), 0)
        return out.squeeze(self.axis + 1) if self.inner == 1 else out

    def shape(self, ids: torch.Size, batch: int, rows: int) -> tuple[int, ...]:
        """The shape of the ids of ``rows`` rows, when those of ``batch`` examples have the shape ``ids``."""
        return (*ids[: self.axis], ids[self.axis] // batch * rows, *ids[self.axis + 1 :])

    def as_read(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """Values ``(n, …, D)`` in the order of ids of this shape, ``(*shape, D)``."""
        before, after = shape[: self.axis], shape[self.axis + 1 :]
        out = values.reshape(len(values), *before, self.inner, *after, values.shape[-1])
        return out.movedim(0, self.axis + (not self.major)).reshape(*shape, values.shape[-1])


@dataclass(slots=True)
class Lookup:
    """One look-up: which of the forward pass it is, and where its ids come from.

    Attributes:
        order: its number among all look-ups of the forward pass.
        starts: the inputs that it reads, each with the number of its first element in an example.
        positions: LongTensor, for each id of an example the number of its element, -1 for constants; None when unknown.
        value: what it returned, ``(B, …, D)``.
        ids: the ids that it read.
        arrangements: where the examples may lie in the ids; several when one example alone leaves it open.
    """

    order: int
    starts: dict[int, int]
    positions: Tensor | None
    value: Tensor
    ids: Tensor
    arrangements: list[Arrangement]

    @property
    def leaf(self) -> int:
        """The first input that it reads."""
        return min(self.starts)

    def scatter(self, scores: Tensor, leaf: int, like: Tensor) -> Tensor:
        """Bring scores of the looked-up ids ``(n, …, D)`` back to the elements of an input, summed, ``(n, *, D)``."""
        if self.positions is None:
            message = (
                f"An embedding reads ids of shape {tuple(self.ids.shape)} computed from an input {tuple(like.shape)} "
                "in a way that does not say which token each belongs to. Attribute to the embedding layer instead."
            )
            raise LayerError(message)
        count, depth, width = len(scores), scores.shape[-1], like[0].numel()
        place = self.positions - self.starts[leaf]
        mine = torch.nonzero((place >= 0) & (place < width)).flatten()
        flat = scores.reshape(count, -1, depth)
        if len(mine) < len(place):
            flat = flat.index_select(1, mine.to(scores.device))
        out = scores.new_zeros((count, width, depth)).index_add(1, place[mine].to(scores.device), flat)
        return out.reshape(count, *like.shape[1:], depth)

    def as_read(self, values: Tensor, ids: Tensor) -> Tensor:
        """Values ``(n, …, D)`` in the order of the ids that the look-up reads now."""
        rows, batch = len(values), len(self.value)
        fits = [a for a in self.arrangements if a.shape(self.ids.shape, batch, rows) == tuple(ids.shape)]
        if len(fits) > 1 and batch == 1 and rows > 1:
            mine = self.ids.reshape(1, -1, 1).expand(rows, -1, 1)
            fits = [a for a in fits if torch.equal(a.as_read(mine, ids.shape)[..., 0], ids)]
        if not fits:
            message = (
                f"Look-up {self.order} read ids of shape {tuple(self.ids.shape)} for {batch} example(s), and reads "
                f"{tuple(ids.shape)} for {rows} row(s). Attribute to the embedding layer instead, with a Layer… method."
            )
            raise LayerError(message)
        return fits[0].as_read(values, ids.shape)


class _Mode(TorchFunctionMode):
    """What both modes share: which calls look ids up in a table.

    Attributes:
        batch: number of examples, where a call has to do with each of them once.
    """

    batch: int = 1

    def ids_of(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
        """The ids, when this call reads rows of a table of vectors; else None."""
        if func is F.embedding:
            return args[0] if args else kwargs["input"]
        if func is F.one_hot:
            return args[0] if args else kwargs["tensor"]
        if func is torch.embedding:
            return args[1] if len(args) > 1 else kwargs["indices"]
        if getattr(func, "__name__", "") not in ("__getitem__", "index_select") or len(args) < 2:
            return None
        table, ids = args[0], args[-1]
        if not isinstance(table, nn.Parameter) or table.dim() != 2 or not isinstance(ids, Tensor):
            return None
        by_row = len(args) == 2 or args[1] == 0
        return ids if by_row and ids.dtype in (torch.int64, torch.int32) else None

    def bag(
        self,
        input: Tensor,  # noqa: A002  # the name that torch gives it
        weight: Tensor,
        offsets: Tensor | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        per_sample_weights: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Tensor:
        """``embedding_bag`` in terms of ``embedding``, so that each id has its own vector; called with the mode off."""
        if mode not in MODES or (offsets is None) != (input.dim() == 2):
            message = (
                f"Expected an nn.EmbeddingBag of ids (B, L), or of ids (n,) with offsets, got {tuple(input.shape)}, "
                f"{mode!r}."
            )
            raise LayerError(message)
        with self:
            vectors = F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        if per_sample_weights is not None:
            vectors = vectors * per_sample_weights[..., None]
        keep = torch.ones_like(input, dtype=torch.bool) if padding_idx is None else input != padding_idx
        if offsets is None:
            return pool(vectors, keep, mode)
        places, counted = bag_slots(input, offsets, include_last_offset)
        require_bags(len(places), self.batch, len(input))
        return pool(vectors[places], keep[places] & counted, mode)


class Watch(_Mode):
    """Follow integer inputs through a forward pass and keep the look-ups that read them.

    Args:
        tensors: the inputs, by their number; only integer ones are followed.
        batch: number of examples.
    """

    def __init__(self, tensors: dict[int, Tensor], batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.lookups: list[Lookup] = []
        self.count = 0
        self._starts: dict[int, int] = {}
        examples, places, numbered = [], [], []
        start, total = 0, 0
        for leaf, tensor in tensors.items():
            if tensor.dim() == 0 or len(tensor) != batch or not tensor.numel():
                continue
            width = tensor[0].numel()
            self._starts[leaf] = start
            numbered.append((tensor, total + torch.arange(batch * width, device="cpu").reshape(tensor.shape)))
            examples.append(torch.arange(batch, device="cpu").repeat_interleave(width))
            places.append(start + torch.arange(width, device="cpu").repeat(batch))
            start, total = start + width, total + batch * width
        constant = torch.tensor([-1], device="cpu")  # the last entry answers for -1, the number of constants
        self._examples, self._places = torch.cat([*examples, constant]), torch.cat([*places, constant])
        self._shadows = Shadows(numbered)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See one torch call."""
        kwargs = kwargs or {}
        if func is F.embedding_bag:
            return self.bag(*args, **kwargs)
        out = func(*args, **kwargs)
        ids = self.ids_of(func, args, kwargs)
        if ids is None:
            self._shadows.follow(func, args, kwargs, out)
            return out
        self.count += 1
        shadow = self._shadows.of(ids)
        if shadow is None or (shadow.positions is not None and bool((shadow.positions < 0).all())):
            return out
        return self.seen(shadow, ids, out, lambda other: _again(func, args, kwargs, (ids, other)))

    def seen(self, shadow: Shadow, ids: Tensor, out: Tensor, again: Callable[[Tensor], Tensor]) -> Tensor:  # noqa: ARG002  # for who pairs
        """A look-up read an input; what the model goes on with.

        Args:
            shadow: where the ids come from.
            ids: the ids.
            out: what it returned.
            again: the same look-up of other ids.
        """
        self.lookups.append(self.lookup(shadow, ids, out))
        return out

    def lookup(self, shadow: Shadow, ids: Tensor, out: Tensor) -> Lookup:
        """What is known of the latest look-up."""
        arrangements = self._arrangements(ids, shadow.positions)
        positions, starts = None, self._starts
        if shadow.positions is not None:
            positions = self._places[arrangements[0].by_example(shadow.positions, self.batch)][0].reshape(-1)
            starts = self._read_by(positions)
        looked_up = out.detach() if out.dtype.is_floating_point else out.to(torch.get_default_dtype())
        value = arrangements[0].by_example(looked_up, self.batch)
        return Lookup(self.count - 1, starts, positions, value, ids.clone(), arrangements)

    def _read_by(self, positions: Tensor) -> dict[int, int]:
        """The inputs whose elements are among ``positions``."""
        firsts = list(self._starts.values())
        bounds = [*firsts[1:], int(self._places.max()) + 1]
        pairs = zip(self._starts.items(), bounds, strict=True)
        return {k: s for (k, s), stop in pairs if bool(((positions >= s) & (positions < stop)).any())}

    def _arrangements(self, ids: Tensor, positions: Tensor | None) -> list[Arrangement]:
        """Where the examples lie in the ids, as far as their positions tell."""
        axes = [a for a in range(ids.dim()) if ids.shape[a] and ids.shape[a] % self.batch == 0]
        inner = [ids.shape[a] // self.batch for a in axes]
        found = [Arrangement(a, 1, True) for a, n in zip(axes, inner, strict=True) if n == 1]
        found += [
            Arrangement(a, n, major) for a, n in zip(axes, inner, strict=True) if n > 1 for major in (True, False)
        ]
        found = [a for a in found if (a.axis == 0 and a.major if positions is None else self._fits(a, positions))]
        if not found:
            message = (
                f"An embedding reads ids of shape {tuple(ids.shape)} that are not ordered by the {self.batch} "
                "examples. Attribute to the embedding layer instead, with a Layer… method."
            )
            raise LayerError(message)
        return found

    def _fits(self, arrangement: Arrangement, positions: Tensor) -> bool:
        """Whether each example reads its own elements, and all of them the same ones."""
        numbers = arrangement.by_example(positions, self.batch).reshape(self.batch, -1)
        examples, places = self._examples[numbers], self._places[numbers]
        own = examples == torch.arange(self.batch, device="cpu")[:, None]
        return bool((own | (examples < 0)).all()) and bool((places == places[:1]).all())


class Replace(_Mode):
    """Put values in the place of chosen look-ups.

    Args:
        values: look-ups, each with the values ``(n, …, D)`` to return.
        count: number of all look-ups that the forward pass is known to make.
    """

    def __init__(self, values: Sequence[tuple[Lookup, Tensor]], count: int) -> None:
        super().__init__()
        self._values = {lookup.order: (lookup, value) for lookup, value in values}
        self._expected = count
        self._count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See one torch call."""
        kwargs = kwargs or {}
        if func is F.embedding_bag:
            return self.bag(*args, **kwargs)
        ids = self.ids_of(func, args, kwargs)
        if ids is None:
            return func(*args, **kwargs)
        self._count += 1
        if self._count > self._expected:
            message = (
                f"The model makes more than the {self._expected} embedding look-ups of its first pass, perhaps one per "
                "row. Attribute to the embedding layer instead, with a Layer… method."
            )
            raise LayerError(message)
        lookup, value = self._values.get(self._count - 1, (None, None))
        if lookup is None or value is None:
            return func(*args, **kwargs)
        return lookup.as_read(value, ids).clone()


def _again(
    func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], exchange: tuple[Tensor, Tensor]
) -> Tensor:
    """The same call with one tensor in the place of another."""
    old, new = exchange
    return func(*[new if a is old else a for a in args], **{k: new if v is old else v for k, v in kwargs.items()})
