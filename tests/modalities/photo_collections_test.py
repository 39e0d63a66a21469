"""Collections of photographs: cameras by hand, both layouts, bad files."""

import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from tfmetainit import modalities
from tfmetainit.io.errors import InputError
from tfmetainit.modalities import colmap, photo_collections, rays
from tfmetainit.modalities.photo_collections import Camera, read_collection
from tfmetainit.synthetic import landmark_model

_MATRICES = ("bds.npy", "c2w_mats.npy", "kinv_mats.npy")


def _picture(path, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros([size[1], size[0], 3], np.uint8)).save(path)


def _text_model(folder):
    """Two photographs of three points, by hand."""
    for name in ("b.png", "a.png"):
        _picture(folder / "images" / name)
    model = folder / "sparse"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text(
        "# a comment\n1 PINHOLE 8 6 10 20 4 3\n7 SIMPLE_PINHOLE 8 6 5 4 3\n"
    )
    (model / "images.txt").write_text(
        # The identity, the points 4 before it; and a half turn about y.
        "1 1 0 0 0 0 0 4 1 b.png\n0 0 1 0 0 2 0 0 -1\n"
        "2 0 0 1 0 0 0 6 7 a.png\n0 0 1 1 1 3\n"
    )
    (model / "points3D.txt").write_text(
        "1 0 0 0 9 9 9 0.5 1 0\n2 0 0 1 9 9 9 0.5 1 1\n3 0 0 2 9 9 9 0.5 2 1\n"
    )
    return folder


def test_a_text_model_by_hand(tmp_path):
    collection = read_collection(_text_model(tmp_path), scale=0.5)
    assert [path.name for path in collection] == ["a.png", "b.png"]
    turned, straight = collection.values()
    # x_camera = R x + t: the camera of b is at (0, 0, -4) and looks along z.
    np.testing.assert_allclose(straight.pose[:3, :3], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(straight.pose[:3, 3], [0, 0, -2.0])
    np.testing.assert_allclose(straight.focal, [10, 20])
    np.testing.assert_allclose(straight.principal_point, [3.5, 2.5])
    np.testing.assert_allclose(
        straight.bounds, [0.5 * 0.9 * 4.001, 0.5 * 1.2 * 4.999]
    )
    # a is at (0, 0, 6) and looks back.
    np.testing.assert_allclose(turned.pose[:3, 3], [0, 0, 3.0], atol=1e-12)
    np.testing.assert_allclose(turned.pose[:3, 2], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(turned.focal, [5, 5])
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
    for path, camera in one.items():
        for a, b in zip(camera, other[path]):
            np.testing.assert_allclose(a, b, atol=1e-9)


def test_pictures_in_folders_of_their_own(tmp_path):
    """As COLMAP names them of several cameras; other pictures lie about."""
    flat = read_collection(_text_model(tmp_path), 0.5)
    (tmp_path / "images" / "b.png").rename(_folder(tmp_path) / "b.png")
    (tmp_path / "images" / "a.png").rename(_folder(tmp_path) / "a.png")
    _picture(tmp_path / "stray.png")
    path = tmp_path / "sparse" / "images.txt"
    text = path.read_text()
    path.write_text(text.replace("a.png", "one/a.png").replace("b.", "one/b."))
    nested = read_collection(tmp_path, 0.5)
    assert [p.parent.name for p in nested] == ["one", "one"]
    for before, now in zip(flat.values(), nested.values()):
        np.testing.assert_array_equal(before.pose, now.pose)


def _folder(root):
    folder = root / "images" / "one"
    folder.mkdir(exist_ok=True)
    return folder


def test_binary_and_text_agree(tmp_path):
    text = read_collection(_text_model(tmp_path), 0.5)
    _write_binary(tmp_path / "sparse")
    _assert_equal(read_collection(tmp_path, 0.5), text)


def test_binary_files_of_pycolmap(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    text = read_collection(_text_model(tmp_path), 0.5)
    model = tmp_path / "sparse"
    reconstruction = pycolmap.Reconstruction(str(model))
    for name in ("cameras.txt", "images.txt", "points3D.txt"):
        (model / name).unlink()
    reconstruction.write_binary(str(model))
    _assert_equal(read_collection(tmp_path, 0.5), text)


def test_every_truncated_binary_file_is_refused(tmp_path):
    _text_model(tmp_path)
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


def test_a_count_that_lies_allocates_nothing(tmp_path):
    _text_model(tmp_path)
    model = tmp_path / "sparse"
    _write_binary(model)
    whole = (model / "images.bin").read_bytes()
    name_end = whole.index(b"b.png\0") + 6
    lie = struct.pack("<Q", 2**61)
    (model / "images.bin").write_bytes(
        whole[:name_end] + lie + whole[name_end + 8 :]
    )
    with pytest.raises(InputError, match="damaged"):
        read_collection(tmp_path, 1.0)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("cameras", "PINHOLE 8 6 10 20", "PINHOLE 8 6 0 20", "focal lengths"),
        ("cameras", "PINHOLE 8 6 10 20 4 3", "RADIAL 8 6 1 2 3 4 5", "undist"),
        ("cameras", "10 20", "ten 20", "damaged"),
        ("images", "1 1 0 0 0 0", "1 3 0 0 0 0", "length 1"),
        ("images", "4 1 b.png", "4 5 b.png", "names camera 5"),
        ("images", "b.png", "c.png", "c.png, which does not exist"),
        ("images", "b.png", "../../x.png", "must lie below"),
        ("images", "0 0 1 0 0 2", "0 0 8 0 0 9", "which sees none"),
        ("images", "0 0 4 1", "0 nan 4 1", "damaged"),
        ("images", "0 0 4 1", "0 0 -4 1", "0 < near < far"),
        ("points3D", "3 0 0 2", "3 0 0 inf", "damaged"),
        ("points3D", "3 0 0 2 9 9 9 0.5 2 1", "3 0", "damaged"),
    ],
)
def test_bad_text_models(tmp_path, name, old, new, message):
    path = _text_model(tmp_path) / "sparse" / f"{name}.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_collection(tmp_path, 1.0)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        read_collection(tmp_path / "none", 1.0)
    with pytest.raises(InputError, match="neither bds.npy nor cameras"):
        read_collection(tmp_path, 1.0)
    _text_model(tmp_path)
    (tmp_path / "sparse" / "points3D.txt").unlink()
    with pytest.raises(InputError, match="no file .*points3D.txt"):
        read_collection(tmp_path, 1.0)
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "sparse" / "points3D.txt").write_text("")
    with pytest.raises(InputError, match="There is no picture"):
        read_collection(tmp_path, 1.0)


def _matrices(folder, count=3):
    """The authors' layout, with what a sparse model would say."""
    rng = np.random.default_rng(0)
    for index in range(count):
        _picture(folder / "dense" / "images" / f"{index}.jpg")
    poses = np.stack([landmark_model.draw_pose(rng) for _ in range(count)])
    intrinsic = np.array([[10.0, 0, 4], [0, 20, 3], [0, 0, 1]])
    np.save(folder / "c2w_mats.npy", poses[:, :3])
    np.save(folder / "kinv_mats.npy", [np.linalg.inv(intrinsic)] * count)
    np.save(folder / "bds.npy", [[1.0, 3.0]] * count)
    return poses


def test_the_authors_matrices(tmp_path):
    poses = _matrices(tmp_path)
    collection = read_collection(tmp_path, scale=0.05)
    assert [path.name for path in collection] == ["0.jpg", "1.jpg", "2.jpg"]
    for camera, pose in zip(collection.values(), poses):
        np.testing.assert_allclose(camera.pose[:3, :3], pose[:3, :3], atol=1e-6)
        np.testing.assert_allclose(
            camera.pose[:3, 3], 0.05 * pose[:3, 3], atol=1e-6
        )
        np.testing.assert_allclose(camera.focal, [10, 20])
        np.testing.assert_allclose(camera.principal_point, [4, 3])
        np.testing.assert_allclose(camera.bounds, [0.045, 0.18])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bds.npy", np.ones([2, 2]), "for 3 pictures. Received: \\[2, 2\\]"),
        ("bds.npy", np.ones([3, 2]), "0 < near < far"),
        ("bds.npy", np.full([3, 2], np.nan), "NaN"),
        ("c2w_mats.npy", np.ones([3, 2, 4]), "\\[3, 3, 4\\] or \\[3, 4, 4\\]"),
        ("c2w_mats.npy", np.ones([3, 4, 4]), "number 0 of .*c2w_mats"),
        ("kinv_mats.npy", np.zeros([3, 3, 3]), "positive focal lengths"),
        ("kinv_mats.npy", np.stack([-np.eye(3)] * 3), "pinhole"),
    ],
)
def test_bad_matrices(tmp_path, name, value, message):
    _matrices(tmp_path)
    np.save(tmp_path / name, value)
    with pytest.raises(InputError, match=message):
        read_collection(tmp_path, 1.0)


@pytest.mark.parametrize("name", _MATRICES[1:])
def test_missing_and_truncated_matrices(tmp_path, name):
    _matrices(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:150])
    with pytest.raises(InputError, match=f"{name} is not a .npy file"):
        read_collection(tmp_path, 1.0)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"There is no file .*{name}"):
        read_collection(tmp_path, 1.0)


def test_the_camera_of_a_square():
    """A point keeps its place in the picture, cropped and resized."""
    focal, middle = np.array([50.0, 60.0]), np.array([15.0, 9.0])
    camera = Camera(np.eye(4), focal, middle, np.array([1.0, 2.0]), (20, 32))
    square = camera.of_square(20, 32, 10)
    direction = np.array([0.05, -0.03])
    full = middle + focal * direction  # (column, row)
    # Cut 6 columns from the left; two pixels become one.
    expected = (full - [6, 0] + 0.5) / 2 - 0.5
    np.testing.assert_allclose(
        square.principal_point + square.focal * direction, expected
    )


def _kind(resolution=6):
    return rays.LandmarkModality(
        resolution=resolution, scale=1.0, num_samples=5, rays_per_step=4
    )


def test_the_kind_reads_a_photograph(tmp_path):
    _matrices(tmp_path)
    kind = _kind()
    photo = tmp_path / "dense" / "images" / "1.jpg"
    sample = kind.read(photo, cameras=tmp_path)
    assert sample.inputs.shape[1:] == (4, 11)
    assert sample.coords.shape == (36, 11)
    assert sample.target.shape == (36, 3)
    camera = read_collection(tmp_path, 1.0)[photo].of_square(6, 8, 6)
    row, column = 2, 5
    point = ([column, row] - camera.principal_point) / camera.focal
    np.testing.assert_allclose(
        sample.coords[row * 6 + column, 3:6],
        camera.pose[:3, :3] @ [*point, 1.0],
        atol=1e-6,
    )
    again = modalities.from_description(kind.describe()).read(
        photo, cameras=tmp_path
    )
    np.testing.assert_array_equal(again.inputs, sample.inputs)
    # Half of the columns is a picture too.
    assert kind.picture(sample.target[:18]).shape == (6, 3, 3)
    seen = kind.render(lambda rays: rays[:, :3], 12, 12, sample.view)
    assert seen.shape == (12, 12, 3)


def test_what_the_kind_refuses(tmp_path):
    _matrices(tmp_path)
    photo = tmp_path / "dense" / "images" / "1.jpg"
    with pytest.raises(InputError, match="needs --cameras"):
        _kind().read(photo)
    _picture(tmp_path / "other.png")
    with pytest.raises(InputError, match="no camera for other.png"):
        _kind().read(tmp_path / "other.png", cameras=tmp_path)
    _text_model(tmp_path / "model")
    _picture(tmp_path / "a.png", (9, 6))
    with pytest.raises(InputError, match="of 9 x 6 pixels, with a camera of 8"):
        _kind().read(tmp_path / "a.png", cameras=tmp_path / "model")


def test_pictures_of_one_name_have_cameras_of_their_own(tmp_path, monkeypatch):
    for light in ("day", "night"):
        (tmp_path / light).mkdir()
        _picture(tmp_path / light / "1.png")
    _matrices(tmp_path)
    (camera, *_) = read_collection(tmp_path, 1.0).values()
    cameras = {
        tmp_path / light / "1.png": camera._replace(bounds=(1.0, far))
        for light, far in (("day", 2.0), ("night", 3.0))
    }
    monkeypatch.setattr(
        photo_collections, "read_collection", lambda *_: cameras
    )
    photo = tmp_path / "day" / ".." / "night" / "1.png"
    assert _kind().read(photo, "anything").view.bounds == (1.0, 3.0)
    _picture(tmp_path / "1.png")
    with pytest.raises(InputError, match="Received: 2 of that name"):
        _kind().read(tmp_path / "1.png", "anything")


def test_large_models_are_refused(tmp_path, monkeypatch):
    _text_model(tmp_path)
    monkeypatch.setattr(colmap, "MAX_MODEL_BYTES", 20)
    with pytest.raises(InputError, match="at most 20 bytes"):
        read_collection(tmp_path, 1.0)
