"""LMDB datasets: whole keys, room for all images, one environment for all who read a file."""

from __future__ import annotations

import inspect
import os
import re
import weakref
from typing import Any

from PIL import Image

from .patching import Function, patch

# name, then "(h,w,c)" and the compression level as BasicSR writes them
_META_LINE = re.compile(r"(?P<name>.+?)(\s+\([0-9]+,\s*[0-9]+(,\s*[0-9]+)?\)(\s+[0-9]+)?)?\s*")


def _keys_of(folder: str) -> list[str]:
    """The keys of an LMDB from its `meta_info.txt`: image names without their extension."""
    with open(os.path.join(folder, "meta_info.txt")) as file:
        lines = [_META_LINE.fullmatch(line) for line in file]
    return [os.path.splitext(line["name"])[0] for line in lines if line is not None]


def repair_keys() -> None:
    """`data/data_util.py:142, 144, 261`: an LMDB key ends at its first dot: `v1` for `v1.5`.

    The image is then not found; two keys with a common beginning become one.
    """
    from basicsr.data import data_util

    @patch(data_util, "paths_from_lmdb")
    def paths_from_lmdb(original: Function, folder: str) -> list[str]:
        original(folder)  # its checks
        return _keys_of(folder)

    @patch(data_util, "paired_paths_from_lmdb")
    def paired_paths_from_lmdb(
        original: Function, folders: list[str], keys: list[str]
    ) -> list[dict]:
        original(folders, keys)  # its checks
        of_input, of_gt = map(_keys_of, folders)
        odd = sorted(set(of_input) ^ set(of_gt))
        if odd:
            raise ValueError(
                f"Keys in {folders[0]} and {folders[1]} are different: "
                f"{odd[0]} is in one of them only."
            )
        return [{f"{keys[0]}_path": key, f"{keys[1]}_path": key} for key in sorted(of_input)]


_environments: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def _open_environment(path: str) -> Any:
    """The read-only LMDB environment that this process already has for a path, or None."""
    import lmdb

    environment = _environments.get(path)
    if environment is not None:
        try:
            environment.info()
        except lmdb.Error:  # closed by its user
            return None
    return environment


def repair_sharing() -> None:
    """`utils/file_client.py:112`: two datasets of one process cannot read the same LMDB.

    "The environment '...' is already open in this process." Readers without locks can share one
    environment. A forked worker goes on with the inherited one: LMDB refuses to open the path again
    there as well, and a reader that takes no locks has no state in common with its parent.
    """
    from basicsr.utils.file_client import LmdbBackend

    @patch(LmdbBackend, "__init__")
    def init(
        original: Function,
        self: Any,
        db_paths: Any,
        client_keys: Any = "default",
        readonly: bool = True,
        lock: bool = False,
        **kwargs: Any,
    ) -> None:
        paths = db_paths if isinstance(db_paths, list) else [db_paths]
        keys = [client_keys] if isinstance(client_keys, str) else client_keys
        if not readonly or lock or len(paths) != len(keys):
            original(self, db_paths, client_keys, readonly, lock, **kwargs)
            return
        clients = {}
        for key, path in zip(keys, map(str, paths), strict=True):
            absolute = os.path.realpath(path)
            environment = _open_environment(absolute)
            if environment is None:
                original(self, path, key, readonly, lock, **kwargs)
                environment = _environments[absolute] = self._client[key]
            clients[key] = environment
        self.db_paths, self._client = [str(path) for path in paths], clients


def _largest_png(path: str) -> int:
    """More bytes than OpenCV's PNG of an image file takes: four channels of 16 bits, and some."""
    with Image.open(path) as image:  # reads the header alone
        return image.width * image.height * 9 + 2**14


def repair_map_size() -> None:
    """`utils/lmdb_util.py:96`: the size of an LMDB is guessed from the first of its images.

    Where the first one is small or flat, the writing of the others ends with "MDB_MAP_FULL". What
    is reserved here is enough for any; only what is written takes room on the disk.
    """
    from basicsr.utils import lmdb_util

    @patch(lmdb_util, "make_lmdb_from_imgs")
    def make_lmdb_from_imgs(
        original: Function,
        data_path: str,
        lmdb_path: str,
        img_path_list: list[str],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        given = inspect.signature(original).bind(
            data_path, lmdb_path, img_path_list, *args, **kwargs
        )
        if given.arguments.get("map_size") is None:
            sizes = (_largest_png(os.path.join(data_path, path)) for path in img_path_list)
            given.arguments["map_size"] = sum(sizes) + 2**24
        original(*given.args, **given.kwargs)


REPAIRS = (repair_keys, repair_sharing, repair_map_size)
