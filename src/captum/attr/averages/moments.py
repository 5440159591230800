r"""Running statistics: each sees one sample at a time and keeps nothing but its sums.

Mean, spread and their kin are views of one :class:`Moments` accumulator, which a summarizer shares among them. It keeps
the count :math:`n`, the mean :math:`m` and :math:`M = \sum_i (x_i - m)^2` in double precision and updates them by
Welford's rule, :math:`m \mathrel{+}= d / n` and :math:`M \mathrel{+}= d\,(x - m)`, where :math:`d` is the distance
of the new sample from the mean before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from captum.errors import InputError

__all__ = [
    "MSE",
    "CommonStats",
    "Count",
    "GeneralAccumFn",
    "Max",
    "Mean",
    "Min",
    "Stat",
    "StatValue",
    "StdDev",
    "Sum",
    "Var",
]

StatValue = Tensor | int | float
"""What a statistic may give: a tensor, or a plain number such as a count."""

S = TypeVar("S", bound="Stat")


class StatOwner(Protocol):
    """Whoever shares statistics among each other: gives the one instance that equals ``stat``."""

    def share(self, stat: S) -> S: ...


class Stat:
    """A statistic over samples that arrive one by one; the base of all, and of your own.

    A subclass gives ``init`` (reset), ``update`` (take one sample) and ``get`` (value so far, ``None`` before data).
    One that is computed from others asks for them in ``init`` by :meth:`_get_stat`; they are then updated before it.
    Two statistics of one class with equal parameters are equal, whatever their names.

    Args:
        name: key in the summary; default: the class's name in lower case, with the parameters if there are any.
        kwargs: the parameters that tell statistics of one class apart.

    >>> from captum.attr.averages.summarizer import Summarizer
    >>> class Range(Stat):
    ...     def init(self): self.low, self.high = self._get_stat(Min()), self._get_stat(Max())
    ...     def update(self, x): pass
    ...     def get(self): return self.high.get() - self.low.get()
    >>> summarizer = Summarizer([Range()]); summarizer.update(2.0); summarizer.update(5.0); summarizer.summary
    {'range': tensor(3.)}
    """

    def __init__(self, name: str | None = None, **kwargs: object) -> None:
        self.params = kwargs
        self._name = name
        self._owner: StatOwner | None = None

    def join(self, owner: StatOwner) -> None:
        """Belong to a summarizer from now on, and start afresh."""
        self._owner = owner
        self.init()

    def init(self) -> None:
        """Forget all samples; a statistic that needs others asks for them here."""

    def update(self, x: Tensor) -> None:
        """Take one sample."""
        message = f"{type(self).__name__} must define update(x): what to do with one sample"
        raise NotImplementedError(message)

    def get(self) -> StatValue | None:
        """Return the value over the samples so far, ``None`` before the first."""
        message = f"{type(self).__name__} must define get(): the value over the samples so far"
        raise NotImplementedError(message)

    @property
    def name(self) -> str:
        """Key of this statistic in a summary."""
        return self._default_name() if self._name is None else self._name

    def _default_name(self) -> str:
        parameters = ", ".join(f"{key}={value!r}" for key, value in self.params.items())
        return type(self).__name__.lower() + (f"({parameters})" if parameters else "")

    def _get_stat(self, stat: S) -> S:
        """Return the summarizer's own instance of ``stat``, which is updated before this one."""
        if self._owner is None:
            message = (
                f"{type(self).__name__} is computed from {type(stat).__name__}, which a summarizer keeps up to date; "
                f"give it to Summarizer([{type(self).__name__}()]) instead of using it alone"
            )
            raise InputError(message)
        return self._owner.share(stat)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stat) and type(other) is type(self) and other.params == self.params

    def __hash__(self) -> int:
        return hash((type(self), tuple(sorted((key, repr(value)) for key, value in self.params.items()))))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class Moments(Stat):
    """Count, mean and summed squared deviation in double precision: what mean and spread are read from."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.init()

    def init(self) -> None:
        """Forget all samples."""
        self.count = 0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None
        self.dtype = torch.float64

    def update(self, x: Tensor) -> None:
        """Take one sample."""
        # Some accelerators have no double precision; there single precision is the widest there is.
        wide = x.detach().to(torch.float32 if x.device.type == "mps" else torch.float64)
        self.count += 1
        if self.mean is None or self.squares is None:
            self.dtype = x.dtype if x.is_floating_point() else wide.dtype
            self.mean, self.squares = wide.clone(), torch.zeros_like(wide)
            return
        before = wide - self.mean
        self.mean = self.mean + before / self.count
        self.squares = self.squares + before * (wide - self.mean)

    def get(self) -> int:
        """Return the number of samples."""
        return self.count


class _FromMoments(Stat):
    """A statistic that is read from :class:`Moments`: the summarizer's or, without one, its own."""

    def __init__(self, name: str | None = None, **kwargs: object) -> None:
        super().__init__(name, **kwargs)
        self.init()

    def init(self) -> None:
        """Forget all samples."""
        self._own = Moments() if self._owner is None else None
        self._moments = self._own or self._get_stat(Moments())

    def update(self, x: Tensor) -> None:
        """Take one sample."""
        if self._own is not None:
            self._own.update(x)


class Count(_FromMoments):
    """Number of samples, a plain ``int``.

    Args:
        name: key in the summary; default ``"count"``.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)

    def get(self) -> int | None:
        """Return the value so far, ``None`` before the first sample."""
        return self._moments.count or None


class Mean(_FromMoments):
    r"""Average of the samples, :math:`\frac1n \sum_i x_i`, in their dtype (double for integers).

    Args:
        name: key in the summary; default ``"mean"``.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)

    def get(self) -> Tensor | None:
        """Return the value so far, ``None`` before the first sample."""
        mean = self._moments.mean
        return None if mean is None else mean.to(self._moments.dtype, copy=True)


class MSE(_FromMoments):
    r"""Summed squared deviation from the mean, :math:`\sum_i (x_i - \bar x)^2`, in the samples' dtype.

    Args:
        name: key in the summary; default ``"mse"``.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)

    def get(self) -> Tensor | None:
        """Return the value so far, ``None`` before the first sample."""
        squares = self._moments.squares
        return None if squares is None else squares.to(self._moments.dtype, copy=True)


class _Spread(_FromMoments):
    """Variance with ``order`` degrees of freedom taken off, and the names of both its forms."""

    _word = "variance"

    def __init__(self, name: str | None = None, order: int = 0) -> None:
        super().__init__(name, order=order)
        self.order = order

    def _default_name(self) -> str:
        known = {0: self._word, 1: f"sample_{self._word}"}
        return known.get(self.order, f"{self._word}({self.order})")

    def _variance(self) -> Tensor | None:
        squares = self._moments.squares
        if squares is None:
            return None
        free = self._moments.count - self.order
        return squares / free if free > 0 else torch.zeros_like(squares)


class Var(_Spread):
    r"""Variance, :math:`\frac{1}{n - k} \sum_i (x_i - \bar x)^2` with :math:`k` = ``order``, in double precision.

    As long as there are at most ``order`` samples it is 0.

    Args:
        name: key in the summary; default ``"variance"``, ``"sample_variance"`` or ``"variance(k)"`` by ``order``.
        order: degrees of freedom taken off the count; 0 for the population, 1 for a sample.
    """

    def get(self) -> Tensor | None:
        """Return the value so far, ``None`` before the first sample."""
        return self._variance()


class StdDev(_Spread):
    """Standard deviation, the square root of :class:`Var`, in double precision.

    Args:
        name: key in the summary; default ``"std_dev"``, ``"sample_std_dev"`` or ``"std_dev(k)"`` by ``order``.
        order: degrees of freedom taken off the count; 0 for the population, 1 for a sample.
    """

    _word = "std_dev"

    def get(self) -> Tensor | None:
        """Return the value so far, ``None`` before the first sample."""
        variance = self._variance()
        return None if variance is None else variance.sqrt()


class GeneralAccumFn(Stat):
    r"""Fold of the samples by a function of two tensors, :math:`f(\dots f(f(x_1, x_2), x_3) \dots, x_n)`.

    Args:
        fn: takes the fold so far and a sample, returns the new fold; all of one shape.
        name: key in the summary; default: the class's name in lower case.
    """

    def __init__(self, fn: Callable[[Tensor, Tensor], Tensor], name: str | None = None) -> None:
        super().__init__(name)
        self.fn = fn
        self.result: Tensor | None = None

    def init(self) -> None:
        """Forget all samples."""
        self.result = None

    def update(self, x: Tensor) -> None:
        """Take one sample."""
        sample = x.detach()
        self.result = sample.clone() if self.result is None else self.fn(self.result, sample)

    def get(self) -> Tensor | None:
        """Return the value so far, ``None`` before the first sample."""
        return self.result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GeneralAccumFn) and type(other) is type(self) and other.fn == self.fn

    def __hash__(self) -> int:
        return hash((type(self), self.fn))


class Min(GeneralAccumFn):
    """Smallest value of every element.

    Args:
        name: key in the summary; default ``"min"``.
        min_fn: elementwise minimum of two tensors.
    """

    def __init__(self, name: str | None = None, min_fn: Callable[[Tensor, Tensor], Tensor] = torch.min) -> None:
        super().__init__(min_fn, name)


class Max(GeneralAccumFn):
    """Largest value of every element.

    Args:
        name: key in the summary; default ``"max"``.
        max_fn: elementwise maximum of two tensors.
    """

    def __init__(self, name: str | None = None, max_fn: Callable[[Tensor, Tensor], Tensor] = torch.max) -> None:
        super().__init__(max_fn, name)


class Sum(GeneralAccumFn):
    """Sum of the samples; booleans are counted.

    Args:
        name: key in the summary; default ``"sum"``.
        add_fn: elementwise sum of two tensors.
    """

    def __init__(self, name: str | None = None, add_fn: Callable[[Tensor, Tensor], Tensor] = torch.add) -> None:
        super().__init__(add_fn, name)

    def update(self, x: Tensor) -> None:
        """Take one sample."""
        super().update(x.to(torch.int64) if x.dtype == torch.bool else x)


def CommonStats() -> list[Stat]:  # noqa: N802 - the established public name
    """Return fresh mean, sample variance, sample standard deviation, minimum and maximum.

    >>> [stat.name for stat in CommonStats()]
    ['mean', 'sample_variance', 'sample_std_dev', 'min', 'max']
    """
    return [Mean(), Var(order=1), StdDev(order=1), Min(), Max()]
