"""Validation as ``SRModel`` does it, without its waiting."""

from __future__ import annotations

import math
import os.path as osp
from typing import Any

import torch
import torch.distributed as dist
from basicsr.data import build_dataloader
from torch.utils.data import Subset
from tqdm import tqdm

from ..metrics.scoring import Scoring


def validate(
    model: Any,
    loader: Any,
    current_iter: int | str,
    tb_logger: Any,
    save_img: bool,
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """Validate or test on one data set: values, files, log and best metrics are ``SRModel``'s.

    Of several processes each restores its part of the images, scores and saves them; all of them
    know the result and the first one logs it.

    Args:
        model: a ``SRModel``.
        loader: of single images.
        current_iter: the iteration, or the name of a test.
        save_img: write the restored images.
        rank, world_size: which of how many processes this is; all of them must call.

    Raises:
        ValueError: a metric is not a number; names it and the image.
    """
    opt, dataset, device = model.opt["val"], loader.dataset, model.device
    metrics, total = opt.get("metrics") or {}, len(dataset)
    if world_size > 1:
        loader = build_dataloader(Subset(dataset, range(rank, total, world_size)), dataset.opt)
    with (
        Scoring(metrics, device) as scoring,
        tqdm(total=len(loader), unit="image", disable=rank > 0 or not opt.get("pbar")) as bar,
    ):
        for data in loader:
            name = osp.splitext(osp.basename(data["lq_path"][0]))[0]
            model.feed_data({key: value for key, value in data.items() if key != "gt"})
            model.test()
            file = image_file(model.opt, dataset.opt["name"], name, current_iter)
            scoring.add(model.output.cpu(), data.get("gt"), file if save_img else None)
            del model.lq, model.output
            bar.update()
            bar.set_description(f"Test {name}")
    if device.type == "cuda":
        torch.cuda.empty_cache()
    scores = [list(scores.values()) for scores in scoring.results()]
    if not metrics:
        return
    if world_size > 1:
        scores = gather(scores, total, len(metrics), rank, world_size, device)

    for number, values in enumerate(scores):
        for metric, value in zip(metrics, values, strict=True):
            if math.isnan(value):
                raise ValueError(
                    f"val.metrics.{metric}: not a number for {dataset[number]['lq_path']} of "
                    f"{dataset.opt['name']}; look for weights that are not finite, or an image "
                    "that is damaged or too small for this metric"
                )
    model._initialize_best_metric_results(dataset.opt["name"])
    model.metric_results = dict.fromkeys(metrics, 0)
    for values in scores:  # added up one by one, as sum() is more exact from Python 3.12 on
        for metric, value in zip(metrics, values, strict=True):
            model.metric_results[metric] += value
    for metric in metrics:
        model.metric_results[metric] /= total
        mean = model.metric_results[metric]
        model._update_best_metric_result(dataset.opt["name"], metric, mean, current_iter)
    # Of several processes, BasicSR gives the first one alone a TensorBoard and a log for this.
    model._log_validation_metric_values(current_iter, dataset.opt["name"], tb_logger)


def image_file(opt: dict[str, Any], dataset: str, image: str, current_iter: int | str) -> str:
    """Where ``SRModel`` saves a restored image."""
    if opt["is_train"]:
        folder, name = image, current_iter
    else:
        folder, name = dataset, opt["val"].get("suffix") or opt["name"]
    return osp.join(opt["path"]["visualization"], folder, f"{image}_{name}.png")


def gather(
    scores: list[list[float]],
    images: int,
    metrics: int,
    rank: int,
    world_size: int,
    device: torch.device,
) -> list[list[float]]:
    """The scores of all images in their order, of those of every ``world_size``-th image."""
    table = torch.zeros(images, metrics, dtype=torch.float64)
    table[rank::world_size] = torch.tensor(scores, dtype=torch.float64).view(-1, metrics)
    table = table.to(device)
    dist.all_reduce(table)  # a sum with zeros, which is exact
    return table.tolist()
