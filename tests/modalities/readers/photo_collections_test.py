"""Collections of photographs: the authors' matrices, bad files."""

import shutil

import numpy as np
import pytest

from tfmetainit.io.errors import InputError
from tfmetainit.modalities.readers.photo_collections import read_collection


def test_nothing_there(write_text_model, raises_with, tmp_path):
    with raises_with(InputError, tmp_path / "none"):
        read_collection(tmp_path / "none", 1.0)
    with raises_with(InputError, tmp_path, "bds.npy"):
        read_collection(tmp_path, 1.0)
    write_text_model(tmp_path)
    (tmp_path / "sparse" / "points3D.txt").unlink()
    with raises_with(InputError, tmp_path / "sparse" / "points3D.txt"):
        read_collection(tmp_path, 1.0)
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "sparse" / "points3D.txt").write_text("")
    with raises_with(InputError, tmp_path / "images"):
        read_collection(tmp_path, 1.0)


def test_the_authors_matrices(write_matrices, tmp_path):
    poses = write_matrices(tmp_path)
    collection = read_collection(tmp_path, scale=0.05)
    assert [path.name for path in collection] == ["0.jpg", "1.jpg", "2.jpg"]
    for photograph, pose in zip(collection.values(), poses):
        camera = photograph.camera
        np.testing.assert_allclose(camera.pose[:3, :3], pose[:3, :3], atol=1e-6)
        np.testing.assert_allclose(
            camera.pose[:3, 3], 0.05 * pose[:3, 3], atol=1e-6
        )
        np.testing.assert_allclose(camera.focal, [10, 20])
        np.testing.assert_allclose(camera.principal_point, [4, 3])
        np.testing.assert_allclose(photograph.bounds, [0.045, 0.18])


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("bds.npy", np.ones([2, 2]), "[2, 2]"),
        ("bds.npy", np.ones([3, 2]), "[1.0, 1.0]"),
        ("bds.npy", np.full([3, 2], np.nan), "6 numbers"),
        ("c2w_mats.npy", np.ones([3, 2, 4]), "[3, 2, 4]"),
        ("c2w_mats.npy", np.ones([3, 4, 4]), "number 0"),
        ("kinv_mats.npy", np.zeros([3, 3, 3]), "number 0"),
        ("kinv_mats.npy", np.stack([-np.eye(3)] * 3), "number 0"),
    ],
)
def test_bad_matrices(
    write_matrices, raises_with, tmp_path, name, value, named
):
    write_matrices(tmp_path)
    np.save(tmp_path / name, value)
    with raises_with(InputError, tmp_path / name, named):
        read_collection(tmp_path, 1.0)


@pytest.mark.parametrize("name", ["c2w_mats.npy", "kinv_mats.npy"])
def test_missing_and_truncated_matrices(
    write_matrices, raises_with, tmp_path, name
):
    write_matrices(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:150])
    with raises_with(InputError, tmp_path / name):
        read_collection(tmp_path, 1.0)
    (tmp_path / name).unlink()
    with raises_with(InputError, tmp_path / name):
        read_collection(tmp_path, 1.0)


def test_photographs_that_are_missing_or_see_nothing(
    write_text_model, raises_with, tmp_path, caplog
):
    whole = read_collection(write_text_model(tmp_path), 1.0)
    images = tmp_path / "sparse" / "images.txt"
    text = images.read_text()
    images.write_text(
        f"{text}3 1 0 0 0 0 0 4 1 gone.png\n0 0 1\n"
        "4 1 0 0 0 0 0 4 1 blind.png\n0 0 -1\n"
    )
    shutil.copy(
        tmp_path / "images" / "a.png", tmp_path / "images" / "blind.png"
    )
    assert read_collection(tmp_path, 1.0).keys() == whole.keys()
    missing, blind = (record.getMessage() for record in caplog.records)
    assert "1 of 4" in missing
    assert "gone.png" in missing
    assert "blind.png" in blind
    images.write_text("3 1 0 0 0 0 0 4 1 gone.png\n0 0 1\n")
    with raises_with(InputError, images, "1 are missing"):
        read_collection(tmp_path, 1.0)


def test_poses_and_bounds_of_llff(write_matrices, raises_with, tmp_path):
    poses = write_matrices(tmp_path)
    (tmp_path / "bds.npy").unlink()
    rows = []
    for pose in poses:
        right, down, forward, position = pose[:3].T
        lens = [6.0, 8.0, 10.0]  # height, width, focal length
        matrix = np.stack([down, right, -forward, position, lens], axis=1)
        rows.append([*matrix.ravel(), 1.0, 3.0])
    path = tmp_path / "poses_bounds.npy"
    np.save(path, rows)
    collection = read_collection(tmp_path, scale=0.05)
    assert [file.name for file in collection] == ["0.jpg", "1.jpg", "2.jpg"]
    for photograph, pose in zip(collection.values(), poses):
        pose = pose.copy()
        pose[:3, 3] *= 0.05
        np.testing.assert_allclose(
            photograph.camera.pose[:3], pose[:3], atol=1e-9
        )
        np.testing.assert_allclose(photograph.camera.focal, [10, 10])
        np.testing.assert_allclose(
            photograph.camera.principal_point, [3.5, 2.5]
        )
        np.testing.assert_allclose(photograph.bounds, [0.045, 0.18])
        assert photograph.size == (6, 8)
    for wrong, named in (
        (np.array(rows)[:2], "[2, 17]"),
        (np.zeros([3, 17]), "number 0"),
        (np.array(rows)[:, ::-1], "number 0"),
    ):
        np.save(path, wrong)
        with raises_with(InputError, path, named):
            read_collection(tmp_path, 1.0)
