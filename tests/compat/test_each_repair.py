"""Each repair is tested: with it switched off, a test that claims to cover it fails.

The package and these tests are copied. For each repair, its function is changed in the copy so that
what it puts in place passes calls on to BasicSR's own code, and its tests are run in a process that
is forked from one with the libraries loaded already.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compacter_arch.compat import imports
from compacter_arch.compat.repairs import REPAIRS

from .tools import IMPORTS_ALONE, ROOT

# A test of each repair, in the test of its module.
TESTS = {
    "checkpoints.repair_best_metrics": "best_metrics_go_on_after_a_resume",
    "checkpoints.repair_load_network": "files_run_no_code",
    "checkpoints.repair_resume": "auto_resume_ignores_other_files",
    "checkpoints.repair_save": "failed_save_raises_and_keeps_the_old_file",
    "checkpoints.repair_scheduler_state": "scheduler_state_is_plain",
    "checkpoints.repair_weights_of_parts": "weights_of_parts_run_no_code",
    "images.repair_crop_message": "size_mismatch_names_the_file",
    "images.repair_file_client": "images_are_read_as_before",
    "images.repair_imfrombytes": "undecodable_images_are_named",
    "images.repair_imresize": "imresize_of_uint8",
    "images.repair_jpg_quality": "jpg_quality_may_be_a_float",
    "imports.shim_functional_tensor": "functional_tensor",
    "imports.shim_scipy_filters": "scipy_without_filters",
    "imports.shim_torchvision_ops": "torchvision_operators",
    "imports.shim_version": "clone_that_was_never_installed",
    "lmdb_files.repair_keys": "lmdb_keys_keep_their_dots",
    "lmdb_files.repair_map_size": "lmdb_has_room_for_all_images",
    "lmdb_files.repair_sharing": "lmdb_in_two_datasets",
    "loading.repair_cpu_prefetcher": "cpu_prefetcher_starts_the_loader_once_per_epoch",
    "loading.repair_prefetch_errors": "prefetch_passes_exceptions_on",
    "loading.repair_scandir": "images_come_in_the_order_of_their_names",
    "loading.repair_spawned_workers": "process_class_of_workers",
    "loading.repair_worker_seed": "workers_draw_anew_in_each_epoch",
    "losses.repair_squared_perceptual_loss": "squared_perceptual_loss",
    "losses.repair_vgg_download": "weights_that_cannot_be_downloaded",
    "metric_inputs.repair_niqe": "niqe_of_a_small_image_is_refused",
    "metric_inputs.repair_tensor_metrics": "metrics_of_tensors",
    "metrics.repair_luma": "option_files_get_it",
    "metrics.repair_ssim": "option_files_get_it",
    "metrics.repair_ssim_of_colour": "option_files_get_it",
    "options.repair_command_line": "force_yml_keys_run_no_code",
    "options.repair_force_yml_values": "force_yml_values",
    "options.repair_yaml": "option_files_run_no_code",
    "registry.repair_unknown_name": "registry_names_the_nearest_match",
    "training.repair_cosine": "cosine_past_its_periods",
    "training.repair_epochs": "training_does_not_stop_short",
    "training.repair_eta": "eta_is_not_negative",
    "training.repair_init_dist": "distributed_on_a_cpu",
    "training.repair_last_validation": "validation_is_of_an_iteration_that_was_made",
    "training.repair_model_to_device": "distributed_on_a_cpu",
    "training.repair_warmup": "warm_up_ends_at_the_learning_rate",
}

# Appended to patching.py: in place of `patch` and `stand_in_for_torch` in the repair that is off.
SWITCHED_OFF = """

def passing(owner, name):
    def decorate(repair):
        patch(owner, name)(lambda original, *args, **kwargs: original(*args, **kwargs))
        return repair
    return decorate

def nothing(*args, **kwargs):
    pass
"""
OFF = "    from .patching import nothing as stand_in_for_torch, passing as patch\n"

ALL_SKIPPED = 70  # beside the numbers of pytest's ExitCode

# Runs tests for each of the changed files that it is told of, one after the other.
RUNNER = (
    IMPORTS_ALONE
    + f"ALL_SKIPPED = {ALL_SKIPPED}"
    + """
import os, pathlib, signal
for shim in imports.SHIMS:
    shim()
import basicsr, basicsr.train, basicsr.test, cv2, hypothesis, pytest, torch
torch.set_num_threads(1)

class Outcomes(set):
    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.skipped:
            self.add(report.outcome)

def run(tests):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.alarm(100)
    os.dup2(2, 1)
    import compacter_arch
    assert pathlib.Path(compacter_arch.__file__).parents[1] == pathlib.Path.cwd()
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"]
    outcomes = Outcomes()
    status = int(pytest.main([*options, *tests], plugins=[outcomes]))
    sys.stdout.flush()
    os._exit(ALL_SKIPPED if outcomes == {"skipped"} else status)

sys.path.insert(0, os.getcwd())
report = {}
for name, (file, text, tests) in json.load(sys.stdin).items():
    file = pathlib.Path(file)
    before = file.read_text()
    file.write_text(text)
    report[name] = run(tests)
    file.write_text(before)
print(json.dumps(report))
"""
)


def switched_off(source: str, function: str) -> str:
    """The text of a module of repairs with one of them off."""
    [node] = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    lines = source.splitlines(keepends=True)
    end_of_docstring = node.body[0].end_lineno
    assert end_of_docstring is not None
    lines.insert(end_of_docstring, "    return\n" if function.startswith("shim_") else OFF)
    return "".join(lines)


def statuses(copy: Path) -> dict[str, int]:
    """How pytest ends in a copy of this project without each repair and, as "", with all."""
    no_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "compacter_arch", copy / "compacter_arch", ignore=no_caches)
    shutil.copytree(ROOT / "tests" / "compat", copy / "tests" / "compat", ignore=no_caches)
    for name in ("pyproject.toml", "tests/__init__.py", "tests/conftest.py"):
        shutil.copy(ROOT / name, copy / name)
    package = copy / "compacter_arch" / "compat"
    patching = package / "patching.py"
    patching.write_text(patching.read_text() + SWITCHED_OFF)

    jobs: dict[str, tuple[str, str, list[str]]] = {}
    for name, test in TESTS.items():
        module, function = name.split(".")
        file, path = package / f"{module}.py", f"tests/compat/test_{module}.py::test_{test}"
        jobs[name] = (str(file), switched_off(file.read_text(), function), [path])
    every = sorted({path for _, _, [path] in jobs.values()})
    jobs[""] = (str(patching), patching.read_text(), every)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNNER],
        cwd=copy,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stderr)  # shown where a test fails
    return json.loads(done.stdout.splitlines()[-1])


def test_every_repair_has_a_test() -> None:
    repairs = [*REPAIRS, *imports.SHIMS]
    names = [f"{repair.__module__.rpartition('.')[2]}.{repair.__name__}" for repair in repairs]
    assert sorted(names) == sorted(TESTS)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_test_fails_without_each_repair(tmp_path: Path) -> None:
    ended = statuses(tmp_path.resolve())
    assert ended.pop("") == pytest.ExitCode.OK
    allowed = (pytest.ExitCode.TESTS_FAILED, ALL_SKIPPED)  # some defects need newer libraries
    assert [name for name, status in ended.items() if status not in allowed] == []
