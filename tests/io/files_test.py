"""Writing atomically, JSON, folders, disks."""

import os
import stat

import pytest

from tfmetainit.io import files
from tfmetainit.io.errors import InputError


def test_atomic_path_replaces_the_target(tmp_path):
    target = tmp_path / "a.weights.h5"
    target.write_text("old")
    with files.atomic_path(target) as temporary:
        assert temporary.name.endswith(".weights.h5")
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.weights.h5"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


def test_atomic_path_keeps_the_target_when_the_block_fails(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_atomic_path_names_what_is_wrong(tmp_path, raises_with):
    path = tmp_path / "missing" / "a.png"
    with raises_with(InputError, path), files.atomic_path(path):
        pass
    with (
        raises_with(InputError, tmp_path),
        files.atomic_path(tmp_path),
    ):
        pass


def test_an_error_of_another_file_is_not_the_output_s(tmp_path, raises_with):
    with (
        raises_with(InputError, tmp_path / "b"),
        files.atomic_path(tmp_path / "a"),
    ):
        (tmp_path / "b").read_text()
    assert not list(tmp_path.iterdir())


def test_json_round_trip_and_errors(tmp_path, raises_with):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": [1, None]})
    assert files.read_json(path) == {"a": [1, None]}
    files.write_json(path, {"a": [1.5, float("nan")], "b": float("-inf")})
    assert files.read_json(path) == {"a": [1.5, None], "b": None}
    path.write_text("{")
    with raises_with(InputError, path):
        files.read_json(path)
    path.write_bytes(b"\xff\xfe\x00")
    with raises_with(InputError, path):
        files.read_json(path)
    with raises_with(InputError, tmp_path / "missing.json"):
        files.read_json(tmp_path / "missing.json")


def test_brackets_within_brackets(tmp_path, raises_with):
    (tmp_path / "a.json").write_text("[" * 200_000)
    with raises_with(InputError, tmp_path / "a.json"):
        files.read_json(tmp_path / "a.json")


def test_a_folder_that_is_a_link_is_replaced_where_it_lies(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with files.atomic_folder(tmp_path / "link") as staging:
        (staging / "a").write_text("new")
    assert (tmp_path / "real" / "a").read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


def test_a_disk_without_space(tmp_path, raises_with):
    files.check_space(tmp_path, 1)
    with raises_with(InputError, tmp_path, 2**62):
        files.check_space(tmp_path, 2**62)


def test_a_folder_that_cannot_be_made(tmp_path, raises_with):
    assert files.make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with raises_with(InputError, tmp_path / "file"):
        files.make_folder(tmp_path / "file" / "below")


def test_hidden_files_and_folders_are_skipped(tmp_path):
    names = ["a.png", "b/c.png", ".git/d.png", "b/.d.png", "__MACOSX/a.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = [path.relative_to(tmp_path) for path in files.files_below(tmp_path)]
    assert list(map(str, found)) == ["a.png", "b/c.png"]


def test_outputs_are_apart_from_inputs(tmp_path, raises_with):
    photo, other = tmp_path / "photo.png", tmp_path / "other.png"
    photo.write_bytes(b"photo")
    (tmp_path / "hard.png").hardlink_to(photo)
    (tmp_path / "soft.png").symlink_to(photo)
    files.check_apart(other, input_path=photo, artifact=None)
    files.check_apart(other, input_path=tmp_path / "missing.png")
    for output in (
        photo,
        tmp_path / "hard.png",
        tmp_path / "soft.png",
        f"{tmp_path}/../{tmp_path.name}/photo.png",
    ):
        with raises_with(InputError, "`input_path`", output):
            files.check_apart(output, artifact=None, input_path=photo)
