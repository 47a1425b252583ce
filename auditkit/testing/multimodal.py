"""Conformance of multimodal backbones: which features they read, and that withdrawn ones are not among them."""

# The name of a test says what it checks.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Features
from auditkit.errors import ConfigurationError
from auditkit.testing.backbones import BackboneTests
from auditkit.testing.examples import recipe_of

_WITHDRAWN = np.array([2, 3, 11, 30])


@cache
def _two_modalities() -> Dataset:
    return Dataset.synthetic(
        n_users=60, n_items=40, n_interactions=1_200, clusters=4, features=("image", "text"), width=8, seed=1
    )


def without(data: Dataset, modality: str, items: np.ndarray, filler: float) -> Dataset:
    """`data` with a modality of some items withdrawn; their rows hold `filler`, which nobody may read."""
    features = data.features[modality]
    values, present = features.values.copy(), features.present.copy()
    values[items], present[items] = filler, False
    return replace(data, features={**data.features, modality: Features(values, present)})


class MultimodalTests(BackboneTests):
    """What every multimodal backbone must do beside `BackboneTests`, on data with the modalities `image` and `text`.

    Attributes:
        separate: modality branches, each of which must not read the other modality's features.
        trains_features: whether `trainable_features` is a choice of its `Config`.
    """

    separate: ClassVar[tuple[str, ...]] = ("image", "text")
    trains_features: ClassVar[bool] = True

    @property
    def data(self) -> Dataset:
        """What is trained on."""
        return _two_modalities()

    def recipe_with(self, **config: Any) -> Recipe:
        """The recipe under test with some hyper-parameters changed."""
        changed: Mapping[str, Any] = {**self.config, **config}
        return recipe_of(self.backbone, changed, self.fit)

    def test_data_without_features_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="features"):
            self.recipe.model(replace(self.data, features={}), 0)

    def test_features_matter(self) -> None:
        model = self.trained
        served = model.on(without(self.data, "image", np.arange(self.data.n_items), 0.0))
        assert not np.array_equal(self.scores(model), self.scores(served))

    def test_withdrawn_features_are_not_served(self) -> None:
        nothing, anything = (self.trained.on(without(self.data, "image", _WITHDRAWN, f)) for f in (0.0, np.nan))
        assert np.isfinite(self.scores(nothing)).all()
        assert_array_equal(self.scores(nothing), self.scores(anything))

    def test_withdrawn_features_are_not_trained_on(self) -> None:
        members = [(without(self.data, "text", _WITHDRAWN, filler), 3) for filler in (0.0, np.nan)]
        one, other = (self.fitted(member)[0] for member in members)
        assert_array_equal(self.scores(one), self.scores(other))

    def test_a_branch_reads_its_own_modality_alone(self) -> None:
        everything = np.arange(self.data.n_items)
        users = np.arange(self.data.n_users)
        for branch in self.separate:
            other = next(m for m in self.data.modalities if m != branch)
            served = self.trained.on(without(self.data, other, everything, 0.0))
            assert torch.equal(self.trained.score(users, branch=branch), served.score(users, branch=branch))

    def test_features_are_frozen_or_trained_by_choice(self) -> None:
        if self.trains_features:
            for choice in (False, True):
                model = self.recipe_with(trainable_features=choice).model(self.data, 0)
                found = {name for name in model.trained if name.startswith("item_features_")}
                assert found == ({"item_features_image", "item_features_text"} if choice else set())

    def test_trained_features_stack_and_are_stored(self) -> None:
        if self.trains_features:
            recipe = self.recipe_with(trainable_features=True)
            members = [(self.data, 3), (self.data, 5)]
            both = self.backbone.fit(members, recipe, device="cpu")
            for member, model in zip(members, both, strict=True):
                alone = self.backbone.fit([member], recipe, device="cpu")[0]
                self.same(self.scores(alone), self.scores(model))
