"""An exported .tflite file, run by LiteRT.

The file holds the learned initial weights and the gradient steps;
`tfmetainit.export` writes it.

    artifact = LiteArtifact("exported/text/model.tflite")
    theta, losses = artifact.adapt(artifact.init(), coords, values, steps=2)
    picture = artifact.predict(theta, coords)
"""

import contextlib
import json
import math
import pathlib
import threading
from typing import NamedTuple

import numpy as np

from tfmetainit.io import quiet
from tfmetainit.io.errors import InputError, reason

METADATA_NAME = "tfmetainit"
SIGNATURES = {
    "init": (set(), {"theta"}),
    "adapt": (
        {"theta", "inputs", "values", "n_points", "steps"},
        {"theta", "losses", "steps_taken"},
    ),
    "predict": ({"theta", "coords"}, {"values"}),
    # For GPUs; older files lack them. `adapt_half` if steps see half of the
    # pixels, `solve_output` if the layer is solved.
    "adapt_step": ({"theta", "inputs", "values", "weights"}, {"theta", "loss"}),
    "adapt_half": ({"theta", "inputs", "values", "weights"}, {"theta", "loss"}),
    "solve_output": ({"theta", "inputs", "values", "weights"}, {"theta"}),
    # If the run has a prior.
    "complete": ({"theta", "inputs", "values", "weights"}, {"theta"}),
}
_NEEDED = ("init", "adapt", "predict")
_IDENTIFIER = b"TFL3"
_MAX_FILE_BYTES = 2**30
# Limit for one tensor: LiteRT allocates any size that a file declares.
_MAX_TENSOR_ENTRIES = 2**28


class Recorded(NamedTuple):
    """The part of the metadata that fitting needs.

    Attributes:
        inner_steps: number of gradient steps in training.
        shapes: shapes of the field's weights, in their order in theta.
        signal: what `SignalClass.describe` returned at the export.
    """

    inner_steps: int
    shapes: list[tuple[int, ...]]
    signal: dict


class CompiledSignatures:
    """The signatures of a .tflite file, run by LiteRT's CompiledModel.

    CompiledModel is the interface of browsers, Android and C. (The older
    interpreter's signature runners resize their inputs, which ends the process
    on ARM64 if one has no axis.) LiteRT may print a notice when Python exits.

    Args:
        content: the bytes of the file.
        num_threads: threads that LiteRT may use.

    Raises:
        Exception: what LiteRT raises for a file that it cannot run.
    """

    def __init__(self, content: bytes, num_threads: int = 1):
        from ai_edge_litert import compiled_model, options

        cpu_options = options.CpuOptions(num_threads=num_threads)
        self._model, self._buffers, failure = None, {}, None
        with quiet.notices():
            try:
                self._model = compiled_model.CompiledModel.from_buffer(
                    content, options=options.Options(cpu_options=cpu_options)
                )
            except Exception as error:  # raised below, without the notices
                failure = error
        if failure is not None:
            raise failure
        self._lock = threading.Lock()  # the buffers are shared

    def __del__(self):
        # LiteRT prints notices when it is unloaded, too.
        with quiet.notices():
            self._buffers = self._model = None

    def names(self) -> dict[str, tuple[set[str], set[str]]]:
        """The names of the inputs and outputs of each signature."""
        return {
            name: (set(of["inputs"]), set(of["outputs"]))
            for name, of in self._model.get_signature_list().items()
        }

    def shapes(self, signature) -> tuple[dict, dict]:
        """The shapes of a signature's inputs and outputs, by name."""
        details = (
            self._model.get_input_tensor_details(signature),
            self._model.get_output_tensor_details(signature),
        )
        return tuple(
            {name: tuple(map(int, one["shape"])) for name, one in of.items()}
            for of in details
        )

    def run(self, signature: str, **inputs) -> dict[str, np.ndarray]:
        """The outputs of a signature, by name.

        Args:
            signature: its name.
            **inputs: an array for each of its inputs, of its shape and dtype.

        Raises:
            KeyError: if an input is missing.
            ValueError: if an input has another size.
        """
        # LiteRT allocates and prints notices at the first call.
        with self._lock:
            first = signature not in self._buffers
            with quiet.notices() if first else contextlib.nullcontext():
                return self._run(signature, inputs)

    def _run(self, signature, inputs):
        if signature not in self._buffers:
            names, _ = self.names()[signature]
            inputs_of = self._model.get_input_tensor_details(signature)
            outputs = self._model.get_output_tensor_details(signature)
            self._buffers[signature] = (
                {
                    n: self._model.create_input_buffer_by_name(signature, n)
                    for n in names
                },
                {
                    n: self._model.create_output_buffer_by_name(signature, n)
                    for n in outputs
                },
                outputs,
                {n: math.prod(one["shape"]) for n, one in inputs_of.items()},
                {n: np.dtype(one["dtype"]) for n, one in inputs_of.items()},
            )
        buffers, outputs, details, sizes, dtypes = self._buffers[signature]
        for name, buffer in buffers.items():
            value = np.atleast_1d(inputs[name])
            value = value.astype(dtypes[name], casting="same_kind", copy=False)
            # LiteRT takes fewer entries, and keeps the others of before.
            if value.size != sizes[name]:
                raise ValueError(
                    f"`{name}` must have {sizes[name]} entries. Received: "
                    f"{value.size}"
                )
            buffer.write(value)
        self._model.run_by_name(signature, buffers, outputs)
        arrays = {}
        for name, buffer in outputs.items():
            shape, dtype = details[name]["shape"], details[name]["dtype"]
            values = buffer.read(math.prod(shape), np.dtype(dtype))
            arrays[name] = np.reshape(values, shape)
        return arrays


class LiteArtifact:
    """A learned initialization with its adapter, from a .tflite file.

    Args:
        path: the file.
        num_threads: threads that LiteRT may use.

    theta `[T]` begins with the P weights that steps go on from. If the output
    layer is solved after the steps, the solution follows. If a step sees half
    of the pixels, theta ends with the number of the half whose turn is next
    (docs/on_device.md).

    Attributes:
        metadata: a dict that the exporter wrote (docs/on_device.md lists it).
        num_points: largest number of rows of one call of `adapt`.
        max_steps: largest number of steps of one call of the file's `adapt`.
        solves: whether `adapt` solves the output layer after the steps.
        in_halves: whether a step sees half of the pixels.
        completes: whether the file can predict what was not observed.

    Raises:
        InputError: if the file is missing, damaged, or not such an export.
    """

    def __init__(self, path, num_threads: int = 1):
        try:
            from ai_edge_litert import compiled_model, options  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"Loading an exported file needs {error.name}: "
                "pip install 'ai-edge-litert>=2.1.6'."
            ) from error
        path = pathlib.Path(path)
        content = _read(path)
        self._path = path
        self.metadata = read_metadata(content, path)
        self.solves = self.metadata.get("output_layer") == "solved"
        self.in_halves = self.metadata.get("step_on") == "halves"
        _check_sizes(content, path)
        try:
            self._model = CompiledSignatures(content, num_threads)
            signatures = self._model.names()
            shapes = {
                name: self._model.shapes(name)
                for name in signatures
                if name in _NEEDED
            }
            if "init" in signatures:
                self._theta = self._model.run("init").get("theta")
        # LiteRT raises ValueError or RuntimeError with several lines.
        except Exception as error:
            raise InputError(
                f"LiteRT cannot load {path}: {reason(error)}"
            ) from error
        if any(signatures.get(n) != SIGNATURES[n] for n in _NEEDED):
            raise InputError(
                "An artifact must have the signatures "
                f"{', '.join(_NEEDED)}. Received: {path} with "
                f"{', '.join(signatures) or 'none'}"
            )
        inputs, outputs = shapes["adapt"]
        self.num_points = inputs["inputs"][0]
        self._shapes = {name: inputs[name][1:] for name in ("inputs", "values")}
        self.max_steps = math.prod(outputs["losses"])
        weight = self._unseen_weight = self.metadata.get("unseen_weight")
        self.completes = (
            signatures.get("complete") == SIGNATURES["complete"]
            and isinstance(weight, float)
            and 0 < weight <= 1
        )
        inputs, outputs = shapes["predict"]
        self._at_once, *shape = inputs["coords"]
        self._shapes["coords"] = tuple(shape)
        self._predicted = outputs["values"][1:]
        if min(self.num_points, self.max_steps, self._at_once) < 1:
            raise InputError(f"The .tflite file {path} takes 0 rows or steps.")

    def recorded(self) -> Recorded:
        """The part of the metadata that describes training and signals.

        Raises:
            InputError: if it is missing or malformed.
        """
        try:
            shapes = [tuple(p["shape"]) for p in self.metadata["params"]]
            if any(type(n) is not int or n < 1 for s in shapes for n in s):
                raise ValueError("a weight has a size that is not positive")
            sizes = list(map(math.prod, shapes))
            if self.solves:
                sizes += sizes[-2:]
            if sum(sizes) + self.in_halves != len(self._theta):
                raise ValueError("the shapes of the weights do not add up")
            return Recorded(
                int(self.metadata["inner_steps"]),
                shapes,
                dict(self.metadata["signal"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"The metadata of {self._path} are not valid: {error!r}"
            ) from error

    def init(self) -> np.ndarray:
        """The learned initial weights, float32 `[T]`."""
        return self._theta.copy()

    def weights(self, theta) -> np.ndarray:
        """The field's weights to predict with, float32 `[P]`.

        Args:
            theta: float32 `[T]`, as `adapt` returns it, or the `[P]` of this.
        """
        size, solution = self._sizes()
        if len(theta) == size:
            return theta
        return np.concatenate(
            [theta[: size - solution], theta[size : size + solution]]
        )

    def _sizes(self):
        """P, and the number of entries of a solution in theta."""
        sizes = list(map(math.prod, self.recorded().shapes))
        return sum(sizes), sum(sizes[-2:]) if self.solves else 0

    def adapt(self, theta, inputs, values, steps: int, weights=None):
        """Adapts theta to observations by gradient descent.

        Args:
            theta: float32 `[T]`, from `init` or an earlier call.
            inputs: float32 `[n, ...]`, n in [1, `num_points`].
            values: float32 `[n, ...]`.
            steps: number of gradient steps; more than `max_steps` are taken in
                several calls.
            weights: float32 `[n, 1]`, not negative, from `complete`; by default
                all rows weigh the same. With weights, every step sees all rows.

        Returns:
            The adapted theta `[T]`, and a list of the mean squared error before
            each step taken, of the rows that it sees, without a solution. The
            steps end before the first one whose loss or weights are not finite.

        Raises:
            InputError: if the number of rows or steps is out of range, or the
                shape of the rows or weights is not the artifact's.
            ValueError: if theta has another size.
        """
        if steps < 0:
            raise InputError(f"`steps` must not be negative. Received: {steps}")
        count = len(inputs)
        self._check_count(count, len(values))
        inputs = self._pad("inputs", inputs, self.num_points)
        values = self._pad("values", values, self.num_points)
        if weights is not None:
            weights = self._checked_weights(weights, count)
            return self._adapt_weighted(theta, inputs, values, weights, steps)
        losses = []
        while True:
            asked = min(steps - len(losses), self.max_steps)
            result = self._model.run(
                "adapt",
                theta=theta,
                inputs=inputs,
                values=values,
                n_points=np.int32(count),
                steps=np.int32(asked),
            )
            taken = int(result["steps_taken"])
            losses += result["losses"][:taken].tolist()
            theta = result["theta"]
            if taken < asked or len(losses) == steps:
                return theta, losses

    def _adapt_weighted(self, theta, inputs, values, weights, steps):
        observed = {"inputs": inputs, "values": values, "weights": weights}
        losses = []
        while len(losses) < steps:
            result = self._model.run("adapt_step", theta=theta, **observed)
            loss = float(result["loss"][0])
            # The file keeps a theta whose successor would not be finite.
            kept = loss > 0 and np.array_equal(result["theta"], theta)
            if kept or not math.isfinite(loss):
                break
            theta = result["theta"]
            losses.append(loss)
        if self.solves:
            theta = self._model.run("solve_output", theta=theta, **observed)
            theta = theta["theta"]
        return theta, losses

    def complete(self, inputs, values, missing):
        """Predicts the values of a signal at inputs that were not observed.

        Args:
            inputs: float32 `[n, ...]`, those observed; n + k is in
                [1, `num_points`].
            values: float32 `[n, ...]`.
            missing: float32 `[k, ...]`, the other inputs of the signal.

        Returns:
            Inputs, values and weights `[n + k, 1]` for `adapt`: the observed
            rows, then the predicted ones, which weigh less.

        Raises:
            InputError: as in `adapt`, or if the file has no prior
                (`completes`).
        """
        if not self.completes:
            raise InputError(
                "Only a file of a run with a prior predicts what was not "
                f"observed. Received: {self._path}"
            )
        whole = np.concatenate([inputs, missing])
        self._check_count(len(whole), len(values) + len(missing))
        weights = np.ones([len(whole), 1], np.float32)
        weights[len(inputs) :] = 0
        theta = self._model.run(
            "complete",
            theta=self._theta,
            inputs=self._pad("inputs", whole, self.num_points),
            values=self._pad("values", values, self.num_points),
            weights=_padded(weights, self.num_points),
        )["theta"]
        weights[len(inputs) :] = self._unseen_weight
        values = np.concatenate([values, self.predict(theta, missing)])
        return whole, values, weights

    def predict(self, theta, coords) -> np.ndarray:
        """Predictions of the field with weights theta at any number of coords.

        Args:
            theta: float32 `[T]`, or the `[P]` of `weights`.
            coords: float32 `[n, ...]`.

        Returns:
            float32 `[n, ...]`.

        Raises:
            InputError: if the shape of a row is not the artifact's.
            ValueError: if theta has another size.
        """
        is_weights = len(theta) == self.metadata.get("num_params")
        if is_weights and len(theta) < len(self._theta):
            size, solution = self._sizes()
            turn = np.zeros(int(self.in_halves), np.float32)
            theta = np.concatenate([theta, theta[size - solution :], turn])
        predicted = np.empty((len(coords), *self._predicted), np.float32)
        for start in range(0, len(coords), self._at_once):
            part = coords[start : start + self._at_once]
            values = self._model.run(
                "predict",
                theta=theta,
                coords=self._pad("coords", part, self._at_once),
            )["values"]
            predicted[start : start + len(part)] = values[: len(part)]
        return predicted

    def _checked_weights(self, weights, count):
        """The weights of all rows that the file takes."""
        weights = np.asarray(weights, np.float32)
        if (
            weights.shape != (count, 1)
            or not (weights >= 0).all()
            or not 0 < weights.sum() < np.inf
        ):
            raise InputError(
                "`weights` must be numbers that are not negative, [n, 1] for n "
                f"observations, and not all 0. Received: {count} observations "
                f"and weights of shape {list(weights.shape)}"
            )
        if "adapt_step" not in self._model.names():
            raise InputError(
                "`weights` need a file with the signature adapt_step. Received:"
                f" {self._path}, of an earlier version"
            )
        return _padded(weights, self.num_points)

    def _check_count(self, inputs, values):
        if not 1 <= inputs <= self.num_points or values != inputs:
            raise InputError(
                f"This artifact adapts to 1 to {self.num_points} observations. "
                f"Received: {inputs} inputs and {values} values"
            )

    def _pad(self, name, rows, count):
        """The rows as float32, followed by zeros up to `count` of them."""
        rows = np.asarray(rows, np.float32)
        if rows.shape[1:] != self._shapes[name]:
            raise InputError(
                f"Each of the artifact's {name} must have the shape "
                f"{self._shapes[name]}. Received: {rows.shape[1:]}"
            )
        return _padded(rows, count)


def _padded(rows, count):
    padded = np.zeros((count, *rows.shape[1:]), np.float32)
    padded[: len(rows)] = rows
    return padded


def read_metadata(content: bytes, path="the file") -> dict:
    """Reads the exporter's metadata from the bytes of a .tflite file.

    Args:
        content: the bytes.
        path: name of the file, for error messages.

    Raises:
        InputError: if the file is damaged or was not made by this package.
    """
    from ai_edge_litert import schema_py_generated as schema

    if len(content) < 8 or content[4:8] != _IDENTIFIER:
        raise InputError(f"{path} is not a .tflite file.")
    try:
        model = schema.Model.GetRootAs(content, 0)
        entries = {}
        for i in range(model.MetadataLength()):
            entry = model.Metadata(i)
            entries[entry.Name()] = entry.Buffer()
        if METADATA_NAME.encode() not in entries:
            raise InputError(
                f"{path} was not written by tfmetainit.export: it has no "
                f"metadata entry {METADATA_NAME!r}."
            )
        buffer = model.Buffers(entries[METADATA_NAME.encode()])
        metadata = json.loads(buffer.DataAsNumpy().tobytes())
        if not isinstance(metadata, dict):
            raise ValueError("its metadata are not a JSON object")
        return metadata
    except InputError:
        raise
    # Wrong offsets raise struct.error, TypeError and others.
    except Exception as error:
        raise InputError(
            f"The .tflite file {path} is damaged: {reason(error)}"
        ) from error


def _read(path):
    try:
        size = path.stat().st_size
        if path.is_dir() or size > _MAX_FILE_BYTES:
            raise InputError(
                f"An artifact must be a .tflite file of at most "
                f"{_MAX_FILE_BYTES} bytes. Received: {path}"
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def _check_sizes(content, path):
    """Raises InputError if a model declares a tensor that is too large.

    LiteRT's operations may still allocate more (docs/scale.md).
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(content, 0)
        largest = max(
            math.prod(map(int, subgraph.Tensors(j).ShapeAsNumpy()))
            if subgraph.Tensors(j).ShapeLength()
            else 1
            for subgraph in map(model.Subgraphs, range(model.SubgraphsLength()))
            for j in range(subgraph.TensorsLength())
        )
    except Exception as error:
        raise InputError(
            f"The .tflite file {path} is damaged: {reason(error)}"
        ) from error
    if largest > _MAX_TENSOR_ENTRIES:
        raise InputError(
            "A tensor of an artifact may have at most "
            f"{_MAX_TENSOR_ENTRIES} entries. Received: {path} with a tensor of "
            f"{largest} entries"
        )
