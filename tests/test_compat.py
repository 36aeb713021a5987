"""Each repair of BasicSR against the defect that it repairs.

The defect is shown on the original, which every repaired function keeps as ``__wrapped__``, or in a
process of its own where BasicSR runs as released. If such an assertion fails, BasicSR has been
fixed and the repair can go.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import queue
import random
import subprocess
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
import torch
import yaml

from compacter_arch import compat

compat.apply()

import basicsr  # noqa: E402 (BasicSR can be imported once it is repaired)
from basicsr.data import build_dataloader, data_util, degradations, transforms  # noqa: E402
from basicsr.data import prefetch_dataloader as prefetch  # noqa: E402
from basicsr.models import lr_scheduler  # noqa: E402
from basicsr.models.base_model import BaseModel  # noqa: E402
from basicsr.utils import dist_util, file_client, img_util, matlab_functions, options  # noqa: E402
from basicsr.utils.logger import MessageLogger  # noqa: E402
from basicsr.utils.registry import Registry  # noqa: E402

ROOT = Path(compat.__file__).parents[1]
needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="the defect needs a CPU")


def original(repaired: Any) -> Any:
    """The function as BasicSR released it."""
    return repaired.__wrapped__


def run_python(script: str, *arguments: str | Path) -> dict[str, Any]:
    """Run a script without an importable main module and read its last line as JSON."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of a call that must not hang."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "hangs"
    return results[0]


# --------------------------------------------------------------------------------------------------
# apply itself
# --------------------------------------------------------------------------------------------------
def repaired_objects() -> dict[str, Any]:
    return {
        f"{name}.{key}": value
        for name, module in sorted(sys.modules.items())
        if name.partition(".")[0] == "basicsr" and module is not None
        for key, value in vars(module).items()
        if getattr(value, "_compacter_repair", False) and not isinstance(value, type(sys))
    }


def test_apply_twice_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = repaired_objects()
    compat.apply()
    monkeypatch.setattr(compat, "_applied", False)
    compat.apply()
    assert repaired_objects() == before
    assert not hasattr(original(img_util.imfrombytes), "_compacter_repair")


def test_repairs_reach_every_module_that_imported_the_name() -> None:
    from basicsr.data import paired_image_dataset

    assert basicsr.imfrombytes is paired_image_dataset.imfrombytes is img_util.imfrombytes
    assert basicsr.train.parse_options is basicsr.test.parse_options is options.parse_options
    assert hasattr(img_util.imfrombytes, "__wrapped__")


def test_apply_leaves_what_is_gone_alone() -> None:
    owner = SimpleNamespace()
    compat._patch(owner, "gone", lambda old: old)
    assert vars(owner) == {}


def test_apply_without_basicsr_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "_applied", False)
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(compat, "_SHIMS", (lambda: pytest.fail("nothing to repair"),))
    compat.apply()


# --------------------------------------------------------------------------------------------------
# The import of BasicSR, and spawned workers: processes where it is as released
# --------------------------------------------------------------------------------------------------
FAKE_TORCHVISION = """
import torch
register = getattr(torch.library, "register_fake", None) or torch.library.impl_abstract
register("torchvision::nms")(lambda dets, scores, iou_threshold: dets.new_empty(0))
register("torchvision::qnms")(lambda dets, scores, iou_threshold: dets.new_empty(0))
"""
IMPORT_SCRIPT = """
import importlib.util, json, sys
sys.path.insert(0, sys.argv[2])
report = {}

def attempt(key, name):
    try:
        importlib.import_module(name)
        report[key] = "fine"
    except Exception as error:
        report[key] = f"{type(error).__name__}: {error}"

spec = importlib.util.spec_from_file_location("compat_alone", sys.argv[1])
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)

attempt("torchvision as released", "torchvision")
compat._shim_torchvision_ops()
attempt("torchvision repaired", "torchvision")

import scipy.ndimage
class WithoutFilters:
    @staticmethod
    def find_spec(name, *rest):
        if name == "scipy.ndimage.filters":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, WithoutFilters)
sys.modules.pop("scipy.ndimage.filters", None)
vars(scipy.ndimage).pop("filters", None)
attempt("filters as released", "scipy.ndimage.filters")
compat._shim_scipy_filters()
attempt("filters repaired", "scipy.ndimage.filters")
from scipy.ndimage import filters
report["gaussian"] = filters.gaussian_filter is scipy.ndimage.gaussian_filter
print(json.dumps(report))
"""
SPAWN_SCRIPT = """
import importlib, importlib.util, json, multiprocessing, sys
multiprocessing.set_start_method("spawn")
report = {}
spec = importlib.util.spec_from_file_location("compat_alone", sys.argv[1])
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
compat._shim_torchvision_ops()
try:
    import basicsr
except ImportError as error:
    report["import as released"] = str(error)
compat._shim_functional_tensor()
compat._shim_scipy_filters()
import basicsr
from basicsr.data.single_image_dataset import SingleImageDataset

dataset = SingleImageDataset({"dataroot_lq": sys.argv[2], "io_backend": {"type": "disk"}})
options = {"phase": "train", "batch_size_per_gpu": 1, "num_worker_per_gpu": 1}

def load():
    try:
        loader = basicsr.data.build_dataloader(dataset, options, num_gpu=0, seed=0)
        return [list(batch["lq"].shape) for batch in loader]
    except RuntimeError as error:
        return str(error)

stock = basicsr.data.build_dataloader
report["workers as released"] = load()
import compacter_arch
report["repaired although imported before"] = basicsr.data.build_dataloader is not stock
report["workers repaired"] = load()
print(json.dumps(report))
"""


@pytest.fixture(scope="session")
def import_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("fake")
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(FAKE_TORCHVISION)
    return run_python(IMPORT_SCRIPT, compat.__file__, folder)


@pytest.fixture(scope="session")
def spawn_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("images")
    cv2.imwrite(str(folder / "a.png"), np.zeros((4, 6, 3), np.uint8))
    return run_python(SPAWN_SCRIPT, compat.__file__, folder)


def test_torchvision_operators(import_report: dict[str, Any]) -> None:
    assert "torchvision::nms does not exist" in import_report["torchvision as released"]
    assert import_report["torchvision repaired"] == "fine"


def test_scipy_without_filters(import_report: dict[str, Any]) -> None:
    assert "ModuleNotFoundError" in import_report["filters as released"]
    assert import_report["filters repaired"] == "fine" and import_report["gaussian"]


def test_functional_tensor(spawn_report: dict[str, Any]) -> None:
    assert "functional_tensor" in spawn_report["import as released"]
    assert spawn_report["repaired although imported before"]


def test_spawned_workers(spawn_report: dict[str, Any]) -> None:
    assert "exited unexpectedly" in spawn_report["workers as released"]
    assert spawn_report["workers repaired"] == [[1, 3, 4, 6]]


class TinyDataset(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[float, float]:
        return random.random(), float(np.random.rand())


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_process_class_of_workers(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: method)
    loader = tiny_loader(workers=1)
    if method == "fork":
        assert loader.multiprocessing_context is None
        return
    process = loader.multiprocessing_context.Process
    assert loader.multiprocessing_context.get_start_method() == method
    assert process.__module__ == "compacter_arch.compat"
    assert pickle.loads(pickle.dumps(process)) is process
    assert tiny_loader(workers=0).multiprocessing_context is None


def tiny_loader(workers: int, **more: Any) -> Any:
    opt = {"phase": "train", "batch_size_per_gpu": 4, "num_worker_per_gpu": workers, **more}
    return build_dataloader(TinyDataset(), opt, num_gpu=0, seed=0)


# --------------------------------------------------------------------------------------------------
# Options
# --------------------------------------------------------------------------------------------------
def load_yaml(text: str, loader: type | None = None) -> Any:
    return yaml.load(text, Loader=loader or options.ordered_yaml()[0])


def test_option_files_run_no_code(tmp_path: Path) -> None:
    made = tmp_path / "made"
    text = f"a: !!python/object/apply:os.mkdir [{made}]"
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
    assert not made.exists()
    load_yaml(text, original(options.ordered_yaml)()[0])
    assert made.exists()


@pytest.mark.parametrize("text", ["1e-4", "1e5", "5e-4", "1.5E+3", "-2e-1", ".5e-2", "1.e3"])
def test_exponents_are_floats(text: str) -> None:
    value = load_yaml(f"lr: {text}")["lr"]
    assert isinstance(value, float) and value == float(text)


def test_exponents_were_text() -> None:
    assert load_yaml("lr: 1e-4", original(options.ordered_yaml)()[0])["lr"] == "1e-4"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("0.5", 0.5),
        ("!!float 1", 1.0),
        ("1e", "1e"),
        ("e5", "e5"),
        ("x4_1e5k", "x4_1e5k"),
        ("~", None),
        ("[0.9, 1e-3]", [0.9, 1e-3]),
    ],
)
def test_other_scalars_stay(text: str, value: Any) -> None:
    loaded = load_yaml(f"a: {text}")["a"]
    assert loaded == value and type(loaded) is type(value)


def test_mappings_keep_their_order_and_merge() -> None:
    loaded = load_yaml("z: &z {b: 1, a: 2}\ny: {<<: *z, a: 3}\n")
    assert list(loaded) == ["z", "y"] and isinstance(loaded["z"], OrderedDict)
    assert loaded["y"] == {"b": 1, "a": 3}
    assert compat.safe_loader() is options.ordered_yaml()[0]
    assert yaml.dump(loaded["z"], Dumper=options.ordered_yaml()[1]) == "b: 1\na: 2\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, 'a', 2.5]", [1, "a", 2.5]),
        ("1e-4", 1e-4),
        ("-1", -1),
        ("-0.5", -0.5),
        ("!!float1e-3", 1e-3),
        ("None", None),
        ("true", True),
        ("12", 12),
        ("name-1", "name-1"),
    ],
)
def test_force_yml_values(text: str, value: Any) -> None:
    assert options._postprocess_yml_value(text) == value


def test_force_yml_values_run_no_code(tmp_path: Path) -> None:
    made = tmp_path / "made"
    text = f"[__import__('os').mkdir({str(made)!r})]"
    with pytest.raises(ValueError, match="--force_yml"):
        options._postprocess_yml_value(text)
    assert not made.exists()
    original(options._postprocess_yml_value)(text)
    assert made.exists()


def parse(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str, parse_options: Any = None
) -> dict[str, Any]:
    opt = {
        "name": "a",
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {},
        "path": {},
        "train": {"total_iter": 3},
    }
    (folder / "a.yml").write_text(yaml.safe_dump(opt))
    monkeypatch.setattr(sys, "argv", ["train", "-opt", str(folder / "a.yml"), *arguments])
    return (parse_options or basicsr.train.parse_options)(str(folder), is_train=True)[0]


def test_force_yml_keys_run_no_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = tmp_path / "made"
    entry = f'name"], __import__("os").mkdir("{made}"); opt["name=b'
    with pytest.raises(ValueError, match="--force_yml"):
        parse(monkeypatch, tmp_path, "--force_yml", "train:total_iter=4", entry)
    assert not made.exists()
    parse(
        monkeypatch,
        tmp_path,
        "--force_yml",
        entry,
        parse_options=original(options.parse_options),
    )
    assert made.exists()


def test_force_yml_and_local_rank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = ["--force_yml", "train:total_iter=4", "name=b", "--local-rank=0"]
    opt = parse(monkeypatch, tmp_path, *arguments)
    assert opt["train"]["total_iter"] == 4 and opt["name"] == "b"
    with pytest.raises(ValueError, match="key=value"):
        parse(monkeypatch, tmp_path, "--force_yml", "name=b=c")
    with pytest.raises(SystemExit):
        parse(monkeypatch, tmp_path, *arguments, parse_options=original(options.parse_options))


# --------------------------------------------------------------------------------------------------
# Checkpoints and resuming
# --------------------------------------------------------------------------------------------------
def resume_options(folder: Path, **path: Any) -> dict[str, Any]:
    paths = {"training_states": str(folder / "states"), "models": str(folder), **path}
    return {"auto_resume": not path, "name": "run", "path": paths}


def write_state(path: Path, iteration: int) -> None:
    path.parent.mkdir(exist_ok=True)
    torch.save({"epoch": 1, "iter": iteration, "optimizers": [], "schedulers": []}, path)


@needs_no_cuda
def test_resume_on_a_cpu(tmp_path: Path) -> None:
    write_state(tmp_path / "states" / "7.state", 7)
    opt = resume_options(tmp_path, resume_state=str(tmp_path / "states" / "7.state"))
    assert basicsr.train.load_resume_state(opt)["iter"] == 7
    with pytest.raises((AssertionError, RuntimeError)):
        original(basicsr.train.load_resume_state)(opt)


def test_auto_resume_takes_the_newest_state_of_the_run(tmp_path: Path) -> None:
    for iteration in (9, 10):
        write_state(tmp_path / "states" / f"{iteration}.state", iteration)
    opt = resume_options(tmp_path)
    assert basicsr.train.load_resume_state(opt)["iter"] == 10
    assert opt["path"]["resume_state"] == str(tmp_path / "states" / "10.state")
    # the current directory is elsewhere, so as released the run would start anew
    assert original(basicsr.train.load_resume_state)(resume_options(tmp_path)) is None


def test_auto_resume_ignores_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = tmp_path / "experiments" / "run" / "training_states"
    states.mkdir(parents=True)
    write_state(states / "8.state", 8)
    write_state(states / "best.state", 3)
    monkeypatch.chdir(tmp_path)
    opt = resume_options(tmp_path)
    opt["path"]["training_states"] = str(states)
    assert basicsr.train.load_resume_state(opt)["iter"] == 8
    with pytest.raises(ValueError, match="could not convert string to float"):
        original(basicsr.train.load_resume_state)(opt)


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.98])
def test_auto_resume_skips_a_cut_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: float
) -> None:
    write_state(tmp_path / "states" / "5.state", 5)
    newest = tmp_path / "states" / "10.state"
    write_state(newest, 10)
    content = newest.read_bytes()
    newest.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with caplog.at_level(logging.WARNING):
        assert basicsr.train.load_resume_state(resume_options(tmp_path))["iter"] == 5
    assert "10.state cannot be read" in caplog.text


def test_auto_resume_refuses_to_start_anew(tmp_path: Path) -> None:
    assert basicsr.train.load_resume_state(resume_options(tmp_path)) is None
    write_state(tmp_path / "states" / "5.state", 5)
    (tmp_path / "states" / "5.state").write_bytes(b"")
    with pytest.raises(ValueError, match="None of the 1 training states"):
        basicsr.train.load_resume_state(resume_options(tmp_path))


class Payload:
    """What a hostile file would hold: unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.folder,)


def base_model(folder: Path, dist: bool = False) -> BaseModel:
    paths = {"models": str(folder), "training_states": str(folder)}
    return BaseModel({"num_gpu": 0, "is_train": True, "dist": dist, "path": paths})


@pytest.fixture
def old_torch_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.load` as before torch 2.6: files are trusted unless the caller says otherwise."""
    load = torch.load

    def trusting(*args: Any, weights_only: bool = False, **kwargs: Any) -> Any:
        return load(*args, weights_only=weights_only, **kwargs)

    monkeypatch.setattr(torch, "load", trusting)


@pytest.mark.usefixtures("old_torch_default")
def test_files_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, path = tmp_path / "made", tmp_path / "5.state"
    torch.save({"params": Payload(made), "iter": 5, "epoch": 0}, path)
    model, net = base_model(tmp_path), torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="5.state is not a network file"):
        model.load_network(net, str(path))
    with pytest.raises(pickle.UnpicklingError):
        basicsr.train.load_resume_state(resume_options(tmp_path, resume_state=str(path)))
    assert not made.exists()

    monkeypatch.setitem(original(BaseModel.load_network).__globals__, "torch", torch)
    with pytest.raises(AttributeError):
        original(BaseModel.load_network)(model, net, str(path))
    assert made.exists()


@pytest.mark.parametrize(
    ("layout", "key"),
    [
        (lambda state: state, "params"),
        (lambda state: state, None),
        (lambda state: {"params": state}, "params"),
        (lambda state: {"params": state}, "params_ema"),
        (lambda state: {"params_ema": state, "params": {}}, "params_ema"),
        (lambda state: {"params": {f"module.{k}": v for k, v in state.items()}}, "params"),
    ],
)
def test_network_file_layouts(
    tmp_path: Path, layout: Callable[[dict], dict], key: str | None
) -> None:
    source, target = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    torch.save(layout(source.state_dict()), tmp_path / "net.pth")
    base_model(tmp_path).load_network(target, str(tmp_path / "net.pth"), param_key=key)
    assert torch.equal(source.weight, target.weight)


def test_bare_state_dict_was_a_key_error(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 3)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with pytest.raises(KeyError, match="params"):
        original(BaseModel.load_network)(base_model(tmp_path), net, str(tmp_path / "net.pth"))


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        ({"params_ema": torch.nn.Linear(1, 1).state_dict()}, "params", "under: params_ema"),
        ({"params": torch.nn.Linear(1, 1).state_dict()}, None, "under: params"),
        ({"iter": 3}, "params", "holds none"),
        ([1, 2], "params", "holds a list"),
    ],
)
def test_refused_network_files_are_named(
    tmp_path: Path, content: Any, key: str | None, message: str
) -> None:
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message) as caught:
        base_model(tmp_path).load_network(torch.nn.Linear(1, 1), str(path), param_key=key)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_network_without_parameters(tmp_path: Path) -> None:
    model, net = base_model(tmp_path), torch.nn.Identity()
    model.save_network(net, "net_g", 5)
    model.load_network(net, str(tmp_path / "net_g_5.pth"))


def save_something(model: BaseModel, kind: str, save: Callable[..., None]) -> None:
    if kind == "save_network":
        save(model, torch.nn.Linear(2, 2), "net_g", 5)
    else:
        save(model, 1, 5)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


KINDS = {"save_network": "net_g_5.pth", "save_training_state": "5.state"}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(("kind", "name"), KINDS.items())
def test_failed_save_raises_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    """A disk that is full half-way through the file."""
    model, repaired = base_model(tmp_path), getattr(BaseModel, kind)
    (tmp_path / name).write_bytes(b"old")

    def full_disk(obj: Any, target: Any, *args: Any, **kwargs: Any) -> None:
        file = open(target, "wb") if isinstance(target, str) else target  # noqa: SIM115
        file.write(b"half a")
        file.flush()
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_disk)
        with pytest.raises(OSError, match=f"Cannot save .*{name}: No space left"):
            save_something(model, kind, repaired)
        assert (tmp_path / name).read_bytes() == b"old"
        assert os.listdir(tmp_path) == [name]

        patch.setitem(original(BaseModel.load_network).__globals__, "torch", torch)
        save_something(model, kind, original(repaired))
        assert (tmp_path / name).read_bytes() == b"half a"

    save_something(model, kind, repaired)
    assert torch.load(tmp_path / name, weights_only=True)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.usefixtures("no_waiting")
def test_save_that_succeeds_at_last_does_not_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, failures = os.replace, iter([True, True, False])

    def flaky(source: str, target: str) -> None:
        if next(failures):
            raise OSError("busy")
        replace(source, target)

    monkeypatch.setattr(os, "replace", flaky)
    save_something(base_model(tmp_path), "save_network", BaseModel.save_network)
    assert os.listdir(tmp_path) == ["net_g_5.pth"]


def test_scheduler_state_is_plain() -> None:
    scheduler = multi_step([2, 2])
    state = scheduler.state_dict()
    assert type(state["milestones"]) is dict
    assert type(original(type(scheduler).state_dict)(scheduler)["milestones"]) is Counter

    again = multi_step([9])
    again.load_state_dict(state)
    again.optimizer.step()
    for _ in range(2):
        again.step()
    assert again.get_last_lr() == pytest.approx([0.01])


# --------------------------------------------------------------------------------------------------
# Training
# --------------------------------------------------------------------------------------------------
@pytest.fixture
def process_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    if not torch.distributed.is_available():
        pytest.skip("torch without distributed")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_NODELIST", "localhost")
    rendezvous = f"file://{tmp_path}/rendezvous"

    def start(init: Callable[..., None]) -> None:
        init("nccl", init_method=rendezvous, rank=0, world_size=1)

    yield start
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@needs_no_cuda
def test_distributed_on_a_cpu(process_group: Callable[..., None], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(original(dist_util._init_dist_pytorch).__globals__, "torch", torch)
        with pytest.raises(ZeroDivisionError):
            process_group(original(dist_util._init_dist_pytorch))
    process_group(dist_util._init_dist_pytorch)
    assert torch.distributed.get_backend() == "gloo"
    assert dist_util.get_dist_info() == (0, 1)

    model = base_model(tmp_path, dist=True)
    net = model.model_to_device(torch.nn.Linear(2, 2))
    assert isinstance(net, torch.nn.parallel.DistributedDataParallel)
    assert isinstance(model.get_bare_model(net), torch.nn.Linear)
    net(torch.zeros(1, 2)).sum().backward()
    with pytest.raises((AssertionError, RuntimeError)):
        original(BaseModel.model_to_device)(model, torch.nn.Linear(2, 2))


@needs_no_cuda
def test_slurm_on_a_cpu(
    process_group: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend: started.append(backend)
    )
    for name in ("MASTER_PORT", "MASTER_ADDR", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(dist_util.subprocess, "getoutput", lambda command: "localhost")
    dist_util._init_dist_slurm("nccl", port="29500")
    assert started == ["gloo"]


def test_model_to_device_alone(tmp_path: Path) -> None:
    net = torch.nn.Linear(1, 1)
    assert base_model(tmp_path).model_to_device(net) is net


def write_images(folder: Path, count: int, size: tuple[int, int] = (8, 8)) -> str:
    folder.mkdir()
    for index in range(count):
        image = np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return str(folder)


def train_options(folder: Path, images: int, batch: int, total: int) -> dict[str, Any]:
    root = write_images(folder / "images", images)
    dataset = {
        "name": "tiny",
        "type": "PairedImageDataset",
        "phase": "train",
        "dataroot_gt": root,
        "dataroot_lq": root,
        "io_backend": {"type": "disk"},
        "batch_size_per_gpu": batch,
        "num_worker_per_gpu": 0,
    }
    return {
        "datasets": {"train": dataset},
        "world_size": 1,
        "rank": 0,
        "num_gpu": 0,
        "dist": False,
        "manual_seed": 0,
        "train": {"total_iter": total},
        "path": {},
    }


def iterations(result: tuple, first_epoch: int = 0) -> int:
    """How many iterations BasicSR's loop makes: it runs to the total, one epoch more."""
    loader, _, _, epochs, _ = result
    return (epochs + 1 - first_epoch) * len(loader)


def test_training_does_not_stop_short(tmp_path: Path) -> None:
    opt, logger = train_options(tmp_path, images=5, batch=3, total=30), logging.getLogger("tiny")
    assert iterations(basicsr.train.create_train_val_dataloader(opt, logger)) >= 30
    assert iterations(original(basicsr.train.create_train_val_dataloader)(opt, logger)) < 30


def test_resumed_training_with_larger_batches_does_not_stop_short(tmp_path: Path) -> None:
    opt, logger = train_options(tmp_path, images=6, batch=1, total=30), logging.getLogger("tiny")
    write_state(tmp_path / "states" / "1.state", 1)
    state = {"epoch": 14, "iter": 20, "optimizers": [], "schedulers": []}
    torch.save(state, tmp_path / "states" / "20.state")
    opt["path"]["resume_state"] = str(tmp_path / "states" / "20.state")
    result = basicsr.train.create_train_val_dataloader(opt, logger)
    assert 20 + iterations(result, first_epoch=14) >= 30


@pytest.mark.parametrize(
    ("images", "batch", "message"),
    [(5, 6, "batch_size_per_gpu is 6, images are 5"), (0, 1, "tiny holds no images")],
)
def test_too_few_images_are_told(tmp_path: Path, images: int, batch: int, message: str) -> None:
    opt, logger = train_options(tmp_path, images, batch, total=30), logging.getLogger("tiny")
    with pytest.raises(ValueError, match=message) as caught:
        basicsr.train.create_train_val_dataloader(opt, logger)
    assert "\n" not in str(caught.value)
    released = original(basicsr.train.create_train_val_dataloader)
    if images:
        assert iterations(released(opt, logger)) == 0
    else:
        with pytest.raises(ZeroDivisionError):
            released(opt, logger)


def multi_step(milestones: list[int]) -> Any:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    return lr_scheduler.MultiStepRestartLR(optimizer, milestones=milestones)


def warm_up(
    update: Callable[..., None], milestones: list[int], resume_at: int | None = None
) -> list[float]:
    """The learning rates of 12 iterations with a warm-up of 6, optionally resumed on the way."""

    def start() -> SimpleNamespace:
        scheduler = multi_step(milestones)
        model = SimpleNamespace(schedulers=[scheduler], optimizers=[scheduler.optimizer])
        model._get_init_lr = lambda: BaseModel._get_init_lr(model)
        model._set_lr = lambda groups: BaseModel._set_lr(model, groups)
        return model

    model, rates = start(), []
    for iteration in range(1, 13):
        update(model, iteration, warmup_iter=6)
        model.optimizers[0].step()
        rates.append(model.optimizers[0].param_groups[0]["lr"])
        if iteration == resume_at:
            saved = model.optimizers[0].state_dict(), model.schedulers[0].state_dict()
            model = start()
            model.optimizers[0].load_state_dict(saved[0])
            model.schedulers[0].load_state_dict(saved[1])
    return rates


@pytest.mark.parametrize("resume_at", [None, 1, 3, 5, 6])
def test_warm_up_ends_at_the_learning_rate(resume_at: int | None) -> None:
    rising = [i / 6 for i in range(1, 6)]
    rates = warm_up(BaseModel.update_learning_rate, [9], resume_at)
    assert rates == pytest.approx(rising + [1] * 4 + [0.1] * 3)
    # a milestone within the warm-up counts after it
    rates = warm_up(BaseModel.update_learning_rate, [3], resume_at)
    assert rates == pytest.approx(rising + [0.1] * 7)


def test_warm_up_ended_too_low() -> None:
    rates = warm_up(original(BaseModel.update_learning_rate), [9])
    assert rates[5:9] == pytest.approx([5 / 6] * 4)


def test_cosine_past_its_periods() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.CosineAnnealingRestartLR(optimizer, periods=[4], eta_min=0.25)
    optimizer.step()
    rates = []
    for _ in range(6):
        scheduler.step()
        rates += scheduler.get_last_lr()
    assert rates[1] == pytest.approx(0.625)
    assert rates[3:] == pytest.approx([0.25] * 3)
    assert scheduler.last_epoch == 6
    with pytest.raises(TypeError):
        original(type(scheduler).get_lr)(scheduler)


@pytest.mark.parametrize("iteration", [50, 100, 101])
def test_eta_is_not_negative(iteration: int) -> None:
    lines: list[str] = []
    logger = SimpleNamespace(
        exp_name="tiny",
        max_iters=100,
        start_iter=1,
        start_time=time.time() - 1000,
        use_tb_logger=False,
        logger=SimpleNamespace(info=lines.append),
    )

    def values() -> dict[str, Any]:
        return {"epoch": 1, "iter": iteration, "lrs": [0.1], "time": 1.0, "data_time": 0.0}

    MessageLogger.__call__(logger, values())
    original(MessageLogger.__call__)(logger, values())
    assert "eta: 0:" in lines[0] and logger.max_iters == 100
    assert ("eta: -" in lines[1]) == (iteration >= 100)


# --------------------------------------------------------------------------------------------------
# Data loading
# --------------------------------------------------------------------------------------------------
def corrupt_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise ValueError("a corrupt image")


def test_prefetch_passes_exceptions_on() -> None:
    generator = prefetch.PrefetchGenerator(corrupt_after(2), 1)
    assert [within(20, lambda: next(generator)) for _ in range(2)] == [0, 1]

    def take() -> str:
        try:
            return next(generator)
        except ValueError as error:
            return str(error)
        except StopIteration:
            return "ended"

    assert [within(20, take), within(20, take)] == ["a corrupt image", "ended"]


def test_prefetch_thread_died_without_a_word() -> None:
    thread = SimpleNamespace(generator=corrupt_after(0), queue=queue.Queue())
    with pytest.raises(ValueError):
        original(prefetch.PrefetchGenerator.run)(thread)
    assert thread.queue.empty()  # so that __next__ waits for ever


class CountingLoader(list):
    """A loader that counts how often it is started."""

    starts = 0

    def __iter__(self) -> Iterator[Any]:
        self.starts += 1
        return super().__iter__()


def test_cpu_prefetcher_starts_the_loader_once_per_epoch() -> None:
    loader = CountingLoader([1, 2])
    prefetcher = prefetch.CPUPrefetcher(loader)
    for epoch in (1, 2):
        prefetcher.reset()
        assert [prefetcher.next() for _ in range(3)] == [1, 2, None]
        assert loader.starts == epoch
    assert prefetch.CPUPrefetcher(loader).next() == 1

    loader = CountingLoader([1, 2])
    released = SimpleNamespace()
    original(prefetch.CPUPrefetcher.__init__)(released, loader)
    prefetch.CPUPrefetcher.reset(released)
    assert loader.starts == 2


def epochs_of(loader: Any, count: int) -> list[list[float]]:
    """The random values that the workers draw, epoch by epoch, as BasicSR's loop reads them."""
    prefetcher, drawn = prefetch.CPUPrefetcher(loader), []
    for _ in range(count):
        prefetcher.reset()
        python, numpy = prefetcher.next()
        drawn.append([*python.tolist(), *numpy.tolist()])
        assert prefetcher.next() is None
    return drawn


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_anew_in_each_epoch(monkeypatch: pytest.MonkeyPatch, persistent: bool) -> None:
    def draw(seed: int) -> list[list[float]]:
        torch.manual_seed(seed)
        loader = tiny_loader(1, prefetch_mode="cpu", persistent_workers=persistent)
        return within(60, lambda: epochs_of(loader, 2))

    first = draw(7)
    assert first[0] != first[1]
    assert draw(7) == first and draw(8) != first
    if not persistent:
        repaired = basicsr.data.worker_init_fn
        monkeypatch.setattr(basicsr.data, "worker_init_fn", original(repaired))
        released = draw(7)
        assert released[0] == released[1]


# --------------------------------------------------------------------------------------------------
# Images and LMDB
# --------------------------------------------------------------------------------------------------
def png(size: tuple[int, int] = (16, 16)) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.mark.parametrize("content", [png()[:300], b"", b"no image"])
@pytest.mark.parametrize("float32", [False, True])
def test_undecodable_images_are_named(tmp_path: Path, content: bytes, float32: bool) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    read = file_client.FileClient("disk").get(str(path))
    with pytest.raises(ValueError, match=r"a\.png cannot be decoded") as caught:
        img_util.imfrombytes(read, float32=float32)
    assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match="The image cannot be decoded"):
        img_util.imfrombytes(content, float32=float32)
    if content:  # as released: None, or a failure on None
        released = original(img_util.imfrombytes)
        if float32:
            with pytest.raises(AttributeError, match="NoneType"):
                released(content, float32=True)
        else:
            assert released(content) is None


def test_images_are_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    client = file_client.FileClient("disk")
    read = client.get(str(path))
    assert read == png() and read.path == str(path)
    assert not hasattr(original(file_client.FileClient.get)(client, str(path)), "path")
    image = img_util.imfrombytes(read, "grayscale", True)
    assert np.array_equal(image, original(img_util.imfrombytes)(png(), "grayscale", True))


def test_size_mismatch_names_the_file() -> None:
    gt, lq = np.zeros((8, 8, 3)), np.zeros((3, 4, 3))
    with pytest.raises(ValueError, match=r"^set/a\.png: Scale mismatches\. GT .* LQ \(3, 4\)"):
        transforms.paired_random_crop(gt, lq, 4, 2, "set/a.png")
    with pytest.raises(ValueError) as caught:
        original(transforms.paired_random_crop)(gt, lq, 4, 2, "set/a.png")
    assert "a.png" not in str(caught.value)
    with pytest.raises(ValueError, match=r"smaller than patch size .* remove set/a\.png"):
        transforms.paired_random_crop(gt, np.zeros((4, 4, 3)), 16, 2, "set/a.png")


@pytest.mark.parametrize("shape", [(16, 12, 3), (16, 12)])
def test_imresize_of_uint8(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), shape)
    floats = original(matlab_functions.imresize)(image, 2)
    assert floats.dtype == np.float32 and floats.min() < 0 and floats.max() > 255

    resized = matlab_functions.imresize(image, 2)
    assert resized.dtype == np.uint8 and resized.shape == floats.shape
    assert np.abs(resized - np.clip(floats, 0, 255)).max() <= 0.5

    tensor = torch.from_numpy(image if image.ndim == 2 else image.transpose(2, 0, 1))
    of_tensor = matlab_functions.imresize(tensor, 2).numpy()
    assert np.array_equal(of_tensor if image.ndim == 2 else of_tensor.transpose(1, 2, 0), resized)


def test_imresize_of_floats_stays() -> None:
    image = np.random.default_rng(0).random((8, 8, 3))
    expected = original(matlab_functions.imresize)(image, 0.5)
    assert np.array_equal(matlab_functions.imresize(image, 0.5), expected)


def test_jpg_quality_may_be_a_float() -> None:
    image = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    compressed = degradations.random_add_jpg_compression(image, (30.2, 60.7))
    assert compressed.shape == image.shape
    assert np.array_equal(
        degradations.add_jpg_compression(image, 40.7),
        original(degradations.add_jpg_compression)(image, 40),
    )
    with pytest.raises(cv2.error):
        original(degradations.add_jpg_compression)(image, 40.7)


def make_lmdb(folder: Path, keys: list[str]) -> str:
    path = str(folder)
    environment = lmdb.open(path, map_size=2**20)
    with environment.begin(write=True) as transaction:
        for key in keys:
            transaction.put(key.encode(), png())
    environment.close()
    lines = [f"{key}.png (16,16,3) 1\n" for key in keys]
    (folder / "meta_info.txt").write_text("".join(lines))
    return path


KEYS = ["v1.5", "v1.6", "plain", "a (2)", "with space", "sub/0.1"]


def test_lmdb_keys_keep_their_dots(tmp_path: Path) -> None:
    path = make_lmdb(tmp_path / "a.lmdb", KEYS)
    assert data_util.paths_from_lmdb(path) == KEYS
    pairs = data_util.paired_paths_from_lmdb([path, path], ["lq", "gt"])
    assert pairs == [{"lq_path": key, "gt_path": key} for key in sorted(KEYS)]
    assert original(data_util.paths_from_lmdb)(path)[:2] == ["v1", "v1"]
    released = original(data_util.paired_paths_from_lmdb)([path, path], ["lq", "gt"])
    assert "v1.5" not in {pair["lq_path"] for pair in released}


def test_lmdb_keys_that_differ_after_a_dot(tmp_path: Path) -> None:
    folders = [make_lmdb(tmp_path / "a.lmdb", ["v1.5"]), make_lmdb(tmp_path / "b.lmdb", ["v1.6"])]
    assert original(data_util.paired_paths_from_lmdb)(folders, ["lq", "gt"])
    with pytest.raises(ValueError, match=r"v1\.5 is in one of them only"):
        data_util.paired_paths_from_lmdb(folders, ["lq", "gt"])


def test_lmdb_meta_info_of_other_tools(tmp_path: Path) -> None:
    folder = tmp_path / "a.lmdb"
    folder.mkdir()
    (folder / "meta_info.txt").write_text("v1.5.png\nb.png (16,16)\n\nc.x.jpg (4, 4, 1) 1")
    assert data_util.paths_from_lmdb(str(folder)) == ["v1.5", "b", "c.x"]


def test_lmdb_in_two_datasets(tmp_path: Path) -> None:
    path = make_lmdb(tmp_path / "a.lmdb", ["v1.5"])
    clients = [
        file_client.FileClient("lmdb", db_paths=[path, path], client_keys=["lq", "gt"]),
        file_client.FileClient("lmdb", db_paths=path),
    ]
    assert clients[0].get("v1.5", "gt") == clients[1].get("v1.5") == png()
    assert clients[1].get("v1.5").path == f"v1.5 in {path}"
    with pytest.raises(FileNotFoundError, match=r"There is no v1 in .*a\.lmdb"):
        clients[0].get("v1", "lq")

    backend = file_client.LmdbBackend
    with pytest.raises(lmdb.Error, match="already open"):
        original(backend.__init__)(backend.__new__(backend), path)
    with pytest.raises(AssertionError):
        file_client.FileClient("lmdb", db_paths=[path], client_keys=["lq", "gt"])

    clients[1].client._client["default"].close()
    assert file_client.FileClient("lmdb", db_paths=path).get("v1.5") == png()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_lmdb_in_a_forked_worker(tmp_path: Path) -> None:
    path = make_lmdb(tmp_path / "a.lmdb", ["v1.5"])
    client = file_client.FileClient("lmdb", db_paths=path)
    assert client.get("v1.5")
    results = multiprocessing.get_context("fork").SimpleQueue()

    def read() -> None:
        content = file_client.FileClient("lmdb", db_paths=path).get("v1.5")
        results.put(content == client.get("v1.5") == png())

    process = multiprocessing.get_context("fork").Process(target=read)
    process.start()
    process.join(30)
    assert process.exitcode == 0 and results.get()


# --------------------------------------------------------------------------------------------------
# Registry
# --------------------------------------------------------------------------------------------------
def test_registry_names_the_nearest_match(capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry("arch")
    registry.register(TinyDataset)
    registry.register(CountingLoader, suffix="basicsr")
    assert registry.get("TinyDataset") is TinyDataset
    assert registry.get("CountingLoader") is CountingLoader
    assert "use name: CountingLoader_basicsr" in capsys.readouterr().out

    with pytest.raises(KeyError, match="'tinydatset' found in 'arch'.* mean 'TinyDataset'"):
        registry.get("tinydatset")
    with pytest.raises(KeyError, match="registry!.$"):
        registry.get("nothing like it")
    with pytest.raises(KeyError, match="No object named 'None'"):
        registry.get(None)
    assert capsys.readouterr().out == ""

    with pytest.raises(KeyError):
        original(Registry.get)(registry, "tinydatset")
    assert "use name: tinydatset_basicsr" in capsys.readouterr().out
