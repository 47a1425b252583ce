"""Every registered unlearner is put through the kit."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import tomllib
from pathlib import Path

from auditkit.plugins import unlearners
from auditkit.testing import UnlearnerTests

HERE = Path(__file__).parent


def kit_classes() -> list[type[UnlearnerTests]]:
    """Every test class beside this file that inherits the kit and names an unlearner."""
    found = []
    for path in sorted(set(HERE.glob("test_*.py")) - {Path(__file__)}):
        spec = importlib.util.spec_from_file_location(f"conformance_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        # A dataclass looks its module up while it is made.
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found += [one for name, one in inspect.getmembers(module, inspect.isclass) if name.startswith("Test")]
    return [one for one in found if issubclass(one, UnlearnerTests) and hasattr(one, "unlearner")]


def test_every_registered_unlearner_is_put_through_the_kit() -> None:
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    registered = {unlearners()[name] for name in project["entry-points"]["auditkit.unlearners"]}
    tested = {type(one.unlearner) for one in kit_classes()}
    missing = sorted(one.name for one in registered - tested)
    assert not missing, f"no test class in tests/{HERE.name} inherits UnlearnerTests for: {', '.join(missing)}"
