"""Naming units without telling them: keyed pseudonyms, and a keyed commitment to the forget set with inclusion proofs.

A plain digest of a user id tells the id to whoever can list all users. Here every digest needs a secret key, which the
auditor keeps: without it pseudonyms cannot be linked to ids, and the commitment tells nothing but how many units there
are. Who is shown a proof learns its own unit's place among keyed digests, and nothing of the other units.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from auditkit.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from auditkit.data.dataset import Ints
    from auditkit.deletion import DeletionRequest
    from auditkit.requests import Names

KEY_BYTES = 32
UNTIED_COMMITMENT = (
    "That the commitment covers the audited request is the word of who made it, but for units whose proofs are shown."
)

Hex = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]

# One key serves all uses; a name and a version before each message keep the uses apart.
_PSEUDONYM = b"auditkit/pseudonym/v1\0"
_DIGEST = b"auditkit/digest/v1\0"
_OPENING = b"auditkit/commitment/v1/opening\0"
_LEAF = b"auditkit/commitment/v1/leaf\0"


def new_key() -> bytes:
    """A secret key of 32 random bytes from the operating system.

    Make one for each request: under one key the same unit gives the same leaf, so that proofs of two requests could be
    linked.
    """
    return secrets.token_bytes(KEY_BYTES)


def read_key(content: bytes) -> bytes:
    """The key in the content of a key file: 64 hexadecimal digits.

    Raises:
        ConfigurationError: it holds anything else; what it holds is not said.
    """
    try:
        found = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        found = b""
    if len(found) != KEY_BYTES:
        raise ConfigurationError(
            f"a unit key must be {2 * KEY_BYTES} hexadecimal digits, and this file holds something else; make one with "
            "auditkit report unit-key"
        )
    return found


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _checked(key: bytes) -> bytes:
    if len(key) < KEY_BYTES:
        raise ConfigurationError(f"key must have {KEY_BYTES} bytes or more, got {len(key)}; make one with new_key()")
    return key


def pseudonym(key: bytes, kind: str, identifier: int | str) -> str:
    """What a report calls a user or item: HMAC-SHA256 (RFC 2104), cut to its first 128 bits.

    RFC 2104 section 5 allows half of the output. Of a million ids two share a pseudonym with probability 1.5e-27.

    Args:
        key: secret, 32 bytes or more.
        kind: what is named, such as `user` or `item`; user 5 and item 5 get unlike pseudonyms.
        identifier: the id; 5 and "5" are two ids.

    Returns:
        32 lowercase hexadecimal digits; the same for the same arguments.

    Raises:
        ConfigurationError: the key is too short.
    """
    message = json.dumps([kind, identifier], separators=(",", ":"))
    return _mac(_checked(key), _PSEUDONYM + message.encode())[:16].hex()


def keyed_digest(key: bytes, digest: str) -> str:
    """What a published report calls a digest that the request could be found from: its HMAC-SHA256.

    Equal digests stay equal under one key, so that published reports can be compared; without the key nobody can
    compute it from a guess.

    Args:
        key: secret, 32 bytes or more.
        digest: hexadecimal digits.

    Returns:
        64 lowercase hexadecimal digits.

    Raises:
        ConfigurationError: the key is too short.
    """
    return _mac(_checked(key), _DIGEST + digest.encode()).hex()


def unit_text(
    regime: str, *, user: int | str | None = None, item: int | str | None = None, modalities: Sequence[str] = ()
) -> str:
    """The canonical text of a unit, which a subject can read in a proof: JSON in ASCII, unlike for unlike units.

    Args:
        regime: `interaction`, `user`, `item` or `modality`.
        user, item: ids, None = any; ids of the data set (numbers) or of its source (text), compared exactly.
        modalities: features that go too; their order does not count.
    """
    named = {"user": user, "item": item, "modalities": sorted(modalities) or None}
    told = {"regime": regime, **{name: value for name, value in named.items() if value is not None}}
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def units_of(request: DeletionRequest, names: Names | None = None) -> list[str]:
    """The canonical texts of a request's units; text [n_units], in their order.

    Args:
        request: with ids of the data set.
        names: of the data files' own ids; the texts then name units by these, as text, which is how a subject knows
            its own. None: numbers of the data set.
    """
    if names is None:
        users, items = ([None if k < 0 else k for k in ids.tolist()] for ids in (request.users, request.items))
    else:
        users, items = own_ids(request.users, names.user), own_ids(request.items, names.item)
    return [
        unit_text(request.regime, user=user, item=item, modalities=request.modalities)
        for user, item in zip(users, items, strict=True)
    ]


def own_ids(ids: Ints, known: NDArray[Any] | None) -> list[str | None]:
    """The data files' own ids as text, None for -1 (any).

    Args:
        ids: int64 [n], of the data set.
        known: the file's own id of every id; None where the files' ids are the data set's.
    """
    if known is None:
        return [None if k < 0 else str(k) for k in ids.tolist()]
    texts = known.astype(str)
    return [None if k < 0 else str(texts[k]) for k in ids.tolist()]


def _leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def merkle_levels(data: Sequence[bytes]) -> list[list[bytes]]:
    """All levels of the Merkle tree over `data`, leaves first, the root alone in the last.

    The tree of RFC 6962 section 2.1: leaves are SHA-256(0x00 | data), nodes SHA-256(0x01 | left | right), so that no
    node passes for a leaf. It is built by pairs; a last one without a partner rises as it is, which gives the same tree
    as that section's split at the largest power of two.

    Args:
        data: one entry or more.
    """
    levels = [[_leaf_hash(entry) for entry in data]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [_node_hash(*below[k : k + 2]) for k in range(0, len(below) - 1, 2)]
        levels.append(pairs + below[2 * len(pairs) :])
    return levels


def _encoded(unit: str) -> bytes:
    try:
        return unit.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"unit {unit!r} is no valid Unicode; name it with unit_text()") from error


def _opened(unit: str, opening: bytes) -> bytes:
    """Data of the leaf: HMAC-SHA256 under the unit's own opening, a commitment that binds and hides."""
    return _mac(opening, _LEAF + _encoded(unit))


class Proof(BaseModel):
    """Shows that one unit is among those committed to; whoever holds it, the root and the count can check it.

    It opens one leaf. It tells the unit, so it is for the subject of the unit and for whom the subject shows it.

    Attributes:
        unit: its text.
        opening: what opens its leaf, 64 hexadecimal digits; derived from the secret key, which it does not tell.
        index: place of the leaf, from 0.
        n_units: how many units are committed to.
        path: hashes beside the way from leaf to root, from below.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal["1"] = "1"
    unit: str
    opening: Hex
    index: int = Field(ge=0)
    n_units: int = Field(ge=1)
    path: Annotated[list[Hex], Field(max_length=64)]

    def holds(self, root: str, n_units: int) -> bool:
        """Whether the unit is in the forget set of `root`, the audit path check of RFC 9162 section 2.1.3.2.

        Args:
            root: published Merkle root, hexadecimal digits.
            n_units: published count of units.
        """
        if self.n_units != n_units or self.index >= n_units:
            return False
        node = _leaf_hash(_opened(self.unit, bytes.fromhex(self.opening)))
        left = [bytes.fromhex(step) for step in reversed(self.path)]
        place, width = self.index, n_units
        while width > 1:
            if place % 2 or place + 1 < width:
                if not left:
                    return False
                node = _node_hash(left.pop(), node) if place % 2 else _node_hash(node, left.pop())
            place, width = place // 2, (width + 1) // 2
        return not left and node.hex() == root.lower()

    def to_json(self) -> str:
        """One JSON document, to hand to the subject."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Proof:
        """Read a proof.

        Raises:
            DataError: it is no proof; says where. Whether it holds is `holds`'s to say.
        """
        try:
            return cls.model_validate_json(text)
        except ValueError as error:
            raise DataError(f"this is no inclusion proof of auditkit: {error}") from error


@dataclass(frozen=True)
class Commitment:
    """A commitment to a set of units. The root and the count are public, the rest is the auditor's.

    The root hides the units from whoever lacks the key, and binds: no other set has the same root and count, unless
    SHA-256 is broken. It does not depend on the order of units, for leaves are sorted by their keyed hashes; so a place
    in the tree says nothing about the unit either. That a unit is *not* in the set cannot be proved.

    Attributes:
        root: Merkle root, 64 hexadecimal digits.
        n_units: how many units.
    """

    root: str
    n_units: int
    _key: bytes = field(repr=False, compare=False)
    _levels: list[list[bytes]] = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: bytes, units: Iterable[str]) -> Commitment:
        """Commit to `units` (see `units_of`, `unit_text`) under a secret key of 32 bytes or more.

        Raises:
            ConfigurationError: no unit, one named twice, or a key that is too short.
        """
        named = list(units)
        if not named:
            raise ConfigurationError("units must name one unit or more, got none; there is nothing to commit to")
        if len(set(named)) != len(named):
            twice = Counter(named).most_common(1)[0][0]
            raise ConfigurationError(f"units must be named once each, got {twice!r} twice")
        _checked(key)
        data = [_opened(unit, _mac(key, _OPENING + _encoded(unit))) for unit in named]
        levels = merkle_levels(sorted(data, key=_leaf_hash))
        return cls(levels[-1][0].hex(), len(named), key, levels)

    def prove(self, unit: str) -> Proof:
        """The proof that `unit` is in the set.

        Raises:
            ConfigurationError: it is not.
        """
        opening = _mac(self._key, _OPENING + _encoded(unit))
        leaf, leaves = _leaf_hash(_opened(unit, opening)), self._levels[0]
        index = bisect_left(leaves, leaf)
        if index == len(leaves) or leaves[index] != leaf:
            raise ConfigurationError(f"unit {unit!r} is not among the {self.n_units} committed units")
        return Proof(
            unit=unit, opening=opening.hex(), index=index, n_units=self.n_units, path=[*_path(self._levels, index)]
        )


def _path(levels: Sequence[Sequence[bytes]], place: int) -> Iterable[str]:
    for level in levels[:-1]:
        beside = place ^ 1
        if beside < len(level):
            yield level[beside].hex()
        place //= 2
