"""Relearning: a private copy is trained for a few steps on half of what was forgotten, and asked for the other half."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from scipy.integrate import trapezoid
from torch import Tensor
from torch.nn.functional import softplus

from auditkit.attacks.beneath import backbone_beneath
from auditkit.attacks.halves import half_of_each
from auditkit.attacks.score_rows import z_in_rows
from auditkit.contracts import Access, Attack, Backbone, Needs, Probe, Recommender
from auditkit.data.dataset import Floats, Ints
from auditkit.errors import NotApplicableError
from auditkit.evidence import Case, Evidence, Reading
from auditkit.linear import LinearAttack

# Steps after which the asked pairs are read; the last is where training ends.
STEPS = (0, 1, 2, 4, 8)


@dataclass(frozen=True)
class Relearning(Probe):
    """Learning curves at forgotten pairs, while a private copy is trained on others of the same users.

    A random half of each user's forgotten pairs, rounded down, is told (fixed per request); the other half is asked.
    Told pairs are trained by BPR, each with fixed negatives of its own that the user does not hold in the original
    data: full batches, Adam, a fixed number of steps, no L2, the same for every system. The graph stays as served.
    Scores of a mask are not asked: the one model beneath it is trained.

    Signal `z`: float64 [n_points, 5], the score z within the user's row after 0, 1, 2, 4 and 8 steps; NaN at told
    points.

    Attributes:
        learning_rate: of Adam, above 0.
        negatives: of each told pair, 1 or more.
    """

    learning_rate: float = 0.02
    negatives: int = 4
    name: ClassVar[str] = "relearning"
    access: ClassVar[Access] = Access.WEIGHTS

    def points(self, case: Case, *, rng: np.random.Generator) -> pd.DataFrame:
        """The forgotten pairs with the column `told`, and columns `negative_0`, ... of item ids.

        Raises:
            NotApplicableError: the request names items, or no user has two forgotten pairs.
        """
        if case.request.regime not in ("interaction", "user"):
            raise NotApplicableError("relearning halves the forgotten pairs of users; this request names items")
        pairs = case.pairs()
        pairs = pairs[case.forget[pairs["unit"].to_numpy()]].reset_index(drop=True)
        told = half_of_each(pairs, "user", rng)
        if not told.any():
            raise NotApplicableError("no user of the request has two forgotten pairs, one to train on and one to ask")
        drawn = unheld(case, pairs["user"].to_numpy(), self.negatives, rng)
        found: pd.DataFrame = pairs.assign(told=told, **{f"negative_{k}": drawn[:, k] for k in range(self.negatives)})
        return found

    def read(
        self, model: Recommender, points: pd.DataFrame, case: Case, *, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """`z`, float64 [n_points, 5]."""
        learner = private_copy(model)
        told = points["told"].to_numpy()
        users, items = (torch.tensor(points[who].to_numpy()[told], device=learner.device) for who in ("user", "item"))
        negatives = points[[f"negative_{k}" for k in range(self.negatives)]].to_numpy()[told]
        others = torch.tensor(negatives, device=learner.device)
        asked = points[~told]
        found = np.full((len(points), len(STEPS)), np.nan)
        optimizer = torch.optim.Adam(learner.trained.values(), lr=self.learning_rate)
        for column, (before, now) in enumerate(zip((0, *STEPS), STEPS, strict=False)):
            for _ in range(now - before):
                optimizer.zero_grad()
                ranking_loss(learner, users, items, others).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            at = asked["user"].to_numpy(), asked["item"].to_numpy()
            found[~told, column] = z_in_rows(learner.score, *at, case.data.n_items)
        return {"z": found}


def unheld(case: Case, users: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Items that each user does not hold in the original training data, uniform: int64 [n_users_given, n].

    A user who holds everything gets items that she holds.
    """
    n_items, held = case.data.n_items, np.sort(case.data.train.codes(case.data.n_items))
    drawn = rng.integers(n_items, size=(len(users), n))
    free = np.bincount(case.data.train.users, minlength=case.data.n_users)[users] < n_items
    while (again := np.isin(users[:, None] * n_items + drawn, held) & free[:, None]).any():
        drawn[again] = rng.integers(n_items, size=int(again.sum()))
    return np.asarray(drawn, np.int64)


def private_copy(model: Recommender) -> Backbone:
    """A copy whose weights may be trained, of the model itself or of the one beneath an output mask.

    Raises:
        NotApplicableError: there is no such model, several, or one without gradients.
    """
    beneath = backbone_beneath(model)
    if not beneath.trained:
        raise NotApplicableError(f"{beneath.name} is fitted in closed form and has no weights that a step can move")
    return copy.deepcopy(beneath)


def ranking_loss(model: Backbone, users: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
    """Mean over pairs and their negatives of softplus(s_uj - s_ui), [].

    Args:
        model: whose `logits` are asked, once for all.
        users, items: int64 [n].
        negatives: int64 [n, m].
    """
    asked = torch.cat([items[:, None], negatives], dim=1)
    scores = model.logits(users.repeat_interleave(asked.shape[1]), asked.flatten()).view(asked.shape)
    return softplus(scores[:, 1:] - scores[:, :1]).mean()


@dataclass(frozen=True)
class Relearn(LinearAttack):
    """The linear score of references (as in `lira-linear`) on how the other half comes back.

    Signals: `last`, z after the last step; `area`, the area under the curve of z above its start, divided by the number
    of steps. Source: relearn time and the Anamnesis index (Chundawat et al., IEEE TIFS 18, 2023, arXiv 2201.05629);
    relearning on half of the forgotten data and asking the other half, so that the answer is memory and not what was
    just told, is usual for language models. *Reconstructed*: ranking loss, and the linear score in place of a number of
    steps, which `auditkit.statistics.relearning.anamnesis_index` gives.

    Cannot see: what more steps would bring back; the pair of a user with one forgotten pair, which is asked although
    nothing of hers is told; a row that is drawn again, in user requests: it is learned as fast as Gold's (`fold-in`
    finds it). Honest deletions of other procedures learn at other speeds, so it is a note.

    Attributes:
        form: which of the two.
        learning_rate: of the steps.
    """

    form: Literal["last", "area"] = "last"
    learning_rate: float = 0.02
    name: ClassVar[str] = "relearn"
    needs: ClassVar[Needs] = Needs(references=4)
    reads: ClassVar[str] = "how readily a copy of the model learns forgotten pairs again from others of the same users"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """Both forms, and small steps."""
        return (cls(), cls("area"), cls(learning_rate=0.005))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Learning curves."""
        return (Relearning(self.learning_rate),)

    @property
    def read_signal(self) -> str:
        """`z`, a curve at each point."""
        return "z"

    def values(self, reading: Reading, background: Evidence) -> Floats:
        """One number of each curve, float64 [n_systems, n_points]."""
        curves = reading.values["z"]
        if self.form == "last":
            return np.asarray(curves[..., -1])
        return np.asarray(trapezoid(curves - curves[..., :1], STEPS, axis=-1) / STEPS[-1])
