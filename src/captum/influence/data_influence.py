"""What every method of this package is: something that scores training examples by their effect on others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

__all__ = ["DataInfluence"]


class DataInfluence(ABC):
    """Base of the methods that tell which training examples made a model say what it says."""

    @classmethod
    def get_name(cls) -> str:
        """The name of the class."""
        return cls.__name__

    @abstractmethod
    def influence(self, inputs: Any = None, **kwargs: Any) -> Any:
        """Scores of training examples for each example of ``inputs``.

        Args:
            inputs: the examples whose predictions or losses are explained.
            kwargs: what a method takes besides.

        Returns:
            Influence scores.
        """
