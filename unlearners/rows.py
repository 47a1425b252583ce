"""Whose rows a parameter holds: what methods that treat single users and items ask of a backbone."""

from __future__ import annotations

from auditkit.contracts import Backbone, Side


def side_of(model: Backbone, name: str) -> Side | None:
    """`user` or `item` where a parameter has a row for each of them, by its name and length; None for a shared one.

    Args:
        model: whose parameter.
        name: of the parameter.
    """
    sizes: dict[Side, int] = {"user": model.n_users, "item": model.n_items}
    shape = model.get_parameter(name).shape
    return next((side for side, n in sizes.items() if name.startswith(side) and shape[:1] == (n,)), None)
