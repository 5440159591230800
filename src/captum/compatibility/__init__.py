"""Functions that programs written for earlier releases import from private places, with the meaning they had there.

:mod:`captum._legacy` serves each under its old name. New code has no need of them.
"""
