"""Photographs restored: arrays and files, in any mode, by a network of one or of three channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from .encoding import format_for, write_photo
from .images import Photo, read_photo, split_alpha
from .memory import choose_tile, free_memory
from .tiling import Network, Progress, Tiles, check_tile, least_tile
from .video import is_video, rewrite_video

OVERLAP = 32  # pixels; see `memory`


@dataclass(frozen=True)
class Restorer:
    """A network and how it is used.

    Args:
        model: what :func:`~compacter_arch.inference.load_model` or
            :func:`~compacter_arch.inference.accelerate` give.
        tile: side of a tile in pixels; 0 for the whole image; ``auto``: see :func:`choose_tile`.
        overlap: of the tiles, in pixels.
        self_ensemble: the mean over the eight flips and quarter turns of the image: a little
            better, eight times as long.

    Raises:
        UserError: the tile is too small for the overlap, or no number of pixels.
    """

    model: nn.Module
    tile: int | str = "auto"
    overlap: int = OVERLAP
    self_ensemble: bool = False

    def __post_init__(self) -> None:
        if self.tile != "auto" and (not isinstance(self.tile, int) or self.tile < 0):
            raise UserError(f"tile {self.tile!r}: give a number of pixels, 0 or 'auto'")
        check_tile(0 if isinstance(self.tile, str) else self.tile, self.overlap)

    @property
    def scale(self) -> int:
        """Of the network."""
        return int(self._network.upscale)

    @property
    def channels(self) -> int:
        """Of the network's input: 1 or 3."""
        return int(self._network.conv_first.in_channels)

    @property
    def _network(self) -> Any:
        return getattr(self.model, "network", self.model)  # under autocast

    @torch.inference_mode()
    def pixels(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """Restore (H, W) gray or (H, W, 3) RGB, 8 or 16 bits or floats in [0, 1], without alpha.

        In memory are the image, the result and a row of tiles.

        Returns:
            (H * scale, W * scale[, 3]) of the same type.

        Raises:
            UserError: the memory is too small; the network gives what is no number.
        """
        height, width = image.shape[:2]
        self.check_room(image)
        result = np.empty((height * self.scale, width * self.scale, *image.shape[2:]), image.dtype)
        device = next(self.model.parameters()).device
        maximum = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
        network = as_network(self.model, maximum, image.ndim == 2, self.channels == 1)
        if self.self_ensemble:
            network = ensemble(network)
        tile = (
            choose_tile(height, width, self.scale, device)
            if isinstance(self.tile, str)
            else self.tile
        )
        if tile:
            tile = max(tile, least_tile(self.overlap))
        tiles = Tiles(network, self.scale, tile, self.overlap, device, progress)
        top = 0
        for band in tiles.rows(as_tensor(image)):
            if not band.isfinite().all():
                raise UserError("the network gave what is no number; try --precision fp32")
            band = band.clamp(0, 1).mul_(maximum)
            rows = (band.round_() if maximum > 1 else band)[0].permute(1, 2, 0).numpy()
            result[top : top + len(rows)] = rows if image.ndim == 3 else rows[..., 0]
            top += len(rows)
            del band, rows  # while the next ones are computed
        return result

    def check_room(self, image: np.ndarray) -> None:
        """Refuse what would be computed for nothing.

        Raises:
            UserError: the memory that is free cannot hold the result.
        """
        need, free = image.nbytes * self.scale**2, free_memory(torch.device("cpu"))
        if need > free:
            raise UserError(
                f"the result takes {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; "
                "cut the image into parts"
            )

    def photo(self, photo: Photo, progress: Progress | None = None) -> Photo:
        """Restore a photograph; its alpha is resized, or left as it is at scale 1."""
        alpha = None if photo.alpha is None else enlarge(photo.alpha, self.scale)
        return replace(photo, pixels=self.pixels(photo.pixels, progress), alpha=alpha)


def restore(
    image: Path | str | np.ndarray,
    model: nn.Module,
    *,
    tile: int | str = "auto",
    overlap: int = OVERLAP,
    self_ensemble: bool = False,
    progress: Progress | None = None,
) -> np.ndarray:
    """Restore one image.

    Args:
        image: a file, or (H, W) or (H, W, C) with C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and
            alpha; ``uint8``, ``uint16``, or floats in [0, 1].
        model: from :func:`~compacter_arch.inference.load_model`, accelerated or not.
        tile, overlap, self_ensemble: see :class:`Restorer`.
        progress: told of tiles done, and of tiles in all.

    Returns:
        As the image (of a file: as in :class:`Photo`), H and W times the network's scale.

    Raises:
        UserError: a file that cannot be read; an array of another kind; too little memory.
    """
    restorer = Restorer(model, tile, overlap, self_ensemble)
    if isinstance(image, (str, Path)):
        return restorer.photo(read_photo(image), progress).channels
    if not isinstance(image, np.ndarray):
        raise UserError(f"restore takes a file or an array of NumPy, not {type(image).__name__}")
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    kinds = (np.uint8, np.uint16, np.float16, np.float32, np.float64)
    known = image.ndim == 2 or (image.ndim == 3 and 1 <= image.shape[2] <= 4)
    if not known or image.dtype not in kinds or image.size == 0:
        raise UserError(
            f"an array of {image.dtype} of shape {image.shape}; restore takes uint8, uint16 or "
            "floats in [0, 1] of (H, W) or (H, W, 1 to 4)"
        )
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise UserError("the image holds what is no number (NaN or infinite)")
    restored = restorer.photo(Photo(*split_alpha(image)), progress).channels
    return restored if restored.ndim == image.ndim else restored[..., None]


@dataclass(frozen=True)
class Job:
    """One file to restore.

    Args:
        source: to read.
        target: to write.
        comparison: to write the image before and after, side by side, if anywhere.
    """

    source: Path
    target: Path
    comparison: Path | None = None


def restore_files(
    jobs: Iterable[Job],
    restorer: Restorer,
    quality: int = 95,
    progress: Progress | None = None,
    frames: Progress | None = None,
) -> Iterator[tuple[Job, UserError | None]]:
    """Restore files, one after the other; one that fails does not keep others from it.

    Args:
        quality: of JPEG and WebP, 1 to 100.
        progress: told of tiles of the current image.
        frames: told of frames of the current video.

    Yields:
        Each job when it is done, and what was wrong with it.
    """
    for job in jobs:
        try:
            if is_video(job.source):
                restore_video(job, restorer, frames)
            else:
                restore_file(job, restorer, quality, progress)
        except UserError as error:
            yield job, error
        else:
            yield job, None


def restore_file(
    job: Job, restorer: Restorer, quality: int = 95, progress: Progress | None = None
) -> None:
    """Restore one image; see :func:`restore_files`.

    Raises:
        UserError: one line that names the file.
    """
    before = read_photo(job.source)
    try:
        format_for(before, job.target.suffix)  # better now than when all is computed
        after = restorer.photo(before, progress)
    except (UserError, MemoryError) as error:
        raise UserError(f"{job.source}: {error}") from error
    write_photo(job.target, after, quality)
    if job.comparison is not None:
        write_photo(job.comparison, side_by_side(before, after), quality)


def restore_video(job: Job, restorer: Restorer, progress: Progress | None = None) -> None:
    """Restore one video, frame by frame; see :func:`rewrite_video`.

    Args:
        progress: told of frames.

    Raises:
        UserError: one line that names the file.
    """

    def change(before: np.ndarray) -> list[np.ndarray]:
        after = restorer.pixels(before)
        if job.comparison is None:
            return [after]
        return [after, np.hstack([enlarge(before, restorer.scale), after])]

    rewrite_video(job.source, list(filter(None, (job.target, job.comparison))), change, progress)


def side_by_side(before: Photo, after: Photo) -> Photo:
    """The image before, enlarged to the size of the restored one, and after."""
    scale = after.pixels.shape[0] // before.pixels.shape[0]
    pixels = np.hstack([enlarge(before.pixels, scale), after.pixels])
    alpha = None if after.alpha is None else np.hstack([after.alpha, after.alpha])
    return replace(after, pixels=pixels, alpha=alpha)


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """(H, W) or (H, W, C) by bicubic interpolation, of the same type; itself at scale 1."""
    if scale == 1:
        return image
    height, width = image.shape[:2]
    half = image.dtype == np.float16  # OpenCV does not resize it
    size = (width * scale, height * scale)
    bigger = cv2.resize(
        image.astype(np.float32) if half else image, size, interpolation=cv2.INTER_CUBIC
    )
    return (bigger if image.dtype.kind == "u" else bigger.clip(0, 1)).astype(image.dtype)


def as_tensor(image: np.ndarray) -> Tensor:
    """(H, W) or (H, W, C) as (1, C, H, W), without a copy but of 16 bits, which PyTorch has not."""
    if image.dtype == np.uint16:
        image = image.astype(np.int32)
    image = np.require(image, requirements=["C", "W"])  # PyTorch warns of what is read-only
    return torch.from_numpy(image.reshape(*image.shape[:2], -1)).permute(2, 0, 1)[None]


def as_network(model: Network, maximum: int, gray: bool, for_gray: bool) -> Network:
    """The network as one of images of any type and number of channels: (1, C, H, W), C = 1 or 3.

    Args:
        model: (B, C', H, W) in [0, 1] -> (B, C', H * scale, W * scale).
        maximum: of the values of the images.
        gray: whether C is 1. For a network of color, gray becomes three equal channels, and what
            it makes of them is averaged.
        for_gray: whether C' is 1. Such a network restores the channels of color one by one.
    """

    def network(x: Tensor) -> Tensor:
        x = x.float() / maximum
        if gray == for_gray:
            return model(x)
        if gray:
            return model(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
        return torch.cat([model(channel) for channel in x.split(1, 1)], 1)

    return network


def ensemble(network: Network) -> Network:
    """The mean over the eight flips and quarter turns of the image, each turned back."""

    def mean(x: Tensor) -> Tensor:
        total: Any = 0
        for turns in range(4):
            turned = x.rot90(turns, (2, 3))
            total = total + network(turned).rot90(-turns, (2, 3))
            total += network(turned.flip(3)).flip(3).rot90(-turns, (2, 3))
        return total / 8

    return mean
