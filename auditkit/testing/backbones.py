"""Conformance of backbones: what building, probing, stacking and unlearning rely on."""

# The name of a test says what it checks.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from auditkit.builds import System, Train, Workshop, make, read
from auditkit.contracts import Backbone, Recipe, Side
from auditkit.data.dataset import Dataset, Floats, Interactions, Ints
from auditkit.deletion import NOBODY
from auditkit.errors import NotApplicableError, NotFactorizedError
from auditkit.store import Store
from auditkit.testing.examples import recipe_of, small_data, small_request
from auditkit.training.stacked import union

_HISTORIES = [np.array([0, 1, 2]), np.array([3, 4]), np.array([5, 6, 7, 8])]
for _history in _HISTORIES:
    _history.setflags(write=False)  # as the columns of a data set are

_TRAINED: dict[tuple[str, str], Backbone] = {}


class BackboneTests:
    """What every backbone must do, on 60 users and 40 items.

    Attributes:
        backbone: class under test.
        config, fit: hyper-parameters and training, small enough for seconds.
        has_loss: it is trained by gradient steps; False for a closed form, which skips what is about losses.
        random: seeds change the trained model; False for a deterministic closed form.
        sides: what can be folded in; the other side must raise `NotApplicableError`.
        rtol: relative tolerance of scores that are computed in another order.
    """

    backbone: ClassVar[type[Backbone]]
    config: ClassVar[Mapping[str, Any]] = {}
    fit: ClassVar[Mapping[str, Any]] = {"epochs": 5}
    has_loss: ClassVar[bool] = True
    random: ClassVar[bool] = True
    sides: ClassVar[tuple[Side, ...]] = ("user", "item")
    rtol: ClassVar[float] = 1e-4

    @property
    def data(self) -> Dataset:
        """What is trained on."""
        return small_data()

    @property
    def retain(self) -> Dataset:
        """The same without a tenth of the users."""
        request = small_request("user")
        return request.erase(self.data, np.ones(request.n_units, np.bool_))

    @property
    def recipe(self) -> Recipe:
        """The recipe under test."""
        return recipe_of(self.backbone, self.config, self.fit)

    def fitted(self, *members: tuple[Dataset, int]) -> Sequence[Backbone]:
        """Trained members, as an audit trains them."""
        return self.recipe.architecture().fit(members, self.recipe, device="cpu")

    @property
    def trained(self) -> Backbone:
        """The member of seed 3, trained once for all tests that only look at it."""
        key = (self.backbone.name, self.recipe.digest)
        if key not in _TRAINED:
            _TRAINED[key] = self.fitted((self.data, 3))[0]
        return _TRAINED[key]

    def scores(self, model: Backbone, users: Ints | None = None) -> Floats:
        """Scores of all users (or some) in double precision."""
        asked = np.arange(model.n_users) if users is None else users
        return model.score(asked).detach().cpu().numpy().astype(np.float64)

    def same(self, one: Floats, other: Floats) -> None:
        """Equal within the tolerance, relative to the largest score."""
        assert_allclose(one, other, rtol=self.rtol, atol=self.rtol * float(np.abs(one).max()))

    def test_same_seed_same_start(self) -> None:
        states = [self.recipe.model(self.data, seed).state_dict() for seed in (3, 3, 4)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        if self.random:
            assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])

    def test_same_seed_same_bytes(self) -> None:
        one, other = self.trained, self.fitted((self.data, 3))[0]
        assert all(torch.equal(p, dict(other.named_parameters())[n]) for n, p in one.named_parameters())
        different = self.fitted((self.data, 4))[0]
        assert np.array_equal(self.scores(one), self.scores(different)) is not self.random

    def test_training_reads_no_test_data(self) -> None:
        data = self.data
        blind = Dataset(
            data.name, data.n_users, data.n_items, data.train, data.valid, Interactions.empty(), data.features
        )
        assert np.array_equal(self.scores(self.trained), self.scores(self.fitted((blind, 3))[0]))

    def test_scores(self) -> None:
        model = self.trained
        scores = model.score(np.arange(model.n_users))
        assert scores.shape == (self.data.n_users, self.data.n_items)
        assert scores.is_floating_point()
        assert not scores.requires_grad
        assert torch.isfinite(scores).all()
        assert (model.n_users, model.n_items) == (self.data.n_users, self.data.n_items)

    def test_rows_do_not_depend_on_who_else_is_asked(self) -> None:
        model = self.trained
        some = np.array([7, 2, 7])
        some.setflags(write=False)  # as the columns of a data set are
        self.same(self.scores(model)[some], self.scores(model, some))

    def test_scores_belong_to_the_caller(self) -> None:
        model = self.trained
        before = self.scores(model)
        model.score(np.arange(model.n_users)).fill_(torch.nan)
        assert np.array_equal(self.scores(model), before)

    def test_logits_agree_with_scores(self) -> None:
        model = self.trained
        users, items = torch.tensor([0, 5, 5, 9]), torch.tensor([1, 0, 3, 39])
        pairs = model.logits(users, items).detach().numpy().astype(np.float64)
        self.same(self.scores(model)[users.numpy(), items.numpy()], pairs)

    def test_embed_gives_scores_or_says_why_not(self) -> None:
        model = self.trained
        try:
            users, items = (t.detach().double() for t in model.embed())
        except NotFactorizedError:
            return
        self.same(self.scores(model), (users @ items.T).numpy())

    def test_branches_name_parameters(self) -> None:
        model = self.recipe.model(self.data, 0)
        known = dict(model.named_parameters())
        for branch, names in model.branches.items():
            assert set(names) <= set(known)
            assert model.score(np.arange(2), branch=branch).shape == (2, self.data.n_items)

    def test_parameters_and_served_data_are_all_there_is(self) -> None:
        """Storing the parameters and building a fresh model over the served data gives the same system."""
        model = self.trained
        loaded = self.recipe.model(model.data, 0)
        with torch.no_grad():
            for name, parameter in loaded.named_parameters():
                parameter.copy_(model.get_parameter(name))
        assert np.array_equal(self.scores(model), self.scores(loaded.eval()))

    def test_stored_and_read_back(self, tmp_path: Path) -> None:
        """A build in a store scores, bit for bit, as the model that was trained."""
        shop = Workshop(self.data, small_request("user"), Store(tmp_path))
        system = System("original", "original", Train(self.recipe, NOBODY, 3))
        make([system], shop, lambda *_: None)
        stored, _ = read(system.build, shop)
        users = np.arange(self.data.n_users)
        assert torch.equal(stored.score(users), self.trained.score(users))

    def test_on_the_same_data_is_the_same_system(self) -> None:
        model = self.trained
        assert np.array_equal(self.scores(model), self.scores(model.on(self.data)))

    def test_on_shares_parameters_and_leaves_the_model_alone(self) -> None:
        model = self.trained
        before = self.scores(model)
        served = model.on(self.retain)
        assert served is not model
        assert served.data is self.retain or served.data.digest == self.retain.digest
        assert model.data is self.data
        for name, parameter in model.named_parameters():
            assert served.get_parameter(name).data_ptr() == parameter.data_ptr()
        assert np.array_equal(self.scores(model), before)

    def test_served_over_less_then_more_is_as_before(self) -> None:
        model = self.trained
        assert np.array_equal(self.scores(model), self.scores(model.on(self.retain).on(self.data)))

    def test_stacked_equals_alone(self) -> None:
        members = [(self.data, 3), (self.retain, 4), (self.data, 5)]
        for member, model in zip(members, self.fitted(*members), strict=True):
            assert model.data is member[0] or model.data.digest == member[0].digest
            self.same(self.scores(self.fitted(member)[0]), self.scores(model))

    def test_stacked_parameters_lie_below_one_another(self) -> None:
        if self.backbone.stackable:
            alone = dict(self.recipe.model(self.data, 0).named_parameters())
            config = self.backbone.Config(**self.recipe.config)
            both = self.backbone(union([self.data, self.data]), config, rng=np.random.default_rng(0), members=2)
            for name, parameter in both.named_parameters():
                assert parameter.shape == (2 * len(alone[name]), *alone[name].shape[1:]), name

    def test_fold_in(self) -> None:
        model = self.trained
        for side in self.sides:
            state = {n: p.detach().clone() for n, p in model.named_parameters()}
            found = [model.fold_in(_HISTORIES, side=side) for _ in range(2)]
            assert found[0].shape == (3, self.data.n_items if side == "user" else self.data.n_users)
            assert torch.isfinite(found[0]).all()
            assert torch.equal(found[0], found[1])
            assert all(torch.equal(p, state[n]) for n, p in model.named_parameters())
            alone = model.fold_in(_HISTORIES[:1], side=side)
            self.same(found[0][:1].double().numpy(), alone.double().numpy())

    def test_fold_in_refuses_the_other_side(self) -> None:
        model = self.recipe.model(self.data, 0)
        for side in {"user", "item"} - set(self.sides):
            with pytest.raises(NotApplicableError):
                model.fold_in(_HISTORIES, side=side)  # type: ignore[arg-type]

    def test_a_fresh_user_is_offered_what_fits_the_history(self) -> None:
        """Told half of a user's items, the other half ranks above the rest, on average over users."""
        model = self.trained
        matrix = self.data.train.matrix(self.data.n_users, self.data.n_items)
        held = [matrix[[u]].indices.astype(np.int64) for u in range(self.data.n_users)]
        fresh = model.fold_in([h[::2] for h in held]).double().numpy()
        gains = [row[h[1::2]].mean() - np.delete(row, h).mean() for row, h in zip(fresh, held, strict=True)]
        assert np.mean(gains) > 0

    def test_loss_falls_in_training(self) -> None:
        if self.has_loss:
            start, end = self.recipe.model(self.data, 3), self.trained
            assert float(self.loss_of(end).detach()) < float(self.loss_of(start).detach())

    def test_without_a_loss_it_says_so(self) -> None:
        if not self.has_loss:
            with pytest.raises(NotApplicableError):
                self.loss_of(self.recipe.model(self.data, 0))

    def test_loss_is_twice_differentiable(self) -> None:
        """A Hessian-vector product equals the difference of gradients along the vector."""
        if self.has_loss:
            model = self.recipe.model(self.data, 3).double()
            draw = torch.Generator().manual_seed(0)
            along = [torch.randn(p.shape, generator=draw, dtype=p.dtype) for p in model.trained.values()]
            product = _flat(_hessian_vector(model, self.loss_of(model), along))
            step = 1e-5
            ahead, behind = (self._gradient_at(model, along, s) for s in (step, -step))
            difference = (ahead - behind) / (2 * step)
            assert float((product - difference).norm() / difference.norm()) < 1e-3

    def test_gradients(self) -> None:
        """The loss passes torch.autograd.gradcheck in all that is trained."""
        if self.has_loss:
            model = self.recipe.model(self.data, 3).double()
            names = list(model.trained)
            values = [p.detach().clone().requires_grad_() for p in model.trained.values()]

            def loss(*given: Tensor) -> Tensor:
                named = {f"model.{name}": value for name, value in zip(names, given, strict=True)}
                found: Tensor = torch.func.functional_call(_Loss(model, self.loss_of), named, ())
                return found

            assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-6, rtol=1e-4, fast_mode=True)

    def _gradient_at(self, model: Backbone, along: Sequence[Tensor], step: float) -> Tensor:
        trained = list(model.trained.values())
        start = [p.detach().clone() for p in trained]
        with torch.no_grad():
            for p, d in zip(trained, along, strict=True):
                p.add_(d, alpha=step)
        found = _flat(torch.autograd.grad(self.loss_of(model), trained))
        with torch.no_grad():
            for p, s in zip(trained, start, strict=True):
                p.copy_(s)
        return found

    def loss_of(self, model: Backbone) -> Tensor:
        """On fixed triples of training pairs and items that the user does not hold."""
        rng = np.random.default_rng(9)
        train = self.data.train
        negatives = rng.integers(self.data.n_items, size=len(train))
        held = np.isin(train.users * self.data.n_items + negatives, train.codes(self.data.n_items))
        triple = (torch.tensor(ids[~held]) for ids in (train.users, train.items, negatives))
        return model.loss(*triple, l2=1e-4)


def _hessian_vector(model: Backbone, loss: Tensor, along: Sequence[Tensor]) -> Sequence[Tensor]:
    parameters = list(model.trained.values())
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    inner = sum(((g * d).sum() for g, d in zip(gradients, along, strict=True)), torch.zeros(()))
    return torch.autograd.grad(inner, parameters)


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().double().flatten() for part in parts])


class _Loss(nn.Module):
    """A model's loss as a module's output, so that other parameters can be put in."""

    def __init__(self, model: Backbone, loss_of: Callable[[Backbone], Tensor]) -> None:
        super().__init__()
        self.model, self.loss_of = model, loss_of

    def forward(self) -> Tensor:
        return self.loss_of(self.model)
