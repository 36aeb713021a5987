"""PSNR as a loss."""

from __future__ import annotations

import math

from torch import Tensor

from .frequency_loss import RestorationLoss

EPS = 1e-8


class PSNRLoss(RestorationLoss):
    """``10 / ln 10 * mean over the batch of ln(MSE + 1e-8)``: minus the PSNR in dB of [0, 1].

    As in the first author's other releases, which take it from NAFNet. ``frequency_weight`` (0.1 in
    the recipes of denoising, deraining and low light, none by default) adds the frequency term.
    """

    def distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """Minus the mean PSNR of the images of a batch."""
        mse = (pred - target).square().mean(dim=(1, 2, 3))
        return 10 / math.log(10) * (mse + EPS).log().mean()
