"""Tables for a paper: booktabs, every text escaped, missing values as a dash."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from auditkit.comparison import DEPTH, QUANTITIES, SPEEDUP, Comparison, Group, Rank, Row
from auditkit.record import Estimate, Record, SystemEntry
from auditkit.reports import numbers, words

MISSING = "--"
NAME = 60  # longest name, in characters before escaping
INTERVAL = "\n"  # between a value and its interval; no text that was escaped holds one
_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}",
    # In braces: a row that starts with one of them would pass it to the \\ or \midrule before it.
    "[": "{[}", "]": "{]}", "*": "{*}",
    # Two of these would be drawn as one sign of another kind.
    "-": "-{}", ",": ",{}",
}  # fmt: skip
_SPECIAL = re.compile("|".join(re.escape(character) for character in _ESCAPES))
# What pdfLaTeX cannot print: all but ASCII, Latin-1 and those letters of Latin Extended-A that T1 fonts have.
_FOREIGN = re.compile("[^ -~\u00a1-\u017e]|[\u0126\u0127\u0138\u013f\u0140\u0149\u0166\u0167]")
_THOUSANDS = re.compile(r",(?=\d)")
PREAMBLE = "% needs \\usepackage{booktabs,graphicx} and \\usepackage[T1]{fontenc}"
# LuaLaTeX and XeLaTeX print the character, if the font has it; pdfLaTeX its number.
CODE_POINT = r"\providecommand{\codepoint}[2]{\ifdefined\Umathcode\symbol{#1}\else[U+#2]\fi}"


def text(raw: str, length: int = NAME) -> str:
    """Any text as one line that TeX prints as it stands; control characters become `?`.

    Characters that pdfLaTeX has no sign for stand as the command that `CODE_POINT` defines.
    """
    line = " ".join(words.printable(raw).split())
    short = line if len(line) <= length else f"{line[: length - 3]}..."
    escaped = _SPECIAL.sub(lambda found: _ESCAPES[found[0]], short)
    return _FOREIGN.sub(lambda found: rf"\codepoint{{{ord(found[0])}}}{{{ord(found[0]):04X}}}", escaped)


def score_card(record: Record) -> str:
    """One row a system, audited ones first: verdict, forgetting depth, the three readings, recall delta, speedup."""
    columns = ("System", "Verdict", "Depth", "Dose $L$", "Pattern $P$", r"Spread $\rho$", r"$\Delta$R@20", "Speedup")
    rows = [_system(system) for system in words.ordered(record.systems)]
    caption = (
        f"Forgetting audit of {text(record.backbone.name)} on {text(record.dataset.name)}, "
        f"{text(record.request.regime)} request, margin {_math(f'{record.policy.margin:g}')}. {_LEGEND}"
    )
    return _table(columns, rows, caption, "tab:audit")


def leaderboard(comparison: Comparison) -> str:
    """One table for each group that may be compared; ranks are intervals where intervals do not separate."""
    return "\n".join(_leaderboard(place, group) for place, group in enumerate(comparison.groups, 1))


_LEGEND = (
    "Brackets hold intervals, -- is not measured; depth 1 and dose 0 are a system retrained without the data, "
    r"$\Delta$ is the difference to the mean Gold."
)


def _leaderboard(place: int, group: Group) -> str:
    columns = ("Method", "Backbone", "Verdict", "Rank", "Depth", *_DELTAS.values(), "Speedup")
    setting = group.setting
    caption = (
        f"Unlearning on {text(setting.dataset)}, {text(setting.regime)} request "
        f"{text(numbers.short(setting.request_digest).rstrip('…'))}. {_LEGEND} Ranks are by depth and are ranges where "
        "intervals overlap; bold: alone in first place."
    )
    return _table(columns, [_row(row) for row in group.rows], caption, f"tab:leaderboard-{place}")


_DELTAS = {"recall@20 delta": r"$\Delta$R@20", "ndcg@20 delta": r"$\Delta$N@20"}


def _row(row: Row) -> list[str]:
    written = {name: _estimate(row.values[name], 4 if name in _DELTAS else 3) for name in QUANTITIES if name != SPEEDUP}
    written[SPEEDUP] = _ratio(row.values[SPEEDUP])
    cells = [_bold(written[name], row.ranks[name]) for name in QUANTITIES]
    return [text(row.name), text(row.backbone), text(row.verdict or MISSING), _rank(row.ranks[DEPTH]), *cells]


def _rank(rank: Rank | None) -> str:
    if rank is None:
        return MISSING
    return f"{rank.best}" if rank.best == rank.worst else f"{rank.best}--{rank.worst}"


def _bold(written: str, rank: Rank | None) -> str:
    alone = rank is not None and rank.of > 1 and rank.worst == 1
    value, between, interval = written.partition(INTERVAL)
    return rf"{{\boldmath\bfseries {value}}}{between}{interval}" if alone else written


def _system(system: SystemEntry) -> list[str]:
    dose, depth = words.ANCHORS.get(system.role, ("", ""))
    recall = system.utility.get("recall@20")
    return [
        text(system.name), system.verdict or MISSING, _estimate(system.depth, anchor=depth),
        *(_estimate(it, anchor=dose) for it in (system.residual_dose, system.pattern, system.spread)),
        _estimate(recall.delta_vs_gold, 4) if recall else MISSING, _ratio(system.speedup_vs_gold),
    ]  # fmt: skip


def _estimate(estimate: Estimate, digits: int = 3, anchor: str = "") -> str:
    written = numbers.number(estimate.value, digits)
    if written == numbers.NOT_MEASURED:
        return anchor or MISSING
    bounds = numbers.bounds(estimate, digits).replace("inf", r"\infty")
    return _math(written) + (INTERVAL + _math(bounds) if bounds else "")


def _ratio(estimate: Estimate) -> str:
    if estimate.value is None:
        return MISSING
    # A comma between digits is punctuation to TeX's mathematics unless it stands in braces.
    value, _, ends = _THOUSANDS.sub("{,}", numbers.ratio(estimate)).partition(" [")
    return _math(value) + (INTERVAL + _math(f"[{ends}") if ends else "")


def _math(written: str) -> str:
    return f"${written}$"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str, label: str) -> str:
    body = [line for row in rows for line in _lines(row)]
    lines = [
        PREAMBLE, *([CODE_POINT] if r"\codepoint" in f"{body}{caption}" else []), r"\begin{table}", r"\centering\small",
        r"\setlength{\tabcolsep}{4pt}", rf"\caption{{{caption}}}", rf"\label{{{label}}}", r"\vspace{4pt}",
        # As wide as it is, but no wider than the text.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
        rf"{{\begin{{tabular}}{{@{{}}{'l' * len(columns)}@{{}}}}", r"\toprule",
        rf"{' & '.join(columns)} \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _lines(row: Sequence[str]) -> list[str]:
    """Values, and their intervals on a line beneath, which halves the width of a table."""
    values, _, ends = zip(*(cell.partition(INTERVAL) for cell in row), strict=True)
    first = rf"{' & '.join(values)} \\"
    if not any(ends):
        return [first]
    beneath = [rf"{{\scriptsize {end}}}" if end else "" for end in ends]
    return [first, rf"{' & '.join(beneath).strip()} \\[2pt]"]
