"""Testing: every test set of an option file through BasicSR's validation loop."""

from __future__ import annotations

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.models import build_model
from basicsr.utils import make_exp_dirs

from .options import Options
from .train import open_log


def evaluate(opt: Options) -> dict[str, dict[str, float]]:
    """Test as an option file says.

    Args:
        opt: completed and checked options.

    Returns:
        Mean of every metric over the images of every data set: ``{data set: {metric: value}}``.
        Of several processes, the first one alone gives them.
    """
    torch.backends.cudnn.benchmark = True
    make_exp_dirs(opt)
    logger = open_log(opt, "test")
    loaders = []
    for _, dataset_opt in sorted(opt["datasets"].items()):
        dataset = build_dataset(dataset_opt)
        loaders.append(
            build_dataloader(
                dataset, dataset_opt, opt["num_gpu"], opt["dist"], None, opt["manual_seed"]
            )
        )
        logger.info(f"Number of test images in {dataset_opt['name']}: {len(dataset)}")
    model = build_model(opt)
    results = {}
    for loader in loaders:
        name = loader.dataset.opt["name"]
        logger.info(f"Testing {name}...")
        model.validation(loader, opt["name"], None, opt["val"]["save_img"])
        results[name] = dict(getattr(model, "metric_results", {}))
    return results if opt["rank"] == 0 else {}
