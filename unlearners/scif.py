"""SCIF, selective and collaborative influence function: only the target users move, towards what others say of them.

Li et al. (arXiv 2304.10199): only the vectors of the target users are updated (selective), and a forgotten rating is
not deleted but replaced by a collaborative value. What that value is for implicit feedback is reconstructed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor
from torch.nn.functional import softplus

from auditkit.contracts import Backbone, Recipe, Task, Unlearner
from auditkit.data.dataset import Floats, Interactions, Ints
from auditkit.deletion import DeletionRequest, Regime
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.unlearners.influence import GaussNewton, Selection, Times, conjugate_gradients
from auditkit.unlearners.refusals import without_a_loss
from auditkit.unlearners.rows import side_of
from auditkit.unlearners.sampling import retained_batches
from auditkit.unlearners.steps import Triples, tensors

# Users whose likeness to all others is held at once.
_BLOCK = 512


@dataclass(frozen=True)
class SCIF(Unlearner):
    """theta_T + (H + m I)^-1 g, theta_T the rows of the users T of forgotten pairs.

    BPR models that u prefers i to j by x = s_ui - s_uj, and a forgotten pair says: surely. That certainty is replaced
    by the collaborative value c in (0, 1), i's share of the votes of u's nearest users (see `collaborative_values`).
    With l(x, c) = -c log sigmoid(x) - (1 - c) log sigmoid(-x) the replaced samples' gradient is

        g = grad of sum over forgotten (u, i) of l(x, 1) - l(x, c) = - (1 - c) x,

    a mean over negatives j. H is the Gauss-Newton matrix of the sum of l over all pairs of T, forgotten ones included;
    l bends alike for every c. m is `damping` times the curvature along g.

    Items' vectors and shared layers stay as they were, so that item requests are not answered.

    Attributes:
        neighbours: users who vote.
        steps: most products with H.
        damping: see above.
        draws: negatives per forgotten pair.
    """

    neighbours: int = 20
    steps: int = 20
    damping: float = 0.3
    draws: int = 4
    name: ClassVar[str] = "scif"
    label: ClassVar[str] = "reconstructed"
    regimes: ClassVar[frozenset[Regime]] = frozenset({"interaction", "user"})

    def __post_init__(self) -> None:
        wanted = (
            (self.neighbours >= 1, f"neighbours must be 1 or more, got {self.neighbours}"),
            (self.steps >= 1, f"steps must be 1 or more, got {self.steps}"),
            (self.damping >= 0, f"damping must be 0 or more, got {self.damping}"),
            (self.draws >= 1, f"draws must be 1 or more, got {self.draws}"),
        )
        problems = [problem for fine, problem in wanted if not fine]
        if problems:
            raise ConfigurationError(problems)

    def refuses(self, recipe: Recipe, request: DeletionRequest) -> str | None:
        """Backbones without a loss, and item requests."""
        if request.regime == "item":
            return "it moves the vectors of users alone, so an erased item would be served as it was learned"
        return without_a_loss(recipe)

    def unlearn(self, model: Backbone, task: Task, *, rng: np.random.Generator) -> Backbone:
        """The parent with its target users moved, served over the retain set; nothing moves without a forgotten pair.

        Raises:
            NotApplicableError: the backbone trains no row per user.
        """
        served = model.on(task.retain)
        targets = np.unique(task.forget.users)
        chosen = user_rows(served, targets)
        if not len(targets):
            return served
        slope, bend = self._slope(served, chosen, task, rng), self._bend(served, chosen, task, rng)
        square = float(slope.dot(slope))
        if square > 0:
            damping = self.damping * float(slope.dot(bend(slope))) / square
            chosen.add(conjugate_gradients(bend, slope, damping=damping, steps=self.steps).value)
        return served

    def _slope(self, model: Backbone, chosen: Selection, task: Task, rng: np.random.Generator) -> Tensor:
        """g, [size]."""
        users, items = (np.tile(column, self.draws) for column in (task.forget.users, task.forget.items))
        triples = users, items, retained_batches(task, 1).negatives(users, rng)
        shape = task.data.n_users, task.data.n_items
        values = collaborative_values(task.retain.train, shape, triples, self.neighbours)
        return chosen.gradient(replaced_loss(model, triples, values)) / self.draws

    def _bend(self, model: Backbone, chosen: Selection, task: Task, rng: np.random.Generator) -> Times:
        """Products with H; every pair of the target users has one negative."""
        pairs = task.data.train.take(np.isin(task.data.train.users, task.forget.users))
        triples = pairs.users.copy(), pairs.items.copy(), retained_batches(task, 1).negatives(pairs.users, rng)
        return GaussNewton(chosen, preferences(model, triples), lambda x: softplus(-x).sum()).times


def user_rows(model: Backbone, users: Ints) -> Selection:
    """The rows of users, of every trained parameter with one per user.

    Raises:
        NotApplicableError: there is none.
    """
    tables = {name: p for name, p in model.trained.items() if side_of(model, name) == "user"}
    if not tables:
        raise NotApplicableError(f"{model.name} trains no row per user, which is all that scif would move")
    rows = torch.as_tensor(users, device=model.device)
    return Selection(tables, dict.fromkeys(tables, rows))


def preferences(model: Backbone, triples: Triples) -> Tensor:
    """The differences s_ui - s_uj, float [n], differentiable."""
    users, items, others = tensors(triples, model.device)
    positive, negative = model.logits(torch.cat([users, users]), torch.cat([items, others])).chunk(2)
    return positive - negative


def replaced_loss(model: Backbone, triples: Triples, values: Floats) -> Tensor:
    """Sum over triples of l(x, 1) - l(x, c), [].

    Args:
        model: its scores are read.
        triples: users, forgotten items and negatives.
        values: c, float64 [n].
    """
    x = preferences(model, triples)
    return ((torch.as_tensor(values, device=x.device, dtype=x.dtype) - 1) * x).sum()


def collaborative_values(retain: Interactions, shape: tuple[int, int], triples: Triples, neighbours: int) -> Floats:
    """(votes for i + 1) / (votes for i + votes for j + 2), in (0, 1), float64 [n].

    The users nearest to u, by the cosine of retained items, vote for what they hold; with no votes both items are
    equally good. A user with no retained item (an erased one) has no neighbours: then all users vote.

    Args:
        retain: pairs that may stay; no other is read.
        shape: numbers of users and items.
        triples: users u, items i and j.
        neighbours: how many users vote.
    """
    matrix = retain.matrix(*shape)
    users, place = np.unique(triples[0], return_inverse=True)
    voters = csr_array(_nearest(matrix, users, neighbours))
    votes = csr_array(voters @ matrix)
    first, second = (np.asarray(votes[place, items], np.float64) for items in triples[1:])
    values: Floats = (first + 1) / (first + second + 2)
    return values


def _nearest(matrix: csr_array, users: Ints, k: int) -> csr_array:
    """Ones at the voters of each user, float32 [n_given_users, n_users]."""
    lengths = np.sqrt(np.diff(matrix.indptr)).clip(1)
    values = matrix.data / np.repeat(lengths, np.diff(matrix.indptr))
    by_length = csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)
    voters = []
    for start in range(0, len(users), _BLOCK):
        block = users[start : start + _BLOCK]
        alike = (by_length[block] @ by_length.T).toarray()
        alike[np.arange(len(block)), block] = 0
        chosen = np.zeros(alike.shape, np.float32)
        nearest = np.argpartition(-alike, min(k, alike.shape[1]) - 1, axis=1)[:, :k]
        np.put_along_axis(chosen, nearest, 1, axis=1)
        chosen *= alike > 0
        chosen[~chosen.any(axis=1)] = 1
        voters.append(csr_array(chosen))
    return csr_array(vstack(voters))
