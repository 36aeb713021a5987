"""Checkpoints: read without running code, written whole or not at all, resumed from."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import re
import threading
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .patching import Function, patch, stand_in_for_torch

_logger = logging.getLogger(__name__)

# what a damaged file raises depends on where it is damaged
UNREADABLE = (
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def check_sums(path: str | os.PathLike) -> None:
    """Compare what a file of `torch.save` holds with the CRC-32 of each of its parts.

    Torch writes them, as its files are zip archives, and does not look at them when it reads.

    Raises:
        ValueError: a part is damaged.
        zipfile.BadZipFile, zlib.error: so is the archive.
    """
    if zipfile.is_zipfile(path):  # else one from before torch 1.6, without sums, or none at all
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"damaged: {damaged} in it does not match its checksum")


def load_safely(path: Any, *args: Any, **kwargs: Any) -> Any:
    """`torch.load` that never runs code from the file, whatever this torch's default is.

    Before 2.6, torch hands an archive of TorchScript to `torch.jit.load` even if weights alone are
    asked for (CVE-2025-32434). It warns first, which is the end of it here.

    Raises:
        UNREADABLE, above all pickle.UnpicklingError: the file holds more than plain values and
            tensors, or is damaged.
        OSError: there is no such file.
    """
    if isinstance(path, (str, os.PathLike)):
        check_sums(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*dispatching to 'torch.jit.load'", UserWarning)
        try:
            return torch.load(path, *args, **{**kwargs, "weights_only": True})
        except UserWarning as error:
            raise pickle.UnpicklingError("it is a program of TorchScript") from error


def load_state(path: str | os.PathLike) -> dict:
    """Read a training state to the current GPU, or to the CPU where there is none."""
    device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    return load_safely(path, map_location=device)


def _newest_readable_state(opt: dict) -> tuple[str, dict] | tuple[None, None]:
    """The newest `<iteration>.state` of a run that can be read, and what it holds.

    So must be the weights of that iteration, which the resume will ask for.
    """
    paths = opt["path"]
    folder, ignored = Path(paths["training_states"]), paths.get("ignore_resume_networks") or ()
    labels = [key[8:] for key in opt if key.startswith("network_") and key not in ignored]
    states = [path for path in folder.glob("*.state") if re.fullmatch(r"[0-9]+", path.stem)]
    for path in sorted(states, key=lambda path: int(path.stem), reverse=True):
        file = path
        try:
            state = load_state(path)
            _ = state["iter"], state["epoch"]
            for label in labels:
                file = Path(paths["models"], f"net_{label}_{state['iter']}.pth")
                load_safely(file, map_location="cpu")
            return str(path), state
        except (OSError, *UNREADABLE) as error:
            reason = _first_line(error)
            _logger.warning("%s cannot be read (%s); the state before it is tried.", file, reason)
    if states:
        raise ValueError(
            f"{folder}: none of its {len(states)} training states can be read with its weights."
        )
    return None, None


def repair_resume() -> None:
    """`train.py:68-88`: resuming needs CUDA and one current directory, and dies on a bad file.

    Without CUDA the current device is asked for all the same. `--auto_resume` searches below the
    current directory: from elsewhere it starts anew and archives the run that it should have
    continued. A file like `best.state` is a ValueError; a newest state cut by a kill ends every
    later attempt, one with a flipped bit goes on with other numbers. The file is read with pickle's
    full power under torch before 2.6.
    """
    from basicsr import train

    @patch(train, "load_resume_state")
    def load_resume_state(original: Function, opt: dict) -> dict | None:
        paths, state = opt["path"], None
        if opt["auto_resume"]:
            # None when there is nothing to continue: BasicSR then ignores the option file's own
            # resume_state
            paths["resume_state"], state = _newest_readable_state(opt)
        elif paths.get("resume_state"):
            state = load_state(paths["resume_state"])
        if state is not None:
            train.check_resume(opt, state["iter"])
        return state


def _is_state_dict(values: Any) -> bool:
    if not isinstance(values, Mapping):
        return False
    # a network without parameters has an empty one
    return not values or any(torch.is_tensor(value) for value in values.values())


def _key_of_weights(path: Any, param_key: str | None) -> str | None:
    """The key to load a network file's weights by: None for a bare state dict.

    Raises:
        ValueError: the file has no weights under that key; the message names the file and what it
        holds.
    """
    try:
        content = load_safely(path, map_location="cpu")
    except UNREADABLE as error:
        raise ValueError(
            f"{path} is not a network file that can be read safely: {_first_line(error)}"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not the weights of a network.")
    if param_key not in content and "params" not in content:  # BasicSR falls back to "params"
        param_key = None
    weights = content if param_key is None else content.get(param_key, content.get("params"))
    if not _is_state_dict(weights):
        keys = [str(key) for key, value in content.items() if _is_state_dict(value)]
        hint = f"it has them under: {', '.join(keys)}" if keys else "it holds none"
        raise ValueError(
            f"{path} has no weights under the key asked for; {hint} (option path: param_key_g)."
        )
    return param_key


def repair_load_network() -> None:
    """`models/base_model.py:290-295`: loading trusts the file and knows one layout only.

    Under torch before 2.6 a network file can run code. A plain state dict, as most other projects
    publish it, ends with ``KeyError: 'params'`` that does not name the file.
    """
    from basicsr.models import base_model

    stand_in_for_torch(base_model, load=load_safely)

    @patch(base_model.BaseModel, "load_network")
    def load_network(
        original: Function,
        self: Any,
        net: Any,
        load_path: Any,
        strict: bool = True,
        param_key: str | None = "params",
    ) -> None:
        original(self, net, load_path, strict, _key_of_weights(load_path, param_key))


_READ_WEIGHTS = (
    "basicvsr_arch",
    "dfdnet_arch",
    "inception",
    "spynet_arch",
    "tof_arch",
    "vgg_arch",
)


def repair_weights_of_parts() -> None:
    """`archs/vgg_arch.py:105` and others: weights of a part of a network or loss are trusted.

    Under torch before 2.6 they can run code: those of VGG that lie below ``experiments/``, of
    SpyNet, of BasicVSR, whose paths an option file names, and so on.
    """
    for name in (
        "basicvsr_arch",
        "dfdnet_arch",
        "inception",
        "spynet_arch",
        "tof_arch",
        "vgg_arch",
    ):
        stand_in_for_torch(importlib.import_module(f"basicsr.archs.{name}"), load=load_safely)


# of this thread's save that is under way. error: why its last attempt failed, if it did; more: what
# goes into a training state besides what BasicSR puts there
_saving = threading.local()


def _save_atomically(obj: Any, path: Any, *args: Any, **kwargs: Any) -> None:
    """`torch.save` to a temporary file, which replaces the target once it is on the disk."""
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    more = getattr(_saving, "more", None)
    try:
        with temporary.open("wb") as file:
            torch.save({**obj, **more} if more else obj, file, *args, **kwargs)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        _saving.error = f"Cannot save {path}: {error}"
        temporary.unlink(missing_ok=True)
        raise
    _saving.error = None


def repair_save() -> None:
    """`models/base_model.py:229, 327`: a kill during a save leaves half a file in its place.

    Every later resume dies on it. After three failed attempts (a full disk) the training goes on
    with a line in the log, "Just ignore it", and nothing is saved.
    """
    from basicsr.models import base_model

    stand_in_for_torch(base_model, save=_save_atomically)

    @patch(base_model.BaseModel, "save_network")
    @patch(base_model.BaseModel, "save_training_state")
    def save(original: Function, *args: Any, **kwargs: Any) -> None:
        _saving.error = None
        original(*args, **kwargs)
        if _saving.error is not None:
            raise OSError(_saving.error)


def _plain(best: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict:
    """Best metrics as `BaseModel` keeps them, by data set and metric, without NumPy's numbers."""
    return {
        dataset: {metric: {**record, "val": float(record["val"])} for metric, record in of.items()}
        for dataset, of in best.items()
    }


def repair_best_metrics() -> None:
    """`models/base_model.py:303, 338`: a training state does not hold the best metrics so far.

    After a resume, the log calls the best of the rest the best of the run. Those of a data set are
    taken up if it is measured as before. What a model has in an attribute ``more_state``, a dict of
    plain values, goes into the state as well.
    """
    from basicsr.models.base_model import BaseModel

    @patch(BaseModel, "save_training_state")
    def save_training_state(original: Function, self: Any, epoch: int, current_iter: int) -> None:
        best = _plain(getattr(self, "best_metric_results", {}))
        _saving.more = {"best_metric_results": best, **getattr(self, "more_state", {})}
        try:
            original(self, epoch, current_iter)
        finally:
            _saving.more = None

    @patch(BaseModel, "resume_training")
    def resume_training(original: Function, self: Any, resume_state: dict) -> None:
        original(self, resume_state)
        metrics = (self.opt.get("val") or {}).get("metrics") or {}
        better = {metric: options.get("better", "higher") for metric, options in metrics.items()}
        best = {
            dataset: of
            for dataset, of in resume_state.get("best_metric_results", {}).items()
            if {metric: record["better"] for metric, record in of.items()} == better
        }
        if best:  # some models of BasicSR take the attribute for a sign that they keep them
            self.best_metric_results = best


def repair_scheduler_state() -> None:
    """`models/lr_scheduler.py:20`: the milestones are a Counter, which old torch refuses.

    Older torch (before 2.5) has no Counter among the types that ``weights_only`` accepts. A plain
    dict serves `get_lr` as well, which asks for a milestone only after having found it.
    """
    from basicsr.models.lr_scheduler import MultiStepRestartLR

    @patch(MultiStepRestartLR, "state_dict")
    def state_dict(original: Function, self: Any) -> dict:
        state = original(self)
        return {**state, "milestones": dict(state["milestones"])}


REPAIRS = (
    repair_resume,
    repair_load_network,
    repair_weights_of_parts,
    repair_save,
    repair_best_metrics,
    repair_scheduler_state,
)
