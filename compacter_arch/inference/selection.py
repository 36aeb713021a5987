"""Which files to restore, and where the results go; decided before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..errors import UserError
from .encoding import FORMATS
from .restoration import Job
from .video import MISSING, has_pyav, is_video

KEEP = "keep"


@dataclass(frozen=True)
class Source:
    """A file to restore, and its place below the folder of the results, still with its own name."""

    file: Path
    place: Path


def is_image(path: Path) -> bool:
    """Whether a file is named as an image that can be written."""
    return path.suffix.lower() in FORMATS


def find_sources(
    inputs: Sequence[str], output: Path, lines: Iterable[str]
) -> tuple[list[Source], list[Path]]:
    """The files that the arguments of a command name, each once, in their order.

    Args:
        inputs: files; folders, of which all images are taken, and videos if PyAV is there, those in
            folders below too, but none below ``output``; patterns (``*``, ``?``, ``[]``, ``**``)
            where no file is named so; ``-`` for a list in ``lines``.
        output: the folder of the results.
        lines: a file, folder or pattern in each.

    Returns:
        The files, and what was left out in folders.

    Raises:
        UserError: nothing is there.
    """
    names = [
        name
        for given in inputs
        for name in ((line.rstrip("\r\n") for line in lines) if given == "-" else (given,))
        if name.strip()
    ]
    found: dict[Path, Source] = {}
    others, videos = [], has_pyav()
    for path in (path for name in names for path in expand(name)):
        for source in files_below(path, output) if path.is_dir() else [of_file(path)]:
            if path.is_file() or is_image(source.file) or (videos and is_video(source.file)):
                found.setdefault(real(source.file), source)
            else:
                others.append(source.file)
    if not found:
        raise UserError(f"{', '.join(names) or 'no input'}: no images ({' '.join(FORMATS)})")
    return list(found.values()), others


def reasons(others: Iterable[Path]) -> Iterator[str]:
    """Of what was left out how many and why, in one line for each reason."""
    found: dict[str, list[str]] = {}
    for path in others:
        found.setdefault(MISSING if is_video(path) else "no images", []).append(path.name)
    for why, names in found.items():
        yield f"{len(names)} left out, {why}: {', '.join(names[:3])}" + ", ..." * (len(names) > 3)


def expand(name: str) -> list[Path]:
    """What a name stands for.

    Raises:
        UserError: nothing.
    """
    if os.path.lexists(name):
        return [Path(name)]
    paths = matches(name) if any(mark in name for mark in "*?[") else []
    if not paths:
        raise UserError(f"{name}: no such file or folder")
    return paths


def matches(pattern: str) -> list[Path]:
    """What a pattern fits, in order; hidden files and folders only where it names them.

    ``**`` stands for folders, not for links to folders, which may lead back to where they are.

    Raises:
        UserError: it is not written as patterns are.
    """
    wanted = Path(pattern)
    hidden = [part for part in wanted.parts if part.startswith(".")]
    root = Path(wanted.anchor or ".")
    try:
        paths = sorted(root.glob(str(wanted.relative_to(wanted.anchor))))
    except ValueError as error:
        raise UserError(f"{pattern}: {error}") from error
    return [
        path
        for path in paths
        if all(any(fnmatch(part, name) for name in hidden) for part in path.parts if part[0] == ".")
    ]


def real(path: Path) -> Path:
    """Where a path leads; ``Path.resolve`` fails on a link to itself in some Python versions."""
    return Path(os.path.realpath(path))


def of_file(path: Path) -> Source:
    """A file that is named by itself."""
    return Source(path, Path(path.name))


def files_below(folder: Path, output: Path) -> Iterator[Source]:
    """The files in a folder and below, without hidden ones and former results.

    Links and pipes too: reading one that leads nowhere, or that is no file, tells what it is.
    """
    results = real(output)
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in place.parts)
        former = results != real(folder) and results in real(path).parents
        if not path.is_dir() and not hidden and not former:
            yield Source(path, place)


def plan(
    sources: Sequence[Source],
    output: Path,
    form: str = KEEP,
    suffix: str = "",
    *,
    compare: bool = False,
    overwrite: bool = False,
) -> list[Job]:
    """Where each result goes.

    Args:
        output: the folder of the results; or the file of the one result, if its name ends as that
            of an image or, for a video, of a video.
        form: ``png``, ``jpg``, ``webp``, ``tif`` or ``keep``; of images.
        suffix: added to the names.
        compare: with a picture of before and after, ``<name>_compare``.
        overwrite: a result may replace an earlier one, or its own input.

    Raises:
        UserError: two results of one name; a result where there is a file already; a format that
            cannot be written.
    """
    to_file = (is_image(output) or is_video(output)) and not output.is_dir()
    if to_file and len(sources) > 1:
        raise UserError(f"{output}: a file cannot hold {len(sources)} images; give a folder")
    if to_file and is_video(output) != is_video(sources[0].file):
        raise UserError(f"{output}: of an image an image is made, of a video a video")
    if to_file and (suffix or form not in (KEEP, output.suffix[1:].lower())):
        raise UserError(f"{output}: leave out --format and --suffix, or give a folder")
    if not to_file and output.exists() and not output.is_dir():
        raise UserError(f"{output}: is neither a folder nor named as an image or video")
    jobs = []
    for source in sources:
        place = source.place
        ending = place.suffix if form == KEEP or is_video(place) else f".{form}"
        target = output if to_file else output / place.with_name(f"{place.stem}{suffix}{ending}")
        if not is_image(target) and not is_video(target):
            raise UserError(f"{source.file}: its format cannot be written; give --format")
        comparison = target.with_name(f"{target.stem}_compare{target.suffix}") if compare else None
        jobs.append(Job(source.file, target, comparison))
    check_targets(jobs, overwrite)
    return jobs


def check_targets(jobs: Sequence[Job], overwrite: bool) -> None:
    """Refuse to lose a file.

    Raises:
        UserError: says which, of all jobs.
    """
    sources = {real(job.source): job for job in jobs}
    taken: dict[str, Job] = {}
    problems = []
    for job in jobs:
        for target in filter(None, (job.target, job.comparison)):
            path = real(target)
            other = taken.setdefault(os.path.normcase(path), job)
            owner = sources.get(path)
            if other is not job:
                problems.append(
                    f"{other.source} and {job.source} would both be written to {target}; "
                    "give --suffix, or restore them apart"
                )
            elif owner is not None and (owner is not job or target == job.comparison):
                problems.append(f"{target}: is an input itself; give another folder")
            elif target.exists() and not overwrite:
                what = "is the input itself" if owner is job else "exists"
                problems.append(f"{target}: {what}; give --overwrite, --suffix or another folder")
    if problems:
        raise UserError("\n".join(problems))
