"""Robustness: perturb inputs so that a model errs, and measure what attacks do to it.

:class:`FGSM` and :class:`PGD` follow the gradient of a loss; :class:`AttackComparator` measures a model under several
attacks, and :class:`MinParamPerturbation` finds the weakest setting of one that the model does not withstand. Both take
any function of inputs as an attack; classes of attacks derive from :class:`Perturbation`.
"""

from __future__ import annotations

from captum.robust.comparator import AttackComparator
from captum.robust.fgsm import FGSM
from captum.robust.min_param import MinParamPerturbation
from captum.robust.perturbation import Perturbation
from captum.robust.pgd import PGD

__all__ = ["FGSM", "PGD", "AttackComparator", "MinParamPerturbation", "Perturbation"]
