"""The pytest plug-in: audit in a test suite, and fail it where forgetting was not shown.

`forgetting_audit` is a session fixture that runs an audit once and gives its Record; `assert_forgotten` fails with the
reason in plain words. What was audited is listed after the tests and, with `--junit-xml`, as a property `auditkit` of
the test. Having the plug-in installed costs no import of torch, numpy or pydantic: that is done when an audit is used.

PYTEST_DONT_REWRITE: there is no assert statement here, and pytest warns of plug-ins that it comes too late to rewrite.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from auditkit.errors import ConfigurationError

if TYPE_CHECKING:
    from auditkit.contracts import Recipe, Recommender, Unlearner
    from auditkit.data.dataset import Dataset
    from auditkit.deletion import DeletionRequest
    from auditkit.gate import Check
    from auditkit.outside.source import Source
    from auditkit.plan import Method, Plan, Settings
    from auditkit.record import Record

_PROPERTY = "auditkit"
_VERDICT_RULE = "AUD001"
_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "INVALID": "purple"}
_running: ContextVar[pytest.Item | None] = ContextVar("running", default=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plug-in, in a group of their own."""
    group = parser.getgroup("auditkit", "auditkit: has a recommender forgotten?")
    group.addoption("--auditkit-config", metavar="FILE", help="configuration that `forgetting_audit()` audits")
    group.addoption(
        "--auditkit-store", metavar="DIR", help="where trained systems are kept; overrides the configuration"
    )
    group.addoption(
        "--auditkit-profile",
        choices=("quick", "standard", "certify"),
        help="how thoroughly is audited; overrides configurations and settings",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Remember the running test, whose report will name what it audited."""
    token = _running.set(item)
    try:
        return (yield)
    finally:
        _running.reset(token)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the audited systems with their verdicts."""
    # Through the tests' reports, since with pytest-xdist the tests run in other processes.
    reports = [report for group in terminalreporter.stats.values() for report in group]
    noted = [pair for report in reports for pair in getattr(report, "user_properties", ())]
    lines = dict.fromkeys(str(value) for name, value in noted if name == _PROPERTY)
    if lines:
        terminalreporter.section("auditkit: audited systems")
    for line in lines:
        terminalreporter.write_line(line, **{_COLOURS.get(line.split()[0], "white"): True})


@pytest.fixture(scope="session")
def forgetting_audit(pytestconfig: pytest.Config) -> ForgettingAudit:
    """Call it for the Record of an audit; each audit runs once per session. See `ForgettingAudit`."""
    return ForgettingAudit(pytestconfig)


class ForgettingAudit:
    """What the fixture `forgetting_audit` gives: call it for the Record of an audit.

    An audit runs once per session; trained systems stay in the store, so that the next session trains nothing again.
    With pytest-xdist each worker is a session of its own; they share the store and never train one system twice.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._options = config.option
        self._home = Path(config.invocation_params.dir)
        self._records: dict[tuple[object, ...], tuple[object, Record]] = {}

    def __call__(
        self,
        config: Path | str | None = None,
        *,
        data: Dataset | None = None,
        request: DeletionRequest | None = None,
        recipe: Recipe | None = None,
        unlearners: Sequence[Unlearner | Method] = (),
        given: Mapping[str, Recommender | Source] | None = None,
        original: Recommender | Source | None = None,
        yardstick: Mapping[str, Recommender | Source] | None = None,
        settings: Settings | None = None,
        out: Path | str | None = None,
    ) -> Record:
        """Audit a configuration, or objects as `auditkit.audit` takes them.

        Args:
            config: a configuration file; default `--auditkit-config`. Read once per session.
            data, request, recipe, unlearners, given, original, yardstick, settings: what is audited instead of a
                configuration, as `auditkit.audit` takes it.
            out: folder for report.json, report.html and units.parquet; None writes nothing.

        Relative paths start where pytest was called. `--auditkit-profile` goes before any profile given here;
        `--auditkit-store` before the configuration's store, whose default is `.auditkit`.

        Raises:
            ConfigurationError: nothing to audit is named, or both a configuration and objects, or what is named cannot
                be audited; all problems at once.
        """
        objects = (data, request, recipe, given, original, yardstick, settings)
        place = None if out is None else self._home / out
        if any(value is not None for value in objects) or unlearners:
            if config is not None:
                raise ConfigurationError("pass either a configuration or objects (data, request, recipe), not both")
            from auditkit.api import plan_of

            chosen = self._settings(settings)
            plan = plan_of(data, request, recipe, unlearners, given, original, yardstick, chosen)
            # A plan's digest does not know what is in an object.
            models = (*(given or {}).values(), original, *(yardstick or {}).values())
            key = (plan.digest, place, *map(id, models))
            return self._once(key, plan, self._home / (self._options.auditkit_store or ".auditkit"), place)
        return self._configured(config, place)

    def _configured(self, config: Path | str | None, out: Path | None) -> Record:
        from auditkit.config import load, resolve

        named = config or self._options.auditkit_config
        if named is None:
            raise ConfigurationError(
                "nothing to audit is named: call forgetting_audit('audit.toml'), pass --auditkit-config audit.toml, or "
                "pass data, request, recipe and unlearners; `auditkit init` writes a configuration"
            )
        path = self._home / named
        if (path, out) not in self._records:
            tables = load(path)
            plan = resolve(tables, profile=self._options.auditkit_profile)
            return self._once((path, out), plan, self._home / (self._options.auditkit_store or tables.audit.store), out)
        return self._noted((path, out))

    def _settings(self, settings: Settings | None) -> Settings:
        from auditkit.plan import Settings

        chosen = settings or Settings()
        if self._options.auditkit_profile is None:
            return chosen
        return replace(chosen, profile=self._options.auditkit_profile)

    def _once(self, key: tuple[object, ...], plan: Plan, store: Path, out: Path | None) -> Record:
        from auditkit.api import audit_plan
        from auditkit.talk import Talk

        if key not in self._records:
            with Talk() as talk:
                record = audit_plan(plan, out=out, store=store, progress=talk)
            # The plan is kept, so that no other model can come to have the id of one of its own.
            self._records[key] = (plan, record)
        return self._noted(key)

    def _noted(self, key: tuple[object, ...]) -> Record:
        record = self._records[key][1]
        _note(record)
        return record


def _note(record: Record) -> None:
    """Put the audited systems into the report of the running test; outside of a test nothing is noted."""
    item = _running.get()
    if item is None:
        return
    from auditkit.reports import words

    for system in words.audited(record):
        told = f"{system.verdict or 'not judged'} {system.name} of {record.dataset.name}: {words.found(system)}"
        pair = (_PROPERTY, _one_line(told))
        if pair not in item.user_properties:
            item.user_properties.append(pair)


def _one_line(text: str) -> str:
    """Text that can neither break a line nor be a command to a terminal or to GitHub's runner."""
    from auditkit.reports import words

    # The runner obeys `::name::` only where a line starts with it, which none here does, but `##[name]` anywhere.
    return " ".join(words.printable(text).replace("##[", "## [").split())


def assert_forgotten(
    record: Record | Path | str,
    *,
    system: str | None = None,
    margin: float | None = None,
    min_recall_delta: float | None = None,
    min_speedup: float | None = None,
    allow_inconclusive: bool = False,
) -> None:
    """Fail unless an audit showed that the data was forgotten.

    The gate decides (`auditkit.gate.decide`), with the power that the audit's own policy asked for. Bounds are those of
    the report's intervals, and what is asked for and was not measured fails: an unknown is no success.

    Args:
        record: a Record, or a report.json.
        system: name of the audited system; None asks it of every audited system.
        margin: in (0, 1); the lower bound of the forgetting depth must be at least 1 - margin. It can ask for more than
            the audit's own margin, never for less: the verdict counts in any case.
        min_recall_delta: in [-1, 1]; least acceptable lower bound of Recall@20 minus Gold's, such as -0.01.
        min_speedup: above 0; least acceptable lower bound of the speedup over retraining.
        allow_inconclusive: let through what is INCONCLUSIVE; FAIL and INVALID never are, nor is a missing measurement.

    Raises:
        AssertionError: it was not shown; every reason in plain words.
        ConfigurationError: a bound lies outside its domain.
        DataError: no report can be read there.
    """
    __tracebackhide__ = True
    from auditkit.gate import decide
    from auditkit.gate_policy import parse_policy
    from auditkit.record import Record

    read = record if isinstance(record, Record) else Record.read(Path(record))
    _note(read)
    demands = {
        "systems": [] if system is None else [system],
        "verdicts": ["PASS", "INCONCLUSIVE"] if allow_inconclusive else ["PASS"],
        "min_power": read.policy.min_power,
        "min_depth": None if margin is None else 1 - _checked(margin),
        "min_delta_vs_gold": {} if min_recall_delta is None else {"recall@20": min_recall_delta},
        "min_speedup": min_speedup,
    }
    broken = decide(read, parse_policy(demands, "assert_forgotten")).broken
    against = [check for check in broken if not (allow_inconclusive and check.outcome == "INCONCLUSIVE")]
    if against:
        raise AssertionError(_said(read, against))


def _checked(margin: float) -> float:
    if not 0 < margin < 1:
        raise ConfigurationError(f"margin must be in (0, 1), on the dose scale, got {margin!r}")
    return margin


def _said(record: Record, against: Sequence[Check]) -> str:
    """What speaks against it in one line, and the facts behind every verdict below."""
    facts = [fact for check in against if check.rule == _VERDICT_RULE for fact in _facts(record, check)]
    heads = "; ".join(_one_line(_head(check)) for check in against)
    return "\n".join([f"forgetting was not shown: {heads}", *(f"  - {_one_line(fact)}" for fact in facts)])


def _head(check: Check) -> str:
    if check.rule == _VERDICT_RULE:
        return f"{check.system} is {check.outcome}"
    return f"{check.system or check.measure or 'the audit'}: {check.message}"


def _facts(record: Record, check: Check) -> list[str]:
    from auditkit.reports import words

    system = next(entry for entry in words.audited(record) if entry.name == check.system)
    chosen = words.VERDICTS[check.outcome]
    reasons = system.reasons or record.reasons or [check.message]
    lines = [f"{chosen.headline}. {chosen.meaning}", words.found(system), *reasons]
    return [*(f"{system.name}: {line}" for line in lines), chosen.limit]
