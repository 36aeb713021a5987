"""Checks of what an option file says: sections, names, keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ...messages import shown
from ...models import restoration_model
from ..options import Options
from .argument_values import argument_value_problems
from .findings import Findings
from .known_keys import argument_problems, is_known_code, keys_read_by, nearest, suggestion
from .values import check_values

# The keys that BasicSR reads with opt[section][key], that is, without a default.
REQUIRED_TO_TRAIN = {
    "datasets": (),
    "path": (),
    "train": ("total_iter", "optim_g", "scheduler"),
    "logger": ("print_freq", "save_checkpoint_freq", "use_tb_logger"),
}
REQUIRED_TO_TEST = {"datasets": (), "path": (), "val": ("save_img",)}
REQUIRED_OF_DATA = ("name", "type")
REQUIRED_OF_TRAINING_DATA = ("num_worker_per_gpu", "batch_size_per_gpu")


def check_sections(opt: Options, is_train: bool, found: Findings) -> None:
    """Everything that BasicSR reads without asking is there and has the right shape."""
    for key in ("name", "model_type", "num_gpu"):
        if opt.get(key) is None:
            found.problems.append(f"missing key {key!r}{suggestion(key, map(str, opt))}")
    required = dict(REQUIRED_TO_TRAIN if is_train else REQUIRED_TO_TEST)
    required |= {key: ("type",) for key in networks_of(opt) or ["network_g"]}
    if is_train and opt.get("val") is not None:
        required["val"] = ("val_freq", "save_img")
    if "path" in opt and opt["path"] is None:
        opt["path"] = {}  # `path:` with nothing below it
    for section, keys in required.items():
        content = opt.get(section)
        if not isinstance(content, dict):
            what = "missing section" if content is None else "not a section of `key: value`:"
            found.problems.append(f"{what} {section!r}{suggestion(section, map(str, opt))}")
            continue
        for key in keys:
            if key not in content:
                found.problems.append(f"{section}: missing key {key!r}{suggestion(key, content)}")
    if not found.problems:
        check_phases(opt["datasets"], is_train, found)
    if not found.problems:
        check_values(opt, is_train, found)


def check_phases(datasets: Mapping[str, Any], is_train: bool, found: Findings) -> None:
    """The data sets are named train, val*, test*, and each says what it is."""
    allowed = ("train", "val") if is_train else ("test", "val")
    for phase, dataset in datasets.items():
        if str(phase).split("_")[0] not in allowed:
            found.problems.append(f"datasets: {phase!r} must begin with {' or '.join(allowed)}")
        elif not isinstance(dataset, dict):
            found.problems.append(f"datasets.{phase}: is empty")
        else:
            required = REQUIRED_OF_DATA + (REQUIRED_OF_TRAINING_DATA if phase == "train" else ())
            for key in required:
                if key not in dataset:
                    near = suggestion(key, dataset)
                    found.problems.append(f"datasets.{phase}: missing key {key!r}{near}")
    if is_train and "train" not in datasets:
        found.problems.append("datasets: missing section 'train'")
    if not datasets:
        found.problems.append("datasets: is empty")


def check_keys(opt: Options, is_train: bool, found: Findings) -> None:
    """Every named class is registered, and every key is one that the chosen classes read."""
    import basicsr.data
    import basicsr.models
    import basicsr.test
    import basicsr.train
    import basicsr.utils.logger
    import basicsr.utils.misc
    import basicsr.utils.options
    from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY

    from .. import checkpoints, comparison, nonfinite, run, test, train

    pipelines = [basicsr.models, basicsr.train, basicsr.test, train, run, test, comparison]
    pipelines += [checkpoints, nonfinite]
    pipelines += [basicsr.utils.options, basicsr.utils.misc, basicsr.utils.logger]
    model = registered(MODEL_REGISTRY, opt["model_type"], "model_type", found)
    if model is None:
        return
    networks = networks_of(opt)
    known = keys_read_by(model, *pipelines) | set(networks)
    known |= {f"pretrain_{n}" for n in networks}
    known |= {f"{key}_{n[8:]}" for n in networks for key in ("param_key", "strict_load")}
    unknown_keys("", opt, known, False, found)
    for section in ("path", "val", "logger"):
        unknown_keys(section, opt.get(section) or {}, known, False, found)
    if is_train:
        # BasicSR's own files give some models keys that only others of its models read.
        others = (
            keys_read_by(*(cls for _, cls in MODEL_REGISTRY)) if is_known_code(model) else set()
        )
        idle = (opt["train"].keys() & others) - known
        found.warnings += [
            f"train: {opt['model_type']} does not read {key!r}" for key in sorted(idle)
        ]
        unknown_keys("train", opt["train"], known | idle, is_known_code(model), found)
    for phase, dataset in opt["datasets"].items():
        classes = [
            registered(DATASET_REGISTRY, dataset[key], f"datasets.{phase}.{key}", found)
            for key in ("type", "subset_type")
            if key in dataset
        ]
        if None in classes:
            continue
        own = keys_read_by(*classes) - opt.keys() - dataset.keys()
        of_basicsr = any(cls.__module__.startswith("basicsr.") for cls in classes)
        if "scale" in own and of_basicsr:  # read without a default
            found.problems.append("missing key 'scale'")
            return
        known = keys_read_by(*classes, basicsr.data, *pipelines)
        unknown_keys(f"datasets.{phase}", dataset, known, False, found)
    check_parts(opt, is_train, found)
    if is_train:
        check_optimisation(opt["train"], model, found)


def check_parts(opt: Options, is_train: bool, found: Findings) -> None:
    """Networks, losses and metrics are registered and take the keys that they are given."""
    from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY

    parts = [(ARCH_REGISTRY, key, opt[key]) for key in networks_of(opt)]
    if is_train:
        losses = {key: content for key, content in opt["train"].items() if key.endswith("_opt")}
        parts += [(LOSS_REGISTRY, f"train.{k}", loss) for k, loss in losses.items() if loss]
    metrics = (opt.get("val") or {}).get("metrics") or {}
    parts += [(METRIC_REGISTRY, f"val.metrics.{k}", metric) for k, metric in metrics.items()]
    for registry, where, content in parts:
        if not isinstance(content, dict) or "type" not in content:
            found.problems.append(f"{where}: missing key 'type'")
            continue
        part = registered(registry, content["type"], f"{where}.type", found)
        if part is not None:
            skip = {"type"}
            if registry is METRIC_REGISTRY:
                skip |= {"better", "img", "img2"}  # BasicSR gives the images and reads `better`
            check_arguments(where, part, content, skip, found)


def check_optimisation(train: Mapping[str, Any], model: type, found: Findings) -> None:
    """Optimizers and schedulers exist and take the keys that they are given."""
    from basicsr.models import lr_scheduler

    multi_step, cosine = lr_scheduler.MultiStepRestartLR, lr_scheduler.CosineAnnealingRestartLR
    schedulers: dict[str, Any] = {"MultiStepLR": multi_step, "MultiStepRestartLR": multi_step}
    schedulers["CosineAnnealingRestartLR"] = cosine
    optimizers: dict[str, Any] = {"Adam": torch.optim.Adam}
    if issubclass(model, restoration_model.RestorationModel):
        schedulers = restoration_model.SCHEDULERS | schedulers
        optimizers = restoration_model.OPTIMIZERS
    parts = [(key, optimizers, "params") for key in train if key.startswith("optim_")]
    for key, types, provided in [*parts, ("scheduler", schedulers, "optimizer")]:
        content, where = train[key], f"train.{key}"
        if not isinstance(content, dict) or "type" not in content:
            found.problems.append(f"{where}: missing key 'type'")
        elif str(content["type"]) in types:
            skip = {"type", provided, "T_max"}  # RestorationModel fills in T_max
            check_arguments(where, types[content["type"]], content, skip, found)
        elif is_known_code(model):  # another model may know more types
            near = suggestion(str(content["type"]), types)
            found.problems.append(f"{where}.type: {shown(content['type'])} is not known{near}")


def check_arguments(
    where: str, part: Any, content: Mapping[str, Any], skip: set[str], found: Findings
) -> None:
    """A class or function takes the keys of a section, and values of such types."""
    given = {key: value for key, value in content.items() if key not in skip}
    problems = argument_problems(part, content, skip)
    found.problems += [f"{where}: {problem}" for problem in problems]
    problems = argument_value_problems(part, given)
    found.problems += [f"{where}.{problem}" for problem in problems]


def registered(registry: Any, name: object, where: str, found: Findings) -> Any:
    """The registered object; None and a problem with the nearest name where there is none."""
    for candidate in (str(name), f"{name}_basicsr"):
        if candidate in registry:
            return registry.get(candidate)
    near = suggestion(str(name), registry.keys())
    found.problems.append(f"{where}: {shown(name)} is not registered{near}")
    return None


def unknown_keys(
    where: str, content: Mapping[str, Any], known: Iterable[str], strict: bool, found: Findings
) -> None:
    """Keys that nothing reads: a problem if strict or like one that is read, else a warning."""
    known = set(known)
    # A section may be there twice, once misspelt, after --force_yml.
    given = set(content) if where else set()
    candidates = {word for word in known if word.isidentifier()}
    for key in content:
        if key in known:
            continue
        near = nearest(str(key), candidates - given, cutoff=0.8)
        misspelt = near is not None
        near = near or nearest(str(key), candidates, cutoff=0.8)
        line = f"{where + ': ' if where else ''}unknown key {key!r}"
        if misspelt or strict:
            found.problems.append(f"{line} (did you mean {near!r}?)" if near else line)
        else:
            found.warnings.append(f"{line}: nothing reads it")


def networks_of(opt: Options) -> list[str]:
    """The keys of the networks: ``network_g`` and its like."""
    return [str(key) for key in opt if str(key).startswith("network_")]
