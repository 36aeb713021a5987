"""A table of results as text: for the terminal, for GitHub, for a spreadsheet, for a paper.

Markdown and LaTeX mark the best and the second best score of each column, by the digits that are
printed: equal digits share the mark.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from compacter_arch.errors import UserError

from .rows import Row, Table

FORMS = ("terminal", "markdown", "csv", "latex")

LABELS = {"psnr": "PSNR", "ssim": "SSIM", "psnrb": "PSNR-B", "ssim3d": "SSIM-3D"}
MISSING = "-"
DAGGER = "†"
MARKS = "Best in bold, second best underlined."


class Column(NamedTuple):
    """What is known of a method besides its scores; shown if it is known of any row."""

    field: str  # of Row
    csv: str  # its heading in CSV, with the unit of the field
    heading: tuple[str, str]  # its two lines elsewhere
    text: Callable[[Any], str]


COLUMNS = (
    Column("training_data", "training_data", ("Training", "data"), lambda name: _clean(name)),
    Column("params", "params", ("Params", "(K)"), lambda number: f"{number / 1e3:,.0f}"),
    Column("multi_adds", "multi_adds", ("Multi-Adds", "(G)"), lambda count: _short(count / 1e9)),
    Column("latency", "latency_s", ("Latency", "(ms)"), lambda seconds: _short(seconds * 1e3)),
    Column("memory", "memory_bytes", ("Memory", "(MB)"), lambda count: _short(count / 1e6)),
)


class Cell(NamedTuple):
    """Plain text and, for scores, whether it is the best (0) or the second best (1) one."""

    text: str
    rank: int | None = None


def render(table: Table, form: str, *, sources: bool = False) -> str:
    """Write a table.

    Args:
        table: Rows stay in their order; higher is better in every metric.
        form: ``terminal``, ``markdown``, ``csv`` (full precision, title and source in each row)
            or ``latex`` (with the package booktabs; title and notes make the caption).
        sources: Whether notes tell where the published rows come from; CSV always does.

    Returns:
        Lines, the last one without its end.

    Raises:
        UserError: There is no such form, or tabulate is missing (terminal and Markdown need it).
    """
    if form not in FORMS:
        raise UserError(f"form {form!r}: choose from {', '.join(FORMS)}")
    if form == "csv":
        return _csv(table)
    notes = _source_notes(table) if sources else []
    write = {"terminal": _terminal, "markdown": _markdown, "latex": _latex}[form]
    return write(table, notes)


def _terminal(table: Table, sources: Sequence[str]) -> str:
    def plain(cell: Cell) -> str:
        return cell.text

    notes = [*map(_clean, table.notes), *_measured_note(table, DAGGER)]
    text = _tabulate(table, plain, "\n", "simple")
    parts = [_clean(table.title), text, "\n".join(notes), "\n".join(sources)]
    return "\n\n".join(part for part in parts if part)


def _markdown(table: Table, sources: Sequence[str]) -> str:
    def marked(cell: Cell) -> str:
        text = _escape_markdown(cell.text)
        return text if cell.rank is None else (f"**{text}**", f"<u>{text}</u>")[cell.rank]

    notes = [*_marks_note(table), *table.notes, *_measured_note(table, DAGGER), *sources]
    text = _tabulate(table, marked, "<br>", "pipe")
    title = f"### {_escape_markdown(_clean(table.title))}"
    items = "\n".join(f"- {_escape_markdown(_clean(note))}" for note in notes)
    return "\n\n".join(part for part in (title, text, items) if part)


def _csv(table: Table) -> str:
    columns, scores = _columns(table), _scores(table)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    headings = [*(column.csv for column in columns), *(f"{_clean(s)}_{m}" for s, m in scores)]
    writer.writerow(["table", "method", *headings, "kind", "source"])
    for row in table.rows:
        values = [getattr(row, column.field) for column in columns]
        values += [row.scores.get(name, {}).get(metric) for name, metric in scores]
        texts = ["" if value is None else _clean(str(value)) for value in values]
        kind = "measured" if row.measured else "published"
        about = [_clean(table.title), _clean(row.method)]
        writer.writerow([*about, *texts, kind, _clean(row.source)])
    return out.getvalue().removesuffix("\n")


def _latex(table: Table, sources: Sequence[str]) -> str:
    def marked(cell: Cell) -> str:
        text = "--" if cell.text == MISSING else _escape_latex(cell.text)
        return text if cell.rank is None else f"\\{('textbf', 'underline')[cell.rank]}{{{text}}}"

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells).lstrip() + r" \\"

    columns, scores, width = _columns(table), _scores(table), len(table.metrics)
    captions = filter(None, map(_clean, (table.title, *table.notes, *_marks_note(table))))
    caption = " ".join(text if text.endswith((".", "!", "?")) else f"{text}." for text in captions)
    align = "l" + "".join("l" if column.field == "training_data" else "r" for column in columns)
    upper = ["Method", *(column.heading[0] for column in columns)]
    lower = ["", *(column.heading[1] for column in columns)]
    rules = []
    for name in table.sets if scores else ():
        start = len(lower) + 1
        upper.append(rf"\multicolumn{{{width}}}{{c}}{{{_escape_latex(_clean(name))}}}")
        lower += [_escape_latex(_label(metric)) for metric in table.metrics]
        rules.append(rf"\cmidrule(lr){{{start}-{len(lower)}}}")
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_escape_latex(caption)}}}",
        rf"\begin{{tabular}}{{{align}{'c' * len(scores)}}}",
        r"\toprule",
        line(upper),
        *([" ".join(rules)] if rules else []),
        line(lower),
        r"\midrule",
    ]
    for row, cells in zip(table.rows, _grid(table), strict=True):
        method, *rest = map(marked, cells)
        lines.append(line([method + (r"$^\dagger$" if row.measured else ""), *rest]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [*_measured_note(table, r"$^\dagger$"), *map(_escape_latex, sources)]
    if notes:
        lines += ["", r"\smallskip", r"\raggedright\scriptsize", "\\\\\n".join(notes)]
    return "\n".join([*lines, r"\end{table*}"])


def _columns(table: Table) -> list[Column]:
    def known(column: Column) -> bool:
        return any(getattr(row, column.field) not in (None, "") for row in table.rows)

    return list(filter(known, COLUMNS))


def _scores(table: Table) -> list[tuple[str, str]]:
    """Set and metric of each column of scores."""
    return [(name, metric) for name in table.sets for metric in table.metrics]


def _grid(table: Table) -> list[list[Cell]]:
    """The cells of each row: method, columns, scores."""
    ranks = [_ranks([_printed(row, *score) for row in table.rows]) for score in _scores(table)]
    grid = []
    for row in table.rows:
        cells = [Cell(_clean(row.method))]
        for column in _columns(table):
            value = getattr(row, column.field)
            cells.append(Cell(MISSING if value in (None, "") else column.text(value)))
        for score, rank in zip(_scores(table), ranks, strict=True):
            text = _printed(row, *score)
            cells.append(Cell(text, rank.get(text)))
        grid.append(cells)
    return grid


def _printed(row: Row, name: str, metric: str) -> str:
    value = row.scores.get(name, {}).get(metric)
    if value is None:
        return MISSING
    return f"{value:.4f}" if metric.startswith("ssim") else f"{value:.2f}"


def _ranks(texts: Sequence[str]) -> dict[str, int]:
    """The printed scores that are best and second best; none where there is nothing to compare."""
    scores = [text for text in texts if text != MISSING and not math.isnan(float(text))]
    if len(scores) < 2:
        return {}
    best = sorted({float(text) for text in scores}, reverse=True)[:2]
    return {text: best.index(float(text)) for text in scores if float(text) in best}


def _tabulate(table: Table, write: Callable[[Cell], str], newline: str, style: str) -> str:
    """A grid with the metrics of a set in one column, PSNR/SSIM."""
    try:
        from tabulate import tabulate
    except ImportError as error:
        raise UserError(
            'this form of a table needs tabulate: pip install "compacter-arch[table]"'
        ) from error
    columns = _columns(table)
    left, width = 1 + len(columns), len(table.metrics)
    metrics = "/".join(map(_label, table.metrics))
    names = table.sets if table.metrics else ()
    heads = ["Method", *(newline.join(column.heading) for column in columns)]
    heads += [f"{write(Cell(_clean(name)))}{newline}{metrics}" for name in names]
    lines = []
    for row, cells in zip(table.rows, _grid(table), strict=True):
        joined = [write(cell) for cell in cells[:left]]
        joined[0] += f" {DAGGER}" if row.measured else ""
        groups = [cells[start : start + width] for start in range(left, len(cells), width or 1)]
        for group in groups:
            some = any(cell.text != MISSING for cell in group)
            joined.append("/".join(map(write, group)) if some else MISSING)
        lines.append(joined)
    align = ["left" if c.field == "training_data" else "right" for c in columns]
    text = tabulate(
        lines,
        heads,
        tablefmt=style,
        disable_numparse=True,
        colalign=["left", *align, *["right"] * len(names)] if lines else None,
    )
    return "\n".join(map(str.rstrip, text.splitlines()))


def _label(metric: str) -> str:
    return LABELS.get(metric, _clean(metric))


def _short(number: float) -> str:
    """Three digits, or all before the point and one behind it."""
    if number < 10:
        return f"{number:.3g}"
    return f"{number:,.1f}".removesuffix(".0")


def _marks_note(table: Table) -> list[str]:
    ranked = any(cell.rank is not None for cells in _grid(table) for cell in cells)
    return [MARKS] if ranked else []


def _measured_note(table: Table, mark: str) -> list[str]:
    return [f"{mark} measured here"] if any(row.measured for row in table.rows) else []


def _source_notes(table: Table) -> list[str]:
    """One note for each source, with all its methods."""
    methods: dict[str, list[str]] = {}
    for row in table.rows:
        if not row.measured:
            methods.setdefault(_clean(row.source), []).append(_clean(row.method))
    return [f"{', '.join(names)}: {source}" for source, names in methods.items()]


def _clean(text: str) -> str:
    """One line of printable characters."""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())


def _escape_markdown(text: str) -> str:
    """Keep GitHub from reading marks; an underscore inside a word is none."""
    return re.sub(r"([\\`*\[\]<>|&~#$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # the first of a row: an option of \\
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "×": r"$\times$",
    "σ": r"$\sigma$",
    DAGGER: r"$\dagger$",
}


def _escape_latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
