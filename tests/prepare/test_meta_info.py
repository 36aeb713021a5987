"""Lists of images are those that BasicSR reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from basicsr.data.data_util import paired_paths_from_meta_info_file

from compacter_arch.errors import UserError
from compacter_arch.prepare import make_meta_info
from compacter_arch.prepare.files import write_png

from .tools import noise_png, random_image


def test_lines_and_basicsr(tmp_path: Path) -> None:
    folder, file = tmp_path / "in", tmp_path / "new" / "meta_info.txt"
    noise_png(folder / "b.png", 8, 9)
    write_png(folder / "a.png", random_image(0, (7, 5)))
    write_png(folder / "c.v2.png", random_image(0, (7, 5, 4)))
    assert make_meta_info(folder, file) == 3
    assert file.read_text() == "a.png (7,5,1)\nb.png (8,9,3)\nc.v2.png (7,5,4)\n"
    pairs = paired_paths_from_meta_info_file([folder, folder], ["lq", "gt"], str(file), "{}")
    assert [Path(pair["gt_path"]).name for pair in pairs] == ["a.png", "b.png", "c.v2.png"]
    (folder / "a.png").unlink()
    assert make_meta_info(folder, file) == 2
    assert file.read_text() == "b.png (8,9,3)\nc.v2.png (7,5,4)\n"
    assert [path.name for path in file.parent.iterdir()] == ["meta_info.txt"]


def test_names_with_spaces_are_refused(tmp_path: Path) -> None:
    noise_png(tmp_path / "in" / "a b.png", 8, 9)
    with pytest.raises(UserError, match=r"a b\.png: BasicSR ends a name at its first space"):
        make_meta_info(tmp_path / "in", tmp_path / "meta_info.txt")
    assert not (tmp_path / "meta_info.txt").exists()
