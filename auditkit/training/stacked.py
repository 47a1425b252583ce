"""The torch engine: Adam on many members at once, each exactly as if it were alone.

The model over the disjoint union of M data sets (user and item ids of member m shifted by m times their
number) *is* M models side by side wherever every parameter holds the members' own one after another: no term of
the loss joins two members, so each row's gradient, and with it Adam's state, is its own member's. On a GPU, and for
small models, members train so as one job; on a CPU the jobs run side by side in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Backbone, Recipe
from auditkit.data.dataset import Dataset, Features, Interactions, Ints
from auditkit.errors import ConfigurationError
from auditkit.training.early_stopping import EarlyStopping, is_due, validation_recall, with_validation
from auditkit.training.samplers import Triples, TripleSampler

Model = TypeVar("Model", bound=Backbone)
Weights = dict[str, Tensor]

# On a CPU members share a step while their tables stay near its caches; beyond it stacking costs (MGCN on TikTok: 2.5
# to 3.0 s an epoch alone, 3.0 to 3.1 each as one of three) and leaves cores idle. On a GPU they share it while tables,
# gradients, Adam's moments and activations fit: 1 GiB of float32 parameters.
_MOST_MEMBERS = 16
_MOST_ON_A_CPU, _MOST_ON_A_GPU = 2**22, 2**28
# Keeps what is random in training apart from the samplers' streams of the same seed.
_STREAM = 0xE90C


@dataclass(frozen=True, eq=False)
class _Member(Generic[Model]):
    """One model with what it is trained and validated on, and its draws."""

    model: Model
    data: Dataset
    seed: int
    sampler: TripleSampler

    def steps(self, batch: int) -> int:
        return -(-len(self.sampler) // batch)

    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())


def fit_adam(cls: type[Model], members: Sequence[tuple[Dataset, int]], recipe: Recipe, *, device: str) -> list[Model]:
    """Train one model per (data, seed) with Adam; members of a stackable backbone train many at once.

    A member's start and draws follow from its seed alone and are made on the CPU; companions change a
    member's result by rounding at most. With `fit.patience` the state of the best validation Recall@20 is
    returned, else the last one.

    Args:
        cls: the backbone.
        members: data and seed (0 or above) of each; members may differ in their data in any way.
        recipe: hyper-parameters and how to fit; its engine must be `adam`.
        device: where to compute, as torch names it.

    Returns:
        The models in the order of `members`, in evaluation mode, each served over the data it was given (its
        training graph lacks the pairs that `fit.valid` held out; the served one has them).

    Raises:
        ConfigurationError: the engine is another one, or nothing is there to validate on.
    """
    fit = recipe.fit
    if fit.engine != "adam":
        raise ConfigurationError(f"fit.engine must be 'adam' for {cls.name}, got {fit.engine!r}")
    built = [_built(cls, with_validation(data, fit), seed, recipe, device) for data, seed in members]
    groups = list(_stacks(built, fit.batch, stackable=cls.stackable))
    _side_by_side([partial(_train, cls, group, recipe) for group in groups], device)
    return [member.model.on(data).eval() for member, (data, _) in zip(built, members, strict=True)]


def _side_by_side(jobs: Sequence[Callable[[], None]], device: str) -> None:
    """Run jobs in threads of one core each where a CPU computes, else one after another."""
    threads = torch.get_num_threads()
    if torch.device(device).type != "cpu" or len(jobs) < 2 or threads < 2:
        for job in jobs:
            job()
        return

    def alone(job: Callable[[], None]) -> None:
        torch.set_num_threads(1)
        job()

    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(alone, jobs))
    finally:
        torch.set_num_threads(threads)


def _built(cls: type[Model], data: Dataset, seed: int, recipe: Recipe, device: str) -> _Member[Model]:
    model = cls(data, cls.Config(**recipe.config), rng=np.random.default_rng(seed)).to(device)
    return _Member(model, data, seed, TripleSampler(data, recipe.fit.sampler, recipe.fit.negatives))


def _stacks(members: Sequence[_Member[Model]], batch: int, *, stackable: bool) -> Iterator[list[_Member[Model]]]:
    """Groups that train together: equal sizes and equally many steps an epoch.

    A member without a batch would still be moved by Adam's momentum, so steps must match.
    """
    alike: dict[tuple[int, int, int], list[_Member[Model]]] = {}
    for member in members:
        key = (member.steps(batch), member.data.n_users, member.data.n_items)
        alike.setdefault(key, []).append(member)
    for group in alike.values():
        most = _MOST_ON_A_CPU if group[0].model.device.type == "cpu" else _MOST_ON_A_GPU
        largest = most // max(group[0].n_parameters(), 1)
        size = max(1, min(_MOST_MEMBERS, largest)) if stackable else 1
        yield from (group[k : k + size] for k in range(0, len(group), size))


def _train(cls: type[Model], group: list[_Member[Model]], recipe: Recipe) -> None:
    """Train the models of a group in place."""
    fit = recipe.fit
    model = group[0].model if len(group) == 1 else _union_model(cls, group, recipe)
    optimizer = torch.optim.Adam(model.trained.values(), lr=fit.learning_rate, fused=True)
    stopping = EarlyStopping[Weights](len(group), fit.patience) if fit.patience is not None else None
    for epoch in range(fit.epochs):
        model.train()
        model.start_epoch([np.random.default_rng([_STREAM, member.seed, epoch]) for member in group])
        for rule in optimizer.param_groups:
            rule["lr"] = fit.learning_rate * fit.decay ** (epoch / 50)
        for users, positives, negatives, weights in _batches(group, epoch, fit.batch, model.device):
            optimizer.zero_grad()
            loss = model.loss(users, positives, negatives, l2=fit.l2, weights=weights)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if stopping is not None and is_due(fit, epoch + 1):
            _split(model, group)
            _validate(group, stopping)
            if stopping.done:
                break
    _split(model, group)
    model.start_epoch(())
    if stopping is not None:
        for member, best in zip(group, stopping.best, strict=True):
            if best is not None:
                member.model.load_state_dict(best, strict=False)


def _validate(group: list[_Member[Model]], stopping: EarlyStopping[Weights]) -> None:
    for m, member in enumerate(group):
        member.model.eval()
        if not stopping.stopped[m]:
            stopping.update(m, validation_recall(member.model, member.data), partial(_weights, member.model))


def _weights(model: Backbone) -> Weights:
    """A copy of the parameters."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def _batches(
    group: list[_Member[Any]], epoch: int, batch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Union users, positives, negatives (int64) and weights (float32) that keep each member's own mean."""
    draws = [_shifted(member, m, epoch) for m, member in enumerate(group)]
    for start in range(0, len(draws[0]), batch):
        parts = [_slice(draw, start, batch) for draw in draws]
        weights = np.concatenate([np.full(len(p), 1 / len(p), np.float32) for p in parts])
        columns = [np.concatenate([getattr(p, c) for p in parts]) for c in ("users", "positives", "negatives")]
        users, positives, negatives = (torch.from_numpy(c).to(device) for c in columns)
        yield users, positives, negatives, torch.from_numpy(weights).to(device)


def _shifted(member: _Member[Any], m: int, epoch: int) -> Triples:
    drawn, data = member.sampler.draw(member.seed, epoch), member.data
    return Triples(
        drawn.users + m * data.n_users, drawn.positives + m * data.n_items, drawn.negatives + m * data.n_items
    )


def _slice(draw: Triples, start: int, batch: int) -> Triples:
    rows = slice(start, start + batch)
    return Triples(draw.users[rows], draw.positives[rows], draw.negatives[rows])


def _union_model(cls: type[Model], group: list[_Member[Model]], recipe: Recipe) -> Model:
    """The model over the union, with the members' own parameters one after another."""
    data = union([member.data for member in group])
    model = cls(data, cls.Config(**recipe.config), rng=np.random.default_rng(0), members=len(group))
    model.to(group[0].model.device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.cat([member.model.get_parameter(name) for member in group]))
    return model


def union(parts: Sequence[Dataset]) -> Dataset:
    """The disjoint union of the training parts: ids of part m are shifted by m times their number."""
    n_users, n_items = parts[0].n_users, parts[0].n_items

    def joined(side: str, size: int) -> Ints:
        return np.concatenate([getattr(part.train, side) + m * size for m, part in enumerate(parts)])

    train = Interactions(joined("users", n_users), joined("items", n_items))
    return Dataset("union", len(parts) * n_users, len(parts) * n_items, train, features=_union_features(parts))


def _union_features(parts: Sequence[Dataset]) -> dict[str, Features]:
    return {
        name: Features(
            np.concatenate([part.features[name].values for part in parts]),
            np.concatenate([part.features[name].present for part in parts]),
        )
        for name in parts[0].modalities
    }


def _split(model: Backbone, group: list[_Member[Any]]) -> None:
    """Copy the union model's parameters back to the members' own models."""
    if model is group[0].model:
        return
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for member, rows in zip(group, parameter.chunk(len(group)), strict=True):
                member.model.get_parameter(name).copy_(rows)
