"""The conformance kit on every backbone of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from auditkit.backbones.ease import EASE
from auditkit.backbones.lightgcn import LightGCN
from auditkit.plugins import backbones
from auditkit.testing import BackboneTests


class TestLightGCN(BackboneTests):
    backbone = LightGCN
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 8, "learning_rate": 0.02, "batch": 256}  # noqa: RUF012


class TestEASE(BackboneTests):
    backbone = EASE
    config = {"regularization": 20.0}  # noqa: RUF012
    fit = {}  # noqa: RUF012
    has_loss = False
    random = False
    sides = ("user",)

    def test_served_histories_decide_the_scores(self) -> None:
        model = self.fitted((self.data, 0))[0]
        over_less = model.on(self.retain)
        gone = np.setdiff1d(self.data.train.users, self.retain.train.users)
        assert len(gone)
        assert not over_less.score(gone).any()
        assert torch.equal(over_less.get_parameter("item_weights"), model.get_parameter("item_weights"))


def test_every_registered_backbone_is_under_the_kit() -> None:
    kits = {path.stem.removeprefix("test_").replace("_", "-") for path in Path(__file__).parent.glob("test_*.py")}
    assert set(backbones()) <= kits
