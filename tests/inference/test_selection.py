"""Which files are restored, and what their results are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compacter_arch.errors import UserError
from compacter_arch.inference.restoration import Job
from compacter_arch.inference.selection import Source, find_sources, plan

OUT = Path("out")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty files, which are the current directory's."""
    monkeypatch.chdir(tmp_path)
    for name in [
        *("a.png", "in/b.JPG", "in/deep/c.tiff", "in/deep/b.jpg", "in/note.txt"),
        *("in/.hidden.png", "in/.git/d.png", "in[1]/e.png"),
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def places(*inputs: str, lines: list[str] | None = None, output: Path = OUT) -> dict[str, str]:
    """Files and their places, as texts."""
    sources, _ = find_sources(inputs, output, lines or [])
    return {s.file.as_posix(): s.place.as_posix() for s in sources}


@pytest.mark.usefixtures("tree")
class TestFind:
    def test_files_and_folders(self):
        assert places("a.png", "in") == {
            "a.png": "a.png",
            "in/b.JPG": "b.JPG",
            "in/deep/b.jpg": "deep/b.jpg",
            "in/deep/c.tiff": "deep/c.tiff",
        }
        _, others = find_sources(["in"], OUT, [])
        assert others == [Path("in/note.txt")]

    def test_a_file_named_by_itself_need_not_be_named_as_an_image(self):
        assert places("in/note.txt") == {"in/note.txt": "note.txt"}

    def test_patterns(self):
        assert list(places("in/deep/*")) == ["in/deep/b.jpg", "in/deep/c.tiff"]
        assert list(places("i*/**/b.*")) == ["in/b.JPG", "in/deep/b.jpg"]
        assert places("in[1]") == {"in[1]/e.png": "e.png"}  # a folder of this name is none

    def test_each_once(self):
        assert list(places("in/b.JPG", "in/*.JPG", "./in/b.JPG", str(Path.cwd() / "in"))) == [
            "in/b.JPG",
            *(str(Path.cwd() / "in/deep" / name) for name in ("b.jpg", "c.tiff")),
        ]

    def test_list_on_stdin(self):
        lines = ["in/b.JPG\n", "\n", "in/deep\r\n"]
        found = places("a.png", "-", lines=lines)
        assert list(found) == ["a.png", "in/b.JPG", "in/deep/b.jpg", "in/deep/c.tiff"]

    def test_former_results_are_no_inputs(self):
        assert list(places("in", output=Path("in/deep"))) == ["in/b.JPG"]
        assert len(places("in", output=Path("in"))) == 3

    def test_links_in_circles(self):
        Path("in/again").symlink_to(".")
        Path("in/more").symlink_to(".")
        Path("in/self.png").symlink_to("self.png")
        expected = ["in/b.JPG", "in/deep/b.jpg", "in/self.png"]
        assert sorted(places("in/**/*.[jJp]*")) == expected
        assert {*expected} <= {*places("in")}

    def test_hidden_files_are_named(self):
        Path(".a").mkdir()
        for name in (".a/b.png", ".a/.c.png", "in/.d.png"):
            Path(name).touch()
        assert list(places(".a/*.png")) == [".a/b.png"]
        assert list(places(".a/.*.png")) == [".a/.c.png"]
        assert ".d.png" not in str(list(places("in/*")))

    @pytest.mark.parametrize("name", ["absent.png", "absent*.png", "x" * 5000, "a\0b*"])
    def test_nothing_there(self, name: str):
        with pytest.raises(UserError, match=": (no such file|embedded null)"):
            places("a.png", name)

    def test_no_images(self):
        Path("empty").mkdir()
        with pytest.raises(UserError, match="empty: no images"):
            places("empty")
        with pytest.raises(UserError, match="no input: no images"):
            places("-", lines=["\n"])


def of(*names: str) -> list[Source]:
    """Files that lie as their results will."""
    return [Source(Path(name), Path(Path(name).name)) for name in names]


@pytest.mark.usefixtures("tree")
class TestPlan:
    def test_names(self):
        source = [Source(Path("in/deep/c.tiff"), Path("deep/c.tiff"))]
        (job,) = plan(source, OUT)
        assert job == Job(Path("in/deep/c.tiff"), Path("out/deep/c.tiff"))
        (job,) = plan(source, OUT, "webp", "_x2", compare=True)
        assert job.target == Path("out/deep/c_x2.webp")
        assert job.comparison == Path("out/deep/c_x2_compare.webp")

    def test_dots_in_names(self):
        (job,) = plan(of("a.b.png"), OUT, "jpg", ".x2")
        assert job.target == Path("out/a.b.x2.jpg")

    def test_one_file_to_a_file(self):
        (job,) = plan(of("a.png"), Path("b.JPG"), compare=True)
        assert (job.target, job.comparison) == (Path("b.JPG"), Path("b_compare.JPG"))

    @pytest.mark.parametrize(
        ("names", "output", "options", "words"),
        [
            ("a.png b.png", "c.png", {}, "cannot hold 2 images"),
            ("a.png", "c.png", {"suffix": "_x2"}, "leave out"),
            ("a.png", "c.png", {"form": "jpg"}, "leave out"),
            ("in/note.txt", "out", {}, "note.txt: its format cannot be written; give --format"),
            ("a.png", "in/note.txt", {}, "neither a folder nor"),
            ("x/a.png y/a.png", "out", {}, "x/a.png and y/a.png would both be written to out/a"),
            ("a.png a.jpg", "out", {"form": "webp"}, "both be written to out/a.webp"),
            ("a.png a_compare.png", "out", {"compare": True}, "both be written to out/a_comp"),
            ("a.png", ".", {}, "a.png: is the input itself; give --overwrite"),
            ("a.png", "a.png", {}, "a.png: is the input itself"),
            ("in/b.JPG", "in/deep/b.jpg", {}, "in/deep/b.jpg: exists; give --overwrite"),
            ("x/a.png a.png", ".", {"overwrite": True}, "both be written to a.png"),
            ("x/a.png a.png", ".", {"suffix": "", "form": "jpg"}, "both"),
        ],
    )
    def test_refused(self, names: str, output: str, options: dict[str, object], words: str):
        with pytest.raises(UserError) as caught:
            plan(of(*names.split()), Path(output), **options)
        assert words in str(caught.value)

    def test_another_input_is_never_replaced(self):
        """In place of its own input a result may be, in that of another one it may not."""
        sources = [
            Source(Path("in/deep/b.jpg"), Path("a.png")),
            Source(Path("a.png"), Path("z.png")),
        ]
        for overwrite in (False, True):
            with pytest.raises(UserError, match="a.png: is an input itself"):
                plan(sources, Path("."), overwrite=overwrite)

    def test_overwrite(self):
        (job,) = plan(of("a.png"), Path("."), overwrite=True)
        assert job.target == Path("a.png")

    def test_links_are_followed(self):
        os.symlink("in", "link")
        with pytest.raises(UserError, match="is the input itself"):
            plan([Source(Path("in/b.JPG"), Path("b.JPG"))], Path("link"))

    def test_every_problem_has_its_line(self):
        with pytest.raises(UserError) as caught:
            plan([*of("a.png"), Source(Path("in/b.JPG"), Path("in/b.JPG"))], Path("."))
        assert len(str(caught.value).splitlines()) == 2
