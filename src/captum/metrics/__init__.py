"""Metrics of explanations: does an attribution predict what the model does, and does it hold still?

:func:`infidelity` compares attributions with what perturbations do to the score; :func:`sensitivity_max` measures how
far an explanation moves when the input hardly does.
"""

from __future__ import annotations

from captum.metrics.infidelity import infidelity, infidelity_perturb_func_decorator
from captum.metrics.sensitivity import sensitivity_max

__all__ = ["infidelity", "infidelity_perturb_func_decorator", "sensitivity_max"]
