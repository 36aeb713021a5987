"""How the processes of a run find each other, also when torchrun starts them again."""

from __future__ import annotations

import os
from typing import Any

import torch.distributed as dist


def group_arguments() -> dict[str, Any]:
    """What `init_process_group` needs besides the backend under torchrun on one machine.

    PyTorch's agent keeps one store for all its attempts. A process of the second attempt finds the
    address of one of the first there, and waits for it in vain (seen with torch 2.13, gloo). So
    each attempt gets a part of its own. On several machines attempts are not numbered alike;
    there ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`` lets torchrun make a store for each.
    """
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not shared or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return {}
    store, rank, world_size = next(iter(dist.rendezvous("env://")))
    attempt = f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}"
    return {"store": dist.PrefixStore(attempt, store), "rank": rank, "world_size": world_size}
