"""What SECURITY.md promises: files run no code, and nothing goes to the network."""

from __future__ import annotations

import ast
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import compacter_arch
from compacter_arch.cli import build_parser
from compacter_arch.errors import UserError
from compacter_arch.inference import load_model
from compacter_arch.training.checks.weights import read_checkpoint

from ..conftest import Project
from ..inference.tools import tiny_weights

PACKAGE = Path(compacter_arch.__file__).parent


class Payload:
    """What a hostile file holds: whoever unpickles it makes the folder ``made``."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("made",)


class Program(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def zipped(path: Path) -> None:
    torch.save({"params": {"conv_first.weight": Payload()}, "iter": 1, "epoch": 0}, path)


def bare(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(), protocol=2))


def old(path: Path) -> None:
    torch.save({"params": Payload()}, path, _use_new_zipfile_serialization=False)


def torchscript(path: Path) -> None:
    torch.jit.script(Program()).save(path)


HOSTILE = {"zipped": zipped, "bare": bare, "old": old}
COMMANDS = {
    "train": ["train", "-opt", "tiny.yml", "--force_yml", "path:pretrain_network_g=bad.pth"],
    "resume": ["train", "-opt", "tiny.yml", "--force_yml", "path:resume_state=bad.pth"],
    "test": ["test", "-opt", "test.yml", "--force_yml", "path:pretrain_network_g=bad.pth"],
    "check": ["check", "-opt", "tiny.yml", "--force_yml", "path:pretrain_network_g=bad.pth"],
    "restore": ["restore", "data/val/LR", "-o", "restored", "--weights", "bad.pth"],
    "restore safetensors": ["restore", "data/val/LR", "-o", "out", "--weights", "bad.safetensors"],
    "export": ["export", "--weights", "bad.pth", "-o", "bad.safetensors"],
    "table": ["table", "sr", "bad.pth", "--scale", "2"],
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", COMMANDS)
def test_weights_run_no_code(project: Project, name: str, kind: str):
    project.write()
    project.write_test()
    words = COMMANDS[name]
    file = project.root / ("bad.safetensors" if "bad.safetensors" in words else "bad.pth")
    if name == "export":
        pytest.importorskip("safetensors", reason="the extra `export` is missing")
        file = project.root / "bad.pth"
    HOSTILE[kind](file)
    result = project.run(*words)
    assert result.status not in (0, None) and not (project.root / "made").exists()
    assert "Traceback" not in result.err and file.name in result.err.splitlines()[-1]


def test_payload_would_run_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for make in HOSTILE.values():
        make(tmp_path / "bad.pth")
        with suppress(RuntimeError):  # of what is no checkpoint, after the fact
            torch.load(tmp_path / "bad.pth", weights_only=False)
        (tmp_path / "made").rmdir()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_state_that_auto_resume_finds_runs_no_code(project: Project):
    states = project.root / "experiments/tiny/training_states"
    states.mkdir(parents=True)
    zipped(states / "1.state")
    result = project.run("train", "-opt", project.write(), "--auto_resume")
    assert result.status == 2 and not (project.root / "made").exists()


CODE = "!!python/object/apply:os.mkdir [made]"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "-opt", "bad.yml"],
        ["test", "-opt", "bad.yml"],
        ["check", "-opt", "bad.yml"],
        ["profile", "-opt", "bad.yml"],
        ["table", "sr", "bad.yml", "--scale", "2"],
        ["table", "ablation", "bad.yml"],
    ],
    ids=" ".join,
)
def test_option_files_run_no_code(project: Project, words: list[str]):
    text = (project.root / project.write()).read_text()
    (project.root / "bad.yml").write_text(text.replace("name: tiny", f"name: {CODE}", 1))
    result = project.run(*words)
    assert result.status == 2 and not (project.root / "made").exists()
    assert "bad.yml" in result.err and len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    "entry",
    [
        "name=[__import__('os').mkdir('made')]",
        f"name={CODE}",
        "manual_seed=__import__('os').mkdir('made')",
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_force_yml_runs_no_code(project: Project, command: str, entry: str):
    result = project.run(command, "-opt", project.write(), "--force_yml", entry)
    assert result.status == 2 and not (project.root / "made").exists()
    assert len(result.err.splitlines()) == 1


def test_key_of_force_yml_is_a_key(project: Project):
    """BasicSR pastes it into a line of Python."""
    entry = """name"], __import__("os").mkdir("made"); opt["name=b"""
    result = project.run("check", "-opt", project.write(), "--force_yml", entry)
    assert "unknown key" in result.err and not (project.root / "made").exists()


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Each call in the package: the file, what is called, and how."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if "python313" in file.parts:  # for building BasicSR, see there
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield file.relative_to(PACKAGE).as_posix(), ast.unparse(node.func), node


def keywords(call: ast.Call) -> dict[str, str]:
    return {str(keyword.arg): ast.unparse(keyword.value) for keyword in call.keywords}


NEVER = ("eval", "exec", "compile", "os.system", "os.popen", "torch.jit.load", "yaml.unsafe_load")
NETWORK = ("urllib", "requests", "http", "ftplib", "smtplib", "torch.hub", "webbrowser")
# Its own bytes, sent to a process of its own.
PICKLES = [("tables/complexity.py", "pickle.loads")]


def test_code_calls_nothing_that_would_run_a_file():
    for file, function, call in calls():
        name = f"{file}: {ast.unparse(call)}"
        assert function not in NEVER, name
        assert not function.startswith("pickle.load") or (file, function) in PICKLES, name
        if function == "torch.load":
            assert "True" in keywords(call).get("weights_only", "'weights_only': True"), name
        if function.endswith(("np.load", "numpy.load")):
            assert keywords(call).get("allow_pickle", "False") == "False", name
        if function.startswith("subprocess."):
            assert "shell" not in keywords(call), name


def test_code_names_no_other_machine():
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [getattr(node, "module", None) or ""] + [alias.name for alias in node.names]
                assert not any(name.startswith(NETWORK) for name in names), (file, names)


def test_page_is_for_this_machine_alone():
    assert build_parser().parse_args(["demo"]).host == "127.0.0.1"


# Any attempt to reach a network is written down, refused, and inherited by all child processes.
FORBIDDING = """
import os, sys
def forbid(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto") or (
        event == "socket.connect" and isinstance(arguments[1], tuple)  # text: another process's
    ):
        with open(os.environ["ATTEMPTS"], "a") as file:
            print(event, arguments[1:], file=file)
        raise OSError("no network here")
sys.addaudithook(forbid)
"""
WORK = """
import json, sys
from compacter_arch.cli import main
print(json.dumps([main(words) for words in json.load(sys.stdin)]))
"""


def run_without_network(root: Path, script: str, text: str = "") -> tuple[str, list[str]]:
    """Run a script; what it printed last, and the attempts to reach a network."""
    (root / "hook").mkdir()
    (root / "hook" / "sitecustomize.py").write_text(FORBIDDING)
    attempts = root / "attempts"
    python_path = [str(root / "hook"), str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
            "ATTEMPTS": str(attempts),
            "OMP_NUM_THREADS": "1",
            "CXX": "none",  # compiling is another test's
        },
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[
        -1
    ], attempts.read_text().splitlines() if attempts.exists() else []


def test_nothing_goes_to_the_network(project: Project):
    train = project.write(
        {
            "train.total_iter": 2,
            "val.val_freq": 2,
            "datasets.train.num_worker_per_gpu": 1,
            "logger.use_tb_logger": True,
        }
    )
    test = project.write_test(
        {"path.pretrain_network_g": "experiments/tiny/models/net_g_latest.pth"}
    )
    commands = [
        ["train", "-opt", train],
        ["test", "-opt", test],
        ["restore", "data/val/LR", "-o", "restored", "--task", "sr_x2"],
        ["check", "-opt", train],
    ]
    printed, attempts = run_without_network(project.root, WORK, json.dumps(commands))
    assert json.loads(printed) == [0] * len(commands) and attempts == []


def test_network_would_be_noticed(tmp_path: Path):
    script = """
import multiprocessing, socket
def connect():
    try:
        socket.create_connection(("127.0.0.1", 9), 1)
    except OSError as error:
        print(error, flush=True)
connect()
process = multiprocessing.get_context("fork").Process(target=connect)
process.start()
process.join()
"""
    printed, attempts = run_without_network(tmp_path, script)
    assert printed == "no network here" and len(attempts) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*torch.jit.load:UserWarning")
@pytest.mark.parametrize("read", [load_model, read_checkpoint])
def test_programs_of_torchscript_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
):
    """Before torch 2.6, they were loaded whatever `weights_only` said (CVE-2025-32434)."""
    torchscript(tmp_path / "bad.pth")
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises((UserError, ValueError), match="bad.pth.* damaged, or not a checkpoint"):
        read(tmp_path / "bad.pth")


def test_good_files_are_read(tmp_path: Path):
    assert load_model(tiny_weights(tmp_path / "x2.pth")).upscale == 2
