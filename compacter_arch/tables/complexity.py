"""What a network costs: parameters, Multi-Adds, latency and memory."""

from __future__ import annotations

import copy
import math
import multiprocessing
import pickle
import platform
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UserError

OUTPUT_SIZE = (720, 1280)  # height and width for which papers tell Multi-Adds
WARM_UP = 2  # forward passes before those that count
CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


@dataclass(frozen=True)
class MultiAdds:
    """Multiplications with addition of one forward pass.

    Attributes:
        total: of the whole network.
        blocks: of each of its :func:`top_level_blocks`; what is computed outside of them is in
            ``total`` alone.
        output: (height, width) of the output; None where it is no image.
    """

    total: int
    blocks: Mapping[str, int]
    output: tuple[int, int] | None


@dataclass(frozen=True)
class Cost:
    """What one forward pass takes.

    Attributes:
        size: (height, width) of the input.
        latency: seconds.
        memory: bytes; None where the system does not tell.
    """

    size: tuple[int, int]
    latency: float
    memory: int | None


def count_parameters(network: nn.Module) -> int:
    """All parameters, trained or not, each once; buffers are none."""
    return sum(p.numel() for p in network.parameters())


def top_level_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """The children by name; in place of a container what it holds, such as ``blocks.0``."""
    blocks: dict[str, nn.Module] = {}
    for name, child in network.named_children():
        if isinstance(child, CONTAINERS):
            blocks.update({f"{name}.{inner}": m for inner, m in child.named_children()})
        else:
            blocks[name] = child
    return blocks


def published_input_size(scale: int) -> tuple[int, int]:
    """(height, width) of the input for an output of 1280 x 720, as published code divides.

    At x3, where 1280 does not divide, it is 240 x 426.
    """
    return OUTPUT_SIZE[0] // scale, OUTPUT_SIZE[1] // scale


def count_multi_adds(network: nn.Module, size: tuple[int, int], in_chans: int = 3) -> MultiAdds:
    """Count the multiplications with addition of one image's way through the network.

    fvcore's convention, with which most papers count, for every network: all convolutions and all
    matrix products at the size that the network really computes (padding to whole windows is
    counted), and 5 for each value of a LayerNorm (4 without weights). Matrix products are linear
    layers and 1x1 projections, the products of window and channel attention (Q K^T and A V, also
    inside PyTorch's fused attention), ``einsum``. Not counted: biases, activations, softmax,
    everything element-wise, pixel shuffle, interpolation (bicubic is 0), Fourier transforms, and
    kernels that PyTorch's flop counter does not know (deformable convolution).

    Calibration (``tests/tables/test_complexity.py``): EDSR-baseline x2 gives its published 316.3 G,
    SwinIR-light x2 the 244.2 G of later papers. The 195.6 G of its own paper are ``SwinIR.flops()``
    for an output of 1024 x 720, not 1280 x 720, with the last two convolutions counted too low and
    the norms as 1.

    On the meta device, where tensors have shapes and no values, counting costs no computation; a
    network that needs values is run on the device where it is.

    Args:
        network: not changed; counted in evaluation mode.
        size: (height, width) of the input; see :func:`published_input_size`.
        in_chans: channels of the input.
    """
    try:
        return _count(network, size, in_chans, torch.device("meta"))
    except Exception:  # of whatever kind; if it is not for the missing values, it comes again
        return _count(network, size, in_chans, _device_of(network))


def _count(
    network: nn.Module, size: tuple[int, int], in_chans: int, device: torch.device
) -> MultiAdds:
    network = _copy_to(network, device)
    counter = FlopCounterMode(display=False, custom_mapping=_missing_formulas())
    blocks = top_level_blocks(network)
    flops = dict.fromkeys(blocks, 0)
    entered: list[int] = []  # flops when the blocks were entered that are running

    def enter(*_: Any) -> None:
        entered.append(counter.get_total_flops())

    def leave(name: str, *_: Any) -> None:
        before = entered.pop()
        if not entered:  # else it runs inside another block, which counts it
            flops[name] += counter.get_total_flops() - before

    for name, block in blocks.items():  # of the copy, which takes the hooks with it
        block.register_forward_pre_hook(enter)
        block.register_forward_hook(partial(leave, name))
    # Not inference_mode: there, linear layers reach old counters as operations unknown to them.
    with torch.no_grad(), device, counter:
        y = network(torch.zeros(1, in_chans, *size))
    is_image = isinstance(y, Tensor) and y.ndim == 4
    return MultiAdds(
        total=counter.get_total_flops() // 2,
        blocks={name: count // 2 for name, count in flops.items()},
        output=(y.shape[2], y.shape[3]) if is_image else None,
    )


def _missing_formulas() -> dict[Any, Any]:
    """LayerNorm, and the fused attentions that ``FlopCounterMode`` of some PyTorch lacks."""
    names = (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_fused_attention_overrideable",
        "_scaled_dot_product_cudnn_attention",
    )
    found = [getattr(torch.ops.aten, name, None) for name in names]
    formulas: dict[Any, Any] = {op: _attention_flops for op in found if op is not None}
    return formulas | {torch.ops.aten.native_layer_norm: _norm_flops}


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Of Q K^T and A V; shapes (B, heads, tokens, channels)."""
    b, heads, tokens, channels = query
    return 2 * b * heads * tokens * key[2] * (channels + value[3])


def _norm_flops(values: Any, normalized: Any, weight: Any = None, *_: Any, **__: Any) -> int:
    """As fvcore's ``norm_flop_counter``, doubled since all counts here are halved."""
    return 2 * (4 if weight is None else 5) * math.prod(values)


def measure_latency(
    network: nn.Module,
    size: tuple[int, int],
    in_chans: int = 3,
    rounds: int = 7,
    device: torch.device | str = "cpu",
) -> float:
    """Median time of a forward pass of one image in float32.

    Args:
        network: not changed; a copy is measured in evaluation mode.
        size: (height, width) of the input.
        in_chans: channels of the input.
        rounds: passes that count, after two that do not.
        device: where to measure.

    Returns:
        Seconds.
    """
    device = torch.device(device)
    network = _copy_to(network, device)
    x = torch.rand(1, in_chans, *size, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + rounds):
            _synchronize(device)
            start = time.perf_counter()
            network(x)
            _synchronize(device)
            times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:])


def measure_peak_memory(
    network: nn.Module,
    size: tuple[int, int],
    in_chans: int = 3,
    device: torch.device | str = "cpu",
) -> int | None:
    """The most memory that a forward pass of one image in float32 takes at any moment.

    Counted is what comes on top of the network and its input, the output included.

    - CUDA: what PyTorch's allocator hands out, by ``max_memory_allocated``, after a first pass.
    - CPU: growth of the resident set during the first pass of a fresh process, workspaces of the
      libraries included. In this process earlier peaks would hide it. A script of your own needs
      ``if __name__ == "__main__":``, as for every process that Python spawns.

    Args:
        network: not changed; a copy is measured in evaluation mode. For the CPU it must be
            picklable.
        size: (height, width) of the input.
        in_chans: channels of the input.
        device: where to measure.

    Returns:
        Bytes; None for a CPU where the system does not tell (Windows).

    Raises:
        MemoryError: the process was killed, most likely for its memory.
        UserError: the network cannot be pickled.
    """
    device = torch.device(device)
    network = _copy_to(network, device)
    if device.type == "cuda":
        return _cuda_peak(network, torch.rand(1, in_chans, *size, device=device))
    try:
        pickled = pickle.dumps(network)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        name = type(network).__name__
        raise UserError(f"{name}: cannot be sent to the process that measures: {error}") from error
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        try:
            job = pool.submit(_cpu_peak, pickled, size, in_chans, torch.get_num_threads())
            return job.result()
        except BrokenProcessPool as error:
            raise MemoryError("the measuring process was killed") from error


def _cuda_peak(network: nn.Module, x: Tensor) -> int:
    """For :func:`measure_peak_memory`."""
    with torch.inference_mode():
        network(x)  # cuBLAS and cuDNN allocate what they keep
        torch.cuda.synchronize(x.device)
        torch.cuda.reset_peak_memory_stats(x.device)
        before = torch.cuda.memory_allocated(x.device)
        network(x)
        torch.cuda.synchronize(x.device)
    return torch.cuda.max_memory_allocated(x.device) - before


def _cpu_peak(pickled: bytes, size: tuple[int, int], in_chans: int, threads: int) -> int | None:
    """For :func:`measure_peak_memory`, in a process of its own."""
    torch.set_num_threads(threads)
    network = pickle.loads(pickled)
    x = torch.rand(1, in_chans, *size)
    with torch.inference_mode():
        nn.Conv2d(8, 8, 3)(torch.zeros(1, 8, 16, 16))  # loads the libraries
        nn.Linear(8, 8)(torch.zeros(8, 8))
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the start
        before = _resident("VmRSS")
        network(x)
        after = _resident("VmHWM")
    return None if before is None or after is None else max(after - before, 0)


def _resident(field: str) -> int | None:
    """Resident bytes of this process: ``VmRSS`` now, ``VmHWM`` at most since its start.

    Not ``getrusage`` on Linux: its peak survives ``exec``, so that it may be the parent's.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    with suppress(ImportError):  # macOS: bytes, and the peak for both fields
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def describe_device(device: torch.device | str = "cpu") -> str:
    """Device, threads, precision and version of PyTorch, for the caption of a measurement."""
    device = torch.device(device)
    precision = "float32"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.backends.cudnn.allow_tf32:
            precision += " (convolutions in TF32)"
    else:
        threads = torch.get_num_threads()
        name = f"{_cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"
    return f"{name}, {precision}, PyTorch {torch.__version__}"


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _copy_to(network: nn.Module, device: torch.device) -> nn.Module:
    return copy.deepcopy(network).to(device).eval()


def _device_of(network: nn.Module) -> torch.device:
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
