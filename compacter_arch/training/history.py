"""The numbers of a run by iteration, in a CSV file that goes on without gaps or repetitions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ..atomic import write_file

KEY = "iteration"


def metric_column(dataset: str, metric: str) -> str:
    """The column of a metric: ``set5_psnr``."""
    return f"{dataset.lower()}_{metric}"


class History:
    """The losses of an iteration in one line, the metrics of a validation after it in another.

    Both have all columns, as in ``iteration,lr,l_pix,set5_psnr``, and leave out what is not theirs;
    so lines are only ever added, in a time that does not depend on how many there are. Numbers have
    all their digits, so that two runs can be compared to the bit. `basicsr figure curves` draws
    the file.

    Args:
        file: ``train_<name>.csv`` beside the logs of the run; need not exist yet.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.columns = [KEY]
        if file.exists():
            with file.open(encoding="utf-8", newline="") as lines:
                self.columns = next(csv.reader(lines), self.columns)

    def read(self) -> Iterator[dict[str, str]]:
        """The lines as text by column, without one that a kill or a full disk has cut."""
        if not self.file.exists():
            return
        with self.file.open(encoding="utf-8", newline="") as file:
            whole = (line for line in file if line.endswith("\n"))
            yield from csv.DictReader(whole)

    def row(self, iteration: int) -> dict[str, float]:
        """The numbers of an iteration; empty if it has none."""
        rows = (row for row in self.read() if row[KEY] == str(iteration))
        numbers = (item for row in rows for item in row.items() if item[1])
        return {key: float(text) for key, text in numbers if key != KEY}

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Write losses, or metrics, of an iteration."""
        new = [key for key in values if key not in self.columns]
        if new:
            self.write(self.read(), [*self.columns, *new])
        line = {KEY: str(iteration)} | {key: repr(float(x)) for key, x in values.items()}
        with self.file.open("a", encoding="utf-8", newline="") as file:
            file.write(self.text([line]))

    def cut(self, iteration: int, validated: bool) -> None:
        """Drop what a state of ``iteration`` does not know of, and will come again.

        Args:
            validated: whether the state knows of that iteration's metrics.
        """
        known = (
            row
            for row in self.read()
            if int(row[KEY]) < iteration
            or (int(row[KEY]) == iteration and (validated or row.get("lr")))
        )
        if self.file.exists():
            self.write(known, self.columns)

    def write(self, rows: Iterable[Mapping[str, str]], columns: list[str]) -> None:
        """Replace the file."""
        self.columns = columns
        write_file(self.file, (",".join(columns) + "\n" + self.text(rows)).encode())

    def text(self, rows: Iterable[Mapping[str, str]]) -> str:
        """Rows as lines, numbers that are not there as nothing."""
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        return text.getvalue()
