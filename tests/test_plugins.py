"""Plug-ins: what the folders hold is what is registered, and whatever is wrong is said."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from auditkit.contracts import Attack, Backbone, Task, Unlearner
from auditkit.errors import ConfigurationError, PluginError
from auditkit.plugins import Kind, attacks, backbones, register, registry, resolve_options, unlearners

ROOT = Path(__file__).parents[1]
HOMES: Mapping[Kind, tuple[str, str, type[Any]]] = {
    "attacks": ("attacks", "auditkit.attacks", Attack),
    "unlearners": ("unlearners", "auditkit.unlearners", Unlearner),
    "backbones": ("auditkit/backbones", "auditkit.backbones", Backbone),
}
KINDS: tuple[Kind, ...] = ("attacks", "unlearners", "backbones")


def in_folder(kind: Kind) -> dict[str, str]:
    """Name -> module:class of every concrete plug-in that the sources define."""
    folder, package, base = HOMES[kind]
    found = {}
    for path in sorted((ROOT / folder).glob("[!_]*.py")):
        module = importlib.import_module(f"{package}.{path.stem}")
        for _, one in inspect.getmembers(module, inspect.isclass):
            own = one.__module__ == module.__name__ and issubclass(one, base) and not inspect.isabstract(one)
            name = getattr(one, "name", None)
            if own and isinstance(name, str):
                found[name] = f"{module.__name__}:{one.__name__}"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_entry_points_are_what_the_folders_hold(kind: Kind) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"][f"auditkit.{kind}"] == in_folder(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_installed_is_what_the_project_says(kind: Kind) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    installed = {point.name: point.value for point in entry_points(group=f"auditkit.{kind}")}
    ours = project["entry-points"][f"auditkit.{kind}"]
    assert {name: installed.get(name) for name in ours} == ours, "install again: pip install --editable ."


@pytest.mark.parametrize("kind", KINDS)
def test_every_plug_in_loads_under_its_own_name(kind: Kind) -> None:
    known = registry(kind)
    assert len(known) == len(list(known)) >= 3
    for name in known:
        assert known[name].name == name
        assert (known[name].__doc__ or "").strip(), f"{name} has no description for `auditkit list`"


def test_top_level_folders_are_never_imported_as_modules() -> None:
    code = (
        "import json, sys\n"
        "from auditkit import plugins, cli, api\n"
        "kinds = ('attacks', 'unlearners', 'backbones')\n"
        "loaded = [plugins.registry(kind)[name] for kind in kinds for name in plugins.registry(kind)]\n"
        "print(json.dumps([n for n in ('attacks', 'unlearners', 'reports') if n in sys.modules]), len(loaded) > 10)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    shown, plenty = done.stdout.rsplit(maxsplit=1)
    assert json.loads(shown) == []
    assert plenty == "True"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lira-linaer", r"no attack named 'lira-linaer'; did you mean 'lira-linear'\? Known: .*divergence"),
        ("zzz", r"no attack named 'zzz'\. Known: attack-p, attack-r"),
    ],
)
def test_unknown_names_come_with_what_is_known(name: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        attacks()[name]
    assert name not in attacks()


def install(site: Path, distribution: str, entry: str, module: str | None = None, source: str = "") -> None:
    """Lay out an installed distribution with one entry point, as an installer would."""
    info = site / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[auditkit.unlearners]\n{entry}\n")
    if module:
        (site / f"{module}.py").write_text(source)


def test_a_third_party_plug_in_is_found_like_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from auditkit.unlearners.gold import Gold\nclass Theirs(Gold):\n    name = 'theirs'\n"
    install(tmp_path, "their_unlearner", "theirs = their_unlearner:Theirs", "their_unlearner", source)
    monkeypatch.syspath_prepend(tmp_path)
    found = registry.__wrapped__("unlearners")
    assert found["theirs"].__name__ == "Theirs"
    assert set(found) == {*unlearners(), "theirs"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module", "unlearner 'broken' .*cannot be imported: No module named 'no_such_module'"),
        ("1 / 0", "cannot be imported: division by zero"),
        ("x = 1", "cannot be imported: module 'broken_one' has no attribute 'Broken'"),
        ("class Broken:\n    name = 'other'", "is registered as 'broken' but calls itself 'other'"),
        ("class Broken: pass", "is registered as 'broken' but calls itself None"),
    ],
)
def test_a_broken_plug_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str) -> None:
    install(tmp_path, "broken_one", "broken = broken_one:Broken", "broken_one", source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_one", raising=False)
    found = registry.__wrapped__("unlearners")
    with pytest.raises(PluginError, match=message):
        found["broken"]
    # One broken plug-in takes no other with it.
    assert found["gold"].name == "gold"


def test_two_distributions_must_not_share_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "impostor", "gold = impostor:Gold")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"unlearner 'gold' is registered twice: .*impostor:Gold"):
        registry.__wrapped__("unlearners")


@dataclass(frozen=True)
class Mine(Unlearner):
    """An unlearner of a script."""

    strength: float = 1.0
    name: ClassVar[str] = "test-plugins-mine"

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        return model


class Other(Mine):
    """Another one under the same name."""


class Usurper(Mine):
    """Takes the name of one of ours."""

    name = "no-op"


def test_register_refuses_a_taken_name_unless_forced() -> None:
    known = registry("unlearners").registered
    try:
        assert register("unlearners", Mine) is Mine
        assert register("unlearners", Mine) is Mine
        assert unlearners()["test-plugins-mine"] is Mine
        with pytest.raises(PluginError, match="unlearner 'test-plugins-mine' exists already; choose another name"):
            register("unlearners", Other)
        with pytest.raises(PluginError, match="unlearner 'no-op' exists already"):
            register("unlearners", Usurper)
        register("unlearners", Other, force=True)
        assert unlearners()["test-plugins-mine"] is Other
        register("unlearners", Usurper, force=True)
        assert unlearners()["no-op"] is Usurper
    finally:
        known.pop("test-plugins-mine", None)
        known.pop("no-op", None)
    assert unlearners()["no-op"].__name__ == "NoOp"
    assert "test-plugins-mine" not in list(backbones()) + list(unlearners())


@dataclass(frozen=True)
class Options:
    """Every kind of type that a plug-in's options have."""

    needed: int
    rate: float = 0.1
    mode: Literal["fast", "slow"] = "fast"
    limit: int | None = None
    flag: bool = False
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.needed < 1:
            raise ConfigurationError([f"needed must be 1 or more, got {self.needed}", "and another thing"])


@pytest.mark.parametrize(
    "options",
    [{"needed": 1}, {"needed": 2, "rate": 1, "mode": "slow", "limit": None, "flag": True, "names": ["a"]},
     {"needed": 3, "limit": 4, "rate": 0.5}],
)  # fmt: skip
def test_options_that_fit_are_taken(options: dict[str, Any]) -> None:
    made = resolve_options((Options, options, "here"))[0]
    assert made == Options(**options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"needed": "1"}, "here: needed must be int, got '1'"),
        ({"needed": 1.5}, "here: needed must be int, got 1.5"),
        ({"needed": True}, "here: needed must be int, got True"),
        ({"needed": 1, "rate": "fast"}, "here: rate must be float, got 'fast'"),
        ({"needed": 1, "rate": False}, "here: rate must be float, got False"),
        ({"needed": 1, "mode": "medium"}, "here: mode must be one of 'fast', 'slow', got 'medium'"),
        ({"needed": 1, "limit": 1.5}, "here: limit must be int | None, got 1.5"),
        ({"needed": 1, "flag": 1}, "here: flag must be bool, got 1"),
        ({"needed": 1, "names": "abc"}, "here: names must be list[str], got 'abc'"),
        ({}, "here needs option 'needed'"),
        ({"needed": 1, "rates": 1.0}, "here has no option 'rates'; did you mean 'rate'?"),
        ({"needed": 1, "zzz": 1}, "here has no option 'zzz'; known: needed, rate, mode, limit, flag, names"),
    ],
)
def test_an_option_that_does_not_fit_is_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_options((Options, options, "here"))
    assert caught.value.problems == (problem,)


def test_all_problems_of_all_plug_ins_come_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_options(
            (Options, {"rate": "x", "zzz": 1}, "first"), (Options, {"needed": 0}, "second"), (Mine, {}, "third")
        )
    assert caught.value.problems == (
        "first: rate must be float, got 'x'",
        "first has no option 'zzz'; known: needed, rate, mode, limit, flag, names",
        "first needs option 'needed'",
        "second: needed must be 1 or more, got 0",
        "second: and another thing",
    )
    assert str(caught.value).startswith("5 problems:\n- first: rate")
