"""Metrics and files of restored images, made while the network is at the next image."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import imwrite, tensor2img
from torch import Tensor

WORKERS = 4  # threads beside a GPU, which restores an image faster than one of them measures it
AHEAD = 8  # images that may wait for them


class Scoring:
    """Scores restored images and writes them, in the order in which they come.

    Beside a GPU all of it happens in threads. On a CPU a thread with metrics would take the cores
    from the network: on two of them a test took 1.15 times as long. So there only the writing of
    files, one thread's work, goes on beside it: never slower, and 7 % faster where a core was idle.
    Used in a ``with`` statement, at the end of which all is done.

    Args:
        metrics: options of BasicSR's metrics by name, as in ``val: metrics``.
        device: of the network.
    """

    def __init__(self, metrics: Mapping[str, Any], device: torch.device | str) -> None:
        self.metrics = metrics
        self.on_cpu = torch.device(device).type == "cpu"
        self.pool = ThreadPoolExecutor(1 if self.on_cpu else WORKERS)
        self.jobs: list[Future[dict[str, Any]]] = []

    def __enter__(self) -> Scoring:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.pool.shutdown(cancel_futures=kind is not None)

    def add(self, output: Tensor, gt: Tensor | None = None, file: Path | str | None = None) -> None:
        """Take up one image, and wait first if too many are waiting.

        Args:
            output, gt: (1, C, H, W) or (C, H, W) in [0, 1], in main memory; ``gt`` if there is one.
            file: where to save the restored image, if anywhere.
        """
        if len(self.jobs) >= AHEAD:
            self.jobs[-AHEAD].result()
        if self.on_cpu:
            image, scores = score(output, gt, self.metrics)
            job = self.pool.submit(save, image, scores, file)
        else:
            job = self.pool.submit(lambda: save(*score(output, gt, self.metrics), file))
        self.jobs.append(job)

    def results(self) -> list[dict[str, Any]]:
        """The metrics of every image by name.

        Raises:
            Exception: whatever a metric or the writing of a file has raised.
        """
        return [job.result() for job in self.jobs]


def score(
    output: Tensor, gt: Tensor | None, metrics: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    """One image as BasicSR's validation makes it, (H, W[, 3]) uint8, and all its metrics."""
    images = {"img": tensor2img([output])}
    if gt is not None:
        images["img2"] = tensor2img([gt])
    return images["img"], {name: calculate_metric(images, opt) for name, opt in metrics.items()}


def save(image: np.ndarray, scores: dict[str, Any], file: Path | str | None) -> dict[str, Any]:
    """Write an image if it has a name, and pass its scores on."""
    if file is not None:
        imwrite(image, str(file))
    return scores
