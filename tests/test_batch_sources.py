"""Which files a batch finds, which it leaves out, and which it reports unopened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tnrd.inference.batch.errors import BatchInputError
from tnrd.inference.batch.sources import Found, Paths, find


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(found: Found) -> list[str]:
    return [name for index, (_, name) in enumerate(found.paths) if index not in found.faults]


def faults(found: Found) -> dict[str, str]:
    return {found.paths[index][1]: fault for index, fault in found.faults.items()}


def look(folder: Path, recursive: bool = True, output: str = "/nowhere") -> Found:
    return find([str(folder)], [], output, recursive=recursive)


@pytest.mark.parametrize("name", ["a.png", "ä ö.png", "x/" * 40 + "y.png", os.fsdecode(b"\xff\xfe.png")])
def test_paths_come_back_as_they_were(name: str) -> None:
    paths = Paths()
    for _ in range(3):
        paths.append("/root/" + name, name)
    assert len(paths) == 3
    assert list(paths) == [("/root/" + name, name)] * 3
    assert paths[1] == ("/root/" + name, name)


def test_a_folder_gives_its_pictures_in_the_order_of_names(tmp_path: Path) -> None:
    touch(tmp_path, "b.PNG", "a.jpeg", "notes.txt", ".hidden.png", "sub/c.tif", "Makefile")
    found = look(tmp_path, recursive=False)
    assert names(found) == ["a.jpeg", "b.PNG"]
    assert (found.folders_left_out, found.faults) == (1, {})
    assert found.left_out == {".txt": 1, "others": 1, "Makefile": 1}


def test_the_count_of_what_is_left_out_stays_short(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.an-end-of-great-length", *(f"scan.{i:04}" for i in range(40)), "c.HEIC", "d.heic")
    left_out = look(tmp_path).left_out
    assert left_out.total() == 43
    assert left_out[".heic"] == 2
    assert len(left_out) <= 21


def test_recursion_goes_into_all_folders_but_hidden_ones(tmp_path: Path) -> None:
    touch(tmp_path, "z.png", "b/c/d.png", "b/a.png", "a/x.png", ".git/e.png")
    found = look(tmp_path)
    assert names(found) == ["z.png", "a/x.png", "b/a.png", "b/c/d.png"]
    assert found.folders_left_out == 1
    assert [path for path, _ in found.paths] == [str(tmp_path / name) for name in names(found)]


def test_deep_trees_do_not_exhaust_the_stack(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(300):
        deep /= "d"
    touch(deep, "x.png")
    assert len(names(look(tmp_path))) == 1


@pytest.mark.parametrize("recursive", [False, True])
def test_an_empty_folder_with_a_pictures_name_is_reported(tmp_path: Path, recursive: bool) -> None:
    (tmp_path / "x.png").mkdir()
    assert faults(look(tmp_path, recursive)) == {"x.png": "it is a folder, not a picture."}


def test_a_folder_with_a_pictures_name_is_gone_into(tmp_path: Path) -> None:
    touch(tmp_path, "x.png/y.png")
    found = look(tmp_path)
    assert (names(found), found.faults) == (["x.png/y.png"], {})
    assert "x.png" in faults(look(tmp_path, recursive=False))


def test_what_is_no_file_is_reported_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    found = faults(look(tmp_path))
    assert "a pipe" in found["pipe.png"]
    assert "leads nowhere" in found["broken.png"]
    assert "leads nowhere" in found["circle.png"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "elsewhere/b.png", "in/sub/c.png")
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/sub/up").symlink_to("..")
    (tmp_path / "in/file.png").symlink_to("a.png")
    found = look(tmp_path / "in")
    assert names(found) == ["a.png", "file.png", "link/b.png", "sub/c.png"]
    (remark,) = found.remarks
    assert "sub/up leads back to a folder above it" in remark


def test_an_unreadable_folder_is_reported_and_the_others_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/x.png", "b/y.png")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("/a"):  # the rights of a file do not bind the administrator who may run this
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = look(tmp_path)
    assert names(found) == ["b/y.png"]
    assert faults(found) == {"a": "the folder cannot be read (Permission denied)."}


def test_the_output_folder_holds_no_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a.png", "out/sub/b.png")
    assert names(look(tmp_path, output=str(tmp_path / "out"))) == ["a.png"]
    (tmp_path / "link").symlink_to("out")
    assert names(look(tmp_path, output=str(tmp_path / "out"))) == ["a.png"]


def test_patterns_mirror_what_is_below_their_fixed_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/x/a.png", "in/y/b.png", "in/c.png", "in/x/d.txt", "in/out/a.png")
    (tmp_path / "in/folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    found = find(["in/**/*.*"], [], "in/out")
    assert names(found) == ["c.png", "x/a.png", "y/b.png"]
    assert found.left_out == {".txt": 1}
    assert "folder.png" in faults(found)
    assert names(find(["in/*/a.png"], [], "out")) == ["out/a.png", "x/a.png"]
    assert names(find(["in/?"], [], "out", recursive=True)) == ["x/a.png", "y/b.png"]


def test_separators_that_follow_one_another_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in "$DIR/*.png" with DIR=in/: results would otherwise lose the first letters of their names."""
    touch(tmp_path, "in/1.png", "in/11.png", "in/sub/b.png")
    monkeypatch.chdir(tmp_path)
    for start in ("", f"{tmp_path}//"):
        assert names(find([f"{start}in//*.png"], [], "out")) == ["1.png", "11.png"]
        assert names(find([f"{start}in///**//*.png"], [], "out")) == ["1.png", "11.png", "sub/b.png"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].png", "a1.png")
    assert names(find([str(tmp_path / "a[1].png")], [], "out")) == ["a[1].png"]


@pytest.mark.parametrize("missing", ["absent", "absent.png", "*.webp"])
def test_an_input_that_does_not_exist_is_an_error(tmp_path: Path, missing: str) -> None:
    touch(tmp_path, "a.png")
    with pytest.raises(BatchInputError, match=r"no such file or folder|matches no pictures"):
        find([str(tmp_path / missing)], [], "out")


def test_a_list_mirrors_names_or_paths_below_a_root(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/sub/b.png", "other/c.png")
    paths = [str(tmp_path / name) for name in ("in/a.png", "in/sub/b.png", "other/c.png", "in/gone.png")]
    flat = find([], paths, "out")
    assert names(flat) == ["a.png", "b.png", "c.png"]
    assert faults(flat) == {"gone.png": "it cannot be read (No such file or directory)."}
    rooted = find([], paths, "out", root=str(tmp_path / "in"))
    assert names(rooted) == ["a.png", "sub/b.png"]
    assert "lies outside the root" in faults(rooted)["c.png"]
