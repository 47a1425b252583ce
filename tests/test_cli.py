"""The command line: exit codes, stdout for data and stderr for talk, and nothing heavy before it is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from auditkit import cli
from auditkit.config import load
from auditkit.errors import StoreError
from auditkit.record import Record


@dataclass(frozen=True)
class Said:
    """What one command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Run a command in this process, from an empty folder, through the entry point of the `auditkit` script."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)

    def ran(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["auditkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return Said(int(left.value.code or 0), said.out, said.err)

    yield ran
    signal.signal(signal.SIGINT, before)


COMMANDS: tuple[list[str], ...] = (
    [],
    ["demo"],
    ["init"],
    ["audit"],
    ["show"],
    ["list"],
    ["data"],
    ["data", "inspect"],
    ["data", "encode"],
    ["plan-golds"],
    ["points"],
    ["gate"],
    ["check"],
    ["compare"],
    ["keygen"],
    ["certify"],
    ["verify"],
    ["report"],
    ["report", "validate"],
    ["report", "unit-key"],
    ["report", "publish"],
    ["report", "prove"],
    ["report", "check-proof"],
    ["history"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(run: Run, command: list[str]) -> None:
    said = run(*command, "--help")
    assert said.code == 0
    assert "Usage: auditkit" in said.out
    assert said.err == ""


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom auditkit.cli import main\nsys.argv = ['auditkit', '--help']\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = {'torch', 'pandas', 'numpy', 'numba', 'scipy', 'sklearn', 'matplotlib', 'pydantic'}\n"
        "    print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout.splitlines()


def test_python_dash_m_is_the_same_command(run: Run, tmp_path: Path) -> None:
    asked = [["--help"], ["show", "nowhere.json"]]
    for arguments in asked:
        command = [sys.executable, "-m", "auditkit", *arguments]
        # Wrapped as on the terminal of `run`.
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert Said(done.returncode, done.stdout, done.stderr) == run(*arguments)


@pytest.mark.parametrize(
    ("method", "code", "verdict"), [("gold", 0, "PASS"), ("no-op", 1, "FAIL"), ("output-mask", 4, "INCONCLUSIVE")]
)
def test_the_exit_code_is_the_verdict(
    run: Run, tiny_folder: Path, tiny_store: Path, tmp_path: Path, method: str, code: int, verdict: str
) -> None:
    said = run("audit", tiny_folder / f"{method}.toml", "--store", tiny_store, "--out", tmp_path / "out")
    assert said.code == code, said.out + said.err
    assert said.out.splitlines()[:2] == [verdict, f"  {method}: {verdict}"]
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["evidence.npz", "report.html", "report.json", "units.parquet"]
    assert Record.read(tmp_path / "out" / "report.json").exit_code == code
    assert "fixed before probing: configuration" in said.err


def test_json_is_one_document_on_stdout_and_talk_is_on_stderr(
    run: Run, tiny_folder: Path, tiny_store: Path, tmp_path: Path
) -> None:
    said = run("audit", tiny_folder / "gold.toml", "--store", tiny_store, "--out", tmp_path / "out", "--json")
    assert said.out == (tmp_path / "out" / "report.json").read_text("utf-8")
    assert json.loads(said.out)["verdict"] == "PASS"
    assert said.err
    # The same report, shown again.
    shown = run("show", tmp_path / "out" / "report.json", "--json")
    assert (shown.code, shown.out, shown.err) == (0, said.out, "")
    human = run("show", tmp_path / "out" / "report.json")
    assert human.code == 0
    assert "PASS" in human.out
    assert "gold" in human.out


def test_plan_builds_nothing_and_says_what_would_be_built(
    run: Run, tiny_folder: Path, tiny_store: Path, tmp_path: Path
) -> None:
    said = run("audit", tiny_folder / "gold.toml", "--plan", "--store", tmp_path / "new")
    assert said.code == 0
    lines = said.out.splitlines()
    assert len(lines) == 17 + 2
    assert sum("to build, about" in line for line in lines) == 17
    assert "17 systems, 0 stored, 17 to build in at most" in lines[-2]
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "report").exists()
    quiet = run("audit", tiny_folder / "gold.toml", "--store", tiny_store, "--out", tmp_path / "out", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")
    again = run("audit", tiny_folder / "gold.toml", "--plan", "--store", tiny_store)
    assert "17 systems, 17 stored, 0 to build in at most 0 s" in again.out
    # The plan names the very configuration that the report was made under.
    digest = Record.read(tmp_path / "out" / "report.json").config_digest
    assert again.out.splitlines()[-1] == lines[-1] == f"configuration {digest}"


def test_plan_of_another_profile(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    bare = (tiny_folder / "gold.toml").read_text("utf-8").replace("golds = 4\n", "").replace("references = 8\n", "")
    (tiny_folder / "bare.toml").write_text(bare, "utf-8")
    counts = [
        run("audit", tiny_folder / "bare.toml", "--plan", "--store", tmp_path / "new", "--profile", profile).out
        for profile in ("quick", "standard")
    ]
    assert ["25 systems" in counts[0], "45 systems" in counts[1]] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "nowhere.toml"], "auditkit: cannot read nowhere.toml: No such file or directory; `auditkit init`"),
        (["audit"], "Missing argument"),
        (["audit", "x.toml", "--fast"], "No such option"),
        (["adit"], "No such command 'adit'"),
        (["show", "nowhere.json"], "cannot read report nowhere.json: No such file or directory"),
        (["list", "plugins"], "list knows backbones, unlearners, attacks and datasets, not 'plugins'"),
        (["data", "inspect", "nowhere"], "nowhere does not exist"),
        (["data", "inspect", ".", "--k-core", "many"], "Invalid value for '--k-core'"),
    ],
)
def test_usage_errors_exit_with_2_and_say_why(run: Run, arguments: list[str], message: str) -> None:
    said = run(*arguments)
    assert (said.code, said.out) == (2, "")
    # Typer wraps its messages in a box.
    assert message in " ".join(said.err.replace("│", " ").split())
    assert "Traceback" not in said.err


def test_a_broken_configuration_exits_with_2_and_all_its_problems(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[data]\nk_core = -1\n[recipe]\nbackbon = 'x'\n")
    said = run("audit", "x.toml")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("auditkit: 3 problems:\n- data.k_core: ")
    assert not (tmp_path / ".auditkit").exists()


def test_a_store_that_cannot_be_used_exits_with_3(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = run("audit", tiny_folder / "gold.toml", "--store", tmp_path / "file", "--out", tmp_path / "out")
    assert (said.code, said.out) == (3, "")
    assert "auditkit: cannot create the store at" in said.err
    assert not (tmp_path / "out").exists()


def fault() -> None:
    raise RuntimeError("a fault of ours")


def full_disk() -> None:
    raise StoreError("no space")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)


@pytest.mark.parametrize(
    ("happens", "code", "message"),
    [
        (fault, 3, "auditkit: internal error: RuntimeError: a fault of ours"),
        (full_disk, 3, "auditkit: no space"),
        (interrupt, 130, "auditkit: interrupted; the same command goes on where it stopped"),
    ],
)
def test_a_fault_never_looks_like_a_verdict(
    run: Run, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None], code: int, message: str
) -> None:
    monkeypatch.setattr("auditkit.flow.run", lambda *_, **__: happens())
    said = run("audit", tiny_folder / "gold.toml", "--quiet")
    assert (said.code, said.out) == (code, "")
    assert message in said.err


def test_init_writes_a_configuration_that_loads_and_overwrites_only_when_told(run: Run, tmp_path: Path) -> None:
    said = run("init")
    assert (said.code, said.out) == (0, "audit.toml\n")
    table = load(tmp_path / "audit.toml").recipe
    assert table is not None
    assert table.backbone == "bpr-mf"
    (tmp_path / "audit.toml").write_text("mine")
    refused = run("init")
    assert (refused.code, refused.out) == (2, "")
    assert "audit.toml exists already; choose another name or pass --force" in refused.err
    assert (tmp_path / "audit.toml").read_text() == "mine"
    assert run("init", "--force").code == 0
    assert load(tmp_path / "audit.toml").data.path == "ml-100k"
    assert run("init", tmp_path / "sub" / "other.toml").code == 0
    assert (tmp_path / "sub" / "other.toml").is_file()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("backbones", ["bpr-mf", "ease", "lightgcn"]),
        ("unlearners", ["finetune", "gold", "no-op", "output-mask", "reverse-bpr", "row-reinit", "sign-flipped"]),
        ("attacks", ["divergence", "exposure", "fold-in", "lira", "lira-linear", "rank-probe"]),
        ("datasets", ["lightgcn", "mmrec", "movielens", "recbole", "synthetic", "table"]),
    ],
)
def test_list_shows_name_and_description(run: Run, kind: str, names: list[str]) -> None:
    said = run("list", kind)
    assert (said.code, said.err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert set(names) <= set(rows)
    assert all(len(text) > 10 for text in rows.values())
    # Names are of unlike length, the texts begin in one column.
    assert len({line.index(rows[line.split()[0]]) for line in said.out.splitlines()}) == 1


def test_list_says_what_an_unlearner_is_and_can(run: Run) -> None:
    rows = dict(line.split(maxsplit=1) for line in run("list", "unlearners").out.splitlines())
    assert rows["gold"].startswith("baseline; interaction, item, modality, user. ")
    assert rows["scif"].startswith("reconstructed; interaction, user. ")
    assert rows["no-op"].startswith("control; ")


def test_list_says_what_an_attack_weighs_and_needs(run: Run) -> None:
    rows = dict(line.split(maxsplit=1) for line in run("list", "attacks").out.splitlines())
    assert rows["fold-in"].startswith("primary for item, user; runs by default; needs scores, new-users, new-items. ")
    assert rows["lira"].startswith("may FAIL interaction, user; runs by default; needs scores. ")
    assert rows["listed"].startswith("primary for interaction; runs when named; needs lists. ")
    assert rows["snapshots"].startswith("judged apart; runs when named; ")
    assert rows["divergence"].startswith("a note; runs by default; ")


def test_data_inspect_says_what_was_understood(run: Run, tiny_folder: Path) -> None:
    said = run("data", "inspect", tiny_folder / "data")
    assert (said.code, said.err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert any("120" in text for text in rows.values())
    assert any("4,000" in text or "4000" in text for text in rows.values())
