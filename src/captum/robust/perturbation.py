"""Perturbation: what every attack is."""

from __future__ import annotations

from typing import Any

__all__ = ["Perturbation"]


class Perturbation:
    """Base of attacks: calling one calls its ``perturb``.

    A subclass defines ``perturb(inputs, …)``, which returns perturbed inputs in the structure of ``inputs``.

    Example:
        >>> class Negate(Perturbation):
        ...     def perturb(self, inputs):
        ...         return -inputs
        >>> Negate()(3)
        -3
    """

    def perturb(self, *args: Any, **kwargs: Any) -> Any:
        """Perturb inputs.

        Args:
            args: inputs, and what the attack needs.
            kwargs: the same by name.

        Raises:
            NotImplementedError: in a subclass that does not define it.
        """
        message = f"{type(self).__name__} defines no perturb(inputs, …), which returns the perturbed inputs."
        raise NotImplementedError(message)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call :meth:`perturb`."""
        return self.perturb(*args, **kwargs)
