"""Deletion requests from a file, by the ids that the data files use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from auditkit.data.dataset import Ints
    from auditkit.deletion import DeletionRequest, Regime


@dataclass(frozen=True, eq=False)
class Names:
    """The files' own id of every 0-based id, where reading renumbered them; None where the files' ids are 0-based."""

    user: NDArray[Any] | None = None
    item: NDArray[Any] | None = None

    def planted(self, regime: str, count: int) -> Names:
        """With names for `count` canaries behind the ids of users or items; ids without names go on being numbers."""
        import numpy as np

        known = self.user if regime == "user" else self.item
        if known is None:
            return self
        named = np.append(known.astype(str), [f"canary-{k + 1}" for k in range(count)])
        return replace(self, user=named) if regime == "user" else replace(self, item=named)


def read_request(
    path: Path,
    regime: Regime,
    modalities: tuple[str, ...] = (),
    *,
    names: Names | None = None,
) -> DeletionRequest:
    """Units from a CSV file with the columns `user` and `item`.

    `user` alone does for user requests, `item` alone for item and modality requests.

    Args:
        path: the file.
        regime: what a row names.
        modalities: features of the named items that go too.
        names: of the data set's ids; rows then name units as the data files do. None: 0-based ids.

    Raises:
        ConfigurationError: the file is absent, empty, lacks a column or holds something that is no (known) id.
    """
    import numpy as np
    import pandas as pd

    from auditkit.deletion import DeletionRequest

    wanted = {"interaction": ("user", "item"), "user": ("user",), "item": ("item",), "modality": ("item",)}[regime]
    try:
        # As text: ids beyond 2^53 are not whole in a float, and every line keeps its number.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False).fillna("")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"request.file: cannot read {path} as CSV: {error}") from error
    absent = [name for name in wanted if name not in table.columns]
    if absent:
        raise ConfigurationError(
            f"request.file: {path} needs the column(s) {', '.join(wanted)}, found: {', '.join(map(str, table.columns))}"
        )
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise ConfigurationError(f"request.file: {path} lists no units; name at least one")
    columns = {name: _column(table, name, path, names or Names()) for name in wanted}
    anyone = np.full(len(table), -1, np.int64)
    return DeletionRequest(
        regime,
        columns.get("user", anyone),
        columns.get("item", anyone),
        modalities,
        selection=f"listed in {path.name}",
    )


def _column(table: pd.DataFrame, name: str, path: Path, names: Names) -> Ints:
    known = names.user if name == "user" else names.item
    return _ids(table, name, path) if known is None else _named(table, name, path, known)


def _place(table: pd.DataFrame, row: int, path: Path) -> str:
    # Line 1 is the header.
    return f"request.file: {path}, line {table.index[row] + 2}"


def _ids(table: pd.DataFrame, name: str, path: Path) -> Ints:
    import numpy as np

    texts = table[name].str.strip()
    good = texts.str.fullmatch(r"\d{1,18}(\.0*)?").to_numpy(bool)
    if not good.all():
        first = int(np.argmin(good))
        raise ConfigurationError(
            f"{_place(table, first, path)}: {name} must be a 0-based id, got {texts.iloc[first]!r}"
        )
    return np.array([int(text.partition(".")[0]) for text in texts], np.int64)


def _named(table: pd.DataFrame, name: str, path: Path, known: NDArray[Any]) -> Ints:
    import numpy as np
    import pandas as pd

    texts = table[name].str.strip()
    found = pd.Index(known.astype(str)).get_indexer(pd.Index(texts))
    if (found < 0).any():
        first = int(np.argmax(found < 0))
        raise ConfigurationError(
            f"{_place(table, first, path)}: {name} {texts.iloc[first]!r} is not in the data; "
            f"{(found < 0).sum()} of {len(found)} rows name unknown {name}s"
        )
    return np.asarray(found, np.int64)
