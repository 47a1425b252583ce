"""Install the wheel into an empty environment and run it from another directory. Called by `make wheel`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

_ISOLATED = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: str | Path, where: Path) -> None:
    """Run a command, or stop with its exit code."""
    finished = subprocess.run([str(part) for part in command], cwd=where, env=_ISOLATED, check=False)
    if finished.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {finished.returncode}")


def main(dist: Path) -> None:
    """Exit 0 when the installed package imports from its own place and its demonstration gets every verdict right."""
    wheel = next(dist.resolve().glob("*.whl"))
    constraints = Path(__file__).resolve().parent.parent / "constraints.txt"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "env", with_pip=True)
        python = home / "env" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, wheel, where=home)
        run(python, "-c", "import auditkit.attacks.lira_linear, auditkit.reports.html", where=home)
        probe = "import importlib.util, sys; sys.exit(any(map(importlib.util.find_spec, sys.argv[1:])))"
        run(python, "-c", probe, "attacks", "unlearners", "reports", where=home)
        run(home / "env" / "bin" / "auditkit", "demo", "--quick", where=home)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
