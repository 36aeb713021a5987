"""Lists of images as BasicSR's ``meta_info_file`` wants them."""

from __future__ import annotations

from pathlib import Path

from compacter_arch.errors import UserError

from .files import image_shape, list_images, remove_leftovers, write_file
from .jobs import in_parallel


def make_meta_info(folder: Path, file: Path, *, workers: int | None = None) -> int:
    """Write a line ``name.png (height,width,channels)`` for every image in ``folder``.

    Args:
        folder: 8-bit images; its sub-folders are not visited.
        file: The list; written anew.
        workers: Threads; default one per core.

    Returns:
        The number of images.

    Raises:
        UserError: The folder or an image cannot be used, or a name has a space, where BasicSR
            would end it.
    """
    paths = list_images(folder)
    for path in paths:
        if len(path.name.split()) > 1:
            raise UserError(f"{path}: BasicSR ends a name at its first space; rename it")
    shapes = in_parallel(image_shape, paths, file.name, workers)
    lines = [f"{path.name} ({h},{w},{c})\n" for path, (h, w, c) in zip(paths, shapes, strict=True)]
    remove_leftovers(file.parent, {file.name})
    write_file(file, "".join(lines).encode())
    return len(lines)
