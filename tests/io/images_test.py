"""Image files: what is read, what is refused, what is written."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tfmetainit.io import images
from tfmetainit.io.errors import InputError


def _save(path, array, mode=None):
    Image.fromarray(array, mode).save(path)
    return path


def test_read_rgb(tmp_path):
    pixels = np.uint8(np.arange(24).reshape(2, 4, 3) * 10)
    image = images.read_image(_save(tmp_path / "a.png", pixels))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, pixels / 255.0, atol=1e-6)


def test_read_grey_and_16_bit(tmp_path):
    grey = np.uint8([[0, 128, 255]])
    image = images.read_image(_save(tmp_path / "a.png", grey))
    np.testing.assert_allclose(image[0, :, 1], [0, 128 / 255, 1], atol=1e-6)
    deep = np.uint16([[0, 1, 65535]])
    image = images.read_image(_save(tmp_path / "b.png", deep))
    np.testing.assert_allclose(
        image[0, :, 2], [0, 1 / 65535, 1], rtol=1e-5, atol=1e-9
    )
    Image.fromarray(deep).save(tmp_path / "c.png", transparency=1)
    image = images.read_image(tmp_path / "c.png")
    np.testing.assert_array_equal(image[0, :, 0], [0, 1, 1])  # on white


def test_read_rgba_on_white(tmp_path):
    rgba = np.uint8([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]])
    image = images.read_image(_save(tmp_path / "a.png", rgba))
    expected = [[[1, 0, 0], [1, 1, 1], [0.8, 0.8, 0.8]]]
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_read_palette_cmyk_and_animation(tmp_path):
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    red.convert("P").save(tmp_path / "a.gif")
    red.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    blue = Image.new("RGB", (4, 4), (0, 0, 255))
    red.save(tmp_path / "b.gif", save_all=True, append_images=[blue])
    for name in ("a.gif", "a.jpg", "b.gif"):
        image = images.read_image(tmp_path / name)
        np.testing.assert_allclose(image[1, 1], [1, 0, 0], atol=0.02)


def test_read_applies_the_orientation_tag(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[:, :2] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image = images.read_image(tmp_path / "a.png")
    assert image.shape == (4, 2, 3)
    assert image[:2].min() == 1.0
    assert image[2:].max() == 0.0


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_pillow_s(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image)) / 255.0
    np.testing.assert_allclose(
        images.read_image(tmp_path / "a.png"), expected, atol=1e-6
    )


def test_an_odd_tag_is_no_part_of_the_picture(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0128] = 2  # the unit of the resolution: a number, here called text
    data = exif.tobytes()
    assert b"\x01\x28\x00\x03" in data
    data = data.replace(b"\x01\x28\x00\x03", b"\x01\x28\x00\x02")
    image = Image.fromarray(np.zeros((2, 4, 3), np.uint8))
    image.save(tmp_path / "a.jpg", exif=data)
    with Image.open(tmp_path / "a.jpg") as opened, pytest.raises(struct.error):
        ImageOps.exif_transpose(opened)
    assert images.read_image(tmp_path / "a.jpg").shape == (4, 2, 3)

    def damaged(self):
        raise TypeError("no tags at all")

    monkeypatch.setattr(Image.Image, "getexif", damaged)
    assert images.read_image(tmp_path / "a.jpg").shape == (2, 4, 3)


def _grey_tiff(path, bits=16, sample_format=1, photometric=1):
    """An uncompressed TIFF of two grey pixels, of 16 bits each in the file."""
    pixels = struct.pack("<2H", 0, 65535 if bits == 16 else 2**bits - 1)
    tags = [
        *((256, 2), (257, 1), (258, bits), (259, 1), (262, photometric)),
        *((273, 8), (277, 1), (278, 1), (279, len(pixels))),
        (339, sample_format),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in tags)
    path.write_bytes(
        struct.pack("<2sHI", b"II", 42, 8 + len(pixels))
        + pixels
        + struct.pack("<H", len(tags))
        + entries
        + struct.pack("<I", 0)
    )


def test_grey_tiffs_are_read_as_they_are_meant(tmp_path, raises_with):
    path = tmp_path / "a.tif"
    _grey_tiff(path)
    np.testing.assert_array_equal(images.read_image(path)[0, :, 0], [0.0, 1.0])
    _grey_tiff(path, photometric=0)  # white is zero
    np.testing.assert_array_equal(images.read_image(path)[0, :, 0], [1.0, 0.0])
    for options in ({"sample_format": 2}, {"bits": 12}):
        _grey_tiff(path, **options)
        with raises_with(InputError, path):
            images.read_image(path)


def _png_header(width, height):
    """A PNG that claims to be huge."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        crc = struct.pack(">I", zlib.crc32(name + body))
        data += struct.pack(">I", len(body)) + name + body + crc
    return data


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("empty.png", b"", []),
        ("text.png", b"hello", ["PNG"]),
        ("bomb.png", _png_header(20_000, 20_000), [100_000_000]),
        ("bomb2.png", _png_header(12_000, 12_000), ["12000 x 12000"]),
        ("cut.jpg", None, []),
        ("float.tiff", None, ["[32]", "[3]"]),
        ("32.tiff", None, ["[32]"]),
    ],
)
def test_bad_images_are_refused_in_one_sentence(tmp_path, name, content, named):
    path = tmp_path / name
    if name == "cut.jpg":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3))
        _save(path, np.uint8(noise))
        path.write_bytes(path.read_bytes()[:1500])
    elif name == "float.tiff":
        _save(path, np.ones((4, 4), np.float32))
    elif name == "32.tiff":
        _save(path, np.full((4, 4), 200, np.int32))
    else:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        images.read_image(path)
    for part in (path, *named):
        assert str(part) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders(tmp_path, raises_with):
    with raises_with(InputError, tmp_path / "missing.png"):
        images.read_image(tmp_path / "missing.png")
    with raises_with(InputError, tmp_path):
        images.read_image(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_write_image_round_trip(tmp_path, channels):
    image = np.random.default_rng(0).random((5, 6, channels), np.float32)
    images.write_image(tmp_path / "a.png", image * 2 - 0.5)
    expected = np.broadcast_to(np.clip(image * 2 - 0.5, 0, 1), (5, 6, 3))
    read = images.read_image(tmp_path / "a.png")
    np.testing.assert_allclose(read, expected, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("name", ["a.exe", "a", "a.pdf", "a.eps"])
def test_write_image_refuses_other_suffixes(tmp_path, raises_with, name):
    with raises_with(InputError, tmp_path / name, ".png"):
        images.write_image(tmp_path / name, np.zeros((2, 2, 3)))
    assert not os.listdir(tmp_path)


def test_a_name_that_no_file_can_have(tmp_path, raises_with):
    path = tmp_path / ("a" * 300)
    with raises_with(InputError, path):
        images.read_image(path)


def test_a_picture_too_large_for_its_format(tmp_path, raises_with):
    for suffix, width in ((".webp", 16400), (".jpg", 65501), (".gif", 65536)):
        with raises_with(InputError, f"{width} x 1", suffix):
            images.write_image(tmp_path / f"a{suffix}", np.zeros((1, width, 3)))
    assert not os.listdir(tmp_path)


def test_damaged_images_never_raise_anything_else(tmp_path):
    """Random bytes changed in files of several kinds."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(np.uint8(rng.integers(0, 255, (16, 16, 3))))
    for suffix in (".jpg", ".png", ".webp", ".gif", ".tiff", ".bmp", ".ppm"):
        path = tmp_path / f"a{suffix}"
        picture.save(path, exif=exif)
        intact = path.read_bytes()
        for _ in range(150):
            damaged = bytearray(intact)
            for position in rng.integers(0, len(damaged), 4):
                damaged[position] = rng.integers(256)
            path.write_bytes(damaged[: rng.integers(1, len(damaged) + 1)])
            try:
                image = images.read_image(path)
            except InputError:
                continue
            assert image.min() >= 0.0
            assert image.max() <= 1.0


def test_a_picture_as_it_is_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # to be turned by half a turn
    picture = np.zeros([4, 6, 3], np.uint8)
    picture[0] = 255
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    assert images.read_image(tmp_path / "a.png")[-1].min() == 1.0
    stored = images.read_image(tmp_path / "a.png", upright=False)
    assert stored[0].min() == 1.0
