"""Linear models that explain: fitted to weighted rows, read through their coefficients.

Ways to fit: in closed form by torch (:mod:`.closed_form`), by stochastic gradient descent (:mod:`.descent`) and by
scikit-learn (:mod:`.scikit`, loaded on use).
"""

from __future__ import annotations

from captum.linear.closed_form import ClosedFormLinearRegression, ClosedFormRidge, least_squares
from captum.linear.descent import SGDLasso, SGDLinearModel, SGDLinearRegression, SGDRidge
from captum.linear.model import LinearModel, Model
from captum.linear.scikit import (
    SkLearnLasso,
    SkLearnLinearModel,
    SkLearnLinearRegression,
    SkLearnLogisticRegression,
    SkLearnRidge,
    SkLearnSGDClassifier,
)

__all__ = [
    "ClosedFormLinearRegression",
    "ClosedFormRidge",
    "LinearModel",
    "Model",
    "SGDLasso",
    "SGDLinearModel",
    "SGDLinearRegression",
    "SGDRidge",
    "SkLearnLasso",
    "SkLearnLinearModel",
    "SkLearnLinearRegression",
    "SkLearnLogisticRegression",
    "SkLearnRidge",
    "SkLearnSGDClassifier",
    "least_squares",
]
