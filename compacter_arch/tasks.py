"""The tasks that networks are measured on: what their tables are called, and their traps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A task of ``basicsr table``.

    Attributes:
        title: heading of its tables; ``{}`` stands for the scale or level.
        option_files: name of the file that tests it, by scale.
        baseline: what the input alone is called: bicubic interpolation or the degraded image.
        traps: why numbers differ between papers, a sentence or two each.
    """

    title: str
    option_files: Mapping[int, str]
    baseline: str
    traps: Sequence[str]


DENOISING = (
    "The noise of each image is N(0, sigma) from numpy.random.RandomState(0), as SwinIR's, neither "
    "clipped nor rounded; RAMiT's is torch's: up to 0.07 dB apart on small images. No border.",
    "The result is clipped and rounded to 8 bits before it is measured.",
)
Y = "Y is BT.601 in [16, 235], in floating point"
NO_MATCHING = (
    "RGB, no border. The result is not scaled to the mean of GT, as some papers do: theirs is "
    "another, higher number.",
)
TASKS = {
    "sr": Task(
        "Super-resolution x{}",
        {scale: f"test_Compacter_SRx{scale}.yml" for scale in (2, 3, 4)},
        "bicubic",
        (
            "GT is cropped to a multiple of the scale. LR is MATLAB's imresize of it on 8 bits, "
            "rounded after each pass: one pass in floating point gives 0.013 to 0.019 dB more at "
            "x2, OpenCV's bicubic 7 to 9 dB less.",
            "The result is rounded to 8 bits; without, 0.015 dB more.",
            f"{Y}; a rounded Y lowers bicubic by 0.01 dB.",
            "As many pixels as the scale are cut from each side. Mean over the images.",
            "Set14's bridge is gray. BasicSR reads it as RGB, whose Y has 219/255 of its contrast: "
            "1.32 dB more for this image and 0.09 dB for the mean than where it is measured as it "
            "is, as in the published bicubic row.",
        ),
    ),
    "color_dn": Task(
        "Colour denoising, sigma {}",
        {1: "test_Compacter_ColorDN.yml"},
        "noisy",
        (
            *DENOISING,
            "PSNR is over the three channels of RGB at once, SSIM the mean of the three.",
            "SSIM-3D takes the channels as the third axis of a volume, as the BasicSR of NAFNet "
            "and Restormer does. The SSIM in Compacter's paper fits it, not the mean: on CBSD68, "
            "at equal PSNR, its 1 - SSIM is 0.49 to 0.54 of RAMiT's; measured here, that of "
            "SSIM-3D is 0.51 to 0.58 of the mean's.",
            "Kodak24 as 500 x 500 crops (FFDNet's) is about 0.1 dB apart from the 768 x 512 "
            "originals.",
        ),
    ),
    "gray_dn": Task(
        "Grayscale denoising, sigma {}",
        {1: "test_Compacter_GrayDN.yml"},
        "noisy",
        (*DENOISING, "Colour images become 0.299 R + 0.587 G + 0.114 B first."),
    ),
    "jpeg": Task(
        "JPEG artefacts, quality {}",
        {1: "test_Compacter_JPEG.yml"},
        "JPEG",
        (
            "Gray images are compressed as they are, colour images as Y of BT.601 in [16, 235], "
            "by libjpeg-turbo. No border.",
            "PSNR-B counts n // 8 - 1 borders of blocks on a side of n pixels, as published "
            "tables do.",
        ),
    ),
    "derain": Task(
        "Deraining",
        {1: "test_Compacter_Derain.yml"},
        "rainy",
        (
            f"{Y}; no border. Tables on RGB are others.",
            "Rain100L and Rain100H come in two versions; these are Rain13K's, of 100 images.",
        ),
    ),
    "low_light": Task(
        "Low light, LOL",
        {1: "test_Compacter_LowLight.yml"},
        "dark",
        NO_MATCHING,
    ),
    "low_light_v2": Task(
        "Low light, LOL v2",
        {1: "test_Compacter_LowLightV2.yml"},
        "dark",
        NO_MATCHING,
    ),
}
