"""Pseudonyms and commitments: what must be hidden is, what must show does, and nothing else can be shown."""

from __future__ import annotations

import hashlib
import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.commitment import (
    KEY_BYTES,
    Commitment,
    Proof,
    merkle_levels,
    new_key,
    pseudonym,
    unit_text,
    units_of,
)
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError, DataError

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
unit_lists = st.lists(texts, min_size=1, max_size=40, unique=True)


def split(data: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, by its own recursion."""
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = 1 << (len(data) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + split(data[:k]) + split(data[k:])).digest()


# Inputs and roots of the reference tests of Certificate Transparency (RFC 6962).
REFERENCE = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize("n", ROOTS)
def test_the_tree_is_that_of_rfc_6962(n: int) -> None:
    assert merkle_levels(REFERENCE[:n])[-1] == [bytes.fromhex(ROOTS[n])]


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70))
def test_pairing_equals_the_split_at_the_largest_power_of_two(data: list[bytes]) -> None:
    levels = merkle_levels(data)
    assert levels[-1] == [split(data)]
    assert [len(level) for level in levels[1:]] == [math.ceil(len(below) / 2) for below in levels[:-1]]


def test_a_node_does_not_pass_for_a_leaf() -> None:
    left, right = merkle_levels(REFERENCE[:2])[0]
    assert merkle_levels([left + right])[-1] != merkle_levels(REFERENCE[:2])[-1]


@given(unit_lists.flatmap(lambda units: st.tuples(st.just(units), st.permutations(units))))
def test_every_unit_is_shown_in_any_order(orders: tuple[list[str], list[str]]) -> None:
    units, shuffled = orders
    commitment = Commitment.of(KEY, units)
    again = Commitment.of(KEY, shuffled)
    assert commitment == again
    for unit in units:
        proof = commitment.prove(unit)
        assert proof == again.prove(unit)
        assert proof.unit == unit
        assert proof.holds(commitment.root, len(units))
        assert Proof.from_json(proof.to_json()) == proof


@given(unit_lists, texts)
def test_nothing_else_is_shown(units: list[str], stranger: str) -> None:
    commitment = Commitment.of(KEY, units)
    proof = commitment.prove(units[0])
    if stranger not in units:
        assert not proof.model_copy(update={"unit": stranger}).holds(commitment.root, len(units))
        with pytest.raises(ConfigurationError, match="is not among the"):
            commitment.prove(stranger)
        assert Commitment.of(KEY, [*units, stranger]).root != commitment.root


@settings(max_examples=30)
@given(unit_lists, st.data())
def test_a_changed_proof_does_not_hold(units: list[str], data: st.DataObject) -> None:
    commitment = Commitment.of(KEY, units)
    proof, n = commitment.prove(data.draw(st.sampled_from(units))), len(units)
    flip = "0123456789abcdef"

    def flipped(text: str) -> str:
        k = data.draw(st.integers(0, 63))
        return text[:k] + flip[flip.index(text[k]) ^ data.draw(st.integers(1, 15))] + text[k + 1 :]

    changed: list[dict[str, object]] = [
        {"opening": flipped(proof.opening)},
        {"path": [*proof.path, "0" * 64]},
        {"n_units": n + 1},
    ]
    changed += [{"index": k} for k in range(n + 2) if k != proof.index]
    for k, step in enumerate(proof.path):
        changed.append({"path": [*proof.path[:k], flipped(step), *proof.path[k + 1 :]]})
        changed.append({"path": [*proof.path[:k], *proof.path[k + 1 :]]})
    for change in changed:
        assert not proof.model_copy(update=change).holds(commitment.root, n)
    assert not proof.holds(flipped(commitment.root), n)
    assert not proof.holds(commitment.root, n + 1)
    assert not proof.holds("", n)
    assert not proof.holds("no root é", n)


def test_a_place_that_does_not_exist_or_a_count_that_is_absurd_ends_soon() -> None:
    proof = Commitment.of(KEY, ["a", "b"]).prove("a").model_copy(update={"n_units": 10**30, "index": 10**29})
    assert not proof.holds("0" * 64, 10**30)


def test_one_unit_is_its_own_root() -> None:
    commitment = Commitment.of(KEY, ["only"])
    proof = commitment.prove("only")
    assert (proof.path, proof.index, proof.n_units) == ([], 0, 1)
    assert proof.holds(commitment.root, 1)
    assert proof.holds(commitment.root.upper(), 1)
    assert not proof.holds(Commitment.of(OTHER, ["only"]).root, 1)


def test_no_units_twice_named_units_and_short_keys_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="units must name one unit or more, got none"):
        Commitment.of(KEY, [])
    with pytest.raises(ConfigurationError, match="got 'b' twice"):
        Commitment.of(KEY, ["a", "b", "c", "b"])
    with pytest.raises(ConfigurationError, match="key must have 32 bytes or more, got 31"):
        Commitment.of(KEY[:-1], ["a"])
    with pytest.raises(ConfigurationError, match="got 0"):
        pseudonym(b"", "user", 5)
    with pytest.raises(ConfigurationError, match="is no valid Unicode"):
        Commitment.of(KEY, ["\ud800"])


def test_the_key_hides_the_units_and_stays_with_the_auditor() -> None:
    units = [unit_text("user", user=k) for k in range(20)]
    commitment = Commitment.of(KEY, units)
    assert commitment.root != Commitment.of(OTHER, units).root
    shown = repr(commitment) + "".join(commitment.prove(unit).to_json() for unit in units)
    assert KEY.hex() not in shown
    assert repr(KEY) not in shown
    # Whoever lists all users and holds one proof meets no other leaf: each has an opening of its own.
    proof = commitment.prove(units[0])
    guesses = [proof.model_copy(update={"unit": unit, "index": k}) for unit in units[1:] for k in range(20)]
    assert not any(guess.holds(commitment.root, 20) for guess in guesses)
    assert len({commitment.prove(unit).opening for unit in units}) == 20


def test_places_do_not_follow_ids() -> None:
    commitment = Commitment.of(KEY, [unit_text("user", user=k) for k in range(200)])
    places = [commitment.prove(unit_text("user", user=k)).index for k in range(200)]
    assert sorted(places) == list(range(200))
    rising = sum(a < b for a, b in pairwise(places))
    assert 70 < rising < 130


def test_commitments_and_pseudonyms_stay_the_same_over_versions() -> None:
    """Published roots must stay checkable: a change of these needs a new version in the domain names."""
    assert pseudonym(KEY, "user", 5) == "1db055bcf9d8994cfb3412a25c867c0c"
    assert (
        Commitment.of(KEY, ["a", "b", "c"]).root == "f12c29f10a30238c79d3192aaa3a912eb4ca26e43d94d2db14b2024bb8509824"
    )


def test_pseudonyms_tell_kinds_ids_and_keys_apart() -> None:
    kinds = [
        pseudonym(key, kind, k) for key in (KEY, OTHER) for kind in ("user", "item") for k in (5, "5", 15, "1", 51)
    ]
    assert len(set(kinds)) == len(kinds)
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in kinds)
    assert pseudonym(KEY, "user", "模型\n\x00") == pseudonym(KEY, "user", "模型\n\x00")


@given(texts, texts, texts, texts)
def test_pseudonyms_do_not_run_kind_and_id_together(a: str, b: str, c: str, d: str) -> None:
    assert (pseudonym(KEY, a, b) == pseudonym(KEY, c, d)) == ((a, b) == (c, d))


def test_keys_are_random_and_long_enough() -> None:
    keys = {new_key() for _ in range(20)}
    assert len(keys) == 20
    assert {len(key) for key in keys} == {KEY_BYTES}


def test_units_of_a_request_read_as_what_they_are() -> None:
    users, items = np.array([3, 3]), np.array([7, 8])
    request = DeletionRequest("interaction", users, items)
    assert [json.loads(unit) for unit in units_of(request)] == [
        {"regime": "interaction", "user": 3, "item": 7},
        {"regime": "interaction", "user": 3, "item": 8},
    ]
    nobody = np.array([-1, -1])
    assert units_of(DeletionRequest("user", np.array([3, 4]), nobody)) == [
        unit_text("user", user=3),
        unit_text("user", user=4),
    ]
    told = units_of(DeletionRequest("item", nobody, items, modalities=("text", "image")))
    assert json.loads(told[0]) == {"regime": "item", "item": 7, "modalities": ["image", "text"]}


def test_texts_of_units_are_ascii_and_tell_numbers_from_text() -> None:
    odd = unit_text("user", user="ü\n\x00\ud800")
    assert odd.isascii()
    assert odd.isprintable()
    assert unit_text("user", user=5) != unit_text("user", user="5")
    assert unit_text("item", item=5) != unit_text("user", user=5)
    assert unit_text("item", item=5, modalities=("b", "a")) == unit_text("item", item=5, modalities=("a", "b"))
    assert unit_text("item", item=5, modalities=("a",)) != unit_text("item", item=5)


@pytest.mark.parametrize(
    "change",
    [
        {"opening": "0" * 63}, {"opening": "G" * 64}, {"opening": "0" * 64 + "\n"}, {"index": -1}, {"index": True},
        {"n_units": 0}, {"path": ["0"]}, {"path": ["0" * 64] * 65}, {"extra": 1}, {"version": "2"}, {"unit": None},
    ],
)  # fmt: skip
def test_what_is_no_proof_is_refused(change: dict[str, object]) -> None:
    whole = json.loads(Commitment.of(KEY, ["a", "b"]).prove("a").to_json())
    with pytest.raises(DataError, match="this is no inclusion proof of auditkit"):
        Proof.from_json(json.dumps({**whole, **change}))


@pytest.mark.parametrize("text", ["", "[]", "{", b"\xff", "null"])
def test_what_is_no_json_is_no_proof(text: str | bytes) -> None:
    with pytest.raises(DataError, match="this is no inclusion proof of auditkit"):
        Proof.from_json(text)


def test_a_large_request_is_committed_to_in_one_pass() -> None:
    units = [unit_text("interaction", user=k, item=2 * k) for k in range(20_000)]
    commitment = Commitment.of(KEY, units)
    proof = commitment.prove(units[12_345])
    assert len(proof.path) <= 15
    assert proof.holds(commitment.root, 20_000)
