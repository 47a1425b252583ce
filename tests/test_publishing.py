"""Published records and tables: what the request could be found from is keyed, and the rest is what it was."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.commitment import Commitment, keyed_digest, own_ids, pseudonym, read_key, unit_text, units_of
from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest, Regime, select
from auditkit.errors import ConfigurationError, DataError
from auditkit.evidence import make_case
from auditkit.plan import seed_of
from auditkit.publishing import ANY, Audited, publish, published_units
from auditkit.record import SCHEMA_VERSION, Estimate, Finding, Record
from auditkit.redaction import WITHHELD, Redaction, about
from auditkit.requests import Names
from auditkit.unit_table import unit_table

from .reports.sample import record

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
SEED = 7


def audited_of(data: Dataset, request: DeletionRequest, seed: int = SEED) -> Audited:
    users = np.array([f"user {k}" for k in range(data.n_users)])
    return Audited(data, request, Names(users, np.arange(data.n_items) + 1000), seed)


def record_of(audited: Audited, **changes: Any) -> Record:
    """The sample record as if it were of this audit."""
    whole = record(**changes)
    systems = [
        s.model_copy(update={"seeds": [seed_of(audited.seed, "original", 0)]}) if s.role == "original" else s
        for s in whole.systems
    ]
    request = {"regime": audited.request.regime, "digest": audited.request.digest, "selection": "listed in anna.csv"}
    return whole.model_copy(
        update={
            "systems": systems, "request": whole.request.model_copy(update=request),
            "dataset": whole.dataset.model_copy(update={"digest": audited.data.digest}),
        }
    )  # fmt: skip


def table_of(audited: Audited, method: str = "sisa") -> pd.DataFrame:
    table = unit_table(make_case(audited.data, audited.request, seed=audited.seed).units, None, {})
    rng = np.random.default_rng(3)
    table[f"score:{method}"] = rng.normal(size=len(table))
    table[f"side:{method}"] = "above"
    return table


@pytest.fixture(scope="module", params=["interaction", "user", "item"])
def audited(tiny: Dataset, request: pytest.FixtureRequest) -> Audited:
    regime: Regime = request.param
    return audited_of(tiny, select(tiny, regime, count=12, seed=1))


@pytest.fixture(scope="module")
def of_users(tiny: Dataset) -> Audited:
    return audited_of(tiny, select(tiny, "user", count=12, seed=1))


def secrets_of(whole: Record) -> set[str]:
    builds = {digest for system in whole.systems for digest in system.digests}
    return {whole.request.digest, whole.config_digest, whole.policy.digest, *builds}


def test_no_digest_of_the_request_is_left_nor_its_head(audited: Audited) -> None:
    own = record_of(audited)
    heads = {digest[:8] for digest in secrets_of(own)}
    assert len(heads) == 3 + len(own.systems)
    told, _ = publish(own, table_of(audited), audited, KEY)
    assert all(head in own.to_json() for head in heads)
    assert not [head for head in heads if head in told.to_json()]
    assert told.dataset == own.dataset
    assert [s.procedure for s in told.systems] == [s.procedure for s in own.systems]


def test_a_published_record_says_what_it_commits_to_and_what_it_does_not_hide(audited: Audited) -> None:
    told, _ = publish(record_of(audited), table_of(audited), audited, KEY)
    commitment = audited.commitment(KEY)
    assert told.request.commitment is not None
    assert (told.request.commitment.root, told.request.commitment.n_units) == (commitment.root, 12)
    assert told.request.digest == keyed_digest(KEY, audited.request.digest)
    assert told.request.selection == WITHHELD
    assert told.units is None
    own = len(record().limits)
    assert told.limits[:own] == record().limits
    assert commitment.root in told.limits[own]
    assert any("The audit's seed can be guessed" in limit for limit in told.limits[own:])
    assert Record.model_validate_json(told.to_json()) == told


def test_what_is_no_name_stays_as_it_was(tiny: Dataset) -> None:
    audited = audited_of(tiny, select(tiny, "interaction", count=12, seed=1))
    own = record_of(audited, schema_version="1.2")
    told, _ = publish(own, table_of(audited), audited, KEY)
    assert told.schema_version == SCHEMA_VERSION
    for name in ("verdict", "reasons", "exit_code", "backbone", "protocol", "controls", "ladder", "environment"):
        assert getattr(told, name) == getattr(own, name)
    assert told.curves == own.curves
    assert told.request.n_interactions == own.request.n_interactions
    for mine, theirs in zip(told.systems, own.systems, strict=True):
        for name in ("verdict", "parameters", "cost", "speedup_vs_gold", "utility", "unit_tests"):
            dropped = re.compile(r'"seed": \d+')
            assert dropped.sub("", json.dumps(mine.model_dump()[name])) == dropped.sub(
                "", json.dumps(theirs.model_dump()[name])
            )


def test_reports_under_one_key_can_be_compared_and_under_two_cannot(audited: Audited) -> None:
    table = table_of(audited)
    first, units = publish(record_of(audited), table, audited, KEY)
    again, same = publish(record_of(audited, created="2026-01-01T00:00:00+00:00"), table, audited, KEY)
    other, unlike = publish(record_of(audited), table, audited, OTHER)
    assert again == first.model_copy(update={"created": again.created})
    pd.testing.assert_frame_equal(units, same)
    assert other.request.digest != first.request.digest
    assert other.request.commitment != first.request.commitment
    assert not set(units["cluster"]) & set(unlike["cluster"])
    for mine, theirs in zip(first.systems, other.systems, strict=True):
        assert not set(mine.digests) & set(theirs.digests)
        assert mine.procedure == theirs.procedure


def test_seeds_are_keyed_and_equal_ones_stay_equal(of_users: Audited) -> None:
    own = record_of(of_users)
    told, _ = publish(own, table_of(of_users), of_users, KEY)
    before = [seed for system in own.systems for seed in system.seeds]
    after = [seed for system in told.systems for seed in system.seeds]
    assert not set(before) & set(after)
    assert all(0 <= seed < 2**31 for seed in after)
    pairs = set(zip(before, after, strict=True))
    assert len(pairs) == len(set(before)) == len(set(after))
    assert own.systems[0].residual_dose.seed == SEED
    assert told.systems[0].residual_dose.seed not in (None, SEED)


def test_a_seed_that_cannot_be_guessed_is_said_to_be_one_to_keep(tiny: Dataset) -> None:
    audited = audited_of(tiny, select(tiny, "user", count=3), seed=2**62 + 11)
    told, _ = publish(record_of(audited), table_of(audited), audited, KEY)
    assert "which must stay secret" in told.limits[-1]
    assert str(audited.seed) not in told.to_json()


def test_counts_of_pairs_and_degrees_are_coarse_where_units_are_users(of_users: Audited) -> None:
    own = record_of(of_users)
    served = Finding(attack="served-data", section="leak", n_units=37, note="30 of 37 forgotten pairs are still in it")
    few = Finding(
        attack="x", section="clean", n_points=13, note="it needs 20 points and the request has 13", n_units=12
    )
    own = with_findings(own, served, few)
    told, _ = publish(own, table_of(of_users), of_users, KEY)
    first, second = told.systems[-1].findings
    assert (first.n_units, first.note) == (32, "81% of forgotten pairs are still in it")
    assert (second.n_points, second.n_units) == (16, 12)
    assert second.note == "it needs 20 points and the request has about 16"
    assert told.request.n_interactions == about(own.request.n_interactions) == 4096
    degrees = {
        "activity": np.bincount(of_users.data.train.users, minlength=of_users.data.n_users),
        "popularity": np.bincount(of_users.data.train.items, minlength=of_users.data.n_items),
    }
    for mine, theirs in zip(told.systems[-1].deciles, own.systems[-1].deciles, strict=True):
        held = degrees[mine.by]
        least = np.sort(held)[0]
        assert mine.low <= max(theirs.low, least)
        assert mine.high >= min(theirs.high, held.max())
        assert ((held >= mine.low) & (held <= mine.high)).sum() >= len(held) / 20


def with_findings(own: Record, *findings: Finding, reasons: tuple[str, ...] = ()) -> Record:
    last = own.systems[-1].model_copy(update={"findings": list(findings), "reasons": list(reasons)})
    return own.model_copy(update={"systems": [*own.systems[:-1], last], "reasons": list(reasons)})


def test_texts_of_errors_are_withheld_wherever_they_are_repeated(of_users: Audited) -> None:
    bound = Estimate(note="no scores of the tuned units: IndexError: user 196 of 120")
    broken = Finding(attack="x", section="error", note="KeyError: 196", epsilon_low=bound)
    odd = Finding(attack="y", section="error", note="196 went wrong")
    reason = "attack x ended in an error: KeyError: 196"
    told, _ = publish(
        with_findings(record_of(of_users), broken, odd, reasons=(reason,)), table_of(of_users), of_users, KEY
    )
    first, second = told.systems[-1].findings
    assert first.note == f"KeyError: {WITHHELD}"
    assert first.epsilon_low.note == f"no scores of the tuned units: IndexError: {WITHHELD}"
    assert second.note == f"an error: {WITHHELD}"
    assert told.reasons == told.systems[-1].reasons == [f"attack x ended in an error: KeyError: {WITHHELD}"]
    assert "196" not in json.dumps([told.systems[-1].findings[0].model_dump(), told.reasons])


def test_digests_in_texts_are_keyed_and_numbers_are_not(of_users: Audited) -> None:
    own = record_of(of_users)
    redaction = Redaction.of(KEY, own)
    whole, unknown = own.request.digest, "0a1b2c3d4e5f"
    name = keyed_digest(KEY, whole)
    for length in (8, 12, 63, 64):
        assert redaction.text(f"build {whole[:length]}, gone") == f"build {name[:length]}, gone"
    assert redaction.text(f"x_{whole.upper()}") == f"x_{name}"
    assert redaction.text(unknown) == keyed_digest(KEY, unknown)[:12]
    kept = ("0.123456789012", "2024-01-02T03:04:05", "p = 1.5e-05", "effaced", "decade 1234567", "123456789012", "")
    assert [redaction.text(text) for text in kept] == [*kept]
    for public in (own.dataset.digest, own.systems[0].procedure[:12]):
        assert redaction.text(public) == public
    assert redaction.json({"seed": None, "seeds": [], "x": [1.5, True, None]}) == {
        "seed": None, "seeds": [], "x": [1.5, True, None],
    }  # fmt: skip


def test_a_method_that_is_called_like_a_digest_is_called_alike_in_the_table(of_users: Audited) -> None:
    name = f"ours {of_users.request.digest[:12]}"
    own = record_of(of_users, methods=((name, "PASS", 0.02, 0.03, 0.01),))
    told, units = publish(own, table_of(of_users, name), of_users, KEY)
    assert told.systems[-1].name != name
    assert set(told.retained) == {told.systems[-1].name}
    assert f"score:{told.systems[-1].name}" in units.columns


def test_units_have_pseudonyms_of_the_data_files_ids(audited: Audited) -> None:
    own = table_of(audited)
    told = published_units(own, audited, KEY)
    assert list(told.columns) == list(own.columns)
    matched = own.assign(
        user=["any" if k < 0 else pseudonym(KEY, "user", f"user {k}") for k in own["user"]],
        item=["any" if k < 0 else pseudonym(KEY, "item", str(1000 + k)) for k in own["item"]],
    ).merge(told, on=["user", "item"], suffixes=("", "_told"), validate="1:1")
    assert len(matched) == len(own)
    for name in ("group", "split", "score:sisa", "side:sisa"):
        assert matched[f"{name}_told"].tolist() == matched[name].tolist()
    own_cluster = "item" if audited.request.regime == "item" else "user"
    assert matched["cluster_told"].tolist() == matched[own_cluster].tolist()
    for degree, who in (("activity", "user"), ("popularity", "item")):
        for exact, shown, named in zip(matched[degree], matched[f"{degree}_told"], matched[who], strict=True):
            assert shown == ANY if named == ANY else in_range(exact, shown)


def in_range(exact: int, shown: str) -> bool:
    low, high = map(int, shown.split(" to "))
    return low <= exact <= high


def test_the_order_of_rows_tells_nothing(audited: Audited) -> None:
    own = table_of(audited)
    rng = np.random.default_rng(0)
    shuffled = own.iloc[rng.permutation(len(own))].reset_index(drop=True)
    told = published_units(own, audited, KEY)
    pd.testing.assert_frame_equal(told, published_units(shuffled, audited, KEY))
    assert told["unit"].tolist() == list(range(len(told)))
    assert told["user"].tolist() == sorted(told["user"])


def test_nothing_that_was_attached_to_the_table_comes_along(of_users: Audited) -> None:
    own = table_of(of_users)
    own.attrs["request"] = "user 5"
    own.index = pd.Index([f"user {k}" for k in own["user"]])
    told = published_units(own, of_users, KEY)
    assert told.attrs == {}
    assert told.index.tolist() == list(range(len(told)))


def test_columns_of_which_nothing_is_known_are_refused(of_users: Audited) -> None:
    own = table_of(of_users).assign(email="x").drop(columns="cluster")
    with pytest.raises(DataError, match="it lacks 'cluster', 'email' is unknown; audit again"):
        published_units(own, of_users, KEY)


def test_another_audit_is_named_with_all_that_differs(of_users: Audited, tiny: Dataset) -> None:
    own, table = record_of(of_users), table_of(of_users)
    other = Audited(replace(tiny, name="x"), select(tiny, "user", count=12, seed=2), Names(), SEED + 1)
    unlike = own.model_copy(update={"dataset": own.dataset.model_copy(update={"digest": "0" * 64})})
    with pytest.raises(ConfigurationError) as caught:
        publish(unlike, table, other, KEY)
    told = [problem.partition(";")[0] for problem in caught.value.problems]
    assert told == [
        "the report is of another data set than the configuration",
        "the report is of another request than the configuration",
        "the report is of another audit.seed than the configuration's 8",
    ]
    with pytest.raises(ConfigurationError, match="key must have 32 bytes or more, got 31"):
        publish(own, table, of_users, KEY[:31])
    with pytest.raises(ConfigurationError, match="the report is published already"):
        publish(publish(own, table, of_users, KEY)[0], table, of_users, KEY)


def test_an_empty_request_commits_to_nothing(tiny: Dataset) -> None:
    nobody = np.empty(0, np.int64)
    with pytest.raises(ConfigurationError, match="units must name one unit or more"):
        audited_of(tiny, DeletionRequest("user", nobody, nobody)).commitment(KEY)


def test_a_request_for_everybody_can_be_published(tiny: Dataset) -> None:
    audited = audited_of(tiny, select(tiny, "user", share=1.0))
    _, units = publish(record_of(audited), table_of(audited), audited, KEY)
    assert len(set(units["user"])) == audited.request.n_units == len(units)


def test_units_are_named_by_the_data_files_ids() -> None:
    users, items = np.array([3, 4]), np.array([1, 0])
    request = DeletionRequest("interaction", users, items)
    names = Names(np.array([10, 20, 30, 40, 50]), None)
    assert units_of(request, names) == [
        unit_text("interaction", user="40", item="1"), unit_text("interaction", user="50", item="0"),
    ]  # fmt: skip
    assert units_of(request, Names()) != units_of(request)
    assert own_ids(np.array([-1, 2]), np.array(["a", "b", "ü"])) == [None, "ü"]
    assert own_ids(np.array([-1, 2]), None) == [None, "2"]


@given(st.text("0123456789abcdef", min_size=1, max_size=64), st.text("0123456789abcdef", min_size=1, max_size=64))
def test_keyed_digests_are_equal_where_digests_are(a: str, b: str) -> None:
    assert (keyed_digest(KEY, a) == keyed_digest(KEY, b)) == (a == b)
    assert keyed_digest(KEY, a) != keyed_digest(OTHER, a)
    assert re.fullmatch("[0-9a-f]{64}", keyed_digest(KEY, a))


def test_keyed_digests_stay_the_same_over_versions_and_are_apart_from_other_uses() -> None:
    """Published reports must stay comparable: a change of these needs a new version in the domain name."""
    assert keyed_digest(KEY, "0" * 64) == "2b42d30ba3b179f7ac371b25449f6f9c87041687650cfdf6f70126aabac724e6"
    unit = unit_text("user", user="5")
    assert len({keyed_digest(KEY, unit)[:32], pseudonym(KEY, "user", "5"), Commitment.of(KEY, [unit]).root[:32]}) == 3
    with pytest.raises(ConfigurationError, match="key must have 32 bytes"):
        keyed_digest(b"short", "0" * 64)


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"ab" * 31, b"ab" * 33, b"\xff" * 64, b"-----BEGIN KEY-----"])
def test_what_is_no_key_is_refused_without_being_shown(content: bytes) -> None:
    with pytest.raises(ConfigurationError, match="a unit key must be 64 hexadecimal digits") as caught:
        read_key(content)
    assert not content or content.decode("latin-1") not in str(caught.value)
    assert read_key(b"ab" * 32 + b"\n") == b"\xab" * 32


@given(st.integers(0, 10**9))
def test_counts_are_rounded_to_a_power_of_two(count: int) -> None:
    rounded = about(count)
    assert (rounded == 0) == (count == 0)
    assert rounded & (rounded - 1) == 0
    assert not count or 2**-0.51 <= rounded / count <= 2**0.51
