"""A pair of embedding tables as a recommender: the score is the product of a user's vector and an item's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from auditkit.architecture import Side
from auditkit.contracts import Access
from auditkit.data.dataset import Ints
from auditkit.errors import DataError, NotApplicableError
from auditkit.outside.embedding_files import Options, digest_of_parts, find_parts, read_tables
from auditkit.outside.source import Ids, Source
from auditkit.plugins import resolve_options

_ACCESS = Access.LISTS | Access.SCORES | Access.NEW_USERS | Access.NEW_ITEMS


class EmbeddingTables:
    """A recommender that is nothing but tables.

    A row of NaN stands for an entity that is not served: an item that is not offered, a user who gets no scores.

    Args:
        users, items: float [n_users, d] and [n_items, d].
        user_bias, item_bias: float [n_users] and [n_items], or None.
        cosine: vectors are brought to length 1 first (one of length 0 stays and scores 0).
    """

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        user_bias: Tensor | None = None,
        item_bias: Tensor | None = None,
        *,
        cosine: bool = False,
    ) -> None:
        self.users, self.items = (normalize(users), normalize(items)) if cosine else (users, items)
        self.user_bias, self.item_bias, self.cosine = user_bias, item_bias, cosine

    @property
    def n_users(self) -> int:
        """Rows of the users' table."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Rows of the items' table."""
        return len(self.items)

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores of all items, float [n_given_users, n_items]; NaN where an item is not offered.

        Raises:
            NotApplicableError: a branch was asked for; tables have none.
        """
        if branch is not None:
            raise NotApplicableError(f"embedding tables have no branch {branch!r}")
        rows = torch.tensor(np.asarray(users))
        scores = _plus(self.users[rows] @ self.items.T, self.item_bias)
        return scores if self.user_bias is None else scores + self.user_bias[rows][:, None]

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """Scores of fresh entities: the mean of the told entities' vectors stands for the fresh one.

        Told entities that are not served are passed over. A fresh entity has no bias; those it is scored with keep
        theirs.

        Args:
            histories: told item ids of each fresh user (`side="user"`) or told user ids of each fresh item.
            side: which kind of entity is fresh.

        Returns:
            float [n_histories, n_items], or [n_histories, n_users] for `side="item"`.
        """
        told, bias = (self.users, self.user_bias) if side == "item" else (self.items, self.item_bias)
        fresh = torch.stack([told[torch.tensor(np.asarray(h, np.int64))].nanmean(0) for h in histories])
        return _plus((normalize(fresh) if self.cosine else fresh) @ told.T, bias)


def _plus(scores: Tensor, bias: Tensor | None) -> Tensor:
    return scores if bias is None else scores + bias


def source(place: str, ids: Ids, options: Mapping[str, Any], *, folder: Path) -> Source:
    """Embedding tables as a source; they are read and checked at once, and again whenever they are opened.

    Args:
        place: a folder of `.npy` files, or a `.safetensors`, `.pt` or `.pth` file.
        ids: of the audited data set.
        options: see `Options`.
        folder: where a relative place starts.

    Raises:
        ConfigurationError: an unknown option, or nothing readable at the place.
        DataError: the tables are not what they must be; all that is wrong with them at once.
    """
    chosen: Options = resolve_options((Options, options, f"embeddings {place!r}"))[0]
    said = frozenset(options)

    def read() -> tuple[str, EmbeddingTables]:
        parts = find_parts(place, folder / place, chosen, said)
        digest = digest_of_parts(parts, chosen)
        return digest, EmbeddingTables(**read_tables(parts, ids, chosen), cosine=chosen.cosine)

    digest = read()[0]

    def opened() -> EmbeddingTables:
        now, model = read()
        if now != digest:
            raise DataError(f"{place} has changed since the audit began; run the audit again on files that stay")
        return model

    return Source(f"embedding tables {place}", digest, _ACCESS, opened)
