"""The attackers who see no model: confounded data are found, by popularity and by content, and clean data are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from auditkit.blind import blind_auc, blind_content_auc, blind_controls
from auditkit.data.dataset import Dataset, Features, Interactions
from auditkit.deletion import DeletionRequest, select
from auditkit.evidence import Case, make_case
from auditkit.statistics.intervals import Interval
from auditkit.testing.examples import small_case, small_data, small_request


def test_random_requests_look_like_test_pairs() -> None:
    data = Dataset.synthetic()
    area = blind_auc(make_case(data, select(data, "interaction", share=0.05), seed=0))
    assert area.low is not None
    assert area.high is not None
    assert area.low <= 0.55
    assert area.high >= 0.45


def test_a_popular_request_is_found_by_popularity_alone() -> None:
    data = Dataset.synthetic()
    case = make_case(data, select(data, "interaction", "core", share=0.05), seed=0)
    assert blind_auc(case).value == pytest.approx(1.0, abs=0.1)
    found = blind_controls(case)[0]
    assert not found.ok
    assert found.observed.startswith("AUC 0.9")
    # It invalidates AUC against outside, never the verdict that compares with Gold.
    assert not found.consequence.startswith(("INVALID", "INCONCLUSIVE"))


def test_tuned_units_are_not_looked_at() -> None:
    data = Dataset.synthetic()
    request = select(data, "interaction", share=0.05)
    case = make_case(data, request, seed=0, tune=0.4)
    judged = Case(data, request, case.units[case.judged])
    assert blind_auc(case) == blind_auc(judged)
    assert blind_auc(case) != blind_auc(make_case(data, request, seed=0))


def test_a_forgotten_pair_does_not_count_itself() -> None:
    """Degrees come from the retain set: with all else equal, membership alone must not be seen in them."""
    users = np.repeat(np.arange(40), 10)
    items = np.tile(np.arange(10), 40)
    order = np.random.default_rng(0).permutation(400)
    train, test = order[:300], order[300:]
    data = Dataset(
        "plain", 40, 10, Interactions(users[train], items[train]), test=Interactions(users[test], items[test])
    )
    gone = np.random.default_rng(1).permutation(300)[:100]
    request = DeletionRequest("interaction", data.train.users[gone], data.train.items[gone])
    area = blind_auc(make_case(data, request, seed=0))
    assert area.low is not None
    assert area.high is not None
    assert area.low < 0.5 + 0.05
    assert area.high > 0.5 - 0.05


@pytest.mark.parametrize("kept", ["forget", "outside"])
def test_one_class_alone_has_no_area(kept: str) -> None:
    case = small_case("interaction")
    part = Case(small_data(), small_request("interaction"), case.units[case.units["group"] == kept])
    area = blind_auc(part)
    assert area.value is None
    assert area.note == "too few users or no outside pairs"


# --- content -----------------------------------------------------------------------------------------------------


def meets_a_half(area: Interval) -> bool:
    assert area.low is not None
    assert area.high is not None
    return area.low <= 0.55 and area.high >= 0.45


def confounded(values: np.ndarray, present: np.ndarray | None = None) -> Case:
    """Every user holds items 0-19 at random; the request names pairs of items 0-9, the test part has the others."""
    rng = np.random.default_rng(0)
    held = np.array([rng.permutation(20)[:12] for _ in range(120)])
    users, items = np.repeat(np.arange(120), 12), held.ravel()
    test = (items >= 10) & (rng.random(len(items)) < 0.3)
    gone = (items < 10) & (rng.random(len(items)) < 0.3)
    features = Features(values, np.ones(20, np.bool_) if present is None else present)
    data = Dataset(
        "confounded", 120, 20, Interactions(users[~test], items[~test]),
        test=Interactions(users[test], items[test]), features={"text": features},
    )  # fmt: skip
    return make_case(data, DeletionRequest("interaction", users[gone], items[gone]), seed=0)


def test_a_random_request_is_not_found_by_content() -> None:
    data = Dataset.synthetic()
    assert meets_a_half(blind_content_auc(make_case(data, select(data, "interaction", share=0.05), seed=0)))


def test_content_finds_what_popularity_does_not() -> None:
    values = np.random.default_rng(1).normal(size=(20, 4))
    values[:10, 0] += 6
    case = confounded(values)
    assert meets_a_half(blind_auc(case))
    assert blind_content_auc(case).value == pytest.approx(1.0, abs=0.02)
    metadata, content = blind_controls(case)
    assert (metadata.name, metadata.ok) == ("blind metadata attack", True)
    assert (content.name, content.ok) == ("blind content attack", False)
    assert content.observed.startswith("AUC 1.000 [")
    assert "would measure content, not memory" in content.consequence


def test_withdrawn_features_alone_tell_pairs_apart() -> None:
    area = blind_content_auc(confounded(np.zeros((20, 1)), np.arange(20) < 10))
    assert area.value == pytest.approx(1.0, abs=0.02)


def test_content_far_from_the_history_is_found_by_similarity() -> None:
    """Taste, not the item: forgotten pairs lie across the user's taste, and no direction of content is special."""
    rng = np.random.default_rng(2)
    angle = rng.uniform(0, 2 * np.pi, 400)
    taste = rng.uniform(0, 2 * np.pi, 150)
    near = np.cos(taste[:, None] - angle[None])
    kept = np.argsort(-near, axis=1)[:, :30]
    gone = np.argsort(near, axis=1)[:, :4]
    users = np.repeat(np.arange(150), 30)
    test = rng.random(users.size) < 0.15
    train = Interactions(
        np.concatenate([users[~test], np.repeat(np.arange(150), 4)]),
        np.concatenate([kept.ravel()[~test], gone.ravel()]),
    )
    values = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    data = Dataset(
        "round", 150, 400, train, test=Interactions(users[test], kept.ravel()[test]),
        features={"image": Features(values, np.ones(400, np.bool_))},
    )  # fmt: skip
    request = DeletionRequest("interaction", np.repeat(np.arange(150), 4), gone.ravel())
    assert blind_content_auc(make_case(data, request, seed=0)).value == pytest.approx(1.0, abs=0.02)


def test_no_item_has_features_and_no_user_a_history() -> None:
    nothing = confounded(np.zeros((20, 3)), np.zeros(20, np.bool_))
    assert blind_content_auc(nothing).value == pytest.approx(0.5, abs=0.1)
    whole = nothing.data
    everything = DeletionRequest("interaction", whole.train.users, whole.train.items)
    bare = make_case(replace(whole, features=small_features(whole.n_items)), everything, seed=0)
    assert blind_content_auc(bare).value is not None


def small_features(n_items: int) -> dict[str, Features]:
    values = np.random.default_rng(4).normal(size=(n_items, 3)).astype(np.float32)
    return {"text": Features(values, np.arange(n_items) % 4 > 0)}


def test_the_cosine_is_that_of_a_loop_over_histories() -> None:
    from auditkit.blind import _content

    case = small_case("interaction")
    features, retain = case.data.features["text"], case.retain
    units = case.units.iloc[:25]
    expected = []
    for user, item in zip(units["user"], units["item"], strict=True):
        history = [features.values[i] / np.linalg.norm(features.values[i]) for u, i in
                   zip(retain.train.users, retain.train.items, strict=True) if u == user]  # fmt: skip
        mean, own = np.mean(history, axis=0), features.values[item]
        expected.append(mean @ own / np.linalg.norm(mean) / np.linalg.norm(own))
    assert_allclose(_content(features, retain, units)[:, 1], expected, rtol=1e-5)


def test_only_data_with_features_have_the_content_attack() -> None:
    case = small_case("interaction")
    bare = Case(replace(case.data, features={}), case.request, case.units)
    assert [c.name for c in blind_controls(bare)] == ["blind metadata attack"]
    assert blind_controls(bare)[0] == blind_controls(case)[0]
    assert blind_controls(small_case("user")) == []
