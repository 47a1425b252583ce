"""Addresses of builds follow the sources that make them, and no others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from auditkit.sources import _located, _with_imports, source_digest
from auditkit.unlearners.finetune import Finetune
from auditkit.unlearners.gold import Gold


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of three modules: `method` imports `helper`, which imports `deeper`; `other` stands alone."""
    folder = tmp_path / "sources_sample"
    folder.mkdir()
    files = {
        "__init__": "", "deeper": "VALUE = 1\n", "helper": "from . import deeper\n", "other": "VALUE = 2\n",
        "method": "import os\nfrom sources_sample.helper import deeper\n\n\nclass Method:\n    pass\n",
    }  # fmt: skip
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("sources_sample")]:
        del sys.modules[name]
    source_digest.cache_clear()
    _located.cache_clear()


def loaded(name: str) -> ModuleType:
    source_digest.cache_clear()
    return importlib.import_module(name)


def test_what_a_plug_in_imports_of_its_package_counts(package: Path) -> None:
    method = loaded("sources_sample.method").Method
    first = source_digest(method)
    for name, matters in (("other", False), ("helper", True), ("deeper", True), ("method", True)):
        source_digest.cache_clear()
        before = source_digest(method)
        path = package / f"{name}.py"
        path.write_text(path.read_text() + "# touched\n")
        source_digest.cache_clear()
        assert (source_digest(method) != before) == matters, name
    assert source_digest(method) != first


def test_relative_and_nested_imports_are_followed(package: Path) -> None:
    (package / "deeper.py").write_text("def late() -> None:\n    from sources_sample.other import VALUE\n")
    found = {path.stem for path in _with_imports(package / "method.py", "sources_sample")}
    assert {"method", "helper", "deeper", "other"} <= found


def test_a_name_within_a_module_is_no_module(package: Path) -> None:
    (package / "method.py").write_text("from sources_sample.other import VALUE\n\n\nclass Method:\n    pass\n")
    assert {p.stem for p in _with_imports(package / "method.py", "sources_sample")} == {"method", "other"}


def test_what_a_third_party_builds_on_counts(package: Path) -> None:
    (package / "method.py").write_text("from auditkit.unlearners.gif import GIF\n\n\nclass Method:\n    pass\n")
    found = {path.stem for path in _with_imports(package / "method.py", "sources_sample")}
    assert {"method", "gif", "steps", "refusals"} <= found
    assert "finetune" not in found


def test_methods_have_addresses_of_their_own() -> None:
    assert source_digest(Gold) != source_digest(Finetune)
    assert source_digest(Finetune) == source_digest(Finetune)
