"""The pytest plug-in: green where forgetting was shown, red with the reason in the log where it was not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from auditkit import pytest_plugin
from auditkit.contracts import Recipe, Recommender
from auditkit.data.dataset import Dataset, Ints
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError, DataError
from auditkit.plan import Settings
from auditkit.pytest_plugin import ForgettingAudit, assert_forgotten
from auditkit.record import Depth, Estimate, Record, Speedup
from tests.reports.sample import Methods, hostile, invalid, minimal, record

pytest_plugins = ["pytester"]

SAMPLE = Path(__file__).parent / "sample_gate"
STRICT = "[pytest]\naddopts = --import-mode=importlib --strict-markers --strict-config\nfilterwarnings = error\n"
GREEN: Methods = (("sisa", "PASS", 0.02, 0.03, 0.01),)
RED: Methods = (("no-op", "FAIL", 0.99, 0.98, 0.97),)
DOUBTFUL: Methods = (("row-reinit", "INCONCLUSIVE", 0.08, 0.06, -0.004),)


@pytest.fixture(autouse=True)
def outside_of_a_test() -> Iterator[None]:
    """What is asserted here is not noted in the summary of this suite, where the plug-in may be loaded too."""
    token = pytest_plugin._running.set(None)
    yield
    pytest_plugin._running.reset(token)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the plug-in under test is loaded, whether or not it is installed as one."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


@pytest.fixture
def gated(pytester: pytest.Pytester, alone: None) -> Callable[..., pytest.RunResult]:
    """Run `assert_forgotten` over a report in a suite of its own."""

    def run(whole: Record, arguments: str = "", *options: str) -> pytest.RunResult:
        (pytester.path / "report.json").write_text(whole.to_json(), encoding="utf-8")
        pytester.makeini(STRICT)
        pytester.makepyfile(
            test_gate="from auditkit.pytest_plugin import assert_forgotten\n\n\n"
            f"def test_gate():\n    assert_forgotten('report.json'{arguments})\n"
        )
        return pytester.runpytest_inprocess("-p", "auditkit.pytest_plugin", *options)

    return run


Gated = Callable[..., pytest.RunResult]


def test_green_where_forgetting_was_shown(gated: Gated) -> None:
    result = gated(record(GREEN), ", margin=0.2, min_recall_delta=-0.01, min_speedup=10")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*auditkit: audited systems*", "PASS sisa of ml-100k: behaves as if it still held 2.0% *"]
    )


def test_red_with_the_reasons_where_a_leak_was_found(gated: Gated) -> None:
    result = gated(record(RED))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">   *assert_forgotten('report.json')",
            "E *AssertionError: forgetting was not shown: no-op is FAIL",
            "E *- no-op: Not forgotten the way a retrained system would have. At least one measure lies beyond*",
            "E *- no-op: behaves as if it still held 99.0% [[]94.0%, 104.0%] of the forget set; forgetting depth *",
            "E *- no-op: pattern lies beyond the margin (Holm-adjusted p < 0.001)",
            "E *- no-op: lira-linear: leak",
            "E *- A FAIL does not say who is at fault*",
            "FAIL no-op of ml-100k: *",
            "FAILED test_gate.py::test_gate - AssertionError: forgetting was not shown: *",
        ]
    )
    # The log shows the test's own line, not the plug-in's.
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_red_where_nothing_was_shown_unless_that_is_allowed(gated: Gated) -> None:
    result = gated(record(DOUBTFUL))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *AssertionError: forgetting was not shown: row-reinit is INCONCLUSIVE",
            "E *- row-reinit: Neither forgetting nor a leak was shown*",
            "E *- row-reinit: upper bound on level 0.131 exceeds the margin 0.10; about 14 more Golds*",
        ]
    )
    gated(record(DOUBTFUL), ", allow_inconclusive=True").assert_outcomes(passed=1)
    gated(record(RED), ", allow_inconclusive=True").assert_outcomes(failed=1)


def test_red_where_the_audit_is_invalid(gated: Gated) -> None:
    for arguments in ("", ", allow_inconclusive=True"):
        result = gated(invalid(), arguments)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "E *AssertionError: forgetting was not shown: sisa is INVALID; a Gold that was not among the Golds: "
                "FAIL: level 0.31; expected: not FAIL; the audit is INVALID",
                "E *- sisa: This audit cannot be relied on*",
                "E *- sisa: the extra Gold reads FAIL: the null band is too narrow",
            ]
        )


def test_a_system_that_was_not_audited_fails() -> None:
    with pytest.raises(AssertionError, match="ghost: the report does not audit it"):
        assert_forgotten(record(GREEN), system="ghost")
    with pytest.raises(AssertionError, match="the report audits no system"):
        assert_forgotten(record(()))
    with pytest.raises(AssertionError, match="given is INCONCLUSIVE"):
        assert_forgotten(minimal())


def test_only_the_named_system_counts() -> None:
    assert_forgotten(record(), system="sisa")
    with pytest.raises(AssertionError, match="finetune is FAIL; reverse-bpr is FAIL; row-reinit is INCONCLUSIVE"):
        assert_forgotten(record())


class Table:
    """A recommender made elsewhere: random scores."""

    def __init__(self, data: Dataset, seed: int) -> None:
        self.n_users, self.n_items = data.n_users, data.n_items
        self.table = torch.from_numpy(np.random.default_rng(seed).normal(size=(data.n_users, data.n_items)))

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        return self.table[torch.as_tensor(np.asarray(users))].clone()


def green(**changes: object) -> Record:
    """A record whose one audited system PASSes, with something of it changed."""
    whole = record(GREEN)
    systems = [s.model_copy(update=changes) if s.name == "sisa" else s for s in whole.systems]
    return whole.model_copy(update={"systems": systems})


def test_bounds_count_and_not_point_estimates() -> None:
    whole = green(depth=Depth(value=0.97, low=0.9, high=1.0))
    assert_forgotten(whole, margin=0.1)
    with pytest.raises(AssertionError, match=r"the lower bound of forgetting depth, 0\.9, is below 0\.91"):
        assert_forgotten(whole, margin=0.09)
    speedup = green(speedup_vs_gold=Speedup(value=9.0, low=4.0, high=20.0))
    assert_forgotten(speedup, min_speedup=4)
    with pytest.raises(AssertionError, match=r"the lower bound of speedup, 4, is below 4\.5"):
        assert_forgotten(speedup, min_speedup=4.5)
    recall = record(GREEN).systems[-1].utility["recall@20"]
    worse = green(utility={"recall@20": recall.model_copy(update={"delta_vs_gold": Estimate(value=0.0, low=-0.02)})})
    assert_forgotten(worse, min_recall_delta=-0.02)
    with pytest.raises(AssertionError, match=r"recall@20 minus Gold's, -0\.02, is below -0\.01"):
        assert_forgotten(worse, min_recall_delta=-0.01)


@pytest.mark.parametrize("allow_inconclusive", [False, True])
@pytest.mark.parametrize(
    ("changes", "demand", "message"),
    [
        ({"depth": Depth(note="no primary")}, {"margin": 0.5}, "forgetting depth was not measured: no primary"),
        ({"depth": Depth(value=1.0)}, {"margin": 0.5}, "forgetting depth was not measured"),
        ({"utility": {}}, {"min_recall_delta": -1}, "recall@20 minus Gold's was not measured"),
        ({"speedup_vs_gold": Speedup(note="it shared the machine")}, {"min_speedup": 0.1},
         "speedup was not measured: it shared the machine"),
    ],
)  # fmt: skip
def test_what_is_asked_for_and_was_not_measured_fails(
    changes: dict[str, object], demand: dict[str, float], message: str, allow_inconclusive: bool
) -> None:
    assert_forgotten(green(**changes))
    with pytest.raises(AssertionError, match=message):
        assert_forgotten(green(**changes), allow_inconclusive=allow_inconclusive, **demand)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        ({"margin": 0.0}, r"margin must be in \(0, 1\)"),
        ({"margin": float("nan")}, r"margin must be in \(0, 1\)"),
        ({"min_speedup": 0.0}, "min_speedup"),
        ({"min_recall_delta": -2.0}, "recall@20"),
    ],
)
def test_bounds_out_of_their_domain_are_refused(demand: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        assert_forgotten(record(GREEN), **demand)  # type: ignore[arg-type]


def test_a_report_that_cannot_be_read_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read report"):
        assert_forgotten(tmp_path / "report.json")


def test_hostile_names_stay_on_their_line(gated: Gated) -> None:
    whole = hostile()
    worse = whole.systems[-1].model_copy(update={"name": "a\n::error::b ##[error]c\x1b[2J"})
    result = gated(whole.model_copy(update={"systems": [worse]}), "", "--junit-xml=gate.xml")
    result.assert_outcomes(failed=1)
    assert not [line for line in result.outlines if line.lstrip().startswith("::") or "##[" in line]
    assert "\x1b[2J" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*forgetting was not shown: a ::error::b ## [[]error]c?[[]2J is FAIL"])


def test_verdicts_are_properties_in_junit_xml(gated: Gated, pytester: pytest.Pytester) -> None:
    gated(record(), ", system='sisa'", "--junit-xml=gate.xml").assert_outcomes(passed=1)
    found = ElementTree.parse(pytester.path / "gate.xml").iterfind(".//testcase/properties/property[@name='auditkit']")
    assert [p.get("value", "").split()[:2] for p in found] == [
        ["PASS", "sisa"], ["FAIL", "finetune"], ["FAIL", "reverse-bpr"], ["INCONCLUSIVE", "row-reinit"],
    ]  # fmt: skip


def test_options_have_a_group_with_help(pytester: pytest.Pytester, alone: None) -> None:
    result = pytester.runpytest_inprocess("-p", "auditkit.pytest_plugin", "--help")
    result.stdout.fnmatch_lines(
        ["auditkit: has a recommender forgotten?:", "*--auditkit-config=FILE*", "*--auditkit-store=DIR*",
         "*--auditkit-profile=*"]
    )  # fmt: skip
    refused = pytester.runpytest_inprocess("-p", "auditkit.pytest_plugin", "--auditkit-profile=swift")
    refused.stderr.fnmatch_lines(["*argument --auditkit-profile: invalid choice: 'swift'*"])


def test_without_audits_there_is_no_section_and_nothing_heavy_is_imported(
    pytester: pytest.Pytester, alone: None
) -> None:
    pytester.makeini(STRICT)
    pytester.makepyfile(
        "import sys\n\n\ndef test_light():\n"
        "    assert not {'torch', 'numpy', 'pandas', 'pydantic', 'auditkit.record'} & set(sys.modules)\n"
    )
    result = pytester.runpytest_subprocess("-p", "auditkit.pytest_plugin")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*auditkit: audited systems*")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("forgetting_audit()", "*ConfigurationError: nothing to audit is named: call forgetting_audit*"),
        ("forgetting_audit('absent.toml')", "*ConfigurationError: cannot read *absent.toml*"),
        ("forgetting_audit('a.toml', unlearners=[object()])", "*either a configuration or objects*"),
        ("forgetting_audit(unlearners=[object()])", "*data is missing; pass it*"),
    ],
)
def test_an_audit_that_is_not_described_is_an_error(
    pytester: pytest.Pytester, alone: None, call: str, message: str
) -> None:
    pytester.makeini(STRICT)
    pytester.makepyfile(f"def test_it(forgetting_audit):\n    {call}\n")
    result = pytester.runpytest_inprocess("-p", "auditkit.pytest_plugin")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])


def test_objects_are_audited_once_and_not_confused(
    pytester: pytest.Pytester, alone: None, tiny: Dataset, tiny_request: DeletionRequest, tiny_recipe: Recipe
) -> None:
    config = pytester.parseconfig("-p", "auditkit.pytest_plugin", "--auditkit-profile=quick", "--auditkit-store=kept")
    audit = ForgettingAudit(config)
    # The profile of the command line goes before that of the settings.
    settings = Settings(profile="certify", golds=2, references=4, originals=1)

    def audited(model: Recommender) -> Record:
        given = {"ours": model}
        return audit(data=tiny, request=tiny_request, recipe=tiny_recipe, given=given, settings=settings)

    table, other = Table(tiny, 0), Table(tiny, 1)
    first = audited(table)
    assert first.policy.profile == "quick"
    assert audited(table) is first
    assert (pytester.path / "kept" / "builds").is_dir()
    # Under the same name, another model is another audit.
    second = audited(other)
    assert second is not first
    assert second.systems[0].utility != first.systems[0].utility


def test_the_sample_repository_is_green_for_retraining_and_red_for_doing_nothing(tmp_path: Path, alone: None) -> None:
    shutil.copytree(SAMPLE, tmp_path / "repository", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    command = [sys.executable, "-m", "pytest", "-s", "-p", "auditkit.pytest_plugin", "--auditkit-store=store"]
    done = subprocess.run(command, cwd=tmp_path / "repository", capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "FAILED gate_forgetting.py::test_doing_nothing_forgets" in done.stdout
    assert "AssertionError: forgetting was not shown: no-op is FAIL" in done.stdout
    assert "- no-op: level of lira-linear reads" in done.stdout
    summary = done.stdout[done.stdout.index("auditkit: audited systems") :]
    assert "\nPASS gold of synthetic: " in summary
    assert "\nFAIL no-op of synthetic: " in summary
    # Both tests asked for the audit; it ran once.
    assert done.stderr.count("fixed before probing: configuration") == 1
    made = {path.name for path in (tmp_path / "repository").iterdir()}
    assert {"store", "report"} <= made
    assert ".auditkit" not in made
    assert Record.read(tmp_path / "repository" / "report" / "report.json").verdict == "FAIL"
    assert (tmp_path / "repository" / "report" / "report.html").is_file()


def test_the_tree_does_not_collect_the_sample() -> None:
    assert not list(SAMPLE.glob("test_*.py")) + list(SAMPLE.glob("*_test.py"))
