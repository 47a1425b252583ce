"""Reasons, in words, why a method cannot answer a request; several methods share them."""

from __future__ import annotations

from auditkit.contracts import Backbone, Recipe


def without_a_loss(recipe: Recipe) -> str | None:
    """Why a method of gradients cannot treat systems of this recipe; None where it can.

    A closed form (EASE) is not trained by gradient steps: its `loss` is the one that `Backbone` refuses with.
    """
    if recipe.architecture().loss is not Backbone.loss:
        return None
    return (
        f"{recipe.backbone} is not trained by gradient steps and has no loss to follow; choose a backbone with one, "
        "or an unlearner that retrains"
    )
