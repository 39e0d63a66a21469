import contextlib
import os
import stat
import subprocess
import sys
import threading

import pytest

from tfmetainit.io import files, quiet
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


def test_atomic_path_names_what_is_wrong(tmp_path):
    with (
        pytest.raises(InputError, match="folder of an output must exist"),
        files.atomic_path(tmp_path / "missing" / "a.png"),
    ):
        pass
    with (
        pytest.raises(InputError, match="must be a file"),
        files.atomic_path(tmp_path),
    ):
        pass


def test_an_error_of_another_file_is_not_the_output_s(tmp_path):
    with (
        pytest.raises(InputError, match=f"Cannot use {tmp_path / 'b'}: No su"),
        files.atomic_path(tmp_path / "a"),
    ):
        (tmp_path / "b").read_text()
    assert not list(tmp_path.iterdir())


def test_notices_of_two_threads(capfd):
    barrier = threading.Barrier(2, timeout=0.5)

    def hide():
        with quiet.notices():
            os.write(2, b"hidden")
            # Both inside at once, if they could be.
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait()

    threads = [threading.Thread(target=hide) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"


def test_notices_without_a_stderr():
    program = (
        "from tfmetainit import quiet\nwith quiet.notices():\n    print('ran')"
    )
    result = subprocess.run(
        f'{sys.executable} -c "{program}" 2>&-',
        shell=True,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, "ran\n")


def test_json_round_trip_and_errors(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": [1, None]})
    assert files.read_json(path) == {"a": [1, None]}
    files.write_json(path, {"a": [1.5, float("nan")], "b": float("-inf")})
    assert files.read_json(path) == {"a": [1.5, None], "b": None}
    path.write_text("{")
    with pytest.raises(InputError, match="is not a JSON file"):
        files.read_json(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a JSON file"):
        files.read_json(path)
    with pytest.raises(InputError, match="Cannot read"):
        files.read_json(tmp_path / "missing.json")


def test_brackets_within_brackets(tmp_path):
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="is not a JSON file"):
        files.read_json(tmp_path / "a.json")


def test_a_folder_that_is_a_link_is_replaced_where_it_lies(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with files.atomic_folder(tmp_path / "link") as staging:
        (staging / "a").write_text("new")
    assert (tmp_path / "real" / "a").read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


def test_a_disk_without_space(tmp_path):
    files.check_space(tmp_path, 1)
    with pytest.raises(InputError, match="must have .* bytes left"):
        files.check_space(tmp_path, 2**62)


def test_a_folder_that_cannot_be_made(tmp_path):
    assert files.make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write to the folder"):
        files.make_folder(tmp_path / "file" / "below")
