"""Testing: every test set of an option file through BasicSR's validation loop."""

from __future__ import annotations

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.models import build_model
from basicsr.utils import make_exp_dirs

from ..execution import UnavailableError
from ..inference import accelerate
from .nonfinite import check_metrics
from .options import Options
from .train import open_log


def evaluate(opt: Options, precision: str | None = None) -> dict[str, dict[str, float]]:
    """Test as an option file says.

    Args:
        opt: completed and checked options.
        precision: test the network that :func:`~compacter_arch.inference.accelerate` makes of the
            option file's; where there is none, log why and test the plain one.

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
    if precision:
        try:
            model.net_g = accelerate(model.get_bare_model(model.net_g), precision)
        except UnavailableError as error:
            logger.warning(f"--fast: {error}. The plain network is tested, in float32.")
    results = {}
    for loader in loaders:
        name = loader.dataset.opt["name"]
        logger.info(f"Testing {name}...")
        model.validation(loader, opt["name"], None, opt["val"]["save_img"])
        results[name] = dict(getattr(model, "metric_results", {}))
        check_metrics(results[name], name)
    return results if opt["rank"] == 0 else {}
