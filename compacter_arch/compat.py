"""Repairs of BasicSR 1.4.2, and nothing else.

The released BasicSR no longer imports beside a current torchvision, and several of its parts stop,
hang or go quietly wrong. `apply` mends them from outside: first the modules that BasicSR's own
import needs, then, if BasicSR can be imported, its functions and methods. Each repair is one
function that names the defect; line numbers are those of BasicSR 1.4.2, paths are relative to
``basicsr/``. A repair wraps what it finds (the original stays reachable as ``__wrapped__``), is
applied once, and does nothing where there is nothing to repair.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.machinery
import importlib.util
import logging
import math
import multiprocessing
import multiprocessing.context
import os
import pickle
import random
import re
import sys
import threading
import weakref
from argparse import ArgumentParser
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

__all__ = ["apply", "safe_loader"]

# Most repairs run before BasicSR sets its logger up, and asking for that logger early would cost it
# its log file.
_logger = logging.getLogger(__name__)


# --------------------------------------------------------------------------------------------------
# Tools
# --------------------------------------------------------------------------------------------------
def _rebind(old: Any, new: Any) -> None:
    """Replace an object by another in every loaded BasicSR module that holds it by name.

    BasicSR imports names (``from x import y``), so that setting one module's attribute would miss
    the others' copies.
    """
    for module_name, module in list(sys.modules.items()):
        if module is None or module_name.partition(".")[0] != "basicsr":
            continue
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)


def _patch(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put ``make(original)`` in the place of a method or, wherever it was imported, a function.

    Does nothing when the name is gone or already repaired.
    """
    original = getattr(owner, name, None)
    if original is None or getattr(original, "_compacter_repair", False):
        return
    repaired: Any = functools.wraps(original)(make(original))
    repaired._compacter_repair = True
    if isinstance(owner, ModuleType):
        _rebind(original, repaired)
    else:
        setattr(owner, name, repaired)


class _StandIn(ModuleType):
    """A module seen through a few replaced names; all others are looked up in the module."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(replaced, _compacter_repair=True, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _is_absent(module_name: str) -> bool:
    """Whether a module cannot be found although its parent package can."""
    parent = module_name.rpartition(".")[0]
    try:
        importlib.import_module(parent)
    except ImportError:
        return False
    try:
        return importlib.util.find_spec(module_name) is None
    except ModuleNotFoundError:
        return True


def _add_module(module_name: str, content: Mapping[str, Any]) -> None:
    """Make a module that no longer exists importable again."""
    module = ModuleType(module_name, "Brought back for BasicSR by compacter_arch.compat.")
    # find_spec refuses a loaded module without a spec, and libraries do ask
    module.__spec__ = importlib.machinery.ModuleSpec(module_name, loader=None)
    module.__dict__.update(content)
    sys.modules[module_name] = module
    parent, _, child = module_name.rpartition(".")
    setattr(importlib.import_module(parent), child, module)


# --------------------------------------------------------------------------------------------------
# What BasicSR's import needs
# --------------------------------------------------------------------------------------------------
_torchvision_library: Any = None  # the operators live as long as this object


def _shim_torchvision_ops() -> None:
    """Torchvision built for CUDA beside torch built for the CPU does not import.

    Its compiled part is then skipped, and `torchvision/_meta_registrations.py` describes operators
    that nobody defined: "operator torchvision::nms does not exist". BasicSR uses none of them; a
    bare definition is enough.
    """
    global _torchvision_library
    try:
        importlib.import_module("torchvision")
        return
    except ImportError:
        return
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            return  # not ours to mend; BasicSR's import will say it again
    _torchvision_library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        _torchvision_library.define(schema)
    importlib.import_module("torchvision")


def _shim_functional_tensor() -> None:
    """`data/degradations.py:8` imports a module that torchvision has dropped (0.17).

    `import basicsr` ends with "No module named 'torchvision.transforms.functional_tensor'".
    """
    name = "torchvision.transforms.functional_tensor"
    if _is_absent(name):
        functional = importlib.import_module("torchvision.transforms.functional")
        _add_module(name, {"rgb_to_grayscale": functional.rgb_to_grayscale})


def _shim_scipy_filters() -> None:
    """`metrics/niqe.py:5`, `data/data_util.py:275` import a module that SciPy 2 drops.

    `import basicsr` would end with "No module named 'scipy.ndimage.filters'".
    """
    name = "scipy.ndimage.filters"
    if _is_absent(name):
        ndimage = importlib.import_module("scipy.ndimage")
        _add_module(name, {key: getattr(ndimage, key) for key in ndimage.__all__})


# --------------------------------------------------------------------------------------------------
# Options
# --------------------------------------------------------------------------------------------------
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")


@functools.cache
def safe_loader() -> type:
    """The YAML loader for option files: safe, ordered, and ``1e-4`` is a number.

    Returns:
        A subclass of PyYAML's safe loader, for ``yaml.load(..., Loader=safe_loader())``. Mappings
        become OrderedDict, ``<<`` merges are resolved, and a tag such as ``!!python/name`` is a
        `yaml.YAMLError`.
    """
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class SafeLoader(base):
        """PyYAML's safe loader with ordered mappings and the exponents of YAML 1.2."""

    def ordered_mapping(loader: Any, node: Any) -> OrderedDict:
        loader.flatten_mapping(node)
        return OrderedDict(loader.construct_pairs(node))

    SafeLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, ordered_mapping)
    # YAML 1.1, which PyYAML reads, wants a dot in the mantissa and a sign in the exponent: 1e-4
    # would be text
    pattern = re.compile(f"^(?:{_FLOAT.pattern})$")
    SafeLoader.add_implicit_resolver("tag:yaml.org,2002:float", pattern, list("-+.0123456789"))
    return SafeLoader


def _repair_yaml() -> None:
    """`utils/options.py:22, 95`: option files are read by PyYAML's unsafe loader.

    A ``!!python/object/apply`` tag in a file that somebody shared runs code. The same loader reads
    ``lr: 1e-4`` as text, on which Adam fails.
    """

    def make(original: Callable[[], tuple[type, type]]) -> Callable[[], tuple[type, type]]:
        return lambda: (safe_loader(), original()[1])

    _patch(importlib.import_module("basicsr.utils.options"), "ordered_yaml", make)


def _repair_force_yml_values() -> None:
    """`utils/options.py:77`: a list given by `--force_yml` is passed to eval.

    Whatever the value calls is run. Negative numbers and exponents stay text, unlike in the file
    that they override.
    """

    def make(original: Callable[[str], Any]) -> Callable[[str], Any]:
        def postprocess(value: str) -> Any:
            if value.startswith("["):
                try:
                    return ast.literal_eval(value)
                except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
                    message = f"--force_yml: {value} is not a list of plain values."
                    raise ValueError(message) from error
            result = original(value)
            if isinstance(result, str):
                if re.fullmatch(r"[-+][0-9]+", result):
                    return int(result)
                if _FLOAT.fullmatch(result) or re.fullmatch(
                    r"[-+]([0-9]+\.[0-9]*|\.[0-9]+)", result
                ):
                    return float(result)
            return result

        return postprocess

    _patch(importlib.import_module("basicsr.utils.options"), "_postprocess_yml_value", make)


def _repair_command_line() -> None:
    """`utils/options.py:128`: the keys of `--force_yml` are pasted into code for exec.

    A key that closes the bracket runs what follows it. Besides, `utils/options.py:88` knows
    ``--local_rank`` only, while `torch.distributed.launch` passes ``--local-rank``: argparse
    refuses to start.
    """

    def check_force_yml() -> None:
        parser = ArgumentParser(add_help=False)
        parser.add_argument("--force_yml", nargs="+", default=[])
        for entry in parser.parse_known_args()[0].force_yml:
            if entry.count("=") != 1:
                raise ValueError(f"--force_yml: {entry!r} is not of the form key:key=value.")
            if not re.fullmatch(r"[\w:-]+", entry.partition("=")[0].strip()):
                raise ValueError(
                    f"--force_yml: the key of {entry!r} may hold letters, digits, '_-:' only."
                )

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def parse_options(*args: Any, **kwargs: Any) -> Any:
            sys.argv[1:] = [
                re.sub(r"^--local-rank(?==|$)", "--local_rank", arg) for arg in sys.argv[1:]
            ]
            check_force_yml()
            return original(*args, **kwargs)

        return parse_options

    _patch(importlib.import_module("basicsr.utils.options"), "parse_options", make)


# --------------------------------------------------------------------------------------------------
# Checkpoints and resuming
# --------------------------------------------------------------------------------------------------
def _load_state(path: str | os.PathLike) -> dict:
    """Read a training state to the current GPU, or to the CPU where there is none."""
    device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    return torch.load(path, map_location=device, weights_only=True)


def _newest_readable_state(folder: str | os.PathLike) -> tuple[str, dict] | tuple[None, None]:
    """The newest `<iteration>.state` of a folder that can be read, and what it holds."""
    states = [path for path in Path(folder).glob("*.state") if re.fullmatch(r"[0-9]+", path.stem)]
    for path in sorted(states, key=lambda path: int(path.stem), reverse=True):
        try:
            state = _load_state(path)
            _ = state["iter"], state["epoch"]
        # what a cut file raises depends on where it was cut
        except (
            OSError,
            EOFError,
            RuntimeError,
            ValueError,
            KeyError,
            TypeError,
            pickle.UnpicklingError,
        ) as error:
            reason = str(error).strip().partition("\n")[0]
            _logger.warning("%s cannot be read (%s); the state before it is tried.", path, reason)
        else:
            return str(path), state
    if states:
        raise ValueError(f"None of the {len(states)} training states in {folder} can be read.")
    return None, None


def _repair_resume() -> None:
    """`train.py:68-88`: resuming needs CUDA and one current directory, and dies on a bad file.

    Without CUDA the current device is asked for all the same. `--auto_resume` searches below the
    current directory: from elsewhere it starts anew and archives the run that it should have
    continued. A file like `best.state` is a ValueError; a newest state cut by a kill ends every
    later attempt. The file is read with pickle's full power under torch before 2.6.
    """
    train = importlib.import_module("basicsr.train")

    def make(original: Callable[[dict], Any]) -> Callable[[dict], Any]:
        def load_resume_state(opt: dict) -> dict | None:
            state = None
            if opt["auto_resume"]:
                # None when there is nothing to continue: BasicSR then ignores the option file's own
                # resume_state
                opt["path"]["resume_state"], state = _newest_readable_state(
                    opt["path"]["training_states"]
                )
            elif opt["path"].get("resume_state"):
                state = _load_state(opt["path"]["resume_state"])
            if state is not None:
                train.check_resume(opt, state["iter"])
            return state

        return load_resume_state

    _patch(train, "load_resume_state", make)


class _LoadedFile(str):
    """A path that brings along what its file holds, so that the file is read once."""

    content: Any


def _load_file(path: Any, *args: Any, **kwargs: Any) -> Any:
    """`torch.load` that never runs code from the file, whatever this torch's default is."""
    if isinstance(path, _LoadedFile):
        return path.content
    return torch.load(path, *args, **{**kwargs, "weights_only": True})


def _weights_in(path: Any, param_key: str | None) -> tuple[_LoadedFile, str | None]:
    """Read a network file and find the key that its weights are under: None for a bare state dict.

    Raises:
        ValueError: the file has no weights under that key; the message names the file and what it
        holds.
    """
    try:
        content = _load_file(path, map_location="cpu")
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{path} is not a network file that can be read safely: {reason}"
        ) from error

    def is_state_dict(values: Any) -> bool:
        if not isinstance(values, Mapping):
            return False
        # a network without parameters has an empty one
        return not values or any(torch.is_tensor(value) for value in values.values())

    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not the weights of a network.")
    fallback = "params" if "params" in content else None  # as in BasicSR; None: a bare state dict
    key = param_key if param_key in content else fallback
    if param_key is None or key is None:
        param_key = key = None
    if not is_state_dict(content if key is None else content[key]):
        keys = [str(key) for key, value in content.items() if is_state_dict(value)]
        hint = f"it has them under: {', '.join(keys)}" if keys else "it holds none"
        raise ValueError(
            f"{path} has no weights under the key asked for; {hint} (option path: param_key_g)."
        )
    loaded = _LoadedFile(path)
    loaded.content = content
    return loaded, param_key


def _repair_load_network() -> None:
    """`models/base_model.py:290-295`: loading trusts the file and knows one layout only.

    Under torch before 2.6 a network file can run code. A plain state dict, as most other projects
    publish it, ends with ``KeyError: 'params'`` that does not name the file.
    """

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def load_network(
            self: Any,
            net: Any,
            load_path: Any,
            strict: bool = True,
            param_key: str | None = "params",
        ) -> None:
            loaded, found_key = _weights_in(load_path, param_key)
            original(self, net, loaded, strict, found_key)

        return load_network

    base_model = importlib.import_module("basicsr.models.base_model")
    _stand_in_for_torch(base_model, load=_load_file)
    _patch(base_model.BaseModel, "load_network", make)


def _stand_in_for_torch(module: ModuleType, **replaced: Any) -> None:
    """Let one BasicSR module see torch with some of its names replaced."""
    seen: Any = module.torch
    if not isinstance(seen, _StandIn):
        seen = module.torch = _StandIn(seen)  # type: ignore[attr-defined]
    vars(seen).update(replaced)


_failed_save = threading.local()


def _save_atomically(obj: Any, path: Any, *args: Any, **kwargs: Any) -> None:
    """`torch.save` to a temporary file, which replaces the target once it is on the disk."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            torch.save(obj, file, *args, **kwargs)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        _failed_save.error = f"Cannot save {path}: {error}"
        if os.path.exists(temporary):
            os.remove(temporary)
        raise
    _failed_save.error = None


def _repair_save() -> None:
    """`models/base_model.py:229, 327`: a kill during a save leaves half a file in its place.

    Every later resume dies on it. After three failed attempts (a full disk) the training goes on
    with a line in the log, "Just ignore it", and nothing is saved.
    """

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def save(*args: Any, **kwargs: Any) -> None:
            _failed_save.error = None
            original(*args, **kwargs)
            if _failed_save.error is not None:
                raise OSError(_failed_save.error)

        return save

    base_model = importlib.import_module("basicsr.models.base_model")
    _stand_in_for_torch(base_model, save=_save_atomically)
    for name in ("save_network", "save_training_state"):
        _patch(base_model.BaseModel, name, make)


def _repair_scheduler_state() -> None:
    """`models/lr_scheduler.py:20`: the milestones are a Counter, which old torch refuses.

    Older torch (before 2.5) has no Counter among the types that ``weights_only`` accepts. A plain
    dict serves `get_lr` as well, which asks for a milestone only after having found it.
    """

    def make(original: Callable[[Any], dict]) -> Callable[[Any], dict]:
        def state_dict(self: Any) -> dict:
            state = original(self)
            if isinstance(state.get("milestones"), Counter):
                state["milestones"] = dict(state["milestones"])
            return state

        return state_dict

    schedulers = importlib.import_module("basicsr.models.lr_scheduler")
    _patch(schedulers.MultiStepRestartLR, "state_dict", make)


# --------------------------------------------------------------------------------------------------
# Training
# --------------------------------------------------------------------------------------------------
def _repair_init_dist() -> None:
    """`utils/dist_util.py:23, 42`: a distributed run on CPUs divides by the number of GPUs.

    And it would ask for the NCCL backend, which has no CPU side.
    """
    dist_util = importlib.import_module("basicsr.utils.dist_util")

    def device_count() -> int:
        return torch.cuda.device_count() or 1

    def set_device(device: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.set_device(device)

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def init(backend: str, *args: Any, **kwargs: Any) -> None:
            original(backend if torch.cuda.is_available() else "gloo", *args, **kwargs)

        return init

    cuda = _StandIn(torch.cuda, device_count=device_count, set_device=set_device)
    _stand_in_for_torch(dist_util, cuda=cuda)
    for name in ("_init_dist_pytorch", "_init_dist_slurm"):
        _patch(dist_util, name, make)


def _repair_model_to_device() -> None:
    """`models/base_model.py:98`: the distributed wrapper of a CPU model asks for a CUDA device."""

    def make(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
            if not self.opt["dist"] or self.device.type != "cpu":
                return original(self, net)
            unused = self.opt.get("find_unused_parameters", False)
            return torch.nn.parallel.DistributedDataParallel(
                net.to(self.device), find_unused_parameters=unused
            )

        return model_to_device

    base_model = importlib.import_module("basicsr.models.base_model")
    _patch(base_model.BaseModel, "model_to_device", make)


def _repair_epochs() -> None:
    """`train.py:45-48`: epochs are counted with the last, incomplete batch, which the loader drops.

    The run stops short of `total_iter` with exit status 0. A batch larger than the dataset trains
    nothing and saves the untrained weights; an empty dataset is a ZeroDivisionError.
    """

    def make(original: Callable[..., tuple]) -> Callable[..., tuple]:
        def create_train_val_dataloader(opt: dict, logger: logging.Logger) -> tuple:
            train_opt = opt["datasets"].get("train", {})
            name = f"The training dataset {train_opt.get('name')}"
            try:
                loader, sampler, val_loaders, epochs, total_iters = original(opt, logger)
            except ZeroDivisionError as error:
                raise ValueError(
                    f"{name} holds no images ({train_opt.get('dataroot_gt')})."
                ) from error
            if len(loader) == 0:
                raise ValueError(
                    f"{name} has too few images for one batch: batch_size_per_gpu is "
                    f"{train_opt['batch_size_per_gpu']}, images are {len(loader.dataset)} "
                    f"(dataset_enlarge_ratio {train_opt.get('dataset_enlarge_ratio', 1)}, "
                    f"{opt['world_size']} process(es))."
                )
            needed = math.ceil(total_iters / len(loader))
            if opt["path"].get("resume_state"):
                # a run that continues with larger batches has made more epochs than its iterations
                # now amount to
                state = _load_state(opt["path"]["resume_state"])
                left = max(0, total_iters - state["iter"])
                needed = max(needed, state["epoch"] + math.ceil(left / len(loader)))
            if needed != epochs:
                logger.info(
                    f"Only full batches count: {len(loader)} iterations per epoch, {needed} epochs."
                )
            return loader, sampler, val_loaders, needed, total_iters

        return create_train_val_dataloader

    _patch(importlib.import_module("basicsr.train"), "create_train_val_dataloader", make)


def _repair_warmup() -> None:
    """`models/lr_scheduler.py:32`: after a warm-up the multi-step rate stays too low for good.

    It multiplies the rate that it finds, which the warm-up has just lowered; milestones inside the
    warm-up are lost. So the scheduler is given back the rate that it had left (kept in its state,
    hence also after a resume) before its step.
    """

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
            if 1 < current_iter <= warmup_iter:
                for scheduler in self.schedulers:
                    groups = scheduler.optimizer.param_groups
                    for group, lr in zip(groups, scheduler.get_last_lr(), strict=True):
                        group["lr"] = lr
            original(self, current_iter, warmup_iter)

        return update_learning_rate

    base_model = importlib.import_module("basicsr.models.base_model")
    _patch(base_model.BaseModel, "update_learning_rate", make)


def _repair_cosine() -> None:
    """`models/lr_scheduler.py:88`: the cosine scheduler is a TypeError past its last period.

    The rate now stays where the last period ended.
    """

    def make(original: Callable[[Any], list[float]]) -> Callable[[Any], list[float]]:
        def get_lr(self: Any) -> list[float]:
            now = self.last_epoch
            try:
                self.last_epoch = min(now, self.cumulative_period[-1])
                return original(self)
            finally:
                self.last_epoch = now

        return get_lr

    schedulers = importlib.import_module("basicsr.models.lr_scheduler")
    _patch(schedulers.CosineAnnealingRestartLR, "get_lr", make)


def _repair_eta() -> None:
    """`utils/logger.py:101`: the remaining iterations are counted one short.

    The last line of a run says "eta: -1 day, 23:59:59".
    """

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def log(self: Any, log_vars: dict) -> None:
            last = self.max_iters
            try:
                self.max_iters = max(last, log_vars["iter"] + 1)
                original(self, log_vars)
            finally:
                self.max_iters = last

        return log

    _patch(importlib.import_module("basicsr.utils.logger").MessageLogger, "__call__", make)


# --------------------------------------------------------------------------------------------------
# Data loading
# --------------------------------------------------------------------------------------------------
class _LoaderFailure:
    """What the prefetch thread hands over in place of a batch when the loader raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _repair_prefetch_errors() -> None:
    """`data/prefetch_dataloader.py:26`: an exception ends the prefetch thread and nothing else.

    The training waits for the next batch for ever: one corrupt image under ``prefetch_mode: cpu``
    hangs the run.
    """

    def make_run(original: Callable[[Any], None]) -> Callable[[Any], None]:
        def run(self: Any) -> None:
            try:
                original(self)
            except Exception as error:
                self.queue.put(_LoaderFailure(error))

        return run

    def make_next(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def get_next(self: Any) -> Any:
            if getattr(self, "failed", False):
                raise StopIteration  # the thread is gone: nothing will come any more
            item = original(self)
            if isinstance(item, _LoaderFailure):
                self.failed = True
                raise item.error
            return item

        return get_next

    generator = importlib.import_module("basicsr.data.prefetch_dataloader").PrefetchGenerator
    _patch(generator, "run", make_run)
    _patch(generator, "__next__", make_next)


def _repair_cpu_prefetcher() -> None:
    """`data/prefetch_dataloader.py:72`: the CPU prefetcher makes an iterator that is thrown away.

    With ``persistent_workers`` both iterators are one, read by two threads: the run hangs. Without,
    the workers are started twice. So the iterator waits for `reset`, or for the first batch if that
    comes earlier.
    """

    def make_init(original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def init(self: Any, loader: Any) -> None:
            original(self, ())  # an empty loader: nothing is started
            self.ori_loader = loader
            self.loader = None

        return init

    def make_next(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def get_next(self: Any) -> Any:
            if self.loader is None:
                self.reset()
            return original(self)

        return get_next

    prefetcher = importlib.import_module("basicsr.data.prefetch_dataloader").CPUPrefetcher
    _patch(prefetcher, "__init__", make_init)
    _patch(prefetcher, "next", make_next)


def _repair_worker_seed() -> None:
    """`data/__init__.py:99`: workers are seeded without the epoch: the same crops in each.

    Torch draws a new seed per worker and epoch from the main process's generator, which
    `manual_seed` fixes: that seed gives new crops and the same run again.
    """

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def worker_init_fn(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
            import numpy as np

            worker_seed = torch.initial_seed() % 2**32
            np.random.seed(worker_seed)
            random.seed(worker_seed)

        return worker_init_fn

    _patch(importlib.import_module("basicsr.data"), "worker_init_fn", make)


class _SpawnProcess(multiprocessing.context.SpawnProcess):
    """A spawned process: unpickling it imports its class, and so repairs BasicSR first."""


class _SpawnContext(multiprocessing.context.SpawnContext):
    Process = _SpawnProcess


_worker_contexts: dict[str, multiprocessing.context.BaseContext] = {"spawn": _SpawnContext()}

if "forkserver" in multiprocessing.get_all_start_methods():

    class _ForkServerProcess(multiprocessing.context.ForkServerProcess):
        """The same for a fork server, which is Python 3.14's default on Linux."""

    class _ForkServerContext(multiprocessing.context.ForkServerContext):
        Process = _ForkServerProcess

    _worker_contexts["forkserver"] = _ForkServerContext()


def _worker_context() -> multiprocessing.context.BaseContext | None:
    """The context that repairs BasicSR in new workers; None where they inherit the repairs."""
    # the default method is the first one; asking for it by get_start_method() would fix it for good
    method = (
        multiprocessing.get_start_method(allow_none=True)
        or multiprocessing.get_all_start_methods()[0]
    )
    return _worker_contexts.get(method)


def _repair_spawned_workers() -> None:
    """`data/__init__.py:93`: a spawned worker starts without any repair.

    Distributed runs force spawn (`utils/dist_util.py:12`), macOS and Windows always use it. The
    worker unpickles the dataset first, for which it imports BasicSR as released, and dies as in
    `_shim_functional_tensor`.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def build_dataloader(*args: Any, **kwargs: Any) -> Any:
            loader = original(*args, **kwargs)
            if loader.num_workers > 0 and loader.multiprocessing_context is None:
                loader.multiprocessing_context = _worker_context()
            return loader

        return build_dataloader

    _patch(importlib.import_module("basicsr.data"), "build_dataloader", make)


# --------------------------------------------------------------------------------------------------
# Images and LMDB
# --------------------------------------------------------------------------------------------------
class _FileBytes(bytes):
    """The content of a file that remembers where it came from."""

    path: str


def _repair_file_client() -> None:
    """`utils/file_client.py:158`: what a file client returns does not say where it came from.

    Later complaints cannot name the file, and a key that an LMDB lacks is None, on which NumPy
    fails.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def get(self: Any, filepath: Any, client_key: str = "default") -> Any:
            content = original(self, filepath, client_key)
            path = str(filepath)
            if self.backend == "lmdb":
                path += f" in {self.client._client[client_key].path()}"
            if content is None:
                raise FileNotFoundError(f"There is no {path}.")
            named = _FileBytes(content)
            named.path = path
            return named

        return get

    _patch(importlib.import_module("basicsr.utils.file_client").FileClient, "get", make)


def _repair_imfrombytes() -> None:
    """`utils/img_util.py:129-131`: bytes that are no image are not noticed.

    The user sees "'NoneType' object has no attribute 'astype'"; which of the thousands of files it
    was is not told.
    """
    import cv2

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def imfrombytes(content: bytes, flag: str = "color", float32: bool = False) -> Any:
            cause: Exception | None = None
            image = None
            try:
                image = original(content, flag, float32)
            except (AttributeError, ValueError, cv2.error) as error:
                cause = error
            if image is None:
                path = getattr(content, "path", "The image")
                raise ValueError(
                    f"{path} cannot be decoded: it is cut off or no image ({len(content)} bytes)."
                ) from cause
            return image

        return imfrombytes

    _patch(importlib.import_module("basicsr.utils.img_util"), "imfrombytes", make)


def _repair_crop_message() -> None:
    """`data/transforms.py:64`: LQ and GT sizes that do not match are told without the file."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def paired_random_crop(
            img_gts: Any, img_lqs: Any, gt_patch_size: int, scale: int, gt_path: Any = None
        ) -> Any:
            try:
                return original(img_gts, img_lqs, gt_patch_size, scale, gt_path)
            except ValueError as error:
                message = "".join(map(str, error.args))
                if gt_path is not None and str(gt_path) not in message:
                    message = f"{gt_path}: {message}"
                raise ValueError(message) from error

        return paired_random_crop

    _patch(importlib.import_module("basicsr.data.transforms"), "paired_random_crop", make)


def _repair_imresize() -> None:
    """`utils/matlab_functions.py:86`: a uint8 image comes back as unrounded, unclipped floats.

    Cast to uint8 by the caller, the overshoot at edges wraps around to black and white dots.
    """
    import numpy as np

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def imresize(img: Any, scale: float, antialiasing: bool = True) -> Any:
            resized = original(img, scale, antialiasing)
            if img.dtype == torch.uint8 and resized.dtype != torch.uint8:
                return (resized + 0.5).floor().clamp(0, 255).to(torch.uint8)
            if img.dtype == np.uint8 and resized.dtype != np.uint8:
                return np.clip(np.floor(resized + 0.5), 0, 255).astype(np.uint8)
            return resized

        return imresize

    _patch(importlib.import_module("basicsr.utils.matlab_functions"), "imresize", make)


def _repair_jpg_quality() -> None:
    """`data/degradations.py:745, 764`: a random JPEG quality is a float, which OpenCV refuses."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda img, quality=90: original(img, int(quality))

    _patch(importlib.import_module("basicsr.data.degradations"), "add_jpg_compression", make)


# name, then "(h,w,c)" and the compression level as BasicSR writes them
_META_LINE = re.compile(r"(?P<name>.+?)(\s+\([0-9]+,\s*[0-9]+(,\s*[0-9]+)?\)(\s+[0-9]+)?)?\s*")


def _lmdb_keys(folder: str) -> list[str]:
    """The keys of an LMDB from its `meta_info.txt`: image names without their extension."""
    with open(os.path.join(folder, "meta_info.txt")) as file:
        lines = [_META_LINE.fullmatch(line) for line in file]
    return [os.path.splitext(line["name"])[0] for line in lines if line is not None]


def _repair_lmdb_keys() -> None:
    """`data/data_util.py:142, 144, 261`: an LMDB key ends at its first dot: `v1` for `v1.5`.

    The image is then not found; two keys with a common beginning become one.
    """

    def make_single(original: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
        def paths_from_lmdb(folder: str) -> list[str]:
            original(folder)  # its checks
            return _lmdb_keys(folder)

        return paths_from_lmdb

    def make_paired(original: Callable[..., list[dict]]) -> Callable[..., list[dict]]:
        def paired_paths_from_lmdb(folders: list[str], keys: list[str]) -> list[dict]:
            original(folders, keys)  # its checks
            of_input, of_gt = map(_lmdb_keys, folders)
            odd = sorted(set(of_input) ^ set(of_gt))
            if odd:
                raise ValueError(
                    f"Keys in {folders[0]} and {folders[1]} are different: "
                    f"{odd[0]} is in one of them only."
                )
            return [{f"{keys[0]}_path": key, f"{keys[1]}_path": key} for key in sorted(of_input)]

        return paired_paths_from_lmdb

    data_util = importlib.import_module("basicsr.data.data_util")
    _patch(data_util, "paths_from_lmdb", make_single)
    _patch(data_util, "paired_paths_from_lmdb", make_paired)


_environments: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def _open_environment(path: str) -> Any:
    """The read-only LMDB environment that this process already has for a path, or None."""
    import lmdb

    environment = _environments.get(path)
    if environment is not None:
        try:
            environment.info()
        except lmdb.Error:  # closed by its user
            return None
    return environment


def _repair_lmdb_sharing() -> None:
    """`utils/file_client.py:112`: two datasets of one process cannot read the same LMDB.

    "The environment '...' is already open in this process." Readers without locks can share one
    environment. A forked worker goes on with the inherited one: LMDB refuses to open the path again
    there as well, and a reader that takes no locks has no state in common with its parent.
    """

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def init(
            self: Any,
            db_paths: Any,
            client_keys: Any = "default",
            readonly: bool = True,
            lock: bool = False,
            **kwargs: Any,
        ) -> None:
            paths = db_paths if isinstance(db_paths, list) else [db_paths]
            keys = [client_keys] if isinstance(client_keys, str) else client_keys
            if not readonly or lock or len(paths) != len(keys):
                original(self, db_paths, client_keys, readonly, lock, **kwargs)
                return
            clients = {}
            for key, path in zip(keys, map(str, paths), strict=True):
                absolute = os.path.realpath(path)
                environment = _open_environment(absolute)
                if environment is None:
                    original(self, path, key, readonly, lock, **kwargs)
                    environment = _environments[absolute] = self._client[key]
                clients[key] = environment
            self.db_paths, self._client = [str(path) for path in paths], clients

        return init

    _patch(importlib.import_module("basicsr.utils.file_client").LmdbBackend, "__init__", make)


# --------------------------------------------------------------------------------------------------
# Registry
# --------------------------------------------------------------------------------------------------
def _repair_registry() -> None:
    """`utils/registry.py:69`: an unknown name is announced as replaced, which it is not.

    "Name X is not found, use name: X_basicsr!" is printed, though there is none either. The
    KeyError that follows does not help with a typing error.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def get(self: Any, name: str, suffix: str = "basicsr") -> Any:
            if name in self or f"{name}_{suffix}" in self:
                return original(self, name, suffix)
            known = {key.lower(): key for key in self.keys()}
            near = difflib.get_close_matches(str(name).lower(), known, n=1)
            hint = f" Did you mean '{known[near[0]]}'?" if near else ""
            raise KeyError(f"No object named '{name}' found in '{self._name}' registry!{hint}")

        return get

    _patch(importlib.import_module("basicsr.utils.registry").Registry, "get", make)


# --------------------------------------------------------------------------------------------------
# All of them
# --------------------------------------------------------------------------------------------------
_SHIMS = (_shim_torchvision_ops, _shim_functional_tensor, _shim_scipy_filters)
_REPAIRS = (
    _repair_yaml,
    _repair_force_yml_values,
    _repair_command_line,
    _repair_resume,
    _repair_load_network,
    _repair_save,
    _repair_scheduler_state,
    _repair_init_dist,
    _repair_model_to_device,
    _repair_epochs,
    _repair_warmup,
    _repair_cosine,
    _repair_eta,
    _repair_prefetch_errors,
    _repair_cpu_prefetcher,
    _repair_worker_seed,
    _repair_spawned_workers,
    _repair_file_client,
    _repair_imfrombytes,
    _repair_crop_message,
    _repair_imresize,
    _repair_jpg_quality,
    _repair_lmdb_keys,
    _repair_lmdb_sharing,
    _repair_registry,
)
_applied = False


def apply() -> None:
    """Repair BasicSR in this process; a second call does nothing.

    Without BasicSR this returns quietly, so that the network can be used by itself. If BasicSR is
    installed but cannot be imported, a warning tells why.
    """
    global _applied
    if _applied or importlib.util.find_spec("basicsr") is None:
        return
    for shim in _SHIMS:
        shim()
    try:
        importlib.import_module("basicsr")
    except (ImportError, RuntimeError) as error:
        _logger.warning("BasicSR cannot be imported and is left unrepaired: %s", error)
        return
    for repair in _REPAIRS:
        repair()
    _applied = True
