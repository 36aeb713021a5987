"""The distance of the Fourier transforms, and Compacter's training loss with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def frequency_distance(pred: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the real and imaginary parts of the 2-D Fourier transforms.

    The transforms are not normalised, as in the first author's other releases (a guess for
    Compacter). (B, C, H, W) -> scalar.
    """
    # The transform is linear: the transform of the difference is the difference of the two.
    return torch.view_as_real(torch.fft.fft2(pred - target)).abs().mean()


class RestorationLoss(nn.Module):
    """``loss_weight * (distance + frequency_weight * frequency_distance)``: what ours share.

    Args:
        loss_weight: factor of the sum.
        frequency_weight: factor of the frequency term.
        reduction: ``mean``, which BasicSR's option files give to every loss; no other is known.
    """

    def __init__(
        self, loss_weight: float = 1.0, frequency_weight: float = 0.0, reduction: str = "mean"
    ) -> None:
        super().__init__()
        if reduction != "mean":
            raise ValueError(f"{type(self).__name__}: reduction must be 'mean', got {reduction!r}")
        self.loss_weight, self.frequency_weight = loss_weight, frequency_weight

    def forward(self, pred: Tensor, target: Tensor, **kwargs: object) -> Tensor:
        """Scalar loss of two (B, C, H, W) images; computed in float32 whatever they are."""
        pred, target = pred.float(), target.float()
        loss = self.distance(pred, target)
        if self.frequency_weight:
            loss = loss + self.frequency_weight * frequency_distance(pred, target)
        return self.loss_weight * loss

    def distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """The distance in the pixels, a scalar."""
        raise NotImplementedError


class FrequencyLoss(RestorationLoss):
    """The frequency term alone."""

    def __init__(self, loss_weight: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(loss_weight, 0.0, reduction)

    def distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """See :func:`frequency_distance`."""
        return frequency_distance(pred, target)


class L1FrequencyLoss(RestorationLoss):
    """L1 plus 0.1 times the frequency term; the weight is the paper's."""

    def __init__(
        self, loss_weight: float = 1.0, frequency_weight: float = 0.1, reduction: str = "mean"
    ) -> None:
        super().__init__(loss_weight, frequency_weight, reduction)

    def distance(self, pred: Tensor, target: Tensor) -> Tensor:
        """Mean absolute difference."""
        return (pred - target).abs().mean()
