"""Evidence in a file: it leads to the report again, what differs is named, and a broken file gives a message."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from auditkit.builds import Given
from auditkit.contracts import Attack, Needs, Probe, Recipe, Scores
from auditkit.data.dataset import Dataset
from auditkit.deletion import Regime, select
from auditkit.errors import DataError, PluginError
from auditkit.evidence import Evidence, Targets
from auditkit.evidence_files import Arrays, Kept, read_evidence, write_evidence
from auditkit.flow import Outcome, run
from auditkit.linear import fit_references, linear_scores
from auditkit.plan import Method, Settings, make_plan
from auditkit.plugins import register, registry
from auditkit.probes import Pairs
from auditkit.record import Record
from auditkit.rederive import Difference, Rederived, differences, kept_of, rederive
from auditkit.store import Store
from auditkit.summary import summarise
from auditkit.unlearners.controls import NoOp, OutputMask
from auditkit.unlearners.gold import Gold


@dataclass(frozen=True)
class Learns(Attack):
    """A diagnostic that learns from systems which the method itself unlearned."""

    shift: float = 0.0
    name: ClassVar[str] = "test-rederive-learns"
    needs: ClassVar[Needs] = Needs(references=4, unlearned_references=3)
    fails_in: ClassVar[frozenset[Regime]] = frozenset({"interaction"})

    @property
    def probes(self) -> tuple[Probe, ...]:
        return (Pairs(),)

    def score(self, targets: Targets, background: Evidence) -> Scores:
        known, reading = background.readings[Pairs()], targets.readings[Pairs()]
        mean = known.values["z"][background.rows("unlearned reference")].mean(0)
        plain = linear_scores(
            reading, reading.values["z"] - mean, *fit_references(known, known.values["z"], background)
        )
        return Scores(plain.level + self.shift, None, plain.n_points)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    register("attacks", Learns)
    yield
    registry("attacks").registered.pop(Learns.name)


def outcome_of(data: Dataset, store: Path, regime: Regime, methods: list[Any], **chosen: Any) -> Outcome:
    request = select(data, regime, share=0.2)
    battery = chosen.pop("battery", None)
    settings = Settings(profile="quick", golds=4, references=8, margin=0.5, **chosen)
    plan = make_plan(data, request, Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 10}), methods, settings=settings,
                     battery=battery)  # fmt: skip
    return run(plan, Store(store))


@dataclass(frozen=True)
class Audit:
    """An audit with its evidence in a file."""

    outcome: Outcome
    record: Record
    file: Path

    @property
    def units(self) -> pd.DataFrame:
        return self.outcome.units()

    def compared(self) -> list[Difference]:
        return differences(self.record, rederive(read_evidence(self.file)), self.units)


def kept_in(folder: Path, outcome: Outcome) -> Audit:
    write_evidence(kept_of(outcome), folder / "evidence.npz")
    # As it is read back: numbers of a report are those of its JSON.
    return Audit(outcome, Record.model_validate_json(summarise(outcome).to_json()), folder / "evidence.npz")


@pytest.fixture(scope="module")
def audit(tiny: Dataset, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    methods = [Gold(), NoOp(), Method(Gold(), runs=3, label="thrice"), OutputMask()]
    return kept_in(tmp_path_factory.mktemp("kept"), outcome_of(tiny, tiny_store, "interaction", methods))


@pytest.fixture(scope="module")
def found(audit: Audit) -> Rederived:
    return rederive(read_evidence(audit.file))


def test_everything_that_is_judged_follows_from_the_file(audit: Audit, found: Rederived) -> None:
    assert {a.method: a.ruling for a in found.audited} == {a.method: a.ruling for a in audit.outcome.audited}
    assert [a.findings for a in found.audited] == [a.findings for a in audit.outcome.audited]
    assert found.n_findings == sum(len(s.findings) for s in audit.record.systems)
    assert len({a.ruling.verdict for a in found.audited}) > 1
    assert differences(audit.record, found, audit.units) == []


@pytest.mark.parametrize("regime", ["user", "item", "modality"])
def test_every_kind_of_request_follows(tiny: Dataset, tiny_store: Path, tmp_path: Path, regime: Regime) -> None:
    recipe = Recipe.of("vbpr", {"factors": 8}, {"epochs": 5}) if regime == "modality" else None
    request = select(tiny, regime, share=0.2, modalities=("image",) if recipe else ())
    plan = make_plan(
        tiny, request, recipe or Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 10}), [NoOp()],
        settings=Settings(profile="quick", golds=4, references=4),
    )  # fmt: skip
    assert kept_in(tmp_path, run(plan, Store(tiny_store))).compared() == []


def test_tuned_units_and_own_references_are_kept_too(tiny: Dataset, tiny_store: Path, tmp_path: Path) -> None:
    from auditkit.attacks.lira import Lira
    from auditkit.attacks.lira_linear import LiraLinear

    battery = [LiraLinear(), Lira(signal="rank"), Learns(shift=0.5)]
    outcome = outcome_of(tiny, tiny_store, "interaction", [NoOp(), Gold()], tune=0.3, battery=battery)
    audit = kept_in(tmp_path, outcome)
    kept = read_evidence(audit.file)
    assert kept.battery == tuple(battery)
    assert [len(m.learned.systems) for m in kept.methods if m.learned] == [3, 3]
    learned = [f for s in audit.record.systems for f in s.findings if f.attack == Learns.name]
    assert {f.section for f in learned} <= {"leak", "clean", "inconclusive", "over_forgotten"}
    assert audit.record.request.n_units_tune > 0
    assert audit.compared() == []


def test_the_same_audit_gives_the_same_bytes(audit: Audit, tmp_path: Path) -> None:
    write_evidence(kept_of(audit.outcome), tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == audit.file.read_bytes()
    write_evidence(read_evidence(audit.file), tmp_path / "read.npz")
    assert (tmp_path / "read.npz").read_bytes() == audit.file.read_bytes()


def test_nothing_of_how_systems_were_built_is_kept(audit: Audit) -> None:
    kept = read_evidence(audit.file)
    builds = [s.build for s in kept.background.systems]
    assert all(isinstance(build, Given) and build.digest == "" for build in builds)
    seeds = {str(seed) for system in audit.record.systems for seed in system.seeds if seed > 10**6}
    with np.load(audit.file) as file:
        text = file["about"].tobytes().decode()
    assert seeds
    assert not [seed for seed in seeds if seed in text]


def changed(record: Record, system: str, **update: Any) -> Record:
    systems = [s.model_copy(update=update) if s.name == system else s for s in record.systems]
    return record.model_copy(update={"systems": systems})


def test_whatever_the_report_says_otherwise_is_named(audit: Audit, found: Rederived) -> None:
    record = audit.record
    system = next(s for s in record.systems if s.name == "no-op")
    primary = system.findings[0]
    better = primary.model_copy(update={"residual_dose": primary.residual_dose.model_copy(update={"value": 0.01})})
    hidden = [f for f in system.findings if f.attack != "rank-probe"]
    cases: list[tuple[Record, str, str]] = [
        (changed(record, "no-op", verdict="PASS"), "no-op", "verdict"),
        (changed(record, "no-op", reasons=[]), "no-op", "reasons[0]"),
        (changed(record, "no-op", reasons=[*system.reasons, "x"]), "no-op", f"reasons[{len(system.reasons)}]"),
        (changed(record, "no-op", depth=system.depth.model_copy(update={"value": 0.99})), "no-op", "depth.value"),
        (changed(record, "no-op", depth=system.depth.model_copy(update={"low": None})), "no-op", "depth.low"),
        (changed(record, "no-op", findings=[better, *system.findings[1:]]), "no-op",
         "findings.lira-linear(signal=z).residual_dose.value"),
        (changed(record, "no-op", findings=hidden), "no-op", "findings.rank-probe"),
        (changed(record, "no-op", unit_tests=None), "no-op", "unit_tests"),
        (changed(record, "no-op", deciles=system.deciles[1:]), "no-op", "deciles[0].low"),
        (changed(record, "no-op", name="other"), "no-op", "system"),
        (record.model_copy(update={"attainable_margin": 0.0123}), "the audit", "attainable_margin"),
        (record.model_copy(update={"reasons": record.reasons[1:]}), "the audit", "reasons[0]"),
        (record.model_copy(update={"policy": record.policy.model_copy(update={"margin": 0.6})}), "the audit", "margin"),
        (record.model_copy(update={"policy": record.policy.model_copy(update={"power": 1.0})}), "the audit", "power"),
        (record.model_copy(update={"controls": [c.model_copy(update={"ok": False}) for c in record.controls]}),
         "the audit", "controls.extra Gold.ok"),
        (record.model_copy(update={"request": record.request.model_copy(update={"n_units_judged": 3})}), "the audit",
         "n_units_judged"),
    ]  # fmt: skip
    for spoilt, where, field in cases:
        listed = differences(spoilt, found)
        assert (where, field) in [(d.where, d.field) for d in listed], (field, listed)
        assert all(len(str(d)) < 400 for d in listed)
    (verdict,) = differences(changed(record, "no-op", verdict="PASS"), found)
    assert str(verdict) == "no-op: verdict: the report says 'PASS', the evidence gives 'FAIL'"


def test_a_table_of_other_numbers_is_named(audit: Audit, found: Rederived) -> None:
    table = audit.units
    row = int(np.flatnonzero(table["score:no-op"].notna())[3])
    scores = table["score:no-op"].to_numpy(np.float64, copy=True)
    scores[row] += 0.01
    other = table.assign(**{"score:no-op": scores})
    named = [str(d) for d in differences(audit.record, found, other)]
    assert len(named) == 1
    assert named[0].startswith(f"the per-unit table: score:no-op of unit {row}: the report says ")
    fields = [d.field for d in differences(audit.record, found, table.drop(columns="q:gold"))]
    assert fields == ["column q:gold"]
    assert [d.field for d in differences(audit.record, found, table[:-1])] == ["rows"]


def test_printed_numbers_may_differ_in_their_last_digit_alone(audit: Audit, found: Rederived) -> None:
    reason = next(s for s in audit.record.systems if s.name == "no-op").reasons[0]
    shown = reason.split(" reads ")[1].split(",")[0]
    for step, fields in ((0.001, []), (0.003, ["reasons[0]"])):
        text = reason.replace(shown, f"{float(shown) + step:.3f}")
        assert text != reason
        spoilt = changed(audit.record, "no-op", reasons=[text, *found.audited[1].ruling.reasons[1:]])
        assert [d.field for d in differences(spoilt, found)] == fields


def test_other_answers_lead_elsewhere(audit: Audit) -> None:
    """A provider who swaps the answers of the no-op for those of the Gold is told by the report that was signed."""
    kept = read_evidence(audit.file)
    gold, no_op, *rest = kept.methods
    swapped = replace(kept, methods=(gold, replace(no_op, evidence=gold.evidence, serving=gold.serving), *rest))
    listed = differences(audit.record, rederive(swapped))
    assert {d.where for d in listed} == {"no-op", "the audit"}
    assert {"verdict", "depth.value"} <= {d.field for d in listed}
    missing = replace(kept, methods=(gold, *rest))
    assert ("no-op", "system") in [(d.where, d.field) for d in differences(audit.record, rederive(missing))]


# --- files that are not as the audit wrote them -----------------------------------------------------------------


def rewritten(file: Path, change: Callable[[Arrays], None], out: Path) -> Path:
    with np.load(file) as read:
        arrays = {name: read[name] for name in read.files}
    change(arrays)
    with out.open("wb") as target:
        np.savez(target, **arrays)
    return out


def told(old: str, new: str) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        text = arrays["about"].tobytes().decode()
        assert old in text
        arrays["about"] = np.frombuffer(text.replace(old, new).encode(), np.uint8)

    return change


def test_an_attack_that_is_not_installed_is_named(audit: Audit, tmp_path: Path) -> None:
    file = rewritten(audit.file, told('"name": "lira"', '"name": "somebodys-attack"'), tmp_path / "x.npz")
    with pytest.raises(PluginError, match="no attack named 'somebodys-attack'"):
        read_evidence(file)


def drop(head: str) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        for name in [name for name in arrays if name.startswith(head)]:
            del arrays[name]

    return change


def put(name: str, value: Callable[[Any], Any]) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: value(arrays[name])})


SPOILS: dict[str, Callable[[Arrays], None]] = {
    "no description": drop("about"), "no units": drop("units/"), "no column": drop("units/split"),
    "no background": drop("background/seen"), "no questions": drop("points/0"),
    "no text": put("about", lambda _: np.frombuffer(b"\xff\xfe{", np.uint8)),
    "no object": put("about", lambda _: np.frombuffer(b"[1, 2]", np.uint8)),
    "too few units": put("background/held", lambda a: a[:, :-1]),
    "too few systems": put("background/0/z", lambda a: a[:-1]),
    "too few answers": put("method-0/0/z", lambda a: a[:, 1:]),
    "no numbers": put("background/0/z", lambda a: np.full(a.shape, "x")),
    "a unit beyond": put("points/0/unit", lambda a: a + 10**6),
    "a unit before": put("points/0/unit", lambda a: a - 10**6),
    "another version": told('"version": 1', '"version": 99'),
    "a rule too many": told('"margin"', '"mercy": 1, "margin"'),
    "an access": told('"allowed": "LISTS', '"allowed": "EVERYTHING'),
    "no such parameter": told('"name": "lira"', '"name": "lira", "power": 3'),
    "an ill-typed list": told('"serving": [', '"serving": 3, "x": ['),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_file_of_the_wrong_form_gives_a_message(
    audit: Audit, tmp_path: Path, spoil: Callable[[Arrays], None]
) -> None:
    from auditkit.errors import AuditkitError

    file = rewritten(audit.file, spoil, tmp_path / "x.npz")
    with pytest.raises(AuditkitError) as error:
        rederive(read_evidence(file))
    assert str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", b"\x80\x04}.", b"\x93NUMPY\x01\x00"])
def test_what_is_no_archive_gives_a_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz is no evidence of an audit: "):
        read_evidence(tmp_path / "x.npz")
    with pytest.raises(DataError, match="is no evidence"):
        read_evidence(tmp_path / "nowhere.npz")


def test_damaged_bytes_never_give_other_evidence(audit: Audit, tmp_path: Path) -> None:
    """The archive's own checksums: a flipped or lost byte is an error, or it changes nothing."""
    content, file = audit.file.read_bytes(), tmp_path / "x.npz"
    rng = np.random.default_rng(0)
    for at in (*range(0, 60, 7), *rng.integers(len(content), size=60)):
        file.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        try:
            kept = read_evidence(file)
        except DataError:
            continue
        assert same(kept, read_evidence(audit.file))
    for end in (10, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:end])
        with pytest.raises(DataError, match="is no evidence"):
            read_evidence(file)


def same(a: Kept, b: Kept) -> bool:
    pairs = zip(a.parts.values(), b.parts.values(), strict=True)
    return all(
        np.array_equal(values, other.readings[probe].values[signal], equal_nan=True)
        for part, other in pairs
        for probe, reading in part.readings.items()
        for signal, values in reading.values.items()
    )


def test_nothing_in_a_file_is_executed(audit: Audit, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Trap()], object), allow_pickle=True)
    with zipfile.ZipFile(audit.file) as good, zipfile.ZipFile(tmp_path / "x.npz", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, buffer.getvalue() if name == "background/0/z.npy" else good.read(name))
    with pytest.raises(DataError, match="is no evidence of an audit"):
        read_evidence(tmp_path / "x.npz")
    assert not (tmp_path / "executed").exists()
