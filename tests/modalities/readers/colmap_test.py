"""COLMAP's sparse models: by hand, text and binary, bad files."""

import struct

import numpy as np
import pytest

from tfmetainit.io.errors import InputError
from tfmetainit.modalities.readers import colmap
from tfmetainit.modalities.readers.photo_collections import read_collection


def test_a_text_model_by_hand(write_text_model, tmp_path):
    collection = read_collection(write_text_model(tmp_path), scale=0.5)
    assert [path.name for path in collection] == ["a.png", "b.png"]
    turned, straight = collection.values()
    # x_camera = R x + t: the camera of b is at (0, 0, -4) and looks along z.
    np.testing.assert_allclose(
        straight.camera.pose[:3, :3], np.eye(3), atol=1e-12
    )
    np.testing.assert_allclose(straight.camera.pose[:3, 3], [0, 0, -2.0])
    np.testing.assert_allclose(straight.camera.focal, [10, 20])
    np.testing.assert_allclose(straight.camera.principal_point, [3.5, 2.5])
    np.testing.assert_allclose(
        straight.bounds, [0.5 * 0.9 * 4.001, 0.5 * 1.2 * 4.999]
    )
    # a is at (0, 0, 6) and looks back.
    np.testing.assert_allclose(
        turned.camera.pose[:3, 3], [0, 0, 3.0], atol=1e-12
    )
    np.testing.assert_allclose(
        turned.camera.pose[:3, 2], [0, 0, -1], atol=1e-12
    )
    np.testing.assert_allclose(turned.camera.focal, [5, 5])
    np.testing.assert_allclose(
        turned.bounds, [0.5 * 0.9 * 4.002, 0.5 * 1.2 * 5.998]
    )
    assert turned.size == (6, 8)


def _write_binary(model):
    """The model of `_text_model` in COLMAP's documented binary form."""
    (model / "cameras.bin").write_bytes(
        struct.pack("<Q", 2)
        + struct.pack("<iiQQ4d", 1, 1, 8, 6, 10, 20, 4, 3)
        + struct.pack("<iiQQ3d", 7, 0, 8, 6, 5, 4, 3)
    )
    images = struct.pack("<Q", 2)
    for index, pose, camera, name, seen in (
        (1, (1, 0, 0, 0, 0, 0, 4), 1, b"b.png", (1, 2, -1)),
        (2, (0, 0, 1, 0, 0, 0, 6), 7, b"a.png", (1, 3)),
    ):
        images += struct.pack("<i7di", index, *pose, camera) + name + b"\0"
        images += struct.pack("<Q", len(seen))
        for point in seen:
            images += struct.pack("<ddq", 0, 0, point)
    (model / "images.bin").write_bytes(images)
    points = struct.pack("<Q", 3)
    for index, z in ((1, 0), (2, 1), (3, 2)):
        points += struct.pack("<Q3d3Bd", index, 0, 0, z, 9, 9, 9, 0.5)
        points += struct.pack("<Qii", 1, 1, 0)
    (model / "points3D.bin").write_bytes(points)
    for name in ("cameras.txt", "images.txt", "points3D.txt"):
        (model / name).unlink()


def _assert_equal(one, other):
    assert one.keys() == other.keys()
    for path, photograph in one.items():
        again = other[path]
        for a, b in zip(
            (*photograph.camera, photograph.bounds, photograph.size),
            (*again.camera, again.bounds, again.size),
        ):
            np.testing.assert_allclose(a, b, atol=1e-9)


def _folder(root):
    folder = root / "images" / "one"
    folder.mkdir(exist_ok=True)
    return folder


def test_pictures_in_folders_of_their_own(
    write_picture, write_text_model, tmp_path
):
    """As COLMAP names them of several cameras; other pictures lie about."""
    flat = read_collection(write_text_model(tmp_path), 0.5)
    (tmp_path / "images" / "b.png").rename(_folder(tmp_path) / "b.png")
    (tmp_path / "images" / "a.png").rename(_folder(tmp_path) / "a.png")
    write_picture(tmp_path / "stray.png")
    path = tmp_path / "sparse" / "images.txt"
    text = path.read_text()
    path.write_text(text.replace("a.png", "one/a.png").replace("b.", "one/b."))
    nested = read_collection(tmp_path, 0.5)
    assert [p.parent.name for p in nested] == ["one", "one"]
    for before, now in zip(flat.values(), nested.values()):
        np.testing.assert_array_equal(before.camera.pose, now.camera.pose)


def test_binary_and_text_agree(write_text_model, tmp_path):
    text = read_collection(write_text_model(tmp_path), 0.5)
    _write_binary(tmp_path / "sparse")
    _assert_equal(read_collection(tmp_path, 0.5), text)


def test_binary_files_of_pycolmap(write_text_model, tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    text = read_collection(write_text_model(tmp_path), 0.5)
    model = tmp_path / "sparse"
    reconstruction = pycolmap.Reconstruction(str(model))
    for name in ("cameras.txt", "images.txt", "points3D.txt"):
        (model / name).unlink()
    reconstruction.write_binary(str(model))
    _assert_equal(read_collection(tmp_path, 0.5), text)


def test_every_truncated_binary_file_is_refused(write_text_model, tmp_path):
    write_text_model(tmp_path)
    model = tmp_path / "sparse"
    _write_binary(model)
    for name in ("cameras.bin", "images.bin", "points3D.bin"):
        whole = (model / name).read_bytes()
        for length in range(len(whole)):
            (model / name).write_bytes(whole[:length])
            with pytest.raises(InputError):
                read_collection(tmp_path, 1.0)
        (model / name).write_bytes(whole)
    read_collection(tmp_path, 1.0)


def test_a_count_that_lies_allocates_nothing(
    write_text_model, raises_with, tmp_path
):
    write_text_model(tmp_path)
    model = tmp_path / "sparse"
    _write_binary(model)
    whole = (model / "images.bin").read_bytes()
    name_end = whole.index(b"b.png\0") + 6
    lie = struct.pack("<Q", 2**61)
    (model / "images.bin").write_bytes(
        whole[:name_end] + lie + whole[name_end + 8 :]
    )
    with raises_with(InputError, model / "images.bin"):
        read_collection(tmp_path, 1.0)


@pytest.mark.parametrize(
    ("name", "old", "new", "named"),
    [
        ("cameras", "PINHOLE 8 6 10", "PINHOLE 8 6 0", "PINHOLE 8 6 0 20 4 3"),
        ("cameras", "PINHOLE 8 6 10 20 4 3", "RADIAL 8 6 1 2 3 4 5", "RADIAL"),
        ("cameras", "10 20", "ten 20", "ten 20"),
        ("images", "1 1 0 0 0 0", "1 3 0 0 0 0", "b.png"),
        ("images", "4 1 b.png", "4 5 b.png", "camera 5"),
        ("images", "b.png", "../../x.png", "../../x.png"),
        ("images", "0 0 4 1", "0 nan 4 1", "nan 4 1 b.png"),
        ("images", "0 0 4 1", "0 0 -4 1", "b.png"),
        ("points3D", "3 0 0 2", "3 0 0 inf", "3 0 0 inf"),
        ("points3D", "3 0 0 2 9 9 9 0.5 2 1", "3 0", "'3 0'"),
    ],
)
def test_bad_text_models(
    write_text_model, raises_with, tmp_path, name, old, new, named
):
    path = write_text_model(tmp_path) / "sparse" / f"{name}.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with raises_with(InputError, path, named):
        read_collection(tmp_path, 1.0)


def test_large_models_are_refused(
    write_text_model, raises_with, tmp_path, monkeypatch
):
    write_text_model(tmp_path)
    monkeypatch.setattr(colmap, "MAX_MODEL_BYTES", 20)
    with raises_with(InputError, tmp_path / "sparse" / "cameras.txt", 20):
        read_collection(tmp_path, 1.0)
