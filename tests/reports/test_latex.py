from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.comparison import compare
from auditkit.record import Record
from auditkit.reports import latex, words

from .sample import METHODS, hostile, invalid, minimal, record

TRICKS = "ab1 \\{}$&#%_^~<>|`\"'[]*-\n\t\x1b\x00?!,"
TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|[{}$&#%_^~]|.", re.DOTALL)


def board(*records: Record) -> str:
    return latex.leaderboard(compare(records, [str(place) for place in range(len(records))]))


def tokens(source: str) -> list[str]:
    """Of what is printed: neither of comments nor of the definition of a command."""
    return TOKEN.findall(re.sub(r"^(%|\\providecommand).*\n", "", source, flags=re.MULTILINE))


def check(source: str) -> None:
    """Braces and dollars pair up, no comment or parameter sign is open, and rows have their columns."""
    depth, math = 0, False
    for token in tokens(source):
        depth += {"{": 1, "}": -1}.get(token, 0)
        math ^= token == "$"
        assert depth >= 0
        assert token not in ("%", "#", "~")
        assert math or token not in ("_", "^")
    assert (depth, math) == (0, False)
    for body in re.findall(r"\\begin\{tabular\}\{@\{\}(l+)@\{\}\}(.*?)\\end\{tabular\}", source, re.DOTALL):
        rows = [line for line in body[1].splitlines() if line.endswith((r"\\", r"\\[2pt]"))]
        assert rows
        assert all(tokens(row).count("&") == len(body[0]) - 1 for row in rows)


@pytest.mark.parametrize("make", [record, invalid, hostile, minimal])
def test_tables_are_sound_tex(make: Callable[[], Record]) -> None:
    whole = make()
    check(latex.score_card(whole))
    check(board(whole))


@given(st.text(alphabet=TRICKS, max_size=50))
def test_any_text_is_printed_as_it_stands(raw: str) -> None:
    written = latex.text(raw)
    check(written)
    names = {r"\textbackslash": "\\", r"\textasciicircum": "^", r"\textasciitilde": "~", r"\textless": "<",
             r"\textgreater": ">", r"\textbar": "|", r"\textasciigrave": "`", r"\textquotedbl": '"',
             r"\textquotesingle": "'"}  # fmt: skip
    shown = "".join(names.get(t, t.removeprefix("\\")) for t in tokens(written) if t not in "{}")
    assert shown == " ".join(words.printable(raw).split())
    # Neither an optional argument nor a starred form for the command that ends the row before.
    assert not written.startswith(("[", "*"))
    assert "--" not in written


def test_score_card_rows_are_as_agreed() -> None:
    """Values on one line, their intervals on a line beneath."""
    lines = latex.score_card(record()).splitlines()
    start = lines.index(r"\midrule") + 1
    assert lines[start : start + 4] == [
        r"sisa & PASS & $0.966$ & $0.021$ & $0.034$ & $0.012$ & $0.0000$ & $12.1$ \\",
        r"&  & {\scriptsize $[0.866, 1.000]$} & {\scriptsize $[-0.029, 0.071]$} & {\scriptsize $[-0.026, 0.094]$} & "
        r"{\scriptsize $[-0.018, 0.042]$} & {\scriptsize $[-0.0040, 0.0040]$} & {\scriptsize $[11.0, 13.4]$} \\[2pt]",
        r"finetune & FAIL & $0.358$ & $0.642$ & $0.588$ & $0.391$ & $-0.0046$ & -- \\",
        r"&  & {\scriptsize $[0.258, 0.418]$} & {\scriptsize $[0.592, 0.692]$} & {\scriptsize $[0.528, 0.648]$} & "
        r"{\scriptsize $[0.361, 0.421]$} & {\scriptsize $[-0.0086, -0.0006]$} & \\[2pt]",
    ]
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]


def test_missing_values_are_a_dash_and_thousands_are_no_punctuation() -> None:
    assert r"given & -- & -- & -- & -- & -- & -- & -- \\" in latex.score_card(minimal())
    fast = record().systems[2].speedup_vs_gold.model_copy(update={"value": 46_045.0, "low": 44_409.0, "high": 47_741.0})
    quick = record().systems[2].model_copy(update={"speedup_vs_gold": fast})
    written = latex.score_card(record(systems=[quick]))
    assert r"& $46{,}045$ \\" in written
    assert r"& {\scriptsize $[44{,}409, 47{,}741]$} \\" in written


def test_leaderboard_states_ranges_and_sets_the_single_best_bold() -> None:
    text = board(record())
    ranks = [line.split(" & ")[3] for line in text.splitlines() if " & bpr-{}mf & " in line]
    assert ranks == ["1--2", "1--2", "3", "4"]
    assert (
        r"{\boldmath\bfseries" not in text.split("reverse")[0].split("row-")[0].split(r"\midrule")[1].split("12.1")[0]
    )
    alone = board(record(METHODS[:2]))
    (first,) = [line for line in alone.splitlines() if line.startswith("sisa")]
    assert r"& 1 & {\boldmath\bfseries $0.966$} &" in first
    assert r"{\boldmath\bfseries" not in next(line for line in alone.splitlines() if line.startswith("finetune"))


def test_each_group_has_its_table_and_label() -> None:
    other = record().dataset.model_copy(update={"digest": "another", "name": "100%_other"})
    text = board(record(), record(dataset="x").model_copy(update={"dataset": other}))
    assert re.findall(r"\\label\{(.*?)\}", text) == ["tab:leaderboard-1", "tab:leaderboard-2"]
    assert r"Unlearning on 100\%\_other, interaction request" in text
    check(text)


def test_long_names_are_shortened() -> None:
    assert latex.text("n" * 500) == "n" * 57 + "..."


def test_what_pdflatex_has_no_sign_for_is_a_command() -> None:
    assert latex.text("Ĳ ß ł 模") == r"Ĳ ß ł \codepoint{27169}{6A21}"
    assert latex.CODE_POINT in latex.score_card(hostile())
    assert "codepoint" not in latex.score_card(record())


# --- what TeX makes of it ----------------------------------------------------------------------------------------

DOCUMENT = """\\documentclass{article}
\\usepackage{booktabs,graphicx}
\\usepackage[T1]{fontenc}
\\begin{document}
%s
\\end{document}
"""
PRINTED = "a%b_c&d#e{f}g~h^i\\j$k<l>m|n`o'p\"q[r]s*t--u---v,,w !` ?` \\input{x}"
ENGINES = ["pdflatex", "lualatex", "xelatex"]


def compiled(folder: Path, engine: str, body: str) -> str:
    """The log of TeX, which must not end in an error; `folder/table.pdf` is the page."""
    (folder / "table.tex").write_text(DOCUMENT % body, "utf-8")
    command = [engine, "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    log = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, log[-2000:]
    return log


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("make", [record, invalid, hostile, minimal])
def test_tables_compile_and_stay_on_the_page(tmp_path: Path, make: Callable[[], Record], engine: str) -> None:
    if shutil.which(engine) is None:
        pytest.skip(f"no {engine} on this machine (Debian: texlive-latex-base, texlive-latex-recommended)")
    whole = make()
    log = compiled(tmp_path, engine, latex.score_card(whole) + board(whole))
    assert "Overfull" not in log


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on this machine (Debian: texlive-latex-base)")
def test_every_character_compiles_and_ascii_is_printed_as_it_stands(tmp_path: Path) -> None:
    signs = [chr(code) for code in (*range(0x20, 0x250), 0x3B1, 0x416, 0x5D0, 0x6A21, 0xFB01, 0x1F600)]
    lines = [latex.text("".join(signs[k : k + 40])) for k in range(0, len(signs), 40)]
    compiled(tmp_path, "pdflatex", "\\par\n".join([latex.CODE_POINT, latex.text(PRINTED, 99), *lines]))
    if shutil.which("pdftotext"):
        command = ["pdftotext", "-layout", "table.pdf", "-"]
        shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert PRINTED in shown
