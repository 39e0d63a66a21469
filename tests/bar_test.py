"""The project's promises, each trained in full: hours, by `make test-slow`."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit import evaluate, train
from tfmetainit.configs import ct_maml, landmark, objects, text
from tfmetainit.evaluation.baselines import constant_floor
from tfmetainit.runs import build
from tfmetainit.training import optimizer

pytestmark = pytest.mark.slow


def _train_and_compare(config, folder):
    """Curves by method, for each condition, and its other results."""
    config.signal.data_dir = str(folder / "data")
    # Of the baselines only random weights are asked for here.
    config.evaluation.num_fit_steps = 1
    train.train(config, folder / "run")
    conditions = evaluate.evaluate(folder / "run")["conditions"]
    return [
        ({row["method"]: row["psnr"] for row in condition["rows"]}, condition)
        for condition in conditions
    ]


def test_text_reaches_its_bar(tmp_path):
    ((curves, results),) = _train_and_compare(text.get_config(), tmp_path)
    learned = curves["Learned"][4]  # two passes over the pixels
    assert results["num_signals"] == 100
    assert learned >= 38.0
    assert learned >= results["constant_psnr"] + 3.0
    assert learned > curves["Standard"][10]


def test_ct_reaches_its_bar(tmp_path):
    """Against random weights: 3 dB above them after the same number of steps,
    and above those of twice the projections and 200 Adam steps.
    """
    conditions = _train_and_compare(ct_maml.get_config(), tmp_path)
    assert [of[1]["label"] for of in conditions][1:] == [
        "2 projections",
        "4 projections",
        "8 projections",
    ]
    last = [
        (curves["Learned"][-1], curves["Standard"][-1])
        for curves, _ in conditions
    ]
    matches = [of["standard_to_match"] for _, of in conditions]
    for index in (1, 2, 3):
        learned, standard = last[index]
        assert learned >= standard + 3.0
        if index < 3:
            assert learned > last[index + 1][1]
            # On the same signals.
            own, twice = matches[index : index + 2]
            assert own["learned_psnr"] > twice["best_psnr"]


def test_objects_reach_their_bar(tmp_path):
    """4 dB above random weights, and above the class's mean image."""
    curves, results = _train_and_compare(objects.get_config(), tmp_path)[0]
    assert results["num_signals"] == 20
    assert curves["Learned"][-1] >= curves["Standard"][-1] + 4.0
    assert curves["Learned"][-1] > results["mean_psnr"]


def test_the_landmark_reaches_its_bar(tmp_path):
    """The right half, fitted to the left one: 3 dB above random weights."""
    ((curves, _),) = _train_and_compare(landmark.get_config(), tmp_path)
    assert curves["Learned"][-1] >= curves["Standard"][-1] + 3.0


@pytest.mark.parametrize("seed", range(20))
def test_the_density_of_no_seed_collapses(seed, tmp_path_factory):
    """After 200 steps, most at the full rate, every seed is clearly better
    than one colour: a field whose density is dead never is again.
    """
    config = objects.get_config()
    config.seed = seed
    config.optimizer.warmup_steps = 20
    config.signal.data_dir = str(tmp_path_factory.getbasetemp() / "objects")
    config.signal.num_train, config.signal.num_eval = 40, 4
    signal = build.build_signal(config)
    learner = build.build_learner(config, signal)
    learner.compile(optimizer.build_optimizer(config, learner))
    learner.fit(
        signal.make_dataset("train", config.batch_size, seed=seed),
        steps_per_epoch=200,
        shuffle=False,  # the dataset is shuffled already
        verbose=0,
    )
    validation = signal.make_dataset("validation", 1).cache()
    tasks = [
        tf.nest.map_structure(lambda leaf: leaf[0], batch)
        for batch in validation
    ]
    scores = learner.evaluate(validation, return_dict=True, verbose=0)
    floor = constant_floor(tasks)
    assert np.isfinite(scores["psnr_4"])
    assert scores["psnr_4"] > floor + 1.0
