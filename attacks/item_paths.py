"""Paths to an item that should be gone: lists of the whole model or of a branch, twins, and offering it again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array, issparse
from sklearn.preprocessing import normalize
from torch import Tensor

from auditkit.attacks.beneath import backbone_beneath
from auditkit.attacks.content import content_of
from auditkit.backbones.multimodal import MultimodalBackbone
from auditkit.contracts import Access, Probe, Recommender
from auditkit.data.dataset import Floats, Ints
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case
from auditkit.probes import blocks, offered
from auditkit.utility import top_k


def item_points(case: Case) -> pd.DataFrame:
    """One row per unit; users are -1.

    Raises:
        NotApplicableError: the request does not name items.
    """
    if case.request.regime != "item":
        raise NotApplicableError(f"items are extracted in item requests, not in {case.request.regime} requests")
    items = case.units["item"].to_numpy()
    return pd.DataFrame({"unit": np.arange(len(items)), "user": -1, "item": items})


def share_shown(score: Callable[[Ints], Tensor], case: Case, k: int, most: int, rng: np.random.Generator) -> Floats:
    """Share of users whose k best items hold each item, float64 [n_items], in [0, 1].

    Args:
        score: user ids to rows of scores; NaN is not offered.
        case: its retained training pairs are masked, the same for every system.
        k: length of the lists.
        most: users asked; of more than these a sample.
        rng: of the sample.
    """
    users = np.sort(rng.permutation(case.data.n_users)[:most])
    kept = case.retain.train.matrix(case.data.n_users, case.data.n_items)
    shown = np.zeros(case.data.n_items)
    for block in blocks(users, case.data.n_items):
        scores = offered(score(block))
        at = np.stack(kept[block].nonzero()).astype(np.int64)
        scores[tuple(torch.as_tensor(at, device=scores.device))] = torch.nan
        listed = top_k(scores, k).cpu().numpy().ravel()
        shown += np.bincount(listed[listed >= 0], minlength=len(shown))
    return shown / len(users)


@dataclass(frozen=True)
class ItemLists(Probe):
    """Hit@K of items over users through the full score.

    Signal `hits`: float64 [n_points], in [0, 1]; 0 where the item is not offered, for then nobody is shown it.

    Attributes:
        k: length of the lists, 1 or more.
        most: users asked; of more than these the same sample for every system.
    """

    k: int = 20
    most: int = 2000
    name: ClassVar[str] = "item-lists"
    access: ClassVar[Access] = Access.LISTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """One row per unit; users are -1."""
        return item_points(case)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """`hits`, float64 [n_points]."""
        return {"hits": share_shown(model.score, case, self.k, self.most, rng)[points["item"].to_numpy()]}


@dataclass(frozen=True)
class BranchItemLists(Probe):
    """Hit@K of items over users through one branch alone, as `ItemLists` has it of the full score.

    Attributes:
        branch: a name in `Backbone.branches`: `id` or a modality.
        k, most: as in `ItemLists`.
    """

    branch: str = "id"
    k: int = 20
    most: int = 2000
    name: ClassVar[str] = "branch-item-lists"
    access: ClassVar[Access] = Access.SCORES | Access.WEIGHTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """One row per unit; users are -1."""
        return item_points(case)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """`hits`, float64 [n_points]."""
        beneath = backbone_beneath(model)
        beneath.check_branch(self.branch)

        def score(users: Ints) -> Tensor:
            return beneath.score(users, branch=self.branch)

        return {"hits": share_shown(score, case, self.k, self.most, rng)[points["item"].to_numpy()]}


@dataclass(frozen=True)
class TwinNeighbours(Probe):
    """Is the item found by a search for what lies near its twins?

    Twins of an item are those most like it that the request does not name: in content by cosine, and in data without
    features by who holds them (cosine of the columns of the original training matrix). Columns `twin_0`, ...: item ids,
    -1 where there is no further one; who shares nothing is no twin.

    Signal `hits`: float64 [n_points], in [0, 1], the share of the twins whose k nearest other items hold the item, near
    by cosine of the served vectors. NaN for an item without twins.

    Attributes:
        twins: most twins of an item, 1 or more.
        k: nearest items of a twin, 1 or more.
    """

    twins: int = 10
    k: int = 20
    name: ClassVar[str] = "twin-neighbours"
    access: ClassVar[Access] = Access.WEIGHTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """One row per unit with its twins."""
        points = item_points(case)
        near = twins_of(case, points["item"].to_numpy(), self.twins)
        return points.assign(**{f"twin_{k}": near[:, k] for k in range(self.twins)})

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """`hits`, float64 [n_points]."""
        with torch.no_grad():
            vectors = normalize(backbone_beneath(model).embed()[1].double().cpu().numpy())
        twins = points[[f"twin_{k}" for k in range(self.twins)]].to_numpy()
        asked, place = np.unique(np.maximum(twins, 0), return_inverse=True)
        lists = nearest(vectors, asked, np.empty(0, np.int64), self.k)[place.reshape(twins.shape)]
        found = (lists == points["item"].to_numpy()[:, None, None]).any(2) & (twins >= 0)
        count = (twins >= 0).sum(1)
        return {"hits": np.where(count > 0, found.sum(1) / np.maximum(count, 1), np.nan)}


def twins_of(case: Case, items: Ints, n: int) -> Ints:
    """Twins of each item as `TwinNeighbours` says, nearest first: int64 [n_items_given, n], padded with -1."""
    content = content_of(case.data)
    if content is not None:
        return nearest(content.vectors, items, case.request.items, n, above=0.0)
    columns = normalize(case.data.train.matrix(case.data.n_users, case.data.n_items).T.astype(np.float64))
    return nearest(columns, items, case.request.items, n, above=0.0)


def nearest(vectors: Floats | csr_array, items: Ints, without: Ints, k: int, *, above: float = -np.inf) -> Ints:
    """The k items nearest each item by product of vectors, itself left out: int64 [n_items_given, k], padded with -1.

    Args:
        vectors: [n_items, width].
        items: int64 [n_items_given].
        without: items that are nobody's neighbours.
        k: how many.
        above: products up to this are no neighbours.
    """
    parts = []
    for block in blocks(items, vectors.shape[0]):
        near = vectors[block] @ vectors.T
        dense = np.asarray(near.toarray() if issparse(near) else near, np.float64)
        dense[np.arange(len(block)), block] = np.nan
        dense[:, without] = np.nan
        parts.append(top_k(torch.from_numpy(np.where(dense > above, dense, np.nan)), k).numpy())
    return np.concatenate(parts)


@dataclass(frozen=True)
class ReinsertedItems(Probe):
    """Hit@K of the named items offered again through their content, with nothing learned about them.

    In a private copy their rows of every item table become the mean of the retained items' rows, and those of trained
    feature tables the features of the original data. It is served over the retained data with the original features,
    the same for every system, so that only what shared weights learned of the items makes a difference.

    Signal `hits` as in `ItemLists`.

    Attributes:
        k, most: as in `ItemLists`.
    """

    k: int = 20
    most: int = 2000
    name: ClassVar[str] = "reinserted-items"
    access: ClassVar[Access] = Access.WEIGHTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """One row per unit; users are -1."""
        if not case.data.features:
            raise NotApplicableError("the data has no item features through which an item could be offered again")
        return item_points(case)

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """`hits`, float64 [n_points]."""
        beneath = backbone_beneath(model)
        if not isinstance(beneath, MultimodalBackbone):
            raise NotApplicableError(f"{beneath.name} reads no content, so an item cannot be offered by its content")
        offered_again = reinserted(beneath, case)
        return {"hits": share_shown(offered_again.score, case, self.k, self.most, rng)[points["item"].to_numpy()]}


def reinserted(model: MultimodalBackbone, case: Case) -> MultimodalBackbone:
    """A private copy of `model` that has learned nothing about the named items, as `ReinsertedItems` says."""
    made = copy.deepcopy(model)
    gone = torch.as_tensor(case.request.items.copy())
    rest = torch.as_tensor(np.setdiff1d(np.arange(case.data.n_items), case.request.items))
    raw = {made.feature_name(m): torch.from_numpy(case.data.features[m].values.copy()) for m in made.modalities}
    with torch.no_grad():
        for name, table in made.named_parameters():
            if name in raw:
                table[gone] = raw[name].to(table)[gone]
            elif name.startswith("item") and len(table) == case.data.n_items:
                table[gone] = table[rest].mean(0)
    return made.on(replace(case.retain, features=case.data.features))
