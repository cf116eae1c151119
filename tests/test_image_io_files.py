"""The output file is complete or absent; what a format cannot hold is refused."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from image_samples import assert_same, random_picture

from tnrd.image_io import (
    ImageError,
    Metadata,
    Picture,
    check_storable,
    check_target,
    encode_image,
    output_format,
    read_image,
    write_image,
)
from tnrd.image_io import files as files_module

DEPTHS = {"PNG": ("uint8", "uint16"), "TIFF": ("uint8", "uint16", "float32"), "WEBP": ("uint8",), "BMP": ("uint8",)}


def test_output_is_complete_and_keeps_the_umask(tmp_path: Path) -> None:
    picture, target = random_picture((9, 8), "uint16", rgb=True, alpha=True), tmp_path / "out.PNG"
    previous = os.umask(0o027)
    try:
        write_image(target, picture)
    finally:
        os.umask(previous)
    assert_same(read_image(target), picture)
    assert target.read_bytes() == encode_image(picture, "PNG")
    if os.name == "posix":
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out.PNG"]


def test_existing_file_is_kept_unless_overwriting(tmp_path: Path) -> None:
    picture, target = random_picture((3, 4), "uint8", rgb=False, alpha=False), tmp_path / "out.png"
    target.write_bytes(b"precious")
    with pytest.raises(ImageError, match=r"out\.png: the file exists already"):
        write_image(target, picture)
    assert target.read_bytes() == b"precious"
    write_image(target, picture, overwrite=True)
    assert_same(read_image(target), picture)
    assert os.listdir(tmp_path) == ["out.png"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("odd"), KeyboardInterrupt()])
def test_failed_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool, error: BaseException
) -> None:
    def fail_midway(picture: Picture, format: str, stream: io.BufferedWriter) -> None:
        stream.write(b"half a picture")
        raise error

    monkeypatch.setattr(files_module, "_encode", fail_midway)
    target = tmp_path / "out.png"
    if overwrite:
        target.write_bytes(b"precious")
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ImageError):
        write_image(target, random_picture((3, 4), "uint8", rgb=False, alpha=False), overwrite=overwrite)
    assert os.listdir(tmp_path) == (["out.png"] if overwrite else [])
    assert not overwrite or target.read_bytes() == b"precious"


@pytest.mark.parametrize("hard_links", [True, False])
def test_file_that_appears_during_writing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    target, encode = tmp_path / "out.png", files_module._encode

    def encode_slowly(picture: Picture, format: str, stream: io.BufferedWriter) -> None:
        encode(picture, format, stream)
        target.write_bytes(b"another process was faster")

    def no_links(source: str, destination: str) -> None:
        raise OSError(1, "Operation not permitted")

    if not hard_links:
        monkeypatch.setattr(os, "link", no_links)
    picture = random_picture((3, 4), "uint8", rgb=False, alpha=False)
    write_image(tmp_path / "first.png", picture)
    monkeypatch.setattr(files_module, "_encode", encode_slowly)
    with pytest.raises(ImageError, match="File exists"):
        write_image(target, picture)
    assert target.read_bytes() == b"another process was faster"
    assert sorted(os.listdir(tmp_path)) == ["first.png", "out.png"]


def test_nothing_is_left_when_the_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, destination: str) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ImageError, match=r"cannot be written \(Operation not permitted\)"):
        write_image(tmp_path / "out.png", Picture(np.zeros((2, 2), np.uint8)))
    assert os.listdir(tmp_path) == []


def test_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "out.png"
    link.symlink_to(tmp_path / "real" / "file.png")
    picture = random_picture((3, 4), "uint8", rgb=False, alpha=False)
    write_image(link, picture)
    write_image(link, picture, overwrite=True)
    assert link.is_symlink()
    assert os.listdir(tmp_path / "real") == ["file.png"]


def test_target_is_checked_before_the_work(tmp_path: Path) -> None:
    check_target(tmp_path / "new.png")
    (tmp_path / "folder.png").mkdir()
    for target, reason in [
        (tmp_path / "folder.png", "folder or a device"),
        (Path("/dev/null"), "folder or a device"),
        (tmp_path / "absent" / "out.png", "does not exist"),
    ]:
        with pytest.raises(ImageError, match=reason):
            check_target(target, overwrite=True)


@pytest.mark.parametrize(
    ("path", "format"),
    [("a.png", "PNG"), ("b.JPEG", "JPEG"), ("c.d/e.Tif", "TIFF"), ("f.webp", "WEBP"), ("g.bmp", "BMP")],
)
def test_output_format(path: str, format: str) -> None:
    assert output_format(path) == format


@pytest.mark.parametrize("path", ["a.gif", "png", "folder.png/name", ".png", "a.png.txt"])
def test_unknown_suffix_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="must end in"):
        write_image(tmp_path / path, Picture(np.zeros((1, 1), np.uint8)))


@pytest.mark.parametrize(
    ("format", "dtype", "alpha", "reason"),
    [
        ("JPEG", "uint16", False, "JPEG cannot hold 16-bit pixels; choose PNG or TIFF"),
        ("WEBP", "uint16", False, "WEBP cannot hold 16-bit pixels; choose PNG or TIFF"),
        ("BMP", "uint16", False, "BMP cannot hold 16-bit pixels; choose PNG or TIFF"),
        ("PNG", "float32", False, "PNG cannot hold floating-point pixels; choose TIFF"),
        ("JPEG", "uint8", True, "JPEG cannot hold the picture's transparency; choose PNG, TIFF or WEBP"),
        ("BMP", "uint8", True, "BMP cannot hold the picture's transparency; choose PNG, TIFF or WEBP"),
        ("GIF", "uint8", False, 'must be PNG, JPEG, TIFF, WEBP or BMP, got "GIF"'),
    ],
)
def test_nothing_is_cut_silently(format: str, dtype: str, alpha: bool, reason: str) -> None:
    picture = random_picture((2, 3), dtype, rgb=True, alpha=alpha)
    for refuse in (check_storable, encode_image):
        with pytest.raises(ImageError, match=reason):
            refuse(picture, format)


def test_size_limits_of_formats() -> None:
    wide = Picture(np.zeros((1, 65501), np.uint8))
    for format, limit in (("JPEG", 65500), ("WEBP", 16383)):
        with pytest.raises(ImageError, match=f"{format} holds at most {limit} pixels a side, the picture is 65501x1"):
            encode_image(wide, format)
    with pytest.raises(ImageError, match="no pixels: it is 0x4"):
        encode_image(Picture(np.zeros((4, 0), np.uint8)), "PNG")
    with pytest.raises(ImageError, match="JPEG holds at most 65527 bytes of EXIF"):
        encode_image(Picture(np.zeros((2, 2), np.uint8), metadata=Metadata(exif=b"II*\0" * 17000)), "JPEG")


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((2, 2)), None),
        (np.zeros((2, 2, 4), np.uint8), None),
        (np.zeros(3, np.uint8), None),
        (np.zeros((2, 2), ">u2"), None),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint16)),
    ],
)
def test_picture_refuses_other_arrays(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    with pytest.raises(ImageError, match="must"):
        Picture(pixels, alpha)


def test_plain_pictures_need_no_heavy_import(tmp_path: Path) -> None:
    picture = random_picture((5, 4), "uint8", rgb=True, alpha=False)
    names = ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp"]
    for name in names:
        write_image(tmp_path / name, picture)
    code = (
        "import sys, tnrd.image_io as i\n"
        "for name in sys.argv[1:]: i.write_image(name, i.read_image(name), overwrite=True)\n"
        "print(sorted({'cv2', 'tifffile', 'torch', 'skimage', 'scipy', 'numba'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *(str(tmp_path / name) for name in names)]
    root = Path(__file__).parents[1]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
