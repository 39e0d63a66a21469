"""Weights in .npz files, and in pickles of the paper's authors."""

import pickle
import sys
import types

import numpy as np
import pytest

from tfmetainit.io import weights
from tfmetainit.io.errors import InputError

_SHAPES = [(2, 8), (8,), (8, 8), (8,), (8, 3), (3,)]


def _params(shapes=_SHAPES):
    rng = np.random.default_rng(0)
    return [rng.random(shape, np.float32) for shape in shapes]


def test_npz_round_trip(tmp_path):
    params = _params()
    path = tmp_path / "weights.npz"
    weights.write_npz(path, params)
    assert sorted(np.load(path).files)[:2] == ["layer0/bias", "layer0/kernel"]
    loaded = weights.load_npz(path, _SHAPES)
    assert len(loaded) == len(params)
    for a, b in zip(params, loaded):
        assert b.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def test_npz_errors(tmp_path, raises_with):
    path = tmp_path / "weights.npz"
    with raises_with(InputError, path):
        weights.load_npz(path, _SHAPES)
    path.write_bytes(b"nonsense")
    with raises_with(InputError, path):
        weights.load_npz(path, _SHAPES)
    np.savez(path, strange=np.zeros(3))
    with raises_with(InputError, path, "layer0/kernel", "strange"):
        weights.load_npz(path, _SHAPES)
    np.savez(path, **{"layer0/kernel": np.array([{}], object)})
    with raises_with(InputError, path):
        weights.load_npz(path, _SHAPES)
    wide = [(2, 9), (9,), (9, 9), (9,), (9, 3), (3,)]
    weights.write_npz(path, _params(wide))
    with raises_with(InputError, path, _SHAPES, wide):
        weights.load_npz(path, _SHAPES)
    weights.write_npz(path, [p * np.nan for p in _params()])
    with raises_with(InputError, path, "float32"):
        weights.load_npz(path, _SHAPES)


@pytest.fixture
def haiku_mapping(monkeypatch):
    """A class that pickles under haiku's name, as the authors' files do."""
    module = types.ModuleType("haiku._src.data_structures")

    class FlatMapping(dict):
        def __reduce__(self):
            return FlatMapping, (dict(self),)

    FlatMapping.__module__ = module.__name__
    FlatMapping.__qualname__ = "FlatMapping"
    module.FlatMapping = FlatMapping
    monkeypatch.setitem(sys.modules, "haiku", types.ModuleType("haiku"))
    monkeypatch.setitem(sys.modules, "haiku._src", types.ModuleType("_src"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return FlatMapping


def _modules(params, mapping=dict):
    """Haiku's names: linear, linear_1, ...; past 9 they sort wrongly."""
    return mapping(
        {
            "siren/linear" + (f"_{i}" if i else ""): mapping(
                {"w": np.asarray(w), "b": np.asarray(b)}
            )
            for i, (w, b) in enumerate(zip(params[0::2], params[1::2]))
        }
    )


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_haiku_pickle(tmp_path, haiku_mapping, protocol):
    shapes = [(2, 4), (4,), *[(4, 4), (4,)] * 10, (4, 3), (3,)]
    params = _params(shapes)
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps(_modules(params, haiku_mapping), protocol))
    loaded = weights.load_haiku(path, shapes)
    assert len(loaded) == len(params)
    for a, b in zip(params, loaded):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", []),
        (b"garbage", []),
        (b"NQ.", ["persistent id"]),
        (pickle.dumps([1, 2]), []),
        (pickle.dumps({"a": {"w": 1}}), ["'b'"]),
        (pickle.dumps({"a": np.ones(2)}), []),
        (
            pickle.dumps({"a": {"w": np.ones(2), "b": np.ones(2)}}),
            [_SHAPES, [(2,), (2,)]],
        ),
    ],
)
def test_other_files_are_refused(tmp_path, content, named):
    path = tmp_path / "params.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        weights.load_haiku(path, _SHAPES)
    for part in (path, *named):
        assert str(part) in str(error.value)
    assert "\n" not in str(error.value)
