r"""Fits a picture on a model server, over gRPC or REST.

    python examples/serving/client.py --artifact=exported/text \
        --input=photo.png --output=fit.png --steps=4
    python examples/serving/client.py ... --rest=http://localhost:8501

The server runs the SavedModel that `python -m tfmetainit.export` writes. With
docker, compose.yaml starts TensorFlow Serving on it. The client sends a picture
as a PNG file and receives one of the field that was fitted to it, and the
field's weights. The server would take a JPEG file as it is, too, but ignores
the camera's orientation tag and may limit the size of a request.
"""

import base64
import http.client
import io
import json
import pathlib
import urllib.request

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

import grpc
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfmetainit.geometry import pixels
from tfmetainit.io import files, images
from tfmetainit.io.errors import InputError, UserError, check_range

SIGNATURE = "fit_image"
_TIMEOUT_SECONDS = 60.0
_MAX_ANSWER_BYTES = 2**30


def over_grpc(address: str, name: str, inputs: dict) -> dict[str, np.ndarray]:
    """Sends one PredictRequest to `address` ("host:port")."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = SIGNATURE
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    # A large picture exceeds gRPC's default limit of 4 MiB.
    options = [("grpc.max_receive_message_length", _MAX_ANSWER_BYTES)]
    with grpc.insecure_channel(address, options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            answer = stub.Predict(request, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise UserError(
                f"The server {address} answered {error.code().name}: "
                f"{error.details()}"
            ) from error
    return {k: tf.make_ndarray(v) for k, v in answer.outputs.items()}


def over_rest(url: str, name: str, inputs: dict) -> dict[str, np.ndarray]:
    """Sends the same request as JSON to `url` ("http://host:port")."""

    def packed(values):
        values = np.asarray(values).tolist()
        return [
            {"b64": base64.b64encode(one).decode()}
            if isinstance(one, bytes)
            else one
            for one in values
        ]

    def unpacked(values):
        return np.asarray(
            [
                base64.b64decode(one["b64"]) if isinstance(one, dict) else one
                for one in values
            ]
        )

    body = {
        "signature_name": SIGNATURE,
        "inputs": {key: packed(values) for key, values in inputs.items()},
    }
    try:
        request = urllib.request.Request(
            f"{url.rstrip('/')}/v1/models/{name}:predict",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(
            request, timeout=_TIMEOUT_SECONDS
        ) as answer:
            outputs = json.load(answer)["outputs"]
            return {key: unpacked(values) for key, values in outputs.items()}
    # No such address, no answer, or an answer of some other server.
    except (
        *(OSError, ValueError, KeyError, TypeError),
        http.client.HTTPException,
    ) as error:
        raise UserError(f"The request to {url} failed: {error!r}") from error


def main(argv):
    """Sends one picture and writes the fitted field."""
    del argv
    values = flags.FLAGS
    images.check_image_suffix(values.output)
    files.check_apart(values.output, input=values.input)
    artifact = pathlib.Path(values.artifact)
    metadata = files.read_json(artifact / "metadata.json")
    try:
        kind = metadata["signal"]["kind"]
        side, name = metadata["signal"].get("resolution"), metadata["name"]
        most = metadata["max_steps"]
    except (KeyError, TypeError) as error:
        raise InputError(
            "--artifact must be a folder that the exporter wrote. Received: "
            f"{artifact}, whose metadata.json has other fields"
        ) from error
    if kind != "image":
        raise InputError(
            f"This client fits images. Received: {artifact}, exported for "
            f"signals of the kind {kind!r}"
        )
    check_range("--steps", values.steps, 0, most)
    picture = images.read_image(values.input)
    # Small enough for a request; the server resizes it to R x R pixels.
    size = pixels.scaled_to(picture.shape[:2], 4 * side, min)
    if max(size) < max(picture.shape[:2]):
        picture = pixels.resize(picture, *size)
    picture = np.uint8(np.rint(255.0 * picture))
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    inputs = {
        "image_bytes": np.array([content.getvalue()], object),
        "steps": np.int32([values.steps]),
    }
    if values.rest:
        outputs = over_rest(values.rest, name, inputs)
    else:
        outputs = over_grpc(values.grpc, name, inputs)
    taken = int(outputs["steps_taken"][0])
    if taken < values.steps:
        raise UserError(
            f"The fit diverged at step {taken + 1}; lower --steps (now "
            f"{values.steps}). Nothing was written."
        )
    theta = np.frombuffer(outputs["theta_bytes"][0], "<f4")
    with Image.open(io.BytesIO(outputs["fitted_bytes"][0])) as fitted:
        images.write_image(values.output, np.asarray(fitted))
    print(
        f"PSNR {outputs['psnr'][0]:.2f} dB after {taken} steps, "
        f"theta of {len(theta):,} numbers. Rendered to {values.output}."
    )


if __name__ == "__main__":
    flags.DEFINE_string("artifact", None, "Folder that the exporter wrote.")
    flags.DEFINE_string("input", None, "The picture to fit.")
    flags.DEFINE_string("output", None, "The picture to write.")
    flags.DEFINE_integer("steps", 4, "Gradient steps.")
    flags.DEFINE_string("grpc", "localhost:8500", "host:port of the server.")
    flags.DEFINE_string("rest", None, "Use REST, at http://host:port.")
    flags.mark_flags_as_required(["artifact", "input", "output"])
    cli.run(main, __doc__)
