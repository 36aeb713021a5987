"""The profile of one network: what its parts cost, and what it takes on inputs of several sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..training.checks.findings import describe
from ..training.checks.known_keys import argument_problems, suggestion
from ..training.checks.quiet import quiet_logger
from .complexity import (
    Cost,
    count_multi_adds,
    count_parameters,
    measure_latency,
    measure_peak_memory,
    published_input_size,
    top_level_blocks,
)

PROBE = (64, 64)  # an input that tells the scale
CHANNELS = ("in_chans", "num_in_ch", "in_channels", "in_nc")  # several names for one argument


def build_profiled(options: Any, where: str) -> tuple[nn.Module, int]:
    """The network of a ``network_g`` section, with fresh weights.

    Args:
        options: ``type`` and arguments; anything else is an error of the user.
        where: what an error message begins with.

    Returns:
        The network, in evaluation mode, and the channels of its input (3 where no option tells).

    Raises:
        UserError: there is no such network, or it cannot be built so.
    """
    from basicsr.archs import build_network
    from basicsr.utils.registry import ARCH_REGISTRY

    if not isinstance(options, Mapping) or "type" not in options:
        raise UserError(f"{where}: network_g: must hold `type: <name of a network>`")
    name = str(options["type"])
    names = [registered for registered, _ in ARCH_REGISTRY]
    if name not in names:
        raise UserError(f"{where}: no network is named {name!r}{suggestion(name, names)}")
    if problems := argument_problems(ARCH_REGISTRY.get(name), options.keys() - {"type"}):
        raise UserError("\n".join(f"{where}: network_g: {problem}" for problem in problems))
    with one_line(f"{where}: network_g"), quiet_logger():
        network = build_network(dict(options)).eval()
    return network, next((int(options[key]) for key in CHANNELS if key in options), 3)


def block_table(network: nn.Module, in_chans: int, size: tuple[int, int] | None = None) -> str:
    """Parameters and Multi-Adds of every block with any, and of the whole.

    Args:
        network: see :func:`count_multi_adds`.
        in_chans: channels of the input.
        size: (height, width) of the input; None for what gives an output of 1280 x 720.
    """
    name = type(network).__name__
    if size is None:
        with one_line(f"{name}: {PROBE[0]} x {PROBE[1]} pixels"):
            probe = count_multi_adds(network, PROBE, in_chans).output
        size = published_input_size(max(probe[0] // PROBE[0], 1) if probe else 1)
    with one_line(f"{name}: {size[0]} x {size[1]} pixels"):
        counted = count_multi_adds(network, size, in_chans)
    rows = [
        (block, count_parameters(module), counted.blocks[block])
        for block, module in top_level_blocks(network).items()
    ]
    parameters = count_parameters(network)
    rest = parameters - sum(row[1] for row in rows), counted.total - sum(row[2] for row in rows)
    rows = [row for row in (*rows, ("elsewhere", *rest)) if row[1] or row[2]]
    rows.append(("total", parameters, counted.total))
    cells = [(block, f"{count:,}", f"{adds / 1e9:,.3f}") for block, count, adds in rows]
    text = grid(("block", "parameters", "Multi-Adds (G)"), cells)
    output = "output {} x {}".format(*counted.output) if counted.output else "no image as output"
    return f"{text}\n{name}, input {size[0]} x {size[1]} (height x width), {output}"


def measure_costs(
    network: nn.Module,
    in_chans: int,
    sides: Sequence[int],
    rounds: int,
    device: torch.device,
) -> list[Cost]:
    """Latency and memory on square inputs.

    Raises:
        UserError: the network cannot take an input, or the memory does not suffice for it.
    """
    costs = []
    for side in sides:
        size = (side, side)
        with one_line(f"{type(network).__name__}: {side} x {side} pixels"):
            latency = measure_latency(network, size, in_chans, rounds, device)
            memory = measure_peak_memory(network, size, in_chans, device)
        costs.append(Cost(size, latency, memory))
    return costs


def cost_table(costs: Sequence[Cost]) -> str:
    """One line for each input."""
    cells = []
    for cost in costs:
        memory = "unknown" if cost.memory is None else f"{cost.memory / 2**20:,.1f}"
        cells.append((f"{cost.size[0]} x {cost.size[1]}", f"{cost.latency * 1e3:,.1f}", memory))
    return grid(("input", "latency (ms)", "peak memory (MiB)"), cells)


def grid(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Text in columns, the first to the left, the others to the right.

    Raises:
        UserError: tabulate is missing.
    """
    try:
        from tabulate import tabulate
    except ImportError as error:
        raise UserError('tables need tabulate: pip install "compacter-arch[table]"') from error
    align = ["left", *["right"] * (len(head) - 1)]
    return tabulate(cells, head, tablefmt="simple", disable_numparse=True, colalign=align)


@contextmanager
def one_line(where: str) -> Iterator[None]:
    """Whatever a network raises, as one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{where}: {describe(error)}") from error
