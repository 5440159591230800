"""What can go wrong, as a tree.

.. code-block:: text

    CaptumError
    ├── InputError (ValueError, AssertionError)     an argument cannot be used as given
    │   ├── InputTypeError (TypeError)              ... because of its type
    │   ├── TargetError                             ``target`` does not fit the model's output
    │   │   └── TargetIndexError (IndexError)       ... an index is outside the output
    │   ├── BaselineError                           ``baselines`` does not fit the inputs
    │   ├── MaskError                               a feature or layer mask does not fit
    │   ├── OutputError (TypeError, IndexError)     the model's output cannot be read as one score per row
    │   ├── LayerError                              a layer is not reached, or its value cannot be used
    │   └── NameInUseError (RuntimeError)           a name is given to a second thing
    ├── UnknownOperatorError (RuntimeError)         an operator on the differentiated path has no backward rule
    └── MissingDependencyError (ImportError, ValueError)   an optional package is needed

Code written for earlier releases catches ``AssertionError`` for mistakes in arguments, so ``InputError`` is one too.
Every message says what was expected, what came, and what to do instead.
"""

from __future__ import annotations

__all__ = [
    "BaselineError",
    "CaptumError",
    "CaptumWarning",
    "InputError",
    "InputTypeError",
    "LayerError",
    "MaskError",
    "MissingDependencyError",
    "NameInUseError",
    "OutputError",
    "TargetError",
    "TargetIndexError",
    "UnknownOperatorError",
]


class CaptumError(Exception):
    """Base of every error that this library raises on purpose."""


class InputError(CaptumError, ValueError, AssertionError):
    """An argument cannot be used as given."""


class InputTypeError(InputError, TypeError):
    """An argument has a type that cannot be used."""


class TargetError(InputError):
    """``target`` does not fit the shape of the model's output."""


class TargetIndexError(TargetError, IndexError):
    """``target`` names an index that the model's output does not have."""


class BaselineError(InputError):
    """``baselines`` does not fit the inputs."""


class MaskError(InputError):
    """A feature mask or layer mask does not fit the tensor that it divides."""


class OutputError(InputError, TypeError, IndexError):
    """The model's output cannot be read as one score per row."""


class LayerError(InputError):
    """A layer is never reached, or its value is not made of floating-point tensors."""


class NameInUseError(InputError, RuntimeError):
    """A name is given to a second thing where names tell things apart."""


class UnknownOperatorError(CaptumError, RuntimeError):
    """An operator on the differentiated path has no backward rule and is not known to be linear."""


class MissingDependencyError(CaptumError, ImportError, ValueError):
    """An optional package is needed for this feature."""


class CaptumWarning(UserWarning):
    """A result is right as computed, but the user must decide or change something."""
