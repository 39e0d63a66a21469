"""Every config, found by itself, trains, is evaluated, exported, and fits.

A new config is tested by being there. What cannot be downloaded is replaced by
TFDS's mock data; what is the user's own, by a folder made here.
"""

import contextlib
import importlib
import pathlib
import pkgutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tfmetainit import configs, evaluate, experiment, fit, train
from tfmetainit.export import exporter

_CONFIGS = sorted(
    module.name
    for module in pkgutil.iter_modules(configs.__path__)
    if module.name != "default"
)


def _module(name):
    return importlib.import_module(f"tfmetainit.configs.{name}")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A folder of images, and a data_dir for TFDS."""
    root = tmp_path_factory.mktemp("conformance")
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    for index in range(60):
        pixels = np.uint8(rng.integers(0, 255, (12, 16, 3)))
        Image.fromarray(pixels).save(root / "photos" / f"{index}.png")
    return root


@pytest.mark.parametrize("name", _CONFIGS)
def test_config_trains_evaluates_exports_and_fits(name, material, tmp_path):
    config = _module(name).get_config("smoke")
    if "data_dir" in config.signal:
        config.signal.data_dir = str(material / "tfds")
    if config.signal.get("folder") == "":
        config.signal.folder = str(material / "photos")
    run = tmp_path / "run"
    downloads = (
        tfds.testing.mock_data(num_examples=40)
        if config.signal.name == "images"
        else contextlib.nullcontext()
    )
    with downloads:
        summary = train.train(config, run)
        results = evaluate.evaluate(run)
        exported = exporter.export(run, tmp_path / "exported", max_steps=4)
    kind = experiment.build_signal(config).kind
    details = {"pose": "30,20"} if "pose" in kind.details else {}
    photo = material / "photos" / "0.png"
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
    for condition in results["conditions"]:
        assert len(condition["rows"]) == 7
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
    experiment.build_optimizer(_module(name).get_config())


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="must be 'smoke'. Received: 'x'"):
        _module(_CONFIGS[0]).get_config("x")
