import collections
import pickle
import struct
import sys
import tracemalloc
import types

import numpy as np
import pytest

from tfmetainit.fields import networks
from tfmetainit.io import pickles, weights
from tfmetainit.io.errors import InputError
from tfmetainit.meta import functional


def _field(seed=0):
    return networks.SIREN(hidden_layers=2, hidden_units=8, w0=10.0, seed=seed)


def test_npz_round_trip(tmp_path):
    field = _field()
    params = functional.get_params(field)
    path = tmp_path / "weights.npz"
    weights.write_npz(path, params)
    assert sorted(np.load(path).files)[:2] == ["layer0/bias", "layer0/kernel"]
    for a, b in zip(params, weights.load_npz(path, _field(1))):
        np.testing.assert_array_equal(a, b)


def test_npz_errors(tmp_path):
    field = _field()
    path = tmp_path / "weights.npz"
    with pytest.raises(InputError, match="There is no file"):
        weights.load_npz(path, field)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="is not an .npz file"):
        weights.load_npz(path, field)
    np.savez(path, a=np.zeros(3))
    with pytest.raises(InputError, match="are named layer0/kernel"):
        weights.load_npz(path, field)
    np.savez(path, **{"layer0/kernel": np.array([{}], object)})
    with pytest.raises(InputError, match="is not an .npz file"):
        weights.load_npz(path, field)
    wide = networks.SIREN(hidden_layers=2, hidden_units=9)
    weights.write_npz(path, functional.get_params(wide))
    with pytest.raises(InputError, match="have shapes"):
        weights.load_npz(path, field)
    params = [p * np.nan for p in functional.get_params(field)]
    weights.write_npz(path, params)
    with pytest.raises(InputError, match="not finite"):
        weights.load_npz(path, field)


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
    field = networks.SIREN(hidden_layers=11, hidden_units=4, seed=0)
    params = functional.get_params(field)
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps(_modules(params, haiku_mapping), protocol))
    for a, b in zip(params, weights.load_haiku(path, field)):
        np.testing.assert_array_equal(a, b)


def test_jax_arrays_in_a_pickle(tmp_path, monkeypatch):
    """JAX pickles an array as the parts of a NumPy one."""
    module = types.ModuleType("jax._src.array")

    def _reconstruct_array(function, arguments, state, weak):
        raise AssertionError("the real one must not be called")

    _reconstruct_array.__module__ = module.__name__
    _reconstruct_array.__qualname__ = "_reconstruct_array"
    module._reconstruct_array = _reconstruct_array
    monkeypatch.setitem(sys.modules, "jax", types.ModuleType("jax"))
    monkeypatch.setitem(sys.modules, "jax._src", types.ModuleType("_src"))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    class JaxArray:
        def __init__(self, array):
            self.array = array

        def __reduce__(self):
            function, arguments, state = self.array.__reduce__()
            aval = {"weak_type": False}
            return _reconstruct_array, (function, arguments, state, aval)

    path = tmp_path / "array.pkl"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    path.write_bytes(pickle.dumps({"w": JaxArray(array)}))
    loaded = pickles.load(path)
    np.testing.assert_array_equal(loaded["w"], array)


def _call(function, *arguments):
    class Malicious:
        def __reduce__(self):
            return function, arguments

    return Malicious()


@pytest.mark.parametrize(
    "planted",
    [
        _call(eval, "open('owned', 'w')"),
        _call(exec, "open('owned', 'w')"),
        _call(getattr, "", "format"),
        _call(types.SimpleNamespace),
        _call(collections.defaultdict, list),
        np.array([_call(eval, "open('owned', 'w')")], object),
    ],
)
def test_a_malicious_pickle_is_refused(tmp_path, monkeypatch, planted):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps({"layer": {"w": planted, "b": np.ones(3)}}))
    with pytest.raises(InputError, match="was refused") as error:
        weights.load_haiku(path, _field())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "owned").exists()


def test_os_system_is_refused_by_name(tmp_path):
    path = tmp_path / "params.pkl"
    path.write_bytes(b"cposix\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(InputError, match=r"names posix\.system, which is not"):
        weights.load_haiku(path, _field())


def test_a_pickle_cannot_ask_for_memory(tmp_path):
    """NumPy's own `_reconstruct` would allocate a terabyte here."""
    reconstruct = np.zeros(1).__reduce__()[0]
    path = tmp_path / "params.pkl"
    path.write_bytes(
        pickle.dumps(_call(reconstruct, np.ndarray, (2**37,), b"d"))
    )
    assert pickles.load(path).size == 0
    path.write_bytes(pickle.dumps(_call(np.ndarray, (2**37,))))
    with pytest.raises(InputError, match="was refused"):
        pickles.load(path)


@pytest.mark.parametrize(
    "asking",
    [
        b"r" + struct.pack("<I", 2**28),  # as the memo's 2**28-th
        b"p268435456\n",
        b"\x96" + struct.pack("<Q", 2**31),  # bytes, of which none follow
        b"\x8e" + struct.pack("<Q", 2**31),
        b"\x95" + struct.pack("<Q", 2**31),  # a frame
    ],
)
def test_nor_can_its_operations(tmp_path, asking):
    """A fuzzer found the first: 511 bytes that took 4 GB."""
    path = tmp_path / "params.pkl"
    path.write_bytes(b"\x80\x05N" + asking + b".")
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="was refused"):
            pickles.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "was refused"),
        (b"garbage", "was refused"),
        (b"NQ.", "was refused: A load persistent id"),
        (pickle.dumps([1, 2]), "must map module names"),
        (pickle.dumps({"a": {"w": 1}}), "must map module names"),
        (pickle.dumps({"a": np.ones(2)}), "must map module names"),
        (
            pickle.dumps({"a": {"w": np.ones(2), "b": np.ones(2)}}),
            "have shapes",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "params.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        weights.load_haiku(path, _field())
    assert "\n" not in str(error.value)
