"""Option files: found, read safely, changed from the command line and completed as BasicSR does."""

from __future__ import annotations

import os.path as osp
import random
from pathlib import Path
from typing import Any

import torch
import yaml

from ..errors import UserError
from ..messages import as_line, shown
from .plain_yaml import load_plain
from .rendezvous import group_arguments

Options = dict[str, Any]
LARGEST = 2**20  # bytes of an option file; ours have 5,000


def package_options() -> Path:
    """The folder of the option files that come with this package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "options"
    return installed if installed.is_dir() else package.parent / "options"  # a source checkout


def find_option_file(path: str) -> Path:
    """``path`` below the current directory, else the file of that name that the package ships.

    Raises:
        UserError: neither exists.
    """
    here = Path(osp.expanduser(path))
    if osp.isfile(here):
        return here
    shipped = package_options() / here.name
    if here.parent in (Path("."), Path("options")) and shipped.is_file():
        return shipped
    names = ", ".join(sorted(p.name for p in package_options().glob("*.yml")))
    raise UserError(f"-opt {as_line(path, 200)}: no such file. The package ships options/: {names}")


def read_options(path: Path) -> Options:
    """Read an option file; nothing in it is executed.

    Raises:
        UserError: not readable, too large, or not what :func:`load_plain` takes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise UserError(f"{path}: has more than {LARGEST:,} bytes; is it an option file?")
        opt = load_plain(data.decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a UTF-8 text file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        told = f"{path}{line}: not a plain YAML option file: {problem}"
        raise UserError(as_line(told)) from error
    if not isinstance(opt, dict):
        raise UserError(f"{path}: holds no options (expected `key: value` lines)")
    return opt


def force_options(opt: Options, entries: list[str]) -> None:
    """Apply ``--force_yml``: ``section:key=value``, the value read as YAML reads it.

    Raises:
        UserError: no key, no ``=``, or a key below something that is not a section.
    """
    for entry in entries:
        told = f"--force_yml {as_line(entry, 80)}"
        keys, equals, text = entry.partition("=")
        *sections, key = (part.strip() for part in keys.split(":"))
        if not equals or not all([*sections, key]):
            raise UserError(f"{told}: expected section:key=value")
        node = opt
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise UserError(f"{told}: {shown(section)} is not a section")
        node[key] = parse_value(text.strip(), told)


def keep_datasets(opt: Options, file: Path, names: list[str]) -> None:
    """Drop all data sets but those of these names.

    Args:
        opt: changed in place.
        file: where they come from, for messages.
        names: the ``name`` of each.

    Raises:
        UserError: there is no data set of a name.
    """
    sections = opt.get("datasets")
    datasets = sections if isinstance(sections, dict) else {}
    sets = {key: d.get("name") for key, d in datasets.items() if isinstance(d, dict)}
    known = {name: key for key, name in sets.items() if isinstance(name, str)}
    for name in names:
        if name not in known:
            raise UserError(f"{file}: --datasets: no {name} there, but {', '.join(known)}")
    opt["datasets"] = {known[name]: datasets[known[name]] for name in names}


def parse_value(text: str, told: str) -> Any:
    """One value of the command line: what YAML reads, and BasicSR's ``none``.

    Raises:
        UserError: it is none; begins with ``told``.
    """
    if text.lower() == "none":
        return None
    try:
        return load_plain(text)
    except yaml.YAMLError as error:
        raise UserError(f"{told}: {shown(text)} is not a value") from error


def complete_options(
    opt: Options,
    root: Path,
    is_train: bool,
    *,
    launcher: str = "none",
    auto_resume: bool = False,
    debug: bool = False,
) -> Options:
    """Add what BasicSR's ``parse_options`` adds: ranks, seed, phases, scales and output folders.

    Starts the process group when there is a launcher, and seeds every generator.

    Args:
        opt: options as read; changed in place.
        root: folder that holds ``experiments/``, ``results/`` and ``tb_logger/``.
    """
    from basicsr.utils import set_random_seed
    from basicsr.utils.dist_util import get_dist_info, init_dist

    opt["dist"] = launcher != "none"
    if opt["dist"]:
        slurm = launcher == "slurm"
        init_dist(launcher, **(opt.get("dist_params", {}) if slurm else group_arguments()))
    opt["rank"], opt["world_size"] = get_dist_info()
    if opt.get("manual_seed") is None:
        opt["manual_seed"] = same_everywhere(random.randint(1, 10000))
    set_random_seed(opt["manual_seed"] + opt["rank"])

    opt["auto_resume"], opt["is_train"] = auto_resume, is_train
    if debug and not opt["name"].startswith("debug"):
        opt["name"] = "debug_" + opt["name"]
    if opt["num_gpu"] == "auto":
        opt["num_gpu"] = torch.cuda.device_count()

    for phase, dataset in opt["datasets"].items():
        dataset["phase"] = phase.split("_")[0]
        if "scale" in opt:
            dataset["scale"] = opt["scale"]
        for key in ("dataroot_gt", "dataroot_lq"):
            if dataset.get(key) is not None:
                dataset[key] = osp.expanduser(dataset[key])

    paths = opt["path"] = opt["path"] or {}  # `path:` may have nothing below it
    for key, value in paths.items():
        if value is not None and ("resume_state" in key or "pretrain_network" in key):
            paths[key] = osp.expanduser(value)
    if is_train:
        run = root / "experiments" / opt["name"]
        paths.update(experiments_root=str(run), log=str(run))
        for key in ("models", "training_states", "visualization"):
            paths[key] = str(run / key)
        if "debug" in opt["name"]:
            opt["logger"].update(print_freq=1, save_checkpoint_freq=8)
            if "val" in opt:
                opt["val"]["val_freq"] = 8
    else:
        run = root / "results" / opt["name"]
        paths.update(results_root=str(run), log=str(run), visualization=str(run / "visualization"))
    opt["root_path"] = str(root)
    return opt


def same_everywhere(value: Any) -> Any:
    """What the first of several processes has drawn."""
    values = [value]
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(values)
    return values[0]
