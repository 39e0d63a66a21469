"""Every config, found by itself, trains, is evaluated, exported, and fits.

A new config is tested by being there. What cannot be downloaded is replaced by
TFDS's mock data; what is the user's own, by a folder made here.
"""

import contextlib
import importlib
import inspect
import json
import pathlib
import pkgutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tfmetainit import configs, evaluate, fit, train
from tfmetainit.export import exporter
from tfmetainit.fields import networks
from tfmetainit.geometry import cameras
from tfmetainit.io.errors import InputError
from tfmetainit.meta import maml
from tfmetainit.runs import build
from tfmetainit.synthetic import landmark_model, object_models
from tfmetainit.training import optimizer

_CONFIGS = sorted(
    module.name
    for module in pkgutil.iter_modules(configs.__path__)
    if module.name != "default"
)
# The paper's configs whose class another config evaluates, and those others,
# which take the longest: a class is trained, exported and fitted every time.
_EVALUATED_BY_ANOTHER = ("ct", "imagenette", "phototourism", "shapenet")
_SLOW = ("ct_maml", "celeb_a", "landmark", "objects", "sdf")


def _module(name):
    return importlib.import_module(f"tfmetainit.configs.{name}")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Folders of images and of views, and a data_dir for TFDS."""
    root = tmp_path_factory.mktemp("conformance")
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    for index in range(60):
        pixels = np.uint8(rng.integers(0, 255, (12, 16, 3)))
        Image.fromarray(pixels).save(root / "photos" / f"{index}.png")
    _write_objects(root / "objects", rng)
    _write_cameras(root / "photos", rng)
    return root


def _write_cameras(folder, rng):
    """Cameras of all pictures of a folder, as the paper's authors have them."""
    count = len(list(folder.glob("*.png")))
    poses = [landmark_model.draw_pose(rng) for _ in range(count)]
    intrinsic = np.array([[12.0, 0, 8], [0, 12, 6], [0, 0, 1]])
    np.save(folder / "c2w_mats.npy", poses)
    np.save(folder / "kinv_mats.npy", [np.linalg.inv(intrinsic)] * count)
    np.save(folder / "bds.npy", [[1.0, 3.0]] * count)


def _write_objects(folder, rng):
    """Three objects in the layout of the paper's authors."""
    for name in ("a", "b", "c"):
        (folder / name).mkdir(parents=True)
        frames = []
        for index, pose in enumerate(object_models.draw_poses(rng, 50)):
            picture = np.uint8(rng.integers(0, 255, (8, 8, 4)))
            Image.fromarray(picture).save(folder / name / f"{index}.png")
            frames.append(
                {
                    "file_path": str(index),
                    "transform_matrix": cameras.swap_opengl(pose).tolist(),
                }
            )
        content = {"camera_angle_x": 0.69, "frames": frames}
        (folder / name / "transforms.json").write_text(json.dumps(content))
    splits = json.dumps({"train": ["a"], "val": ["b"], "test": ["c"]})
    for kind in object_models.MODELS:
        (folder / f"{kind}_splits.json").write_text(splits)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in _SLOW else [])
        for name in _CONFIGS
    ],
)
def test_config_trains_evaluates_exports_and_fits(name, material, tmp_path):
    config = _module(name).get_config("smoke")
    if "data_dir" in config.signal:
        config.signal.data_dir = str(material / "tfds")
    if name in ("image_folder", "phototourism"):
        config.signal.folder = str(material / "photos")
    if name.startswith("shapenet"):
        config.signal.folder = str(material / "objects")
    run = tmp_path / "run"
    downloads = (
        tfds.testing.mock_data(num_examples=40)
        if config.signal.name == "images"
        else contextlib.nullcontext()
    )
    with downloads:
        summary = train.train(config, run)
        results = (
            None if name in _EVALUATED_BY_ANOTHER else evaluate.evaluate(run)
        )
        exported = exporter.export(run, tmp_path / "exported", max_steps=4)
    modality = build.build_signal(config).modality
    photo = material / "photos" / "0.png"
    details = {"pose": "30,20", "cameras": str(photo.parent)}
    details = {k: v for k, v in details.items() if k in modality.details}
    psnr = fit.fit(run, photo, tmp_path / "a.png", **details).psnr
    psnr_of_artifact = fit.fit(
        None,
        photo,
        tmp_path / "b.png",
        artifact=tmp_path / "exported" / exporter.TFLITE,
        **details,
    ).psnr
    assert summary["step"] == config.num_steps
    assert np.isfinite(summary["best_psnr"])
    for condition in results["conditions"] if results else ():
        has_mean = build.build_signal(config).shares_inputs
        solves = config.learner.output_layer == "solved"
        assert len(condition["rows"]) == 6 + has_mean + 2 * solves
        for row in condition["rows"]:
            assert np.isfinite([*row["psnr"], row["ssim"]]).all()
    assert len(psnr) == config.learner.inner_steps + 1
    assert (tmp_path / "a.png").is_file()
    np.testing.assert_allclose(psnr_of_artifact, psnr, atol=1e-2)
    assert set(exported.differences) == {"saved_model", "tflite"}
    assert not [op for op in exported.operations if op.startswith("CUSTOM")]


@pytest.mark.parametrize("name", _CONFIGS)
def test_config_is_a_document(name):
    """The docstring says what it is, how to run it, and what it costs."""
    document = _module(name).__doc__
    path = f"--config=configs/{name}.py"
    assert path in document
    assert "Cost:" in document
    assert pathlib.Path(_module(name).__file__).name == f"{name}.py"


@pytest.mark.parametrize("name", _CONFIGS)
def test_config_builds_a_valid_optimizer(name):
    config = _module(name).get_config()
    optimizer.build_optimizer(config, maml.MAML(networks.SIREN()))


def _options(classes, but):
    """Names of the arguments of some functions and classes."""
    names = set()
    for make in classes:
        for name, parameter in inspect.signature(make).parameters.items():
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                names.add(name)
    return names - but


def _own_classes(of_object):
    """The package's classes among those that an object is one of."""
    return [
        one
        for one in type(of_object).__mro__
        if one.__module__.startswith("tfmetainit") and "__init__" in vars(one)
    ]


@pytest.mark.parametrize("name", _CONFIGS)
def test_every_option_is_a_field_of_the_config(name):
    """And so it is a flag of the commands."""
    config = _module(name).get_config()
    signal = build.build_signal(config)
    learner = build.build_learner(config, signal)
    module = importlib.import_module(f"tfmetainit.signals.{config.signal.name}")
    of_model = {"field", "support_model", "query_model"}
    of_model |= {"shares_support", "raster_width"}
    of_source = {"open_source", "of_source"}
    of_class = {"white_background", "last_interval"}
    for section, classes, but in (
        (
            config.field,
            _own_classes(learner.field),
            {"coord_dims", "value_dims", "seed"},
        ),
        (config.learner, _own_classes(learner), of_model),
        (
            config.signal,
            [module.make_signal_class, *_own_classes(signal)],
            of_source | of_class,
        ),
    ):
        options = _options(classes, but)
        assert options
        assert options <= set(section)


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="'x'"):
        _module(_CONFIGS[0]).get_config("x")


_WAVES = """
import tensorflow as tf
from tfmetainit.meta.tasks import Observations, Task
from tfmetainit.signals.base import SignalClass


class Waves(SignalClass):
    coord_dims = value_dims = 1

    def make_dataset(
        self, split, batch_size, seed=0, start=0, shard=(0, 1)
    ):
        numbers = tf.data.Dataset.range(8).skip(start * batch_size)
        if split == "train":
            numbers = numbers.repeat()

        def wave(number):
            coords = tf.linspace(0.0, 1.0, 9)[:, None]
            values = 0.5 + 0.5 * tf.sin(tf.cast(number, tf.float32) + coords)
            return Task(
                Observations(coords[None], values[None]),
                Observations(coords, values),
            )

        return numbers.map(wave).batch(batch_size, drop_remainder=True)


def make_signal_class(**options):
    return Waves()
"""


def test_a_class_needs_no_more_than_make_dataset(tmp_path, monkeypatch):
    """It is trained, evaluated and exported, but no pictures are made."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "waves.py").write_text(_WAVES)
    monkeypatch.syspath_prepend(tmp_path)
    config = _module("text").get_config("smoke")
    config.signal.name = "mine.waves"
    config.learner.step_on = "all"  # they are no pictures
    config.learner.ridge = 1e-2  # there are about as many points as units
    run = tmp_path / "run"
    train.train(config, run)
    (condition,) = evaluate.evaluate(run)["conditions"]
    assert np.isfinite([row["psnr"] for row in condition["rows"]]).all()
    results = json.loads((run / "evaluation" / "results.json").read_text())
    assert results["conditions"][0]["rows"][0]["ssim"] is None
    assert not (run / "evaluation" / "reconstructions.png").exists()
    summary = exporter.export(run, tmp_path / "exported", max_steps=4)
    assert summary.example is None
    with pytest.raises(InputError):
        fit.fit(run, tmp_path / "a.png", tmp_path / "b.png")


_MINE = """
import keras
import tfmetainit


class Wide(tfmetainit.SIREN):
    pass


class Careful(tfmetainit.MAML):
    pass
"""


def test_fields_and_learners_of_ones_own(tmp_path, monkeypatch, raises_with):
    """By their dotted names; the signals in a module of a single file."""
    (tmp_path / "my_waves.py").write_text(_WAVES + _MINE)
    monkeypatch.syspath_prepend(tmp_path)
    config = _module("text").get_config("smoke")
    config.signal.name = "my_waves"
    config.field.name = "my_waves.Wide"
    config.learner.name = "my_waves.Careful"
    config.learner.step_on = "all"  # they are no pictures
    config.learner.ridge = 1e-2
    train.train(config, tmp_path / "run")
    learner = build.load(tmp_path / "run")
    assert type(learner).__name__ == "Careful"
    assert type(learner.field).__name__ == "Wide"
    exporter.export(tmp_path / "run", tmp_path / "exported", max_steps=4)
    config.signal.name = "my_waves.Waves"
    with raises_with(InputError, "`signal.name`", "my_waves.Waves"):
        build.build_signal(config)


def test_a_fit_that_diverges_is_a_row_without_numbers(tmp_path):
    """All else of an evaluation stays, and is written."""
    config = _module("text").get_config("smoke")
    config.evaluation.num_steps = 60
    config.evaluation.sgd_rates = (1e8, 1e9)  # all of them diverge
    config.evaluation.max_match_steps = 2
    config.signal.data_dir = str(tmp_path / "tfds")
    train.train(config, tmp_path / "run")
    evaluate.evaluate(tmp_path / "run")
    folder = tmp_path / "run" / "evaluation"
    results = json.loads((folder / "results.json").read_text())
    rows = {row["method"]: row for row in results["conditions"][0]["rows"]}
    assert rows["Standard (SGD)"]["psnr"][-1] is None
    assert rows["Learned"]["psnr"][-1] is not None
    assert "nan" in (folder / "results.md").read_text()
    assert (folder / "curves.png").exists()
