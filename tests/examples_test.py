"""The demo, and the examples in C, in a web page, and for a server.

The latter run where their tools are: a C compiler, npm with Chromium. The
server is a stand-in that answers TF Serving's real protos over real gRPC and
HTTP from the exported SavedModel; no TF Serving was run.
"""

import base64
import concurrent.futures
import functools
import http.server
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import types

import ai_edge_litert
import grpc
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfmetainit import fit
from tfmetainit.configs import default
from tfmetainit.export import exporter, flatbuffer, lite
from tfmetainit.export.adapter import Adapter
from tfmetainit.fields import networks
from tfmetainit.geometry import metrics, pixels
from tfmetainit.io import images
from tfmetainit.io.weights import join
from tfmetainit.litert.artifact import LiteArtifact
from tfmetainit.meta import maml

_EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
_SIDE = 16
_STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory, smoke_run):
    """An export of a smoke run, a picture of its size, and Python's fit.

    Its steps see half of the pixels, as those of the sample artifact.
    """
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(smoke_run / "run", folder / "run")
    exporter.export(folder / "run", folder / "exported")
    image = Image.fromarray(skimage.data.astronaut()).resize((_SIDE, _SIDE))
    image.save(folder / "photo.png")
    image.save(folder / "photo.ppm")
    psnr = fit.fit(
        None,
        folder / "photo.png",
        folder / "fitted.png",
        artifact=folder / "exported" / "model.tflite",
        steps=_STEPS,
        weights=folder / "fitted.npz",
    ).psnr
    (folder / "psnr.json").write_text(json.dumps(psnr))
    return folder


def _psnr(folder):
    return json.loads((folder / "psnr.json").read_text())


# ---- The demo ----------------------------------------------------------------


def test_readme_s_python(tmp_path, monkeypatch):
    """The block as it stands."""
    readme = (_EXAMPLES.parent / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    photo = Image.fromarray(skimage.data.astronaut())
    photo.save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block, names)
    small = np.asarray(photo.resize((128, 128))) / 255.0
    mse = np.mean((names["picture"] - small) ** 2)
    assert metrics.psnr_from_mse(mse) > 20.0


def test_demo(tmp_path, monkeypatch, smoke_run, capsys):
    """All that `make demo` does, with the smallest config."""
    spec = importlib.util.spec_from_file_location("demo", _EXAMPLES / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    small = default.apply_variant(demo.demo_config(smoke_run / "data"), "smoke")
    monkeypatch.setattr(demo, "demo_config", lambda data_dir: small)
    monkeypatch.setattr(demo.quiet, "farewells", lambda: None)
    for name in ("num_steps", "num_fit_steps", "max_match_steps"):
        monkeypatch.setitem(demo._EVALUATION, name, 4)
    monkeypatch.setitem(demo._EVALUATION, "num_signals", 2)
    monkeypatch.setattr(demo, "_WEIGHTS", str(smoke_run / "run"))
    settings = types.SimpleNamespace(
        output_dir=str(tmp_path / "demo"), quick=True
    )
    monkeypatch.setattr(demo.flags, "FLAGS", settings)
    demo.main([])
    assert (tmp_path / "demo" / "first.png").is_file()
    assert not (tmp_path / "demo" / "run").exists()
    settings.quick = False
    demo.main([])
    with Image.open(tmp_path / "demo" / "overview.png") as picture:
        assert picture.width > 1000
    said = capsys.readouterr().out
    assert "learned, in LiteRT: PSNR in dB" in said
    assert (tmp_path / "demo" / "exported" / "model.tflite").is_file()


# ---- C ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def c_program(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    package = pathlib.Path(ai_edge_litert.__file__).parent
    library = package / "libLiteRt.so"
    if compiler is None or not library.is_file():
        pytest.skip("no C compiler, or no libLiteRt.so")
    program = tmp_path_factory.mktemp("c") / "fit"
    subprocess.run(
        [
            *(compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"),
            *(_EXAMPLES / "c" / "fit.c", "-o", program, library),
            *(f"-Wl,-rpath,{package}", "-lm"),
        ],
        check=True,
    )
    return program


def test_c_program_fits_as_python_does(folder, c_program, tmp_path):
    result = subprocess.run(
        [
            *(c_program, folder / "exported" / "model.tflite"),
            *(folder / "photo.ppm", tmp_path / "fitted.ppm", str(_STEPS)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    psnr = [float(x) for x in re.findall(r"PSNR +([\d.]+) dB", result.stdout)]
    np.testing.assert_allclose(psnr, _psnr(folder), atol=1e-3)
    np.testing.assert_allclose(
        images.read_image(tmp_path / "fitted.ppm"),
        images.read_image(folder / "fitted.png"),
        atol=1.01 / 255,
    )


def test_c_program_fits_a_picture_that_is_not_square(
    folder, c_program, tmp_path
):
    picture = np.random.default_rng(0).integers(0, 256, (16, 11, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.ppm")
    result = subprocess.run(
        [
            *(c_program, folder / "exported" / "model.tflite"),
            *(tmp_path / "a.ppm", tmp_path / "b.ppm", str(_STEPS)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    psnr = [float(x) for x in re.findall(r"PSNR +([\d.]+) dB", result.stdout)]
    coords = pixels.pixel_coords(16, 11)
    values = np.float32(picture.reshape(-1, 3) / 255.0)
    artifact = LiteArtifact(folder / "exported" / "model.tflite")
    for steps in range(_STEPS + 1):
        theta, _ = artifact.adapt(artifact.init(), coords, values, steps)
        error = np.mean((artifact.predict(theta, coords) - values) ** 2)
        assert psnr[steps] == pytest.approx(-10 * np.log10(error), abs=1e-3)
    assert images.read_image(tmp_path / "b.ppm").shape == (16, 11, 3)


def test_c_program_reads_comments(folder, c_program, tmp_path):
    header, pixels = b"P6\n16 16\n255\n", b"\x40" * (16 * 16 * 3)
    shown = []
    for start in (header, b"P6\n# a comment\n#\n16 # wide\n16\n255\n"):
        (tmp_path / "a.ppm").write_bytes(start + pixels)
        result = subprocess.run(
            [
                *(c_program, folder / "exported" / "model.tflite"),
                *(tmp_path / "a.ppm", tmp_path / "fitted.ppm", "2"),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        shown.append(result.stdout)
    assert shown[0] == shown[1]
    assert sorted(os.listdir(tmp_path)) == ["a.ppm", "fitted.ppm"]


def test_c_program_refuses_bad_input(folder, c_program, tmp_path):
    model = folder / "exported" / "model.tflite"
    in_space = maml.MAML(networks.SIREN(3, 3, hidden_units=16))
    adapter = Adapter(
        in_space,
        input_shape=(3,),
        value_shape=(3,),
        coords_shape=(3,),
        max_steps=2,
    )
    (tmp_path / "space.tflite").write_bytes(
        flatbuffer.with_metadata(
            lite.convert(adapter, num_points=256, num_coords=256), {}
        )
    )
    (tmp_path / "large.ppm").write_bytes(b"P6 17 16 255\n" + bytes(17 * 16 * 3))
    (tmp_path / "short.ppm").write_bytes(b"P6 16 16 255\n" + bytes(100))
    (tmp_path / "foreign.tflite").write_bytes(b"no model")
    for arguments, message in [
        ((model, tmp_path / "large.ppm"), "more pixels than"),
        ((model, tmp_path / "short.ppm"), "truncated"),
        ((model, folder / "photo.png"), "must be a binary PPM"),
        ((model, tmp_path / "none.ppm"), "cannot open the picture"),
        (
            (tmp_path / "space.tflite", folder / "photo.ppm"),
            "not for images",
        ),
        (
            (tmp_path / "foreign.tflite", folder / "photo.ppm"),
            "cannot load the model",
        ),
    ]:
        result = subprocess.run(
            [c_program, *arguments, tmp_path / "out.ppm"],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 2
        assert message in result.stderr
        assert not (tmp_path / "out.ppm").exists()
    own = (tmp_path / "large.ppm").read_bytes()
    (tmp_path / "link.ppm").hardlink_to(tmp_path / "large.ppm")
    for output in (
        tmp_path / "large.ppm",
        f"{tmp_path}/../{tmp_path.name}/large.ppm",
        tmp_path / "link.ppm",
        os.path.relpath(model),
    ):
        result = subprocess.run(
            [c_program, model, tmp_path / "large.ppm", output],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 2
        assert "must be another file" in result.stderr
    assert (tmp_path / "large.ppm").read_bytes() == own
    assert model.read_bytes()[4:8] == b"TFL3"


# ---- Web --------------------------------------------------------------------


def _chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return shutil.which(name)
    pytest.skip("no Chromium")


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    """The address of the page with the artifact of `folder`, and its root."""
    _chromium()
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("no npm")
    root = tmp_path_factory.mktemp("web") / "web"
    shutil.copytree(
        _EXAMPLES / "web",
        root,
        ignore=shutil.ignore_patterns("node_modules", "artifact"),
    )
    installed = subprocess.run(
        ["npm", "install", "--no-fund", "--no-audit", "--include=dev"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm install failed: {installed.stderr[-300:]}")
    server = subprocess.Popen(
        [
            *(sys.executable, root / "serve.py", "--port=0"),
            f"--artifact={folder / 'exported'}",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    yield re.search(r"http\S+", server.stdout.readline())[0], root
    server.terminate()
    server.communicate()


def _browse(page, script, *arguments):
    url, root = page
    result = subprocess.run(
        ["node", root / "browse.mjs", script, _chromium(), url, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("accelerator", ["wasm", "webgpu"])
def test_the_page_fits_as_python_does(accelerator, folder, page, tmp_path):
    """Also with the network cut after loading."""
    url, root = page
    page = f"{url}/?accelerator={accelerator}", root
    if accelerator == "webgpu" and not _browse(page, "gpu"):
        pytest.skip("this Chromium has no WebGPU")
    seen = _browse(
        page,
        "fit",
        folder / "photo.png",
        tmp_path / "w.npy",
        tmp_path / "s.png",
    )
    shown = [float(re.search(r"([\d.]+) dB", c)[1]) for c in seen["captions"]]
    np.testing.assert_allclose(shown, _psnr(folder), atol=0.051)  # one decimal
    weights = np.load(tmp_path / "w.npy")
    fitted = np.load(folder / "fitted.npz")
    expected = join([fitted[n] for n in fitted.files if n != "size"])
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    assert "zoom 1.0" not in seen["zoom"]
    where = {"wasm": "on WebAssembly", "webgpu": "on WebGPU"}
    assert where[accelerator] in seen["about"]
    assert not seen["requests_after_loading"]
    assert not seen["errors"]
    with Image.open(tmp_path / "s.png") as screenshot:
        # Not a blank page: the astronaut's orange is on it.
        colours = np.asarray(screenshot.convert("RGB")).reshape(-1, 3)
    orange = (colours[:, 0] > 200) & (colours[:, 2] < 80)
    assert orange.sum() > 1000


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)])
def test_the_page_shows_a_fit_at_once(size, page, tmp_path):
    """Without a choice, within the first window, and nothing sticks out."""
    seen = _browse(page, "look", *map(str, size), tmp_path / "s.png")
    assert "gradient steps" in seen["status"]
    assert not seen["too_wide"]
    assert seen["fitted_bottom"] <= size[1]
    assert all(seen["captions"])


def test_the_page_keeps_the_proportion_of_a_picture(folder, page, tmp_path):
    # Smooth, as browsers resize in their own way.
    rows, columns = np.mgrid[:60, :90] / 90.0
    waves = np.stack([np.sin(9 * rows), np.cos(7 * columns), rows], axis=-1)
    images.write_image(tmp_path / "a.png", 0.5 + 0.4 * waves)
    seen = _browse(
        page, "fit", tmp_path / "a.png", tmp_path / "w.npy", tmp_path / "s.png"
    )
    expected = fit.fit(
        folder / "run", tmp_path / "a.png", tmp_path / "b.png", steps=_STEPS
    )
    shown = [float(re.search(r"([\d.]+) dB", c)[1]) for c in seen["captions"]]
    np.testing.assert_allclose(shown, expected.psnr, atol=0.3)
    np.testing.assert_allclose(seen["proportions"], 1.5, atol=0.02)


def test_the_page_fits_a_picture_of_more_pixels_than_points(
    folder, page, tmp_path
):
    exporter.export(
        folder / "run", tmp_path / "few", formats=["tflite"], num_points=100
    )
    url, root = page
    shutil.copytree(tmp_path / "few", root / "few")
    seen = _browse(
        (f"{url}/?artifact=few", root),
        "fit",
        folder / "photo.png",
        tmp_path / "w.npy",
        tmp_path / "s.png",
    )
    assert not seen["errors"]
    shown = [float(re.search(r"([\d.]+) dB", c)[1]) for c in seen["captions"]]
    # Other pixels than Python's are drawn, at random.
    np.testing.assert_allclose(shown, _psnr(folder), atol=2.0)


def test_the_sample_artifact_fits():
    artifact = LiteArtifact(_EXAMPLES / "web" / "artifact" / "model.tflite")
    assert artifact.metadata["gpu"]
    assert artifact.metadata["license"] != "not stated"
    side = artifact.metadata["signal"]["resolution"]
    image = Image.fromarray(skimage.data.astronaut()).resize((side, side))
    values = np.float32(np.asarray(image).reshape(-1, 3) / 255.0)
    coords = pixels.pixel_coords(side, side)
    _, losses = artifact.adapt(artifact.init(), coords, values, 4)
    assert losses[-1] < 0.3 * losses[0]


def test_the_page_says_what_is_wrong(page, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    seen = _browse(page, "errors", tmp_path / "a.png")
    assert "needs WebAssembly" in seen["without_webassembly"]
    assert "There is no artifact" in seen["without_artifact"]
    assert "a.png is not a picture" in seen["foreign_file"]


# ---- Serving ----------------------------------------------------------------


class _Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """What TF Serving does with a PredictRequest, in Python."""

    def __init__(self, folder):
        self.model = tf.saved_model.load(str(folder))
        self.names = []

    def predict(self, name, signature, inputs):
        self.names.append(name)
        outputs = self.model.signatures[signature](
            **{key: tf.constant(value) for key, value in inputs.items()}
        )
        return {key: value.numpy() for key, value in outputs.items()}

    def Predict(self, request, context):  # noqa: N802
        inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        spec = request.model_spec
        outputs = self.predict(spec.name, spec.signature_name, inputs)
        answer = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return answer


class _Rest(http.server.BaseHTTPRequestHandler):
    def __init__(self, servicer, *arguments):
        self._servicer = servicer
        super().__init__(*arguments)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        inputs = {
            k: np.int32(v)
            if k in ("n_points", "steps")
            else np.array([base64.b64decode(one["b64"]) for one in v], object)
            if k.endswith("_bytes")
            else np.float32(v)
            for k, v in body["inputs"].items()
        }
        (name,) = re.fullmatch(r"/v1/models/(\w+):predict", self.path).groups()
        outputs = self._servicer.predict(name, body["signature_name"], inputs)
        # As TF Serving does, strings are in base64 if the name asks for it.
        answer = {
            "outputs": {
                k: [{"b64": base64.b64encode(one).decode()} for one in v]
                if k.endswith("_bytes")
                else v.tolist()
                for k, v in outputs.items()
            }
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server(folder):
    """A stand-in for TF Serving: its address for gRPC, and for REST."""
    servicer = _Servicer(folder / "exported" / "saved_model" / "1")
    over_grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        servicer, over_grpc
    )
    port = over_grpc.add_insecure_port("localhost:0")
    over_grpc.start()
    rest = http.server.ThreadingHTTPServer(
        ("localhost", 0), functools.partial(_Rest, servicer)
    )
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    yield f"localhost:{port}", f"http://localhost:{rest.server_port}"
    rest.shutdown()
    rest.server_close()
    over_grpc.stop(None)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_serving_client(folder, server, tmp_path, protocol):
    address = dict(zip(("grpc", "rest"), server))[protocol]
    result = _client(
        folder, tmp_path, f"--{protocol}={address}", folder / "photo.png"
    )
    assert result.returncode == 0, result.stderr
    (psnr,) = re.findall(r"PSNR ([\d.]+) dB", result.stdout)
    # The picture is sent with 8 bits.
    np.testing.assert_allclose(float(psnr), _psnr(folder)[-1], atol=0.05)
    np.testing.assert_allclose(
        images.read_image(tmp_path / "served.png"),
        images.read_image(folder / "fitted.png"),
        atol=2.01 / 255,
    )


def test_serving_client_sends_a_picture_of_any_proportion(
    folder, server, tmp_path
):
    Image.fromarray(skimage.data.coffee()).save(tmp_path / "wide.png")
    expected = fit.fit(
        folder / "run",
        tmp_path / "wide.png",
        tmp_path / "fitted.png",
        steps=_STEPS,
    )
    result = _client(
        folder, tmp_path, f"--grpc={server[0]}", tmp_path / "wide.png"
    )
    assert result.returncode == 0, result.stderr
    (psnr,) = re.findall(r"PSNR ([\d.]+) dB", result.stdout)
    np.testing.assert_allclose(float(psnr), expected.psnr[-1], atol=0.1)
    served, drawn = (
        images.read_image(tmp_path / f"{name}.png")
        for name in ("served", "fitted")
    )
    assert served.shape == drawn.shape == (16, 24, 3)
    np.testing.assert_allclose(served, drawn, atol=4.01 / 255)


def test_a_server_under_load(folder, server):
    """1 000 requests, 16 at a time, bad ones among them."""
    picture = io.BytesIO()
    with Image.open(folder / "photo.png") as image:
        image.convert("RGB").save(picture, "PNG")
    good = {
        "image_bytes": np.array([picture.getvalue()], object),
        "steps": np.int32([2]),
    }
    huge = b"\x89PNG\r\n\x1a\n" + bytes(8) + b"\x7f\xff\xff\xff" * 2
    grid = np.zeros([1, 256, 2], np.float32)
    points = {
        "inputs": grid,
        "values": np.zeros([1, 256, 3], np.float32),
        "n_points": np.int32([256]),
        "steps": np.int32([2]),
        "coords": grid,
    }
    refused = [
        ("fit_image", {**good, "image_bytes": np.array([content], object)})
        for content in (b"", b"no picture", picture.getvalue()[:99], huge)
    ]
    refused += [
        ("fit_image", {**good, "steps": np.int32([1, 2])}),
        ("fit_predict", {**points, "coords": grid[..., :1]}),
        ("fit_predict", {k: v for k, v in points.items() if k != "steps"}),
        ("no_such_signature", good),
    ]
    # Answered, but without a step: theta stays the learned one.
    idle = [
        ("fit_predict", {**points, "values": points["values"] + np.nan}),
        ("fit_predict", {**points, "n_points": np.int32([0])}),
    ]
    long = [("fit_image", {**good, "steps": np.int32([2**31 - 1])})]
    requests = refused + idle + long + [("fit_image", good)] * 39
    requests *= 20

    channel = grpc.insecure_channel(server[0])
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask(case):
        signature, inputs = case
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "text"
        request.model_spec.signature_name = signature
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        try:
            answer = stub.Predict(request, timeout=60.0)
        except grpc.RpcError as error:
            return error.code()
        return {k: tf.make_ndarray(v) for k, v in answer.outputs.items()}

    expected = {
        id(case): ask(case) for case in {id(c): c for c in requests}.values()
    }
    memory = _resident()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, requests))
    channel.close()
    for case, answer in zip(requests, answers):
        if any(case is one for one in refused):
            assert isinstance(answer, grpc.StatusCode)
            continue
        for key, value in expected[id(case)].items():
            np.testing.assert_array_equal(answer[key], value)
    for case in idle:
        assert expected[id(case)]["steps_taken"] == [0]
        assert np.isfinite(expected[id(case)]["values"]).all()
    assert expected[id(long[0])]["steps_taken"] == [64]
    assert _resident() - memory < 200 * 2**20


def _resident():
    """Bytes of memory that this process holds."""
    pages = pathlib.Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("no /proc")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    "flag", ["--grpc=localhost:1", "--rest=http://localhost:1"]
)
def test_serving_client_without_a_server(
    folder, tmp_path, flag, assert_one_sentence
):
    result = _client(folder, tmp_path, flag, folder / "photo.png")
    assert_one_sentence(result, "localhost:1", code=1)
    assert not list(tmp_path.iterdir())


def _client(folder, tmp_path, flag, photo):
    environment = dict(os.environ)
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # as a user
    return subprocess.run(
        [
            *(sys.executable, _EXAMPLES / "serving" / "client.py", flag),
            *(f"--artifact={folder / 'exported'}", f"--steps={_STEPS}"),
            *(f"--input={photo}", f"--output={tmp_path / 'served.png'}"),
        ],
        capture_output=True,
        text=True,
        env=environment,
    )
