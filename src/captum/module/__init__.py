"""Stochastic gates: differentiable feature selection that is trained with the model (relaxed L0 regularisation)."""

from __future__ import annotations

from captum.module.binary_concrete import BinaryConcreteStochasticGates
from captum.module.gates import StochasticGatesBase
from captum.module.gaussian import GaussianStochasticGates

__all__ = ["BinaryConcreteStochasticGates", "GaussianStochasticGates", "StochasticGatesBase"]
