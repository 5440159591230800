"""What ``import captum`` adds to ``import torch``, in fresh processes, alternating."""

from __future__ import annotations

import subprocess
from statistics import median

from benchmarks.interpreters import ROOT, Interpreter

ALLOWED = 0.060
PROBE = """
import time
import torch
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""
STATEMENTS = {"import captum": "import captum", "import a method": "from captum.attr import IntegratedGradients"}


def seconds(interpreter: Interpreter, statement: str) -> float:
    """Seconds that a statement takes in a process that has imported torch."""
    command = [interpreter.executable, "-c", PROBE.format(statement=statement)]
    done = subprocess.run(command, cwd=ROOT, env=interpreter.environment(), check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def measure(pair: dict[str, Interpreter], repeats: int) -> dict[str, dict[str, float]]:
    """Medians by statement and side; the first round warms the disk cache and does not count."""
    found: dict[str, dict[str, list[float]]] = {label: {side: [] for side in pair} for label in STATEMENTS}
    for repeat in range(repeats + 1):
        for label, statement in STATEMENTS.items():
            for side, interpreter in pair.items():
                taken = seconds(interpreter, statement)
                if repeat:
                    found[label][side].append(taken)
    return {label: {side: median(times) for side, times in sides.items()} for label, sides in found.items()}
