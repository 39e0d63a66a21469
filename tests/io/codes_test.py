"""Quantised changes of the learned weights, and their files."""

import zipfile

import numpy as np
import pytest

from tfmetainit.io import codes, weights
from tfmetainit.io.errors import InputError

_SHAPES = [(2, 8), (8,), (8, 8), (8,), (8, 3), (3,)]
_SIZE = sum(int(np.prod(shape)) for shape in _SHAPES)


def _fit():
    rng = np.random.default_rng(0)
    learned = rng.normal(size=_SIZE).astype(np.float32)
    # The tensors change by different amounts, and one of them not at all.
    scales = np.repeat(
        [1e-1, 1e-3, 1e-2, 0.0, 10.0, 1.0], [16, 8, 64, 8, 24, 3]
    )
    change = scales * rng.normal(size=_SIZE)
    return learned, (learned + change).astype(np.float32)


@pytest.mark.parametrize("bits", [2, 5, 8, 9, 16])
def test_an_integer_is_the_nearest(bits):
    learned, theta = _fit()
    code = codes.encode(theta, learned, _SHAPES, bits)
    assert code.hidden.dtype == (np.int8 if bits <= 8 else np.int16)
    assert np.abs(code.hidden).max() == 2 ** (bits - 1) - 1
    assert np.abs(code.output).max() == 2**15 - 1
    decoded = codes.decode(code, learned, _SHAPES)
    assert decoded.dtype == np.float32
    step = np.repeat(code.scales, [int(np.prod(s)) for s in _SHAPES])
    rounding = 1e-6 * (np.abs(learned) + np.abs(theta))
    assert np.all(np.abs(decoded - theta) <= 0.501 * step + rounding)


@pytest.mark.parametrize("bits", [-1, 1, 17])
def test_bits_have_a_range(bits, raises_with):
    learned, theta = _fit()
    with raises_with(InputError, "`bits`", "[2, 16]", bits):
        codes.encode(theta, learned, _SHAPES, bits)


def test_a_file_holds_a_code(tmp_path):
    learned, theta = _fit()
    code = codes.encode(theta, learned, _SHAPES, 6)
    path = tmp_path / "fit.npz"
    codes.write_code(path, code, learned, (30, 40))
    read = codes.read_code(path, learned, _SHAPES)
    np.testing.assert_array_equal(read, codes.decode(code, learned, _SHAPES))
    # By hand, as the docs say.
    stored = np.load(path)
    change = np.concatenate([stored["hidden"], stored["output"]])
    sizes = [int(np.prod(shape)) for shape in _SHAPES]
    by_hand = learned + np.repeat(stored["scales"], sizes) * change
    np.testing.assert_allclose(by_hand, read, rtol=1e-6)


def test_an_unchanged_fit_is_small(tmp_path):
    learned = np.random.default_rng(0).normal(size=40_003).astype(np.float32)
    shapes = [(99, 400), (400,), (1,), (2,)]
    code = codes.encode(learned, learned, shapes, 8)
    codes.write_code(tmp_path / "fit.npz", code, learned, (1, 1))
    assert (tmp_path / "fit.npz").stat().st_size < 2000


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"scales": None}, ["scales"]),
        ({"hidden": np.zeros(3, np.int8)}, ["hidden", "[3]"]),
        ({"hidden": np.zeros(96)}, ["hidden"]),
        ({"learned": np.zeros(32, np.uint8)}, ["other learned weights"]),
        ({"scales": np.full(6, np.nan, np.float32)}, ["not finite"]),
    ],
)
def test_a_damaged_file_is_named(changes, parts, tmp_path, raises_with):
    learned, theta = _fit()
    path = tmp_path / "fit.npz"
    code = codes.encode(theta, learned, _SHAPES, 6)
    codes.write_code(path, code, learned, (3, 4))
    arrays = {**np.load(path), **changes}
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    with raises_with(InputError, path, *parts):
        codes.read_code(path, learned, _SHAPES)


def test_other_files_are_no_codes(tmp_path, raises_with):
    learned, _ = _fit()
    path = tmp_path / "weights.npz"
    weights.write_npz(path, [np.zeros(shape) for shape in _SHAPES])
    with raises_with(InputError, path, "hidden"):
        codes.read_code(path, learned, _SHAPES)
    path.write_bytes(b"nonsense")
    with raises_with(InputError, path):
        codes.read_code(path, learned, _SHAPES)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scales", "text")
        archive.writestr("hidden", "text")
    with raises_with(InputError, path, "not an array"):
        codes.read_code(path, learned, _SHAPES)


def test_a_network_may_be_one_layer(tmp_path):
    learned, theta = np.zeros(9, np.float32), np.ones(9, np.float32)
    shapes = [(2, 3), (3,)]
    code = codes.encode(theta, learned, shapes, 4)
    np.testing.assert_allclose(codes.decode(code, learned, shapes), theta)
    codes.write_code(tmp_path / "a.npz", code, learned, (1, 1))
    read = codes.read_code(tmp_path / "a.npz", learned, shapes)
    np.testing.assert_allclose(read, theta)
