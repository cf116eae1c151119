"""What the outputs of a batch are called, and what is refused before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tnrd.inference.batch import plan as plans
from tnrd.inference.batch.errors import BatchError, BatchInputError, BatchOutputError
from tnrd.inference.batch.plan import Plan, make_plan
from tnrd.inference.batch.shards import Shard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.JPG", "sub/c.tiff", "sub/deep/d.webp"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    return tmp_path / "in"


def outputs(plan: Plan) -> list[str]:
    return [job.output_name for job in plan]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["a.png", "b.JPG", "sub/c.tiff", "sub/deep/d.webp"]),
        ({"suffix": "_clean"}, ["a_clean.png", "b_clean.JPG", "sub/c_clean.tiff", "sub/deep/d_clean.webp"]),
        ({"format": "TIFF"}, ["a.tif", "b.tif", "sub/c.tiff", "sub/deep/d.tif"]),
        ({"format": "JPEG", "suffix": ".v2"}, ["a.v2.jpg", "b.v2.JPG", "sub/c.v2.jpg", "sub/deep/d.v2.jpg"]),
    ],
)
def test_the_tree_is_mirrored(folder: Path, tmp_path: Path, options: dict[str, str], expected: list[str]) -> None:
    plan = make_plan(folder, tmp_path / "out", recursive=True, **options)
    assert outputs(plan) == expected
    assert [job.output for job in plan] == [str(tmp_path / "out" / name) for name in expected]
    assert plan.folders() == [str(tmp_path / name) for name in ("out", "out/sub", "out/sub/deep")]


def test_shards_cover_a_plan(folder: Path, tmp_path: Path) -> None:
    whole = outputs(make_plan(folder, tmp_path / "out", recursive=True))
    plans = [make_plan(folder, tmp_path / "out", recursive=True, shard=Shard(i, 3)) for i in (1, 2, 3)]
    assert sorted(name for plan in plans for name in outputs(plan)) == sorted(whole)
    assert [len(plan) for plan in plans] == [len(outputs(plan)) for plan in plans]


def test_two_pictures_of_one_result_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (folder / "a.jpg").write_bytes(b"x")
    assert len(make_plan(folder, tmp_path / "out")) == 3
    with pytest.raises(BatchOutputError, match=r"in/a\.jpg and .*in/a\.png would both become .*out/a\.png"):
        make_plan(folder, tmp_path / "out", format="PNG")


def test_two_listed_files_of_one_name_are_refused_unless_mirrored(folder: Path, tmp_path: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a/c.tiff").write_bytes(b"x")
    listed = [str(folder / "sub/c.tiff"), str(folder / "a/c.tiff")]
    with pytest.raises(BatchOutputError, match="would both become"):
        make_plan([], tmp_path / "out", files=listed)
    assert outputs(make_plan([], tmp_path / "out", files=listed, root=str(folder))) == ["sub/c.tiff", "a/c.tiff"]


def test_a_picture_named_twice_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BatchInputError, match=r"a\.png is among the inputs twice"):
        make_plan([folder / "a.png", folder], tmp_path / "out")


def test_names_that_only_the_file_system_takes_for_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "A.png").write_bytes(b"x")
    if len(list(folder.glob("[aA].png"))) < 2:
        pytest.skip("this file system does not tell case")
    assert len(make_plan(folder, tmp_path / "out")) == 3  # nothing is wrong with them where both can be
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(plans, "tells_apart", lambda *_: False)
    with pytest.raises(BatchOutputError, match=r"does not tell A\.png from a\.png"):
        make_plan(folder, tmp_path / "out")


def test_the_trial_of_names_leaves_nothing(tmp_path: Path) -> None:
    assert plans.tells_apart(str(tmp_path / "not/yet"), "x/a.png", "x/b.png")
    assert not plans.tells_apart(str(tmp_path), "a.png", "a.png")
    assert list(tmp_path.iterdir()) == []


def test_results_are_not_put_among_the_inputs_unasked(folder: Path, tmp_path: Path) -> None:
    for target in (folder, folder / "sub" / ".."):
        with pytest.raises(BatchOutputError, match="lies in the input folder"):
            make_plan(folder, target)
    assert len(make_plan(folder, folder, overwrite=True)) == 2
    assert outputs(make_plan(folder, folder, suffix="_x")) == ["a_x.png", "b_x.JPG"]
    assert outputs(make_plan(folder, folder / "clean")) == ["a.png", "b.JPG"]  # a folder of its own within


def test_a_result_does_not_take_the_place_of_another_input(folder: Path) -> None:
    """Files that are named singly are in no input folder, where results would have been left out."""
    (folder / "a_c.png").write_bytes(b"x")
    (folder.parent / "link").symlink_to(folder)
    both = [folder / "a.png", folder.parent / "link" / "a_c.png"]
    with pytest.raises(BatchOutputError, match=r"a_c\.png: the result of .*/a\.png would take the place of another"):
        make_plan(both, folder, suffix="_c", overwrite=True)
    assert outputs(make_plan(both[:1], folder, suffix="_c", overwrite=True)) == ["a_c.png"]
    assert outputs(make_plan(both, folder, overwrite=True)) == ["a.png", "a_c.png"]


def test_a_detour_into_the_input_tree_is_seen(folder: Path, tmp_path: Path) -> None:
    # IN lies in OUT, and the mirrored folder of that name would be IN itself.
    (folder / "in").mkdir()
    (folder / "in/x.png").write_bytes(b"x")
    with pytest.raises(BatchOutputError, match="lies in the input folder"):
        make_plan(folder, tmp_path, recursive=True)
    out = tmp_path / "out"
    out.mkdir()
    (out / "sub").symlink_to(folder / "sub")
    with pytest.raises(BatchOutputError, match="lies in the input folder"):
        make_plan(folder, out, recursive=True)


def test_results_beside_their_inputs_do_not_become_inputs(folder: Path) -> None:
    (folder / "a_x.png").write_bytes(b"x")
    (folder / "alone_x.png").write_bytes(b"x")
    plan = make_plan(folder, folder, suffix="_x")
    assert outputs(plan) == ["a_x.png", "alone_x_x.png", "b_x.JPG"]
    assert plan.found.left_out == {"results": 1}


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"format": "GIF"}, BatchError, "format must be one of"),
        ({"suffix": "a/b"}, BatchError, "a part of a name"),
        ({"suffix": "\0"}, BatchError, "a part of a name"),
    ],
)
def test_options_that_cannot_be(folder: Path, options: dict[str, str], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        make_plan(folder, "out", **options)


def test_nothing_to_do_is_said_with_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BatchInputError, match="1 other files were left out; 1 folders would be gone into recursively"):
        make_plan(tmp_path, "out")
    with pytest.raises(BatchInputError, match="no pictures in the list"):
        make_plan([], "out")


def test_an_output_that_is_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(BatchOutputError, match="this is none"):
        make_plan(folder, folder / "a.png")


def test_a_listed_file_without_a_suffix_needs_a_format(tmp_path: Path) -> None:
    (tmp_path / "scan").write_bytes(b"x")
    (job,) = make_plan([], "out", files=[str(tmp_path / "scan")])
    assert job.fault is not None
    (job,) = make_plan([], "out", files=[str(tmp_path / "scan")], format="PNG")
    assert (job.fault, job.output) == (None, os.path.join("out", "scan.png"))
