"""LightGCN (He et al., SIGIR 2020): vectors smoothed over the user-item graph, scored by product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from auditkit.backbones.graph import Propagation
from auditkit.contracts import Backbone
from auditkit.data.dataset import Dataset
from auditkit.errors import ConfigurationError


class LightGCN(Backbone):
    """s(u, i) = e_u . e_i with e the mean over layers 0..K of the tables, propagated by D^-1/2 A D^-1/2.

    Defaults are the paper's (64 factors, 3 layers, Adam 1e-3, batch 2048, L2 1e-4) with a normal start of
    scale .1, but for the number of epochs: the paper trains up to 1000.
    """

    name: ClassVar[str] = "lightgcn"
    stackable: ClassVar[bool] = True
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "engine": "adam",
        "epochs": 200,
        "learning_rate": 1e-3,
        "l2": 1e-4,
        "batch": 2048,
    }
    l2_form: ClassVar[str] = "l2/2 times the mean over triples of the squared norms of their layer-0 vectors"

    user_table: nn.Parameter
    item_table: nn.Parameter

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters.

        Attributes:
            factors: width of the vectors.
            layers: propagation steps K; 0 is matrix factorization.
            init_scale: standard deviation of the normal start.
            init: `normal`, or `xavier`: uniform within sqrt(6 / (rows + factors)) (Glorot and Bengio, AISTATS 2010),
                whatever `init_scale` says.
        """

        factors: int = 64
        layers: int = 3
        init_scale: float = 0.1
        init: Literal["normal", "xavier"] = "normal"

        def __post_init__(self) -> None:
            problems = []
            if self.factors < 1:
                problems.append(f"factors must be 1 or more, got {self.factors}")
            if self.layers < 0:
                problems.append(f"layers must be 0 or more, got {self.layers}")
            if not self.init_scale > 0:
                problems.append(f"init_scale must be above 0, got {self.init_scale}")
            if problems:
                raise ConfigurationError(problems)

    def serve(self, data: Dataset) -> None:
        """Build the propagation operator from the training pairs."""
        self.graph = Propagation.over(data)

    def start(self, rng: np.random.Generator) -> None:
        """Tables as `init` says, float32 [n_users, factors] and [n_items, factors]."""
        for name, rows in (("user_table", self.n_users), ("item_table", self.n_items)):
            self.register_parameter(name, nn.Parameter(torch.from_numpy(self._drawn(rows, rng))))

    def _drawn(self, rows: int, rng: np.random.Generator) -> NDArray[np.float32]:
        size = (rows, self.config.factors)
        if self.config.init == "normal":
            return rng.standard_normal(size, np.float32) * np.float32(self.config.init_scale)
        bound = np.float32(np.sqrt(6 / sum(size)))
        return (2 * rng.random(size, np.float32) - 1) * bound

    @property
    def branches(self) -> Mapping[str, tuple[str, ...]]:
        """`id` is all there is."""
        return {"id": ("user_table", "item_table")}

    def embed(self, branch: str | None = None) -> tuple[Tensor, Tensor]:
        """Propagated user and item vectors; `id` is the only branch."""
        self.check_branch(branch)
        _, served = self._layers()
        return served[: self.n_users], served[self.n_users :]

    def _layers(self) -> tuple[Tensor, Tensor]:
        """The tables below one another and their mean over layers, float [n_users + n_items, factors]."""
        tables = torch.cat([self.user_table, self.item_table])
        return tables, self.graph.mean_of_layers(tables, self.config.layers)

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, *, l2: float, weights: Tensor | None = None
    ) -> Tensor:
        """Weighted mean of softplus(s_uj - s_ui) + l2/2 (|E0_u|^2 + |E0_i|^2 + |E0_j|^2)."""
        tables, served = self._layers()
        rows = torch.cat([users, positives + self.n_users, negatives + self.n_users])
        # index_select, unlike indexing, has a backward pass that needs no sorting.
        u, i, j = served.index_select(0, rows).view(3, len(users), -1)
        norms = tables.index_select(0, rows).square().sum(-1).view(3, -1).sum(0)
        terms = softplus((u * (j - i)).sum(-1)) + 0.5 * l2 * norms
        return terms.mean() if weights is None else (terms * weights).sum()
