"""Training that starts from the weights of another."""

import json
import pickle

import numpy as np

from tfmetainit import runs, train
from tfmetainit.io import weights
from tfmetainit.io.errors import InputError
from tfmetainit.meta import functional
from tfmetainit.runs import build


def test_warm_start(tmp_path, small_config, raises_with):
    """From another run, and from a file of weights."""
    first = small_config()  # its steps see half of the pixels
    train.train(first, tmp_path / "first")
    best = build.load(tmp_path / "first")
    params = functional.get_params(best.field)
    weights.write_npz(tmp_path / "weights.npz", params)
    layers = {
        f"linear_{i}": {"w": np.asarray(w), "b": np.asarray(b)}
        for i, (w, b) in enumerate(zip(params[::2], params[1::2]))
    }
    (tmp_path / "weights.pickle").write_bytes(pickle.dumps(layers))
    starts = ("first", "weights.npz", "weights.pickle")
    for index, start in enumerate(starts):
        # A rate so small that nothing moves; another resolution, and other
        # settings of what the step sizes are stored as.
        config = small_config(
            warm_start=str(tmp_path / start),
            **{
                "optimizer.learning_rate": 1e-30,
                "signal.resolution": 20,
                "signal.data_dir": str(tmp_path / "data"),
                "learner.step_size_gain": 30.0,
                "learner.inner_lr": 2e-2,
            },
        )
        if index == 0:
            train.train(config, tmp_path / "second")
            again = build.load(tmp_path / "second")
        else:
            again = build.build_learner(config, build.build_signal(config))
            runs.warm_start(again, config.warm_start)
        for a, b in zip(
            functional.get_params(best.field),
            functional.get_params(again.field),
        ):
            np.testing.assert_array_equal(a, b)
        sizes = best.step_sizes.as_params() if index == 0 else 2e-2
        np.testing.assert_allclose(
            again.step_sizes.as_params(), sizes, rtol=1e-5
        )  # a file of weights has none
    # Step sizes that were one a tensor, with matrices around them from here.
    config = small_config(
        warm_start=str(tmp_path / "first"),
        **{"learner.step_sizes": "curvature"},
    )
    train.train(config, tmp_path / "curvature")
    again = build.load(tmp_path / "curvature").step_sizes
    assert all(np.any(matrix) for sides in again.sides for matrix in sides)
    config = small_config(warm_start=str(tmp_path / "curvature"))
    with raises_with(InputError, "`warm_start`", "curvature", "'tensor'"):
        train.train(config, tmp_path / "third")
    stored = json.loads((tmp_path / "curvature/config.json").read_text())
    stored["learner"]["eval_steps"] = 10**6
    (tmp_path / "curvature/config.json").write_text(json.dumps(stored))
    with raises_with(InputError, "`warm_start`", "curvature", "eval_steps"):
        train.train(config, tmp_path / "third")
    for field, value in (("w0", 30.0), ("hidden_units", 9)):
        config = small_config(
            warm_start=str(tmp_path / "first"),
            **{f"field.{field}": value},
        )
        with raises_with(
            InputError, "`warm_start`", "first", f"{field}={value}"
        ):
            train.train(config, tmp_path / "third")
    for wrong in ("gone", "gone.npz", "gone.pickle"):
        config = small_config(warm_start=str(tmp_path / wrong))
        with raises_with(InputError, wrong):
            train.train(config, tmp_path / "third")
        assert not (tmp_path / "third").exists()
