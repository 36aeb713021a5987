"""Losses, gradients and metrics that are NaN or infinite: told, and kept out of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils import get_root_logger

from .options import Options

STOP, SKIP = "stop", "skip"
MOST_SKIPPED = 10  # in a row; by then it is not the images


class FiniteSteps:
    """Takes the steps of a model whose gradients are finite, and no others.

    A step that is not taken leaves weights, averages, optimizers and learning rates as the
    iteration before has left them. (A model of several optimizers may have made the first step of
    them.) In processes that share their gradients all see the same.

    Args:
        model: BasicSR's.
        opt: completed options; ``train.nonfinite`` is ``stop`` (default) or ``skip``.
    """

    def __init__(self, model: Any, opt: Options) -> None:
        self.model, self.opt = model, opt
        self.skip = opt["train"].get("nonfinite", STOP) == SKIP
        self.skipped = 0
        for optimizer in model.optimizers:
            optimizer.register_step_pre_hook(check_gradient)

    def take(self, iteration: int, batch: dict[str, Any]) -> bool:
        """Train on a batch.

        Returns:
            Whether the step was taken; False if it was skipped.

        Raises:
            FloatingPointError: it would have ruined the weights; names iteration and images.
        """
        before = [
            (scheduler, scheduler.state_dict(), settings(scheduler.optimizer))
            for scheduler in self.model.schedulers
        ]
        self.model.update_learning_rate(iteration, self.opt["train"].get("warmup_iter", -1))
        self.model.feed_data(batch)
        try:
            self.model.optimize_parameters(iteration)
        except FloatingPointError as error:
            self.skipped += 1
            problem = f"iteration {iteration:,}: {error}; {describe(batch)}"
            if self.skip and self.skipped < MOST_SKIPPED:
                get_root_logger().warning(f"Skipped {problem}")
                return False
            for scheduler, state, groups in before:
                scheduler.load_state_dict(state)
                for group, values in zip(scheduler.optimizer.param_groups, groups, strict=True):
                    group.update(values)
            raise FloatingPointError(problem) from error
        self.skipped = 0
        return True


def settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The learning rates and the like of an optimizer."""
    return [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]


def check_gradient(optimizer: torch.optim.Optimizer, *arguments: Any) -> None:
    """A hook that runs before a step; on a GPU it waits for the gradient.

    Raises:
        FloatingPointError: the gradient is not finite.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if grads:
        norms = [norm.to(grads[0].device) for norm in torch._foreach_norm(grads)]
        if not torch.stack(norms).sum().isfinite():
            raise FloatingPointError("loss or gradient is not finite")


def describe(batch: dict[str, Any]) -> str:
    """The names of the images; those with pixels that are not finite, if there are any."""
    names = list(batch.get("lq_path") or batch.get("gt_path") or ())
    bad = [
        name
        for number, name in enumerate(names)
        if any(key in batch and not batch[key][number].isfinite().all() for key in ("lq", "gt"))
    ]
    if bad:
        return f"pixels that are not finite: {', '.join(bad)}"
    return f"batch: {', '.join(names) or 'without names'}"


def check_metrics(results: Mapping[str, float], dataset: str) -> None:
    """Refuse metrics that are no numbers. (A PSNR of infinity is one: the images are equal.)

    Raises:
        ValueError: names metric and data set.
    """
    for metric, value in results.items():
        if math.isnan(value):
            raise ValueError(
                f"val.metrics.{metric}: not a number on {dataset}; look for weights that are not "
                "finite, or images that are damaged or too small for this metric"
            )
