"""Pickles are read with an allow-list; what they name is never called."""

import collections
import pickle
import sys
import types

import numpy as np
import pytest

from tfmetainit.io import pickles
from tfmetainit.io.errors import InputError


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
    with pytest.raises(InputError) as error:
        pickles.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "owned").exists()


def test_os_system_is_refused_by_name(tmp_path, raises_with):
    path = tmp_path / "params.pkl"
    path.write_bytes(b"cposix\nsystem\n(S'touch owned'\ntR.")
    with raises_with(InputError, path, "posix.system"):
        pickles.load(path)


def test_a_pickle_cannot_ask_for_memory(tmp_path, raises_with):
    """NumPy's own `_reconstruct` would allocate a terabyte here."""
    reconstruct = np.zeros(1).__reduce__()[0]
    path = tmp_path / "params.pkl"
    path.write_bytes(
        pickle.dumps(_call(reconstruct, np.ndarray, (2**37,), b"d"))
    )
    assert pickles.load(path).size == 0
    path.write_bytes(pickle.dumps(_call(np.ndarray, (2**37,))))
    with raises_with(InputError, path):
        pickles.load(path)


def test_a_pickle_has_a_size_limit(tmp_path, raises_with):
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps({"w": np.ones(3)}))
    size = path.stat().st_size
    np.testing.assert_array_equal(pickles.load(path, size)["w"], np.ones(3))
    with raises_with(InputError, path, size, size - 1):
        pickles.load(path, size - 1)
