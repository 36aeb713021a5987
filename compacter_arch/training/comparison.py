"""The picture at the end of a run: input, result, original, with their PSNR."""

from __future__ import annotations

import os.path as osp
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, tensor2img
from PIL import Image, ImageDraw, ImageFont

from ..archs import Bicubic
from .options import Options

CROP = 120  # pixels of the original shown in each panel
ZOOM = 3
LINE = 26  # height of a line of text, pixels


def compare_with_input(model: Any, val_loaders: list[Any], opt: Options) -> None:
    """Compare the trained network with its plain input on all validation images.

    The input is enlarged by bicubic interpolation first where the task is super-resolution. Logs
    the mean metrics of both and writes ``comparison.png`` into the folder of the run: a detail of
    each image of the first data set as input, result and original.
    """
    logger, scale = get_root_logger(), opt.get("scale", 1)
    baseline, label = Bicubic(scale), "bicubic" if scale > 1 else "input"
    metrics = opt["val"].get("metrics") or {}
    for number, loader in enumerate(val_loaders):
        rows, scores = [], []
        for data in loader:
            model.feed_data(data)
            model.test()
            visuals = model.get_current_visuals()
            with torch.no_grad():
                plain = baseline(visuals["lq"])
            images = [tensor2img([t]) for t in (plain, visuals["result"], visuals["gt"])]
            score = [
                [calculate_metric({"img": im, "img2": images[2]}, m) for im in images[:2]]
                for m in metrics.values()
            ]
            scores.append(score)
            psnr = score[list(metrics).index("psnr")] if "psnr" in metrics else None
            rows.append(draw_row(images, osp.basename(data["gt_path"][0]), label, psnr))
        for index, metric in enumerate(metrics):
            before, after = np.mean([score[index] for score in scores], axis=0)
            logger.info(
                f"{loader.dataset.opt['name']}: {metric} {label} {before:.4f} -> "
                f"{opt['network_g']['type']} {after:.4f} ({after - before:+.4f})"
            )
        if number == 0:
            file = osp.join(opt["path"]["experiments_root"], "comparison.png")
            stack_rows(rows).save(file)
            logger.info(f"Picture: {file}")


def draw_row(
    images: list[np.ndarray], name: str, label: str, psnr: list[float] | None
) -> Image.Image:
    """One image: the most detailed square of it, as input, result and original, with captions.

    Args:
        images: input, result, original; (H, W, 3) BGR or (H, W) gray, uint8.
        psnr: dB of input and result over the whole image, if known.
    """
    top, left = busiest_square(images[2])
    titles = [label, "Compacter", "original"]
    captions = [f"{p:.2f} dB" for p in psnr] + [name] if psnr else ["", "", name]
    side = CROP * ZOOM
    row = Image.new("RGB", (3 * side + 2 * 6, side + 2 * LINE), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(18)
    for i, (image, title, caption) in enumerate(zip(images, titles, captions, strict=True)):
        crop = image[top : top + CROP, left : left + CROP]
        code = cv2.COLOR_GRAY2RGB if crop.ndim == 2 else cv2.COLOR_BGR2RGB
        crop = cv2.resize(cv2.cvtColor(crop, code), (side, side), interpolation=cv2.INTER_NEAREST)
        x = i * (side + 6)
        row.paste(Image.fromarray(crop), (x, 0))
        for line, text in enumerate((title, caption)):
            draw.text((x + side / 2, side + (line + 0.5) * LINE), text, "black", font, anchor="mm")
    return row


def busiest_square(image: np.ndarray) -> tuple[int, int]:
    """Top left corner of the square of ``CROP`` pixels with the strongest gradients."""
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    detail = cv2.Laplacian(gray, cv2.CV_32F).__abs__()
    height, width = (max(size - CROP, 0) + 1 for size in gray.shape)
    total = cv2.boxFilter(detail, -1, (CROP, CROP), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    top, left = np.unravel_index(np.argmax(total[:height, :width]), (height, width))
    return int(top), int(left)


def stack_rows(rows: list[Image.Image]) -> Image.Image:
    """Rows below each other."""
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet
