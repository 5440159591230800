"""Runs every parity case in this interpreter and writes the results: ``python -m benchmarks.parity.worker OUT``."""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import random
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.parity import models
from benchmarks.parity.case import Case, flatten, missing
from benchmarks.parity.matrix import all_cases


def run_case(case: Case, attr: Any) -> tuple[dict[str, object], list[np.ndarray]]:
    """One record (how the case ended) and the numbers of its result."""
    record: dict[str, object] = {"algorithm": case.algorithm, "id": case.id}
    absent = missing(case, attr)
    if absent:
        return record | {"status": "skipped", "missing": absent}, []
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(case.seed)
    try:
        value = case.run(attr)
    except Exception as error:  # noqa: BLE001 (whatever a case raises is its result)
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return record | {"status": "raised", "kinds": kinds, "message": str(error)[:500]}, []
    structure, arrays, dtypes = flatten(value)
    return record | {"status": "done", "structure": structure, "dtypes": dtypes}, arrays


def fingerprint() -> dict[str, float]:
    """One number per seeded model, so that two interpreters can be seen to build the same weights."""
    kinds = (models.Perceptron, models.InplaceConvNet, models.FunctionalResNet, models.Recurrent, models.Transformer)
    return {kind.__name__: float(sum(p.abs().sum() for p in models.seeded(kind).parameters())) for kind in kinds}


def main() -> int:
    """Run, write ``OUT.npz`` (numbers) and ``OUT.json`` (records)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="*")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    attr = importlib.import_module("captum.attr")
    records, numbers = [], {}
    for case in all_cases():
        if not fnmatch.fnmatch(case.id, options.only):
            continue
        started = time.perf_counter()
        record, arrays = run_case(case, attr)
        record["seconds"] = round(time.perf_counter() - started, 4)
        numbers |= {f"{len(records)}.{i}": array for i, array in enumerate(arrays)}
        records.append(record | {"arrays": len(arrays)})
    np.savez(options.out.with_suffix(".npz"), allow_pickle=False, **numbers)
    meta = {"torch": torch.__version__, "models": fingerprint(), "records": records, "home": attr.__file__}
    options.out.with_suffix(".json").write_text(json.dumps(meta))
    return 0


if __name__ == "__main__":
    sys.exit(main())
