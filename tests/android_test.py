"""The example for Android, compiled and run on a Java machine.

No Android, no library of LiteRT for it and no GPU are involved:

- The example fits with a stand-in of LiteRT's Kotlin classes, which sends their
  calls to this process. LiteRT for Python answers them, on the CPU.
- It compiles with LiteRT's own Kotlin sources, if LITERT_KOTLIN_SOURCES names
  the folder litert/kotlin/src/main/kotlin of a checkout of
  https://github.com/google-ai-edge/LiteRT.

They need `java`, and `kotlinc` on the PATH: bin/kotlinc of npm's package
kotlin-compiler, for one.
"""

import collections
import os
import pathlib
import shutil
import subprocess
from typing import NamedTuple

import numpy as np
import pytest

from tfmetainit.export import flatbuffer, lite
from tfmetainit.export.adapter import Adapter
from tfmetainit.fields import networks
from tfmetainit.litert.artifact import CompiledSignatures, LiteArtifact
from tfmetainit.meta import maml

_FOLDER = pathlib.Path(__file__).parents[1] / "examples" / "android"
_EXAMPLE = _FOLDER / "FieldFitter.kt"
_NUM_POINTS, _NUM_COORDS, _MAX_STEPS = 50, 40, 5
_HEIGHT, _WIDTH = 5, 7  # of the picture: 35 of 50 points
# Android's classes, as far as the example and `_LITERT` name them.
_ANDROID = {
    "Content.kt": """
package android.content

class Context {
    val cacheDir: java.io.File? = null
    val applicationInfo = ApplicationInfo()
}

class ApplicationInfo {
    val nativeLibraryDir = ""
}
""",
    "Res.kt": """
package android.content.res

class AssetManager {
    override fun toString() = "assets"
}
""",
    "Os.kt": """
package android.os

object Build {
    val SOC_MANUFACTURER = ""
    val SOC_MODEL = ""
    val HARDWARE = ""
    val ID = ""
    object VERSION { val SDK_INT = 0 }
    object VERSION_CODES { val S = 31 }
}
""",
}
_LITERT = (
    *("AcceleratorProvider.kt", "Common.kt", "Environment.kt"),
    *("LiteRtException.kt", "Model.kt", "TensorBuffer.kt"),
)
# LiteRT's classes, as far as the example uses them. A call is a line on the
# standard output, and its result a line on the standard input.
_STAND_IN = """
package com.google.ai.edge.litert

import android.content.res.AssetManager

private fun ask(vararg words: Any?): List<String> {
    println(words.joinToString(" "))
    return readln().split(" ").filter(String::isNotEmpty)
}

enum class Accelerator { CPU, GPU, NPU }

open class Handle(private val name: String) : AutoCloseable {
    override fun close() { ask("close", name) }
}

class Environment : Handle("environment") {
    fun getAvailableAccelerators(): Set<Accelerator> =
        ask("accelerators").map(Accelerator::valueOf).toSet()

    companion object { fun create() = Environment() }
}

class TensorType(val layout: Layout?) {
    class Layout(val dimensions: List<Int>)
}

class TensorBuffer(name: String) : Handle(name) {
    var numbers: List<Number> = listOf()
    fun writeFloat(data: FloatArray) { numbers = data.toList() }
    fun writeInt(data: IntArray) { numbers = data.toList() }
    fun readFloat() = numbers.map { it.toFloat() }.toFloatArray()
    fun readInt() = numbers.map { it.toInt() }.toIntArray()
}

class CompiledModel(options: Options) : Handle("model") {
    init {
        val (cpu, gpu) = options.cpuOptions to options.gpuOptions
        ask("model", options.accelerators, cpu?.numThreads, gpu?.precision)
    }

    class CpuOptions(val numThreads: Int?)

    class GpuOptions(val precision: Precision?) {
        enum class Precision { FP32 }
    }

    class Options(val accelerators: Set<Accelerator>) {
        var cpuOptions: CpuOptions? = null
        var gpuOptions: GpuOptions? = null
    }

    private fun type(signature: String, side: String, name: String) =
        ask("shape", signature, side, name).let { answer ->
            check(answer != listOf("none")) { "no $signature" }
            TensorType(TensorType.Layout(answer.map(String::toInt)))
        }

    private fun buffer(name: String) =
        TensorBuffer(name).also { ask("buffer", name) }

    fun getInputTensorType(inputName: String, signature: String = "") =
        type(signature, "inputs", inputName)

    fun getOutputTensorType(outputName: String, signature: String = "") =
        type(signature, "outputs", outputName)

    fun createInputBuffer(inputName: String, signature: String = "") =
        buffer("$signature.inputs.$inputName")

    fun createOutputBuffer(outputName: String, signature: String = "") =
        buffer("$signature.outputs.$outputName")

    fun run(
        inputs: Map<String, TensorBuffer>,
        outputs: Map<String, TensorBuffer>,
        signature: String = "",
    ) {
        for ((name, buffer) in inputs) {
            ask("input", name, buffer.numbers.joinToString(" "))
        }
        ask("run", signature)
        for ((name, buffer) in outputs) {
            buffer.numbers = ask("output", name).map(String::toDouble)
        }
    }

    companion object {
        fun create(path: String, options: Options, env: Environment?) =
            CompiledModel(options).also { check(path == "a" && env != null) }

        fun create(
            assets: AssetManager,
            name: String,
            options: Options,
            env: Environment?,
        ) = create(name, options, env).also { ask(assets) }
    }
}
"""
_MAIN = """
import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import tfmetainit.FieldFitter
import tfmetainit.pixelCoords

fun say(name: String, numbers: Iterable<Number>) {
    println("say $name ${numbers.joinToString(" ")}")
    readln()
}

fun main(args: Array<String>) {
    val accelerator = Accelerator.valueOf(args[0])
    val (height, width, steps) = args.drop(1).map(String::toInt)
    val assets = if (accelerator == Accelerator.GPU) AssetManager() else null
    FieldFitter("a", accelerator, numThreads = 3, assets).use { fitter ->
        val coords = pixelCoords(height, width)
        val values = FloatArray(3 * height * width) { it % 7 / 7f }
        // A larger picture before: nothing of it may be left in the buffers.
        val size = fitter.numPoints
        val ones = FloatArray(3 * size) { 1f }
        val before = fitter.adapt(fitter.init(), ones.copyOf(2 * size), ones, 0)
        val adapted = fitter.adapt(before.theta, coords, values, steps)
        say("coords", coords.toList())
        say("values", values.toList())
        say("before", before.theta.toList())
        say("theta", adapted.theta.toList())
        say("losses", adapted.losses)
        val theta = adapted.theta
        say("predicted", fitter.predict(theta, coords + coords).toList())
        say("nothing", fitter.predict(theta, floatArrayOf()).toList())
        values[4] = Float.NaN
        say("stuck", fitter.adapt(theta, coords, values, 2).losses)
        for (wrong in listOf<() -> Any>(
            { fitter.adapt(theta, floatArrayOf(), floatArrayOf(), 1) },
            { fitter.adapt(theta, ones, ones, 1) },
            { fitter.adapt(theta, FloatArray(9), FloatArray(12), 1) },
            { fitter.adapt(theta, FloatArray(8), FloatArray(11), 1) },
            { fitter.adapt(theta.copyOf(7), FloatArray(8), FloatArray(12), 1) },
            { fitter.adapt(theta, FloatArray(8), FloatArray(12), -1) },
            { fitter.predict(theta, FloatArray(3)) },
            { fitter.predict(theta.copyOf(7), FloatArray(8)) },
        )) {
            val error = runCatching(wrong).exceptionOrNull()
            val expected = error is IllegalArgumentException
            println("say error $expected ${error?.message}")
            readln()
        }
    }
}
"""


class _Run(NamedTuple):
    """What a run of the program did.

    Attributes:
        calls: its calls of LiteRT, each a list of words.
        runs: the signatures it ran, each with its inputs.
        said: the arrays it printed.
        errors: the messages of its exceptions.
    """

    calls: list
    runs: list
    said: dict
    errors: list


def _compile(sources, *options):
    subprocess.run(
        ["kotlinc", *sources, *options],
        check=True,
        timeout=600,
        env={**os.environ, "JAVA_OPTS": "-Xmx1g -XX:-UsePerfData"},
    )


def _write(folder, sources):
    for name, content in sources.items():
        (folder / name).write_text(content)
    return [folder / name for name in sources]


@pytest.fixture(scope="module")
def kotlinc():
    if not (shutil.which("kotlinc") and shutil.which("java")):
        pytest.skip("no Kotlin compiler, or no Java")


@pytest.fixture(scope="module")
def program(kotlinc, tmp_path_factory):
    """A .jar of FieldFitter with the stand-in."""
    folder = tmp_path_factory.mktemp("kotlin")
    sources = {
        "Res.kt": _ANDROID["Res.kt"],
        "Litert.kt": _STAND_IN,
        "Main.kt": _MAIN,
    }
    jar = folder / "main.jar"
    _compile(
        [_EXAMPLE, *_write(folder, sources)],
        *("-Werror", "-include-runtime", "-d", jar),
    )
    return jar


@pytest.fixture(scope="module")
def make_artifact(tmp_path_factory):
    """Makes the file of an artifact for images."""

    def make(output_layer):
        learner = maml.MAML(
            networks.SIREN(2, 3, hidden_units=16, seed=0),
            output_layer=output_layer,
        )
        adapter = Adapter(
            learner,
            input_shape=(2,),
            value_shape=(3,),
            coords_shape=(2,),
            max_steps=_MAX_STEPS,
        )
        content = lite.convert(
            adapter, num_points=_NUM_POINTS, num_coords=_NUM_COORDS
        )
        path = tmp_path_factory.mktemp("artifact") / "model.tflite"
        metadata = {"output_layer": output_layer}
        path.write_bytes(flatbuffer.with_metadata(content, metadata))
        return path

    return make


def _run(program, artifact, *arguments, accelerators="CPU GPU"):
    """Runs the program, and LiteRT for it."""
    model = CompiledSignatures(artifact.read_bytes())
    result = _Run([], [], {}, [])
    inputs, outputs = {}, {}

    def answer(call, *words):
        if call == "accelerators":
            return accelerators
        if call == "shape":
            signature, side, name = words
            if signature not in model.names():
                return "none"
            shapes = model.shapes(signature)[side == "outputs"]
            return " ".join(map(str, shapes[name]))
        if call == "input":
            inputs[words[0]] = np.array(words[1:], np.float32)
        if call == "run":
            shapes, _ = model.shapes(words[0])
            result.runs.append((words[0], dict(inputs)))
            given = {
                name: np.reshape(value, shapes[name]).astype(
                    np.int32 if name in ("n_points", "steps") else np.float32
                )
                for name, value in inputs.items()
            }
            inputs.clear()
            outputs.update(model.run(words[0], **given))
        if call == "output":
            text = " ".join(map(repr, outputs[words[0]].ravel().tolist()))
            return text.replace("nan", "NaN")  # Java's word
        if call == "say" and words[0] == "error":
            result.errors.append(" ".join(words[1:]))
        elif call == "say":
            result.said[words[0]] = np.array(words[1:], np.float32)
        return ""

    with subprocess.Popen(
        ["java", "-XX:-UsePerfData", "-jar", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            words = line.split()
            if words[0] not in ("input", "output", "say"):
                result.calls.append(words)
            process.stdin.write(answer(*words) + "\n")
            process.stdin.flush()
        error = process.stderr.read()
    return result, process.returncode, error


@pytest.mark.parametrize("output_layer", ["solved", "stepped"])
@pytest.mark.parametrize("accelerator", ["CPU", "GPU"])
def test_kotlin_fits_as_python_does(
    accelerator, output_layer, program, make_artifact
):
    path = make_artifact(output_layer)
    steps = _MAX_STEPS + 2
    result, code, error = _run(
        program, path, accelerator, _HEIGHT, _WIDTH, steps
    )
    assert error == ""
    assert code == 0
    said = result.said
    coords, values = (said[name] for name in ("coords", "values"))
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
    coords = np.reshape(coords, [-1, 2])
    values = np.reshape(values, [-1, 3])
    np.testing.assert_allclose(
        coords, np.stack([rows, columns], -1).reshape(-1, 2) / 7, rtol=1e-6
    )

    artifact = LiteArtifact(path)
    theta, losses = artifact.adapt(said["before"], coords, values, steps)
    np.testing.assert_allclose(said["theta"], theta, atol=2e-5)
    np.testing.assert_allclose(said["losses"], losses, rtol=1e-4)
    predicted = artifact.predict(said["theta"], np.tile(coords, [2, 1]))
    np.testing.assert_allclose(said["predicted"], predicted.ravel(), atol=1e-6)
    assert said["nothing"].size == said["stuck"].size == 0

    on_gpu, solved = accelerator == "GPU", output_layer == "solved"
    solution = ["solve_output"] * solved
    assert [name for name, _ in result.runs] == [
        "init",
        *(solution if on_gpu else ["adapt"]),
        *(["adapt_step"] * steps + solution if on_gpu else ["adapt"] * 2),
        *("predict", "predict"),
        *(["adapt_step", *solution] if on_gpu else ["adapt"]),
    ]
    _check_padding(result.runs, on_gpu)
    _check_life(result.calls, on_gpu)
    assert result.errors == [
        "true observations must be 1 to 50, not 0",
        "true observations must be 1 to 50, not 75",
        "true inputs must have 8 numbers, not 9",
        "true values must have 12 numbers, not 11",
        f"true theta must have {len(theta)} numbers, not 7",
        "true steps must not be negative: -1",
        "true coords must have 2 numbers per row",
        f"true theta must have {len(theta)} numbers, not 7",
    ]


def _check_padding(runs, on_gpu):
    """Zeros stand behind the rows of the picture, and of its last part."""
    count = _HEIGHT * _WIDTH
    name = "adapt_step" if on_gpu else "adapt"
    (*_, last) = (inputs for signature, inputs in runs if signature == name)
    for name, width in (("inputs", 2), ("values", 3)):
        assert len(last[name]) == width * _NUM_POINTS
        assert last[name][: width * count].any()
        assert not last[name][width * count :].any()
    if on_gpu:
        np.testing.assert_array_equal(
            last["weights"], np.arange(_NUM_POINTS) < count
        )
    else:
        assert last["n_points"] == count
    first, second = (
        inputs["coords"] for name, inputs in runs if name == "predict"
    )
    assert first[-2:].any()
    rest = 2 * (2 * count - _NUM_COORDS)
    assert second[rest - 1] > 0
    assert not second[rest:].any()


def _check_life(calls, on_gpu):
    """Buffers are made once, and all is closed, in the reverse order."""
    (model,) = (call for call in calls if call[0] == "model")
    assert " ".join(model[1:]) == (
        "[GPU, CPU] 3 FP32" if on_gpu else "[CPU] 3 null"
    )
    assert calls.count(["assets"]) == on_gpu
    made = [call[1] for call in calls if call[0] == "buffer"]
    assert len(set(made)) == len(made)
    closed = [call[1] for call in calls if call[0] == "close"]
    assert closed == [*made[::-1], "model", "environment"]


def test_kotlin_says_what_it_cannot_do(program, make_artifact):
    path = make_artifact("stepped")
    for accelerator, message in (
        ("GPU", "LiteRT finds no GPU. Does the app depend on litert-gpu?"),
        ("NPU", "CPU or GPU, not NPU"),
    ):
        result, code, error = _run(
            program, path, accelerator, 2, 2, 1, accelerators="CPU"
        )
        assert code == 1
        assert message in error
        kinds = collections.Counter(call[0] for call in result.calls)
        assert kinds["close"] == kinds["accelerators"]


def test_kotlin_compiles_with_litert_s_sources(kotlinc, tmp_path):
    folder = os.environ.get("LITERT_KOTLIN_SOURCES")
    if not folder:
        pytest.skip("LITERT_KOTLIN_SOURCES is not set")
    package = pathlib.Path(folder) / "com" / "google" / "ai" / "edge" / "litert"
    sources = [package / name for name in _LITERT]
    (tmp_path / "stubs").mkdir()
    stubs = _write(tmp_path / "stubs", _ANDROID)
    _compile([*sources, *stubs, _EXAMPLE], "-d", tmp_path / "classes")
    assert (tmp_path / "classes" / "tfmetainit" / "FieldFitter.class").is_file()
