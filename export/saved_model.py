"""The adapter as a SavedModel: TF Serving, or any TensorFlow runtime.

Signatures, batched and stateless; B is the batch, N and M any number of rows:

    init()                                       -> theta [1, T]
    adapt(theta [B, T], inputs [B, N, ...], values [B, N, ...],
          n_points [B], steps [B])               -> theta, losses, steps_taken
    predict(theta [B, T], coords [B, M, ...])    -> values [B, M, ...]
    fit_predict(inputs, values, n_points, steps, coords)
                                                 -> values, losses, steps_taken

    fit_image(image_bytes [B], steps [B])        (for images)
                     -> fitted_bytes [B], theta_bytes [B], psnr, steps_taken

`fit_predict` and `fit_image` start from the learned weights, so that a client
need not send them. `fit_image` takes PNG or JPEG files, resizes them to R x R
pixels, the resolution of the training, and returns PNG files in the pictures'
own proportion, with R pixels on the shorter side. Its theta is float32,
little-endian. (TF Serving's REST interface transports strings in base64 if the
name ends in `_bytes`; numbers as text would be four times as long.)

Each signal of a batch is fitted by itself. It states its own number of rows,
`n_points`, so that a server may pad with any values. All inputs of a call must
have the same B; repeat the one row that `init` returns. Steps and rows out of
range are treated as in `tfmetainit.export.adapter.Adapter.adapt`.

The graph holds the gradient steps, and runs without Keras and this package.
"""

import tensorflow as tf

from tfmetainit.export.adapter import Adapter
from tfmetainit.meta.tasks import psnr_from_mse
from tfmetainit.modalities import MAX_PROPORTION

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE = range(16, 24)  # where width and height are; the bit depth follows
# A picture of that many pixels takes 2 GB to decode and resize.
_MAX_PIXELS = 50_000_000
_JPEG = b"\xff\xd8\xff"


class _Served(tf.Module):
    """The batched signatures of an adapter, whose only state is constants."""

    def __init__(self, adapter: Adapter, resolution: int | None):
        super().__init__()
        self._adapter = adapter
        self._resolution = resolution

    def init(self):
        return {"theta": self._adapter.init()[None]}

    def adapt(self, theta, inputs, values, n_points, steps):
        return _map_rows(
            lambda row: self._adapter.adapt(*row),
            (theta, inputs, values, n_points, steps),
            {
                "theta": tf.float32,
                "losses": tf.float32,
                "steps_taken": tf.int32,
            },
        )

    def predict(self, theta, coords):
        return _map_rows(
            lambda row: {"values": self._adapter.predict(*row)},
            (theta, coords),
            {"values": tf.float32},
        )

    def fit_predict(self, inputs, values, n_points, steps, coords):
        def fit_row(row):
            *observed, coords = row
            result = self._adapter.adapt(self._adapter.init(), *observed)
            return {
                "values": self._adapter.predict(result.pop("theta"), coords),
                **result,
            }

        return _map_rows(
            fit_row,
            (inputs, values, n_points, steps, coords),
            {
                "values": tf.float32,
                "losses": tf.float32,
                "steps_taken": tf.int32,
            },
        )

    def fit_image(self, image_bytes, steps):
        def fit_row(row):
            content, steps = row
            picture = _decoded(content)
            side = self._resolution
            square = tf.image.resize(picture, [side, side], antialias=True)
            values = tf.reshape(tf.clip_by_value(square, 0.0, 1.0), [-1, 3])
            coords = _coords(side, side, side)
            result = self._adapter.adapt(
                self._adapter.init(), coords, values, side * side, steps
            )
            theta = result["theta"]
            fitted = self._adapter.predict(theta, coords)
            mse = tf.reduce_mean(tf.square(fitted - values))
            height, width = _drawn_size(picture, side)
            drawn = tf.cond(
                height == width,
                lambda: fitted,
                lambda: self._adapter.predict(
                    theta, _coords(height, width, side)
                ),
            )
            drawn = tf.reshape(drawn, [height, width, 3])
            drawn = tf.saturate_cast(tf.round(255.0 * drawn), tf.uint8)
            return {
                "fitted_bytes": tf.io.encode_png(drawn),
                "theta_bytes": _as_bytes(theta),
                "psnr": psnr_from_mse(mse),
                "steps_taken": result["steps_taken"],
            }

        return _map_rows(
            fit_row,
            (image_bytes, steps),
            {
                "fitted_bytes": tf.string,
                "theta_bytes": tf.string,
                "psnr": tf.float32,
                "steps_taken": tf.int32,
            },
        )


def _decoded(content):
    """A PNG or JPEG file as floats `[height, width, 3]` in [0, 1]."""
    # Padded, as the error for a string that is too short quotes its bytes.
    padded = tf.strings.join([content, bytes(_PNG_SIZE.stop + 1)])

    def starts_with(magic):
        return tf.strings.substr(padded, 0, len(magic)) == magic

    def png():
        # The header is read first, as a small file may be a huge picture.
        sides = tf.strings.substr(padded, _PNG_SIZE.start, len(_PNG_SIZE))
        sides = tf.io.decode_raw(sides, tf.int32, little_endian=False)
        with tf.control_dependencies([_check_size(sides)]):
            pixels = tf.io.decode_png(content, channels=4)
        pixels = tf.cast(pixels, tf.float32)
        colour, opaque = tf.split(pixels, [3, 1], axis=-1)
        # TensorFlow fills in the largest value of the file's own bit depth for
        # the alpha of a file that has none.
        depth = tf.io.decode_raw(
            tf.strings.substr(padded, _PNG_SIZE.stop, 1), tf.uint8
        )
        filled = 2.0 ** tf.cast(depth, tf.float32) - 1.0
        without = tf.reduce_all(opaque == filled)
        opaque = tf.where(without, tf.ones_like(opaque), opaque / 255.0)
        return colour / 255.0 * opaque + 1.0 - opaque  # on white

    def jpeg():
        sides = tf.io.extract_jpeg_shape(content)[:2]
        with tf.control_dependencies([_check_size(sides)]):
            pixels = tf.io.decode_jpeg(
                content, channels=3, dct_method="INTEGER_ACCURATE"
            )
        return tf.cast(pixels, tf.float32) / 255.0

    is_png = starts_with(_PNG)
    known = tf.debugging.Assert(
        is_png | starts_with(_JPEG),
        ["`image_bytes` must be PNG or JPEG files. Received: another format"],
    )
    with tf.control_dependencies([known]):
        return tf.ensure_shape(tf.cond(is_png, png, jpeg), [None, None, 3])


def _check_size(sides):
    sides = tf.cast(sides, tf.int64)
    shorter, longer = tf.reduce_min(sides), tf.reduce_max(sides)
    # The sides first: their product may overflow.
    return tf.debugging.Assert(
        (shorter > 0)
        & (longer <= _MAX_PIXELS)
        & (shorter * longer <= _MAX_PIXELS)
        & (longer <= MAX_PROPORTION * shorter),
        [
            *("An image may have 1 to", _MAX_PIXELS, "pixels, and no side"),
            *("may be more than", MAX_PROPORTION, "times as long as the"),
            *("other. Received:", sides),
        ],
    )


def _drawn_size(picture, shorter):
    """Height and width of a picture whose shorter side is scaled."""
    sides = tf.cast(tf.shape(picture)[:2], tf.float64)
    scaled = tf.floor(shorter * sides / tf.reduce_min(sides) + 0.5)
    return tf.unstack(tf.cast(scaled, tf.int32))


def _coords(height, width, resolution):
    """Where `geometry.pixels.render` evaluates a field, `[n, 2]`."""

    def along(count):
        places = tf.cast(2 * tf.range(count) + 1, tf.float32)
        middles = places * resolution / tf.cast(2 * count, tf.float32) - 0.5
        return tf.clip_by_value(middles, 0.0, resolution - 1.0) / resolution

    grid = tf.meshgrid(along(height), along(width), indexing="ij")
    return tf.reshape(tf.stack(grid, axis=-1), [-1, 2])


def _as_bytes(vector):
    """A float32 vector as one string of its bytes (little-endian machines)."""
    every = tf.constant([bytes([value]) for value in range(256)])
    places = tf.cast(tf.bitcast(vector, tf.uint8), tf.int32)
    return tf.strings.reduce_join(tf.gather(every, tf.reshape(places, [-1])))


def _map_rows(function, rows, dtypes):
    """Applies a function to the rows of a batch, one after the other.

    The matrix products of one row already use all cores, so that a batched form
    is no faster.
    """
    counts = tf.stack([tf.shape(leaf)[0] for leaf in rows])
    # `map_fn` itself ignores rows beyond the number of rows of the first input.
    alike = tf.debugging.Assert(
        tf.reduce_all(counts == counts[0]),
        ["All inputs must have the same number of signals. Received:", counts],
    )
    with tf.control_dependencies([alike]):
        rows = tuple(tf.identity(leaf) for leaf in rows)
    return tf.map_fn(
        function, rows, fn_output_signature=dtypes, parallel_iterations=1
    )


def save(
    adapter: Adapter, folder, resolution: int | None = None
) -> dict[str, list[str]]:
    """Writes the SavedModel into `folder`.

    Args:
        adapter: the adapter to export.
        folder: the folder to make.
        resolution: side of the pictures that the weights were trained on; None
            for signals that are not images: there is no `fit_image` then.

    Returns:
        The names of the inputs of each signature.
    """
    served = _Served(adapter, resolution)

    def rows(name, shape):
        return tf.TensorSpec([None, None, *shape], tf.float32, name)

    theta = tf.TensorSpec([None, adapter.theta_size], tf.float32, "theta")
    observed = [
        rows("inputs", adapter.input_shape),
        rows("values", adapter.value_shape),
        tf.TensorSpec([None], tf.int32, "n_points"),
        tf.TensorSpec([None], tf.int32, "steps"),
    ]
    coords = rows("coords", adapter.coords_shape)
    specs = {
        "init": [],
        "adapt": [theta, *observed],
        "predict": [theta, coords],
        "fit_predict": [*observed, coords],
    }
    if resolution is not None:
        specs["fit_image"] = [
            tf.TensorSpec([None], tf.string, "image_bytes"),
            tf.TensorSpec([None], tf.int32, "steps"),
        ]
    signatures = {
        name: tf.function(getattr(served, name), input_signature=arguments)
        for name, arguments in specs.items()
    }
    tf.saved_model.save(served, str(folder), signatures=signatures)
    return {name: [s.name for s in specs[name]] for name in specs}
