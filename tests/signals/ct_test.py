"""CT from its data to a fitted sinogram."""

import pickle

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfmetainit import evaluate, fit, train
from tfmetainit.configs import ct_maml
from tfmetainit.export import exporter, held_out
from tfmetainit.geometry import parallel_beam
from tfmetainit.geometry.metrics import psnr_from_mse
from tfmetainit.io import images, weights
from tfmetainit.io.errors import InputError
from tfmetainit.litert.artifact import LiteArtifact
from tfmetainit.meta import functional
from tfmetainit.modalities.readers import parse_angles
from tfmetainit.runs import build, workdir
from tfmetainit.signals import ct
from tfmetainit.synthetic.phantoms import SHEPP_LOGAN, render_ellipses

_SIDE = 16
_SLICES = np.zeros((4, 8, 8))


def _tasks(signal, split, count, **options):
    dataset = signal.make_dataset(split, 1, **options).take(count)
    return [tf.nest.map_structure(lambda leaf: leaf[0], b) for b in dataset]


def _phantoms(tmp_path, **options):
    return ct.make_signal_class(
        **{
            "resolution": _SIDE,
            "num_train": 12,
            "num_eval": 8,
            "data_dir": str(tmp_path),
            **options,
        }
    )


# ---- Phantoms ---------------------------------------------------------------


def test_the_unperturbed_phantom_is_shepp_and_logans():
    """Its well-known densities, at points inside of the ellipses."""
    image = render_ellipses(SHEPP_LOGAN, 200)

    def at(x, y):
        return image[int((1 - y) * 100), int((x + 1) * 100)]

    np.testing.assert_allclose(at(0.0, 0.9), 1.0)  # the skull
    np.testing.assert_allclose(at(0.0, -0.4), 0.2)  # the brain
    np.testing.assert_allclose(at(0.22, 0.0), 0.0, atol=1e-12)  # a ventricle
    np.testing.assert_allclose(at(0.0, 0.35), 0.3)  # the large tumour
    np.testing.assert_allclose(at(0.95, 0.0), 0.0)  # outside


def test_phantoms_are_diverse_and_a_function_of_their_seed():
    def images(seed):
        rng = np.random.default_rng(seed)
        return [ct.Phantoms.draw(rng, 64)[..., 0] / 65535.0 for _ in range(100)]

    first, again, other = images(0), images(0), images(1)
    np.testing.assert_array_equal(first, again)
    assert np.any(np.asarray(first) != np.asarray(other))
    mean = np.mean(other, axis=0)
    floor = np.mean([psnr_from_mse(np.mean((i - mean) ** 2)) for i in first])
    own = np.mean([psnr_from_mse(np.var(i)) for i in first])
    # Over 300 of them, the module's docstring says 17.4 and 15.3 dB.
    np.testing.assert_allclose([floor, own], [17.4, 15.3], atol=0.25)
    assert np.min(first) == 0.0
    assert np.max(first) <= 1.0


# ---- Tasks ------------------------------------------------------------------


def test_training_tasks(tmp_path):
    signal = _phantoms(tmp_path, train_projections=(2, 4), points_per_step=7)
    tasks = _tasks(signal, "train", 12)
    projections = []
    for task in tasks:
        angles, sinogram = (leaf[0].numpy() for leaf in task.support)
        assert angles.shape == (4,)
        assert sinogram.shape == (4, _SIDE)
        assert np.all((angles >= 0.0) & (angles < np.pi))
        projections.append(len(set(angles.tolist())))
        assert task.query.inputs.shape == (7, 2)
    assert set(projections) == {2, 4}
    again = _tasks(signal, "train", 3, start=9)
    for a, b in zip(tasks[9:], again):
        np.testing.assert_array_equal(a.support.values, b.support.values)


def test_the_sinogram_is_the_slices(tmp_path):
    signal = _phantoms(tmp_path, eval_projections=(3,))
    for task in _tasks(signal, "test", 2):
        np.testing.assert_allclose(
            task.support.inputs[0], [0.0, np.pi / 3, 2 * np.pi / 3], rtol=1e-6
        )
        image = task.query.values.numpy().reshape(_SIDE, _SIDE)
        np.testing.assert_allclose(
            task.support.values[0],
            parallel_beam.project(image, task.support.inputs[0]),
            atol=1e-6,
        )
        # Column first: (1 / R, 0) is the second pixel of the first row.
        np.testing.assert_allclose(task.query.inputs[1], [1 / _SIDE, 0.0])


def test_evaluation_takes_the_numbers_of_projections_in_turn_and_apart(
    tmp_path,
):
    signal = _phantoms(tmp_path, eval_projections=(1, 2, 4))

    def projections(signal):
        return [
            len(np.unique(task.support.inputs))
            for task in _tasks(signal, "test", 4)
        ]

    assert projections(signal) == [4, 2, 1, 4]
    conditions = signal.conditions()
    assert list(conditions) == [
        "1 projection",
        "2 projections",
        "4 projections",
    ]
    assert projections(conditions["2 projections"]) == [2, 2, 2, 2]


def test_classical_methods(tmp_path):
    signal = _phantoms(
        tmp_path, eval_projections=(64,), interpolation="bilinear"
    )
    (task,) = _tasks(signal, "test", 1)
    methods = signal.classical(task)
    assert [*methods] == ["Filtered back-projection", "SART", "Total variation"]
    floor = np.var(task.query.values)
    for values in methods.values():
        error = np.mean((values - task.query.values) ** 2)
        assert psnr_from_mse(error) > psnr_from_mse(floor) + 5.0


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"train_projections": ()}, ["`train_projections`"]),
        ({"eval_projections": (0,)}, ["`eval_projections`", "[1, 4096]"]),
        ({"interpolation": "cubic"}, ["`interpolation`", "cubic"]),
        (
            {"file": "a.pkl", "folder": "b"},
            ["`file`", "`folder`", "a.pkl", "'b'"],
        ),
    ],
)
def test_bad_options(options, parts, raises_with):
    with raises_with(ValueError, *parts):
        ct.make_signal_class(resolution=_SIDE, **options)


# ---- Other sources ----------------------------------------------------------


def test_the_authors_pickle(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.random((30, 24, 24), np.float32)
    path = tmp_path / "ct.pkl"
    with open(path, "wb") as file:
        pickle.dump({"data_train": images[:25], "data_test": images[25:]}, file)
    signal = ct.make_signal_class(resolution=24, file=str(path))
    counts = {s: len(_tasks(signal, s, 99)) for s in ("validation", "test")}
    assert counts == {"validation": 2, "test": 5}
    (task, *_) = _tasks(signal, "test", 1)
    np.testing.assert_allclose(
        task.query.values.numpy().reshape(24, 24), images[25], atol=1e-6
    )


@pytest.mark.parametrize(
    "content",
    [
        {"data_train": _SLICES},
        {"data_train": np.zeros((4, 8, 8)), "data_test": np.zeros((4, 8, 9))},
        {
            "data_train": np.full((4, 8, 8), 2.0),
            "data_test": np.zeros((4, 8, 8)),
        },
        {"data_train": [1, 2], "data_test": "x"},
        [1, 2],
    ],
)
def test_other_pickles_are_refused(tmp_path, content, raises_with):
    path = tmp_path / "ct.pkl"
    path.write_bytes(pickle.dumps(content))
    with raises_with(InputError, path, "data_train", "data_test"):
        ct.read_pickle(path)


def test_a_folder_of_slices(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(20):
        image = rng.random((20, 20))
        np.save(tmp_path / f"{index}.npy", image)
        Image.fromarray(np.uint16(65535 * image)).save(
            tmp_path / f"{index}.png"
        )
    np.save(tmp_path / "bad.npy", np.full((4, 4), np.nan))
    signal = ct.make_signal_class(resolution=_SIDE, folder=str(tmp_path))
    counts = [len(_tasks(signal, s, 99)) for s in ("validation", "test")]
    assert all(counts)
    (task,) = _tasks(signal, "test", 1)
    assert task.query.values.shape == (_SIDE**2, 1)


# ---- From a run to a fitted sinogram ----------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny trained run, its export, a slice and its sinogram."""
    folder = tmp_path_factory.mktemp("ct")
    config = ct_maml.get_config("smoke")
    config.signal.data_dir = str(folder / "data")
    train.train(config, folder / "run")
    exporter.export(folder / "run", folder / "exported", formats=["tflite"])
    rng = np.random.default_rng(0)
    image = ct.Phantoms.draw(rng, _SIDE)[..., 0]
    Image.fromarray(image).save(folder / "slice.png")
    angles = parse_angles("0,60,120")
    sinogram = parallel_beam.project(image / 65535.0, angles)
    np.save(folder / "sinogram.npy", sinogram)
    return folder


def _sources(folder):
    return (
        {"workdir": folder / "run"},
        {"workdir": None, "artifact": folder / "exported" / exporter.TFLITE},
    )


def test_run_and_artifact_fit_the_same(folder, tmp_path):
    cases = (
        ("slice.png", {}, False),
        ("slice.png", {"projections": "3"}, False),
        ("sinogram.npy", {"angles": "0,60,120"}, True),
    )
    for name, details, of_observations in cases:
        results = []
        for source in _sources(folder):
            fitted = fit.fit(
                source["workdir"],
                folder / name,
                tmp_path / "out.png",
                artifact=source.get("artifact"),
                steps=4,
                **details,
            )
            assert fitted.of_observations == of_observations
            assert images.read_image(tmp_path / "out.png").shape[:2] == (
                16,
                16,
            )
            results.append((fitted.psnr, fitted.render(16, 16)))
        np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-3)
        np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-4)
        if of_observations:
            # What is measured is what gradient descent descends.
            assert results[0][0][-1] > results[0][0][0]


def test_a_slice_and_its_sinogram_give_the_same_weights(folder, tmp_path):
    params = [
        fit.fit(
            folder / "run",
            folder / name,
            tmp_path / "out.png",
            steps=3,
            **details,
        ).params
        for name, details in (
            ("slice.png", {"projections": "3"}),
            ("sinogram.npy", {"angles": "0,60,120"}),
        )
    ]
    for a, b in zip(*params):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("fitter", [0, 1])
@pytest.mark.parametrize(
    ("name", "angles", "parts"),
    [
        ("sinogram.npy", None, ["`angles`", "sinogram.npy"]),
        ("sinogram.npy", "0,90", ["2 x 2", "(3, 16)"]),
        ("sinogram.npy", "0,90,361", ["`angles`", "360"]),
        ("slice.png", "north", ["`angles`", "4096", "north"]),
        ("slice.npy", "0", ["slice.npy"]),
    ],
)
def test_bad_sinograms_write_nothing(
    folder, tmp_path, fitter, name, angles, parts, raises_with
):
    source = _sources(folder)[fitter]
    with raises_with(InputError, *parts):
        fit.fit(
            source["workdir"],
            folder / name,
            tmp_path / "out.png",
            artifact=source.get("artifact"),
            angles=angles,
            steps=1,
        )
    assert not list(tmp_path.iterdir())


def test_the_command(folder, tmp_path, run_command, assert_one_sentence):
    flags = [
        f"--artifact={folder / 'exported' / exporter.TFLITE}",
        f"--input={folder / 'sinogram.npy'}",
        f"--output={tmp_path / 'out.png'}",
        "--steps=2",
    ]
    result = run_command("fit", *flags, "--angles=0,60,120")
    assert result.returncode == 0, result.stderr
    assert "step    2  PSNR of the observations" in result.stdout
    np.save(tmp_path / "nan.npy", np.full((3, _SIDE), np.nan))
    flags[1] = f"--input={tmp_path / 'nan.npy'}"
    assert_one_sentence(
        run_command("fit", *flags, "--angles=0,60,120"), "nan.npy"
    )


def test_evaluation_by_projections(folder):
    results = evaluate.evaluate(folder / "run", folder / "evaluation")
    labels = [c["label"] for c in results["conditions"]]
    assert labels == [f"{n} projection{'s' * (n > 1)}" for n in (1, 2, 4, 8)]
    for condition in results["conditions"]:
        assert len(condition["classical"]) == 3
        for row in condition["classical"]:
            assert np.isfinite([row["psnr"], row["ssim"]]).all()
    table = (folder / "evaluation" / "results.md").read_text()
    assert (
        "| 1 projection | 2 projections | 4 projections | 8 projections |"
        in table
    )


def test_evaluation_on_slices_of_another_size(folder):
    """Sinograms of 12 detectors are fitted through their own projection."""
    other = ct_maml.get_config("smoke")
    other.signal.resolution = 12
    other.signal.eval_projections = (2,)
    other.signal.data_dir = str(folder / "data")
    results = evaluate.evaluate(
        folder / "run", folder / "other", other, {"num_steps": 1}
    )
    for condition in results["conditions"]:
        assert np.isfinite([r["psnr"] for r in condition["rows"]]).all()


@pytest.mark.slow
def test_each_run_is_scored_with_its_own_frequencies(
    folder, tmp_path, raises_with
):
    """Runs of other seeds drew other ones, which no weight tells."""
    config = workdir.Workdir(folder / "run").read_config()
    config.seed = 1
    train.train(config, tmp_path / "other")
    options = {"num_steps": 2, "num_signals": 2}
    alone, beside = (
        evaluate.evaluate(run, tmp_path / run.name, None, options, against)
        for run, against in (
            (tmp_path / "other", []),
            (folder / "run", [tmp_path / "other"]),
        )
    )
    for one, both in zip(alone["conditions"], beside["conditions"]):
        (row,) = (r for r in both["rows"] if r["method"] == "Learned: other")
        np.testing.assert_allclose(
            row["psnr"], one["rows"][0]["psnr"], rtol=1e-6
        )
    # Nor does a file of weights.
    params = functional.get_params(build.load(folder / "run").field)
    weights.write_npz(tmp_path / "weights.npz", params)
    config.warm_start = str(tmp_path / "weights.npz")
    with raises_with(
        InputError, "`warm_start`", config.warm_start, "FourierMLP"
    ):
        train.train(config, tmp_path / "third")


def test_an_export_is_checked_on_a_known_slice(folder, tmp_path, raises_with):
    summary = exporter.export(
        folder / "run",
        tmp_path / "out",
        formats=["tflite"],
        input_path=folder / "slice.png",
        projections="3",
    )
    assert summary.differences["tflite"] <= held_out.TOLERANCE
    assert "--angles" in summary.example
    # What it is checked on decides nothing of what is exported.
    artifact = LiteArtifact(tmp_path / "out" / "model.tflite")
    assert artifact.num_points == 8
    with raises_with(InputError, "`num_points`", "9", "8"):
        exporter.export(
            folder / "run",
            tmp_path / "none",
            input_path=folder / "slice.png",
            projections="9",
        )
    for details, parts in (
        ({"angles": "0,60,120"}, ["`input_path`", "sinogram.npy"]),
        ({"angles": "0", "pose": "1,2"}, ["`pose`", "1,2"]),
        ({"angles": "0", "input_path": None}, ["`angles`", "`input_path`"]),
    ):
        with raises_with(InputError, *parts):
            exporter.export(
                folder / "run",
                tmp_path / "none",
                **{"input_path": folder / "sinogram.npy", **details},
            )
    assert not (tmp_path / "none").exists()
