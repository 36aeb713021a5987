"""The trained weights that come with this package, by name.

What they were trained on, how far they are from the paper's and how they are tested is told by the
cards in ``experiments/README.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import UserError

TASKS = {
    "sr_x2": "SRx2",
    "sr_x3": "SRx3",
    "sr_x4": "SRx4",
    "color_dn": "ColorDN",
    "gray_dn": "GrayDN",
    "jpeg": "JPEG",
    "derain": "Derain",
    "low_light": "LowLight",
}
SCHEME = "zoo://"  # in option files: `pretrain_network_g: zoo://sr_x2`


def package_weights() -> Path:
    """The folder of the weights that come with this package."""
    package = Path(__file__).resolve().parent
    installed = package / "pretrained_models"
    return installed if installed.is_dir() else package.parent / "experiments/pretrained_models"


def weights_file(task: str) -> Path:
    """The checkpoint of a task.

    Args:
        task: a key of :data:`TASKS`.

    Raises:
        UserError: no such task; names those there are.
    """
    if task not in TASKS:
        raise UserError(f"no weights for '{task}'; there are {', '.join(TASKS)}")
    return package_weights() / f"Compacter_{TASKS[task]}.pth"


def resolve_weights(opt: dict[str, Any]) -> None:
    """Put files in place of ``zoo://TASK`` in the section ``path`` of an option file.

    Raises:
        UserError: no such task; names the key.
    """
    paths = opt.get("path")
    if not isinstance(paths, dict):
        return
    for key, value in paths.items():
        if isinstance(value, str) and value.startswith(SCHEME):
            try:
                paths[key] = str(weights_file(value.removeprefix(SCHEME)))
            except UserError as error:
                raise UserError(f"path.{key}: {value}: {error}") from error
