"""Whoever has the weights looks beneath what hides scores."""

from __future__ import annotations

from auditkit.contracts import Backbone, Recommender
from auditkit.errors import NotApplicableError


def backbone_beneath(model: Recommender) -> Backbone:
    """The one trained model that `model` is, or that an output mask (its attribute `backbones`) stands on.

    Raises:
        NotApplicableError: there is none, or several (shards).
    """
    beneath = (model,) if isinstance(model, Backbone) else tuple(getattr(model, "backbones", ()))
    if len(beneath) != 1:
        raise NotApplicableError(f"a {type(model).__name__} stands on {len(beneath)} trained models, not on one")
    found: Backbone = beneath[0]
    return found
