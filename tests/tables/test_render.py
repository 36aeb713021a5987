"""Tables in four forms, to the letter, and whatever they hold."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch.errors import UserError
from compacter_arch.tables.published import published_rows
from compacter_arch.tables.render import FORMS, render
from compacter_arch.tables.rows import Row, Table

PUBLISHED = Row(
    "A_net & co",
    source="A_net, table 1",
    training_data="DF2K",
    params=878_000,
    multi_adds=195.6e9,
    scores={"Set5": {"psnr": 38.14, "ssim": 0.9611}, "B100": {"psnr": 32.31}},
)
BICUBIC = Row(
    "bicubic", source="100% of papers", scores={"Set5": {"psnr": 33.66, "ssim": 0.9299}, "B100": {}}
)
MEASURED = Row(
    "Compacter",
    training_data="DIV2K",
    params=392_909,
    multi_adds=41e9,
    latency=0.41234,
    memory=812_340_000,
    scores={
        "Set5": {"psnr": 38.1449, "ssim": 0.96123},
        "B100": {"psnr": 32.35678, "ssim": 0.9},
    },
)
TABLE = Table(
    "Super-resolution x2",
    ("Set5", "B100"),
    ("psnr", "ssim"),
    (BICUBIC, PUBLISHED, MEASURED),
    ("Y channel, border 2",),
)

TERMINAL = """\
Super-resolution x2

Method       Training      Params    Multi-Adds    Latency    Memory          Set5          B100
             data             (K)           (G)       (ms)      (MB)     PSNR/SSIM     PSNR/SSIM
-----------  ----------  --------  ------------  ---------  --------  ------------  ------------
bicubic      -                  -             -          -         -  33.66/0.9299             -
A_net & co   DF2K             878         195.6          -         -  38.14/0.9611       32.31/-
Compacter †  DIV2K            393            41      412.3     812.3  38.14/0.9612  32.36/0.9000

Y channel, border 2
† measured here

bicubic: 100% of papers
A_net & co: A_net, table 1"""

MARKDOWN = """\
### Super-resolution x2

| Method | Training<br>data | Params<br>(K) | Multi-Adds<br>(G) | Latency<br>(ms) | Memory<br>(MB) \
| Set5<br>PSNR/SSIM | B100<br>PSNR/SSIM |
|:-|:-|-:|-:|-:|-:|-:|-:|
| bicubic | - | - | - | - | - | <u>33.66</u>/0.9299 | - |
| A_net \\& co | DF2K | 878 | 195.6 | - | - | **38.14**/<u>0.9611</u> | <u>32.31</u>/- |
| Compacter † | DIV2K | 393 | 41 | 412.3 | 812.3 | **38.14**/**0.9612** | **32.36**/0.9000 |

- Best in bold, second best underlined.
- Y channel, border 2
- † measured here
- bicubic: 100% of papers
- A_net \\& co: A_net, table 1"""

CSV = """\
table,method,training_data,params,multi_adds,latency_s,memory_bytes,\
Set5_psnr,Set5_ssim,B100_psnr,B100_ssim,kind,source
Super-resolution x2,bicubic,,,,,,33.66,0.9299,,,published,100% of papers
Super-resolution x2,A_net & co,DF2K,878000,195600000000.0,,,\
38.14,0.9611,32.31,,published,"A_net, table 1"
Super-resolution x2,Compacter,DIV2K,392909,41000000000.0,0.41234,812340000,\
38.1449,0.96123,32.35678,0.9,measured,"""

LATEX = r"""% \usepackage{booktabs}
\begin{table*}
\centering\footnotesize\setlength{\tabcolsep}{3pt}
\caption{Super-resolution x2. Y channel, border 2. Best in bold, second best underlined.}
\begin{tabular}{llrrrrcccc}
\toprule
Method & Training & Params & Multi-Adds & Latency & Memory & \multicolumn{2}{c}{Set5} & """
LATEX += r"""\multicolumn{2}{c}{B100} \\
\cmidrule(lr){7-8} \cmidrule(lr){9-10}
& data & (K) & (G) & (ms) & (MB) & PSNR & SSIM & PSNR & SSIM \\
\midrule
bicubic & -- & -- & -- & -- & -- & \underline{33.66} & 0.9299 & -- & -- \\
A\_net \& co & DF2K & 878 & 195.6 & -- & -- & \textbf{38.14} & \underline{0.9611} & """
LATEX += r"""\underline{32.31} & -- \\
Compacter$^\dagger$ & DIV2K & 393 & 41 & 412.3 & 812.3 & \textbf{38.14} & \textbf{0.9612} & """
LATEX += r"""\textbf{32.36} & 0.9000 \\
\bottomrule
\end{tabular}

\smallskip
\raggedright\scriptsize
$^\dagger$ measured here\\
bicubic: 100\% of papers\\
A\_net \& co: A\_net, table 1
\end{table*}"""


def squeeze(text: str) -> str:
    """Markdown without what only aligns it."""
    text = re.sub(r"^\|(.*)\|$", lambda row: re.sub(" +", " ", row[0]), text, flags=re.MULTILINE)
    return re.sub("-{2,}", "-", text)


def test_golden_terminal() -> None:
    assert render(TABLE, "terminal", sources=True) == TERMINAL


def test_golden_markdown() -> None:
    text = render(TABLE, "markdown", sources=True)
    assert squeeze(text) == MARKDOWN
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1


def test_golden_csv() -> None:
    assert render(TABLE, "csv") == render(TABLE, "csv", sources=True) == CSV


def test_golden_latex() -> None:
    assert render(TABLE, "latex", sources=True) == LATEX


def test_sources_only_if_asked() -> None:
    for form in ("terminal", "markdown", "latex"):
        assert "table 1" not in render(TABLE, form)
        assert "measured here" in render(TABLE, form)


def test_the_widest_table_fits_a_terminal() -> None:
    sets = ("Set5", "Set14", "B100", "Urban100", "Manga109")
    rows = [*published_rows("sr", 2, sets), MEASURED]
    text = render(Table("x2", sets, ("psnr", "ssim"), rows), "terminal")
    assert max(map(len, text.splitlines())) <= 160


def scored(*values: float | None, metric: str = "psnr") -> Table:
    rows = [
        Row(f"m{i}", source="s", scores={"S": {} if value is None else {metric: value}})
        for i, value in enumerate(values)
    ]
    return Table("t", ("S",), (metric,), rows)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((30, 32, 31), ["30.00", "**32.00**", "<u>31.00</u>"]),
        ((32.001, 32.004, 31, 31, 5), [*["**32.00**"] * 2, *["<u>31.00</u>"] * 2, "5.00"]),
        ((32.004, 32.006, None), ["<u>32.00</u>", "**32.01**", "-"]),  # printed digits decide
        ((30, 30), ["**30.00**"] * 2),
        ((30, None), ["30.00", "-"]),  # nothing to compare with
        ((None, None), ["-", "-"]),
        ((float("inf"), 9, float("nan")), ["**inf**", "<u>9.00</u>", "nan"]),
    ],
)
def test_marks(values: tuple[float | None, ...], expected: list[str]) -> None:
    text = render(scored(*values), "markdown")
    cells = [line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| m")]
    assert cells == expected
    assert ("Best in bold" in text) == any("*" in cell for cell in expected)
    latex = [re.sub(r"\*\*(.*)\*\*", r"\\textbf{\1}", cell) for cell in expected]
    latex = [re.sub("<u>(.*)</u>", r"\\underline{\1}", cell) for cell in latex]
    for index, cell in enumerate(latex):
        assert f"m{index} & {'--' if cell == '-' else cell} \\\\" in render(
            scored(*values), "latex"
        )


def test_psnr_b_is_a_third_metric() -> None:
    row = Row("m", scores={"LIVE1": {"psnr": 29.861, "ssim": 0.82871, "psnrb": 29.5}})
    table = Table("JPEG", ("LIVE1",), ("psnr", "ssim", "psnrb"), [row])
    text = render(table, "terminal")
    assert "PSNR/SSIM/PSNR-B" in text and "29.86/0.8287/29.50" in text
    assert "Params" not in text and "Training" not in text  # not known of any row
    assert r"\multicolumn{3}{c}{LIVE1}" in render(table, "latex")


def test_latex_escapes() -> None:
    text = render(Table("50% & _more_ {x}", (), (), [Row(r"[a]*\b~^<|>#$")]), "latex")
    assert r"\caption{50\% \& \_more\_ \{x\}.}" in text
    assert (
        r"{[}a{]}{*}\textbackslash{}b\textasciitilde{}\textasciicircum{}"
        r"\textless{}\textbar{}\textgreater{}\#\$$^\dagger$ \\" in text
    )


def test_markdown_escapes() -> None:
    text = render(Table("a*b*", (), (), [Row("x|y <z> _u_ v_w", source="s")]), "markdown")
    assert r"### a\*b\*" in text
    assert r"| x\|y \<z\> \_u\_ v_w |" in text


def test_tabulate_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tabulate", None)
    for form in ("terminal", "markdown"):
        with pytest.raises(UserError, match=r'pip install "compacter-arch\[table\]"'):
            render(TABLE, form)
    assert render(TABLE, "csv") and render(TABLE, "latex")


def test_unknown_form() -> None:
    with pytest.raises(UserError, match="'html'.*terminal, markdown, csv, latex"):
        render(TABLE, "html")


names = st.text(max_size=12)
sets_of_table = st.lists(names, max_size=3, unique=True)
metrics_of_table = st.lists(st.sampled_from(["psnr", "ssim", "psnrb"]), max_size=3, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    sets, metrics = draw(sets_of_table), draw(metrics_of_table)
    scores = st.fixed_dictionaries(
        {}, optional={name: st.dictionaries(st.sampled_from(metrics), st.floats()) for name in sets}
    )
    row = st.builds(  # a method has a name
        Row,
        method=names.filter(lambda name: name.split()),
        source=names,
        training_data=names,
        params=st.none() | st.integers(0, 10**12),
        multi_adds=st.none() | st.floats(0, 1e15),
        latency=st.none() | st.floats(0, 1e6),
        memory=st.none() | st.floats(0, 1e15),
        scores=scores if metrics else st.just({}),
    )
    rows = draw(st.lists(row, max_size=4))
    return Table(draw(names), sets, metrics, rows, draw(st.lists(names, max_size=2)))


@settings(max_examples=150, deadline=None)
@given(tables(), st.booleans())
def test_any_table_has_its_columns_in_any_form(table: Table, sources: bool) -> None:
    texts = {form: render(table, form, sources=sources) for form in FORMS}
    known = ("training_data", "params", "multi_adds", "latency", "memory")
    left = 1 + sum(any(getattr(row, k) not in (None, "") for row in table.rows) for k in known)
    joined = left + (len(table.sets) if table.metrics else 0)
    separate = left + len(table.sets) * len(table.metrics)

    lines = list(csv.reader(io.StringIO(texts["csv"])))
    assert [len(line) for line in lines] == [separate + 3] * (1 + len(table.rows))

    lines = texts["markdown"].splitlines()
    lines = [line for line in lines if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [joined + 1] * (
        2 + len(table.rows)
    )

    rule = next(i for i, line in enumerate(texts["terminal"].split("\n")) if re.match("--", line))
    lines = texts["terminal"].split("\n")
    assert len(lines[rule].split()) == joined and len(lines) >= rule + 1 + len(table.rows)

    check_latex(texts["latex"])
    body = texts["latex"].split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert [len(re.findall(r"(?<!\\)&", ln)) for ln in body] == [separate - 1] * len(table.rows)


def check_latex(text: str) -> None:
    """Braces, mathematics and environments are balanced."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", re.sub(r"\\\\", "", text)):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    stack: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack


def test_latex_compiles(tmp_path: Path) -> None:
    program = shutil.which("tectonic") or shutil.which("pdflatex")
    if program is None:
        pytest.skip("neither tectonic nor pdflatex is installed")
    if "pdflatex" in program and subprocess.run(["kpsewhich", "booktabs.sty"]).returncode:
        pytest.skip("pdflatex is there, booktabs is not")
    nasty = Row(r"[*] \ ~^<|>#$%&_{} ×σ†", scores={"Set5": {"psnr": 1.0}})
    table = Table(TABLE.title, TABLE.sets, TABLE.metrics, [*TABLE.rows, nasty], ["a_b", "50 %"])
    document = (
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        + render(table, "latex", sources=True)
        + "\n\\end{document}\n"
    )
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")
    flags = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in program else []
    subprocess.run([program, *flags, "table.tex"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "table.pdf").exists()
