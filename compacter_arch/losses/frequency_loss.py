"""The training loss of Compacter: L1 plus 0.1 times the L1 distance of the Fourier transforms."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class L1FrequencyLoss(nn.Module):
    """``L1(x, y) + frequency_weight * L1(FFT2(x), FFT2(y))``, as ``pixel_opt`` of an option file.

    The weight of 0.1 is the paper's. The frequency term is the mean absolute difference of the real
    and imaginary parts of the un-normalised 2-D transforms, as in the first author's other releases
    (a guess for Compacter).

    Args:
        loss_weight: factor of the sum.
        frequency_weight: factor of the frequency term.
        reduction: ``mean``, which BasicSR's option files give to every loss; no other is known.
    """

    def __init__(
        self, loss_weight: float = 1.0, frequency_weight: float = 0.1, reduction: str = "mean"
    ) -> None:
        super().__init__()
        if reduction != "mean":
            raise ValueError(f"L1FrequencyLoss: reduction must be 'mean', got {reduction!r}")
        self.loss_weight, self.frequency_weight = loss_weight, frequency_weight

    def forward(self, pred: Tensor, target: Tensor, **kwargs: object) -> Tensor:
        """Scalar loss of two (B, C, H, W) images; computed in float32 whatever they are."""
        difference = pred.float() - target.float()
        # The transform is linear: the transform of the difference is the difference of the two.
        frequency = torch.view_as_real(torch.fft.fft2(difference)).abs().mean()
        return self.loss_weight * (difference.abs().mean() + self.frequency_weight * frequency)
