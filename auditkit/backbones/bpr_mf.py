"""BPR-MF: matrix factorization under the BPR loss (Rendle et al., UAI 2009); a score is the product of two vectors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, softplus

from auditkit.backbones.bpr_fold_in import fresh_vectors
from auditkit.contracts import Backbone, Recipe, Side
from auditkit.data.dataset import Dataset, Ints
from auditkit.errors import ConfigurationError


class BPRMF(Backbone):
    """Matrix factorization: s(u, i) = p_u . q_i, no biases. Engines: `sgd` (compiled) and `adam` (torch, stacked).

    The `sgd` engine is the per-sample rule of the paper: learning rate .05, L2 .005, one uniform negative per pair.
    """

    name: ClassVar[str] = "bpr-mf"
    stackable: ClassVar[bool] = True
    engines: ClassVar[tuple[str, ...]] = ("sgd", "adam")
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "sgd",
        "epochs": 60,
        "learning_rate": 0.05,
        "l2": 0.005,
    }
    user_table: nn.Parameter
    item_table: nn.Parameter
    l2_form: ClassVar[str] = "l2/2 times the squared norms of the three vectors of each triple"

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            factors: width of the vectors.
            init_scale: standard deviation of the normal start.
        """

        factors: int = 64
        init_scale: float = 0.1

        def __post_init__(self) -> None:
            if self.factors < 1 or not self.init_scale > 0:
                raise ConfigurationError(
                    f"factors must be 1 or more and init_scale above 0, got {self.factors} and {self.init_scale}"
                )

    def start(self, rng: np.random.Generator) -> None:
        """Normal tables of scale `init_scale`."""
        for name, rows in (("user_table", self.n_users), ("item_table", self.n_items)):
            drawn = rng.standard_normal((rows, self.config.factors), np.float32)
            self.register_parameter(name, nn.Parameter(torch.from_numpy(drawn * np.float32(self.config.init_scale))))

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id` is all there is."""
        return {"id": ("user_table", "item_table")}

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """The two tables."""
        self.check_branch(branch)
        return self.user_table, self.item_table

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """Weighted mean of softplus(-(s_ui - s_uj)) + l2/2 (|p_u|^2 + |q_i|^2 + |q_j|^2)."""
        p, q, r = (
            embedding(users, self.user_table),
            embedding(positives, self.item_table),
            embedding(negatives, self.item_table),
        )
        terms = softplus(-(p * (q - r)).sum(-1)) + 0.5 * l2 * (p.square() + q.square() + r.square()).sum(-1)
        return terms.mean() if weights is None else (terms * weights).sum()

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """L2-regularised BPR on the fresh vector, the other side frozen: fixed negatives, fixed full-batch steps."""
        with torch.no_grad():
            told = (self.user_table if side == "item" else self.item_table).double()
            return torch.from_numpy(fresh_vectors(told.cpu().numpy(), histories)).to(told) @ told.T

    @classmethod
    def fit(cls, members: Sequence[tuple[Dataset, int]], recipe: Recipe, *, device: str) -> list[Self]:
        """Train members side by side, one thread each (`sgd`), or as the torch engine does (`adam`)."""
        if recipe.fit.engine != "sgd":
            return super().fit(members, recipe, device=device)
        threads = min(len(members), os.cpu_count() or 1)
        with ThreadPoolExecutor(max(threads, 1)) as pool:
            return list(pool.map(lambda member: cls._fit_one(member, recipe), members))

    @classmethod
    def _fit_one(cls, member: tuple[Dataset, int], recipe: Recipe) -> Self:
        from auditkit.training.sgd import fit_member

        data, seed = member
        model = recipe.model(data, seed)
        assert isinstance(model, cls)
        fit_member(model, (model.user_table, model.item_table), data, recipe.fit, seed)
        return model
