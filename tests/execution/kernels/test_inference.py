"""The compiled kernels against the plain network, and what happens where there are none."""

from __future__ import annotations

import os
import pickle
import stat
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from compacter_arch import CompacterArch
from compacter_arch.execution import UnavailableError
from compacter_arch.execution.kernels import FusedCompacter, compiler
from compacter_arch.inference import accelerate

from .kernels import NETWORKS, SIZES, lively, needs_compiler, other_vectors

FLAGS = compiler.FLAGS


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "compacter_arch"


def difference(network: CompacterArch, fused: FusedCompacter, x: torch.Tensor) -> float:
    """The largest one from the plain network in float64, as a share of the largest output."""
    with torch.no_grad():
        plain = deepcopy(network).double()(x.double())
    return float((fused(x) - plain).abs().max() / plain.abs().max())


@needs_compiler
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_results_are_those_of_the_plain_network(options: dict[str, object]):
    network = lively(**options)
    fused = FusedCompacter(network)
    for b, _, h, w in SIZES:
        x = torch.rand(b, network.conv_first.in_channels, h, w)
        assert difference(network, fused, x) < 1e-5, (b, h, w)


@needs_compiler
@other_vectors
def test_results_with_the_vectors_of_other_machines(
    flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compiler, "FLAGS", (*FLAGS, *flags))
    network = lively(num_blocks=2)
    fused = FusedCompacter(network)
    for size in SIZES:
        assert difference(network, fused, torch.rand(size)) < 1e-5, size


@needs_compiler
def test_bfloat16_rounds_the_factors_alone():
    if not compiler.has_bf16():
        pytest.skip("this CPU has no bfloat16 instructions")
    network = lively(num_blocks=2)
    exact, fused = FusedCompacter(network), FusedCompacter(network, torch.bfloat16)
    x = torch.rand(1, 3, 40, 48)
    # Each factor is off by 2^-9 at most; sums in bfloat16 would be off by several times that.
    assert 1e-5 < difference(network, fused, x) < 2**-6
    assert difference(network, exact, x) < 1e-5


@needs_compiler
def test_extreme_activations_stay_finite():
    network = lively(num_blocks=2)
    with torch.no_grad():
        for block in network.blocks:
            block.casa.qkv.weight.mul_(300)
            block.ffn.fc_in.weight.mul_(300)
    x = torch.rand(1, 3, 16, 16)
    fused = FusedCompacter(network)(x)
    assert fused.isfinite().all()
    assert difference(network, FusedCompacter(network), x) < 1e-3


@needs_compiler
def test_a_constant_image_and_one_of_zeros():
    network = lively(num_blocks=2)
    fused = FusedCompacter(network)
    for value in (0.0, 1.0):
        assert difference(network, fused, torch.full((1, 3, 16, 24), value)) < 1e-5


@needs_compiler
def test_the_number_of_threads_changes_no_bit():
    fused, x = FusedCompacter(lively(num_blocks=2)), torch.rand(1, 3, 72, 136)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(fused(x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@needs_compiler
def test_the_input_stays_and_no_gradient_is_kept():
    network = lively(num_blocks=2)
    fused, x = FusedCompacter(network), torch.rand(1, 3, 16, 16, requires_grad=True)
    before = x.detach().clone()
    assert not fused(x).requires_grad
    assert torch.equal(x.detach(), before)
    assert all(p.requires_grad for p in network.parameters())


@needs_compiler
def test_copies_and_pickles():
    network, x = lively(num_blocks=2), torch.rand(1, 3, 16, 24)
    fused = FusedCompacter(network)
    for other in (deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert torch.equal(other(x), fused(x))


@needs_compiler
@pytest.mark.parametrize("x", [torch.rand(1, 3, 8, 8).double(), torch.rand(1, 3, 8, 8).half()])
def test_other_types_are_refused(x: torch.Tensor):
    with pytest.raises(ValueError, match="needs float32 on a CPU, got torch.float"):
        FusedCompacter(lively(num_blocks=1))(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ffn": "mlp"}, "complete CASA and DSGM"),
        ({"channel": False}, "complete CASA and DSGM"),
        ({"shared_projection": False}, "complete CASA and DSGM"),
        ({"dim": 60, "num_heads": 6}, "multiples of 16, dim / num_heads is 10"),
        ({"expansion_ratio": 1.5}, "dim x expansion_ratio is 72"),
        ({"window_size": 6}, "pixels of a window is 36"),
        ({"window_size": 32}, "take windows of 256 pixels, not 1024"),
    ],
)
def test_networks_that_the_kernels_do_not_know(options: dict[str, object], message: str):
    with pytest.raises(UnavailableError, match=message):
        FusedCompacter(CompacterArch(num_blocks=1, **options))  # type: ignore[arg-type]


@needs_compiler
def test_compiled_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
    network = lively(num_blocks=1)
    FusedCompacter(network)
    (file,) = empty_cache.iterdir()
    compiled = file.stat().st_mtime_ns
    FusedCompacter(network)
    assert [f.stat().st_mtime_ns for f in empty_cache.iterdir()] == [compiled]
    FusedCompacter(lively(num_blocks=1, dim=32, num_heads=2))
    assert len(list(empty_cache.iterdir())) == 2
    monkeypatch.setattr(compiler, "FLAGS", (*FLAGS, "-DOTHER"))
    FusedCompacter(network)
    assert len(list(empty_cache.iterdir())) == 3


@needs_compiler
def test_a_damaged_library_is_compiled_again(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    network, x = lively(num_blocks=1), torch.rand(1, 3, 8, 8)
    FusedCompacter(network)
    (file,) = empty_cache.iterdir()
    damaged = tmp_path / "other/compacter_arch" / file.name  # one that is not loaded yet
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"not a library")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert difference(network, FusedCompacter(network), x) < 1e-5
    assert damaged.stat().st_size == file.stat().st_size


@needs_compiler
@pytest.mark.skipif(os.name == "nt", reason="other permissions")
def test_a_library_that_others_may_write_is_compiled_again(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    network, built = lively(num_blocks=1), []
    call = compiler._call

    def count(command: list[str]) -> str:
        built.append("-o" in command)
        return call(command)

    monkeypatch.setattr(compiler, "_call", count)
    FusedCompacter(network)
    FusedCompacter(network)
    assert sum(built) == 1
    (file,) = empty_cache.iterdir()
    file.chmod(0o777)
    FusedCompacter(network)
    assert sum(built) == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o755


@needs_compiler
def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    network = lively(num_blocks=1)
    assert difference(network, FusedCompacter(network), torch.rand(1, 3, 8, 8)) < 1e-5


def test_no_compiler(empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(empty_cache))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UnavailableError, match=r"no C\+\+ compiler found .*; install g\+\+"):
        FusedCompacter(CompacterArch(num_blocks=1))


def test_a_compiler_that_fails(empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'x.cpp:1: error: out of order' >&2\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(UnavailableError, match=r"broken failed: x.cpp:1: error: out of order"):
        FusedCompacter(CompacterArch(num_blocks=1))
    assert not empty_cache.exists()


def test_other_networks_have_no_kernels():
    with pytest.raises(UnavailableError, match="kernels for CompacterArch, not Conv2d"):
        accelerate(torch.nn.Conv2d(3, 3, 3))


@needs_compiler
def test_accelerate_takes_the_kernels_on_a_cpu():
    network = lively(num_blocks=1)
    assert isinstance(accelerate(network), FusedCompacter)
    with pytest.raises(UnavailableError, match="no kernels for torch.float16"):
        accelerate(network, "fp16")
