"""The two interpreters that every comparison runs in: this checkout's and the published package's."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UPSTREAM_VENV = ROOT / ".venv-upstream"
CONSTRAINTS = Path(__file__).resolve().parent / "upstream-constraints.txt"
UPSTREAM_PACKAGES = ("torch", "captum", "scikit-learn")
PEER_PACKAGES = ("shap",)


@dataclass(frozen=True)
class Interpreter:
    """One side of a comparison: a Python executable and where it finds ``captum``."""

    side: str
    executable: str
    source: str | None

    def environment(self, threads: int | None = None) -> dict[str, str]:
        """The environment of a child process; ``threads`` None leaves the machine's own number of threads."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if self.source is not None:
            environment["PYTHONPATH"] = self.source
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        return environment

    def command(self, module: str, *arguments: str) -> list[str]:
        """The command line that runs a module of this repository with this interpreter."""
        return [self.executable, "-m", module, *arguments]


def ours() -> Interpreter:
    """The interpreter that runs this process, with ``src`` first on its path."""
    return Interpreter("ours", sys.executable, str(ROOT / "src"))


def upstream() -> Interpreter:
    """The published package's interpreter; its environment is made on first use."""
    python = UPSTREAM_VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(UPSTREAM_VENV)], check=True)
        _install(str(python), UPSTREAM_PACKAGES)
    elif not _imports(str(python), "captum"):
        _install(str(python), UPSTREAM_PACKAGES)
    return Interpreter("upstream", str(python), None)


def install_peers() -> None:
    """Put the optional peer libraries into the published package's environment."""
    _install(upstream().executable, PEER_PACKAGES)


def _imports(python: str, module: str) -> bool:
    command = [python, "-c", f"import importlib.util as u; raise SystemExit(u.find_spec({module!r}) is None)"]
    return subprocess.run(command, check=False, capture_output=True, env={"PATH": os.environ["PATH"]}).returncode == 0


def _install(python: str, packages: tuple[str, ...]) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), *packages]
    subprocess.run(command, check=True)
