"""The numbers of a run by iteration, in a CSV file that goes on without gaps or repetitions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..atomic import write_file

KEY = "iteration"


def metric_column(dataset: str, metric: str) -> str:
    """The column of a metric: ``set5_psnr``."""
    return f"{dataset.lower()}_{metric}"


class History:
    """A line for each logged or validated iteration: ``iteration,lr,l_pix,set5_psnr``.

    Numbers have all their digits, so that two runs can be compared to the bit. `basicsr figure
    curves` draws the file.

    Args:
        file: ``train_<name>.csv`` beside the logs of the run; need not exist yet.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        rows = list(self.read())
        self.columns = list(rows[-1]) if rows else [KEY]
        self.last = int(rows[-1][KEY]) if rows else -1

    def read(self) -> Iterator[dict[str, str]]:
        """The lines as text by column, without one that a kill or a full disk has cut."""
        if not self.file.exists():
            return
        with self.file.open(encoding="utf-8", newline="") as file:
            whole = (line for line in file if line.endswith("\n"))
            yield from csv.DictReader(whole)

    def row(self, iteration: int) -> dict[str, float]:
        """The numbers of an iteration; empty if it has none."""
        found = next((row for row in self.read() if row[KEY] == str(iteration)), {})
        return {key: float(text) for key, text in found.items() if key != KEY and text}

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Write numbers of an iteration, which may have some already."""
        new = {KEY: str(iteration)} | {key: repr(float(x)) for key, x in values.items()}
        if iteration > self.last and new.keys() <= set(self.columns):
            with self.file.open("a", encoding="utf-8", newline="") as file:
                file.write(self.lines([new]))
            self.last = iteration
            return
        rows = {row[KEY]: row for row in self.read()}
        rows[new[KEY]] = rows.get(new[KEY], {}) | new
        self.write(list(rows.values()))

    def cut(self, iteration: int, validated: bool) -> None:
        """Drop what a state of ``iteration`` does not know of, and will come again.

        Args:
            validated: whether the state knows of that iteration's metrics.
        """
        rows = [row for row in self.read() if int(row[KEY]) <= iteration]
        if rows and int(rows[-1][KEY]) == iteration and not validated:
            logged = (KEY, "lr")
            rows[-1] = {k: x for k, x in rows[-1].items() if k in logged or k.startswith("l_")}
            if len(rows[-1]) == 1 or not any(list(rows[-1].values())[1:]):
                del rows[-1]
        if self.file.exists():
            self.write(rows)

    def write(self, rows: list[dict[str, str]]) -> None:
        """Replace the file."""
        self.columns = list(dict.fromkeys([KEY, *(key for row in rows for key in row)]))
        self.last = int(rows[-1][KEY]) if rows else -1
        write_file(self.file, (",".join(self.columns) + "\n" + self.lines(rows)).encode())

    def lines(self, rows: list[dict[str, str]]) -> str:
        """Rows as text, numbers that are not there as nothing."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writerows(rows)
        return text.getvalue()
