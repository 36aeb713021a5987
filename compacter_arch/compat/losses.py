"""The perceptual loss: its squared form, and where its network comes from."""

from __future__ import annotations

from typing import Any

import torch

from .patching import Function, patch


def repair_squared_perceptual_loss() -> None:
    """`losses/basic_loss.py:161`: ``criterion: l2`` asks for `torch.nn.L2loss`, which is no class.

    The training ends with an AttributeError before it begins.
    """
    from basicsr.losses.basic_loss import PerceptualLoss

    @patch(PerceptualLoss, "__init__")
    def init(original: Function, self: Any, *args: Any, **kwargs: Any) -> None:
        squared = kwargs.get("criterion") == "l2"
        if squared:
            kwargs["criterion"] = "l1"
        original(self, *args, **kwargs)
        if squared:
            self.criterion_type, self.criterion = "l2", torch.nn.MSELoss()


def repair_vgg_download() -> None:
    """`archs/vgg_arch.py:108`: VGG's weights are downloaded, and where that fails nothing helps.

    The message is that of a socket. It does not tell what was to be downloaded, nor where a file
    that came another way is looked for.
    """
    from basicsr.archs import vgg_arch
    from torchvision.models import get_model_weights

    @patch(vgg_arch.VGGFeatureExtractor, "__init__")
    def init(
        original: Function,
        self: Any,
        layer_name_list: list[str],
        vgg_type: str = "vgg19",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        try:
            original(self, layer_name_list, vgg_type, *args, **kwargs)
        except OSError as error:
            url = get_model_weights(vgg_type).DEFAULT.url
            folder = f"{torch.hub.get_dir()}/checkpoints"
            raise OSError(
                f"{url} cannot be downloaded ({error}); the perceptual loss needs it in {folder}."
            ) from error


REPAIRS = (repair_squared_perceptual_loss, repair_vgg_download)
