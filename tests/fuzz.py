"""Fuzzes every reader of files from outside: `make fuzz`.

    python tests/fuzz.py [--seconds=60] [target ...]

Each target is a process of its own, in which atheris (libFuzzer) mutates valid
files, guided by what of the reader they reach. A reader may return or raise an
InputError; anything else, a crash of a native library, an input that takes
more than 20 s or 4 GiB ends the target and is reported, with the input kept.
"""

import argparse
import io
import itertools
import json
import os
import pathlib
import pickle
import re
import resource
import subprocess
import sys
import tempfile
import zipfile

_MEMORY_MIB = 4096
_SLOWEST = 20  # seconds
_WIDTH = 4  # of the networks whose weights are read


def _params():
    """The parameters of a small SIREN, in NumPy."""
    import numpy as np

    rng = np.random.default_rng(0)
    sizes = [2, _WIDTH, _WIDTH, 3]
    for rows, columns in itertools.pairwise(sizes):
        yield np.float32(rng.normal(size=(rows, columns)))
        yield np.float32(rng.normal(size=columns))


def _array_bytes(array):
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _image():
    """Pictures of all formats that are read."""
    import numpy as np
    from PIL import Image

    from tfmetainit.io import images

    rng = np.random.default_rng(0)
    for channels in (3, 4, 1):
        array = np.uint8(rng.integers(0, 255, (8, 8, channels)))
        picture = Image.fromarray(array[..., 0] if channels == 1 else array)
        for name in images.IMAGE_FORMATS:
            buffer = io.BytesIO()
            try:
                picture.save(buffer, name)
            except OSError:  # JPEG has no transparency
                continue
            yield buffer.getvalue()


def _read_image(path):
    from tfmetainit.io import images

    image = images.read_image(path)
    if not 0.0 <= image.min() <= image.max() <= 1.0:
        raise AssertionError("values out of range")


def _sinogram():
    import numpy as np
    from PIL import Image

    for dtype in (np.float32, np.float64, np.uint8):
        yield b".npy" + _array_bytes(np.zeros((4, 16), dtype))
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 16), np.float32)).save(buffer, "TIFF")
    yield b".tif" + buffer.getvalue()


def _read_sinogram(path):
    import numpy as np

    from tfmetainit.modalities.readers import sinograms

    content = path.read_bytes()
    suffix = ".tif" if content[:4] == b".tif" else ".npy"
    named = path.with_suffix(suffix)
    named.write_bytes(content[4:])
    _, sinogram = sinograms.read_sinogram(named, 8, "0,45,90,135")
    if sinogram.shape != (4, 8) or not np.isfinite(sinogram).all():
        raise AssertionError("not a sinogram")


def _exchange():
    import h5py
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "scan.h5"
        with h5py.File(path, "w") as file:
            file["exchange/data"] = np.full((4, 1, 8), 900, np.uint16)
            file["exchange/data_white"] = np.full((2, 1, 8), 1000, np.uint16)
            file["exchange/theta"] = np.array([0.0, 45.0, 90.0, 135.0])
        yield path.read_bytes()


def _read_exchange(path):
    import numpy as np

    from tfmetainit.modalities.readers import sinograms

    named = path.rename(path.with_suffix(".h5"))
    _, sinogram = sinograms.read_sinogram(named, 8, None)
    if not np.isfinite(sinogram).all():
        raise AssertionError("not a sinogram")


def _dicom():
    import numpy as np
    import pydicom
    from pydicom import uid

    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = uid.EnhancedCTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = "1.2.4"
    image.SOPClassUID = uid.EnhancedCTImageStorage
    image.Modality, image.PixelPaddingValue = "CT", 7
    image.Rows = image.Columns = 8
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.SamplesPerPixel, image.PixelRepresentation = 1, 0
    image.PhotometricInterpretation = "MONOCHROME2"
    values, spacing, shared = (pydicom.Dataset() for _ in range(3))
    values.RescaleSlope, values.RescaleIntercept = "1", "-1000"
    spacing.PixelSpacing = [1, 1]
    shared.PixelValueTransformationSequence = [values]
    shared.PixelMeasuresSequence = [spacing]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PixelData = np.zeros((8, 8), np.uint16).tobytes()
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    yield buffer.getvalue()
    yield buffer.getvalue()[132:]  # without the preamble


def _read_dicom(path):
    from tfmetainit.modalities import ct

    named = path.rename(path.with_suffix(".dcm"))
    image = ct.read_slice(named, (0.0, 100.0))
    if not 0.0 <= image.min() <= image.max() <= 1.0:
        raise AssertionError("values out of range")
    ct.read_slice(named)


def _transforms():
    pose = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]]
    frame = {"file_path": "view", "transform_matrix": pose}
    yield json.dumps({"camera_angle_x": 0.7, "frames": [frame]}).encode()


def _read_transforms(path):
    from PIL import Image

    from tfmetainit.modalities.readers import scenes

    picture = path.parent / "view.png"
    if not picture.exists():
        Image.new("RGBA", (8, 8)).save(picture)
    scenes.read_scene(scenes.open_scene(path), 8)


def _srn():
    """The intrinsics and the pose of a scene, with a zero byte between."""
    pose = "1 0 0 0 0 1 0 0 0 0 1 4 0 0 0 1"
    yield f"9 4 4 0\n0 0 0\n1\n8 8\n\0{pose}".encode()


def _read_srn(path):
    from PIL import Image

    from tfmetainit.modalities.readers import scenes

    for name in ("rgb", "pose"):
        (path.parent / name).mkdir(exist_ok=True)
    if not (path.parent / "rgb" / "a.png").exists():
        Image.new("RGB", (8, 8)).save(path.parent / "rgb" / "a.png")
    intrinsics, _, pose = path.read_bytes().partition(b"\0")
    (path.parent / "intrinsics.txt").write_bytes(intrinsics)
    (path.parent / "pose" / "a.txt").write_bytes(pose)
    scenes.read_scene(scenes.open_scene(path.parent), 8)


def _llff():
    import numpy as np

    matrix = [[0, 1, 0, 0, 6], [1, 0, 0, 0, 8], [0, 0, -1, 0, 9]]
    yield _array_bytes(np.array([[*np.ravel(matrix), 1.0, 3.0]]))


def _read_llff(path):
    from PIL import Image

    from tfmetainit.modalities.readers import photo_collections

    if not (path.parent / "b.png").exists():
        Image.new("RGB", (8, 6)).save(path.parent / "b.png")
    path.rename(path.parent / "poses_bounds.npy")
    photo_collections.read_collection(path.parent, 1.0)


def _splits():
    yield b"a.png 0\nb/c.png 1\n"
    yield b"a.png train\nb/c.png test\n"


def _read_splits(path):
    from tfmetainit.signals.base import layouts

    (path.parent / "b").mkdir(exist_ok=True)
    for name in ("a.png", "b/c.png"):
        (path.parent / name).write_text(name)
    path.rename(path.parent / "splits.txt")
    layouts.find_layout(path.parent, [".png"])


def _colmap():
    """Three binary files of a model, with the lengths of the first two."""
    import struct

    cameras = struct.pack("<Q", 1)
    cameras += struct.pack("<iiQQ4d", 1, 1, 8, 6, 10, 20, 4, 3)
    images = struct.pack("<Q", 1)
    images += struct.pack("<i7di", 1, 1, 0, 0, 0, 0, 0, 4, 1) + b"b.png\0"
    images += struct.pack("<Qddqddq", 2, 0, 0, 1, 0, 0, 2)
    points = struct.pack("<Q", 2)
    for index in (1, 2):
        points += struct.pack("<Q3d3Bd", index, 0, 0, index, 9, 9, 9, 0.5)
        points += struct.pack("<Qii", 1, 1, 0)
    lengths = struct.pack("<HH", len(cameras), len(images))
    yield lengths + cameras + images + points


def _read_colmap(path):
    import struct

    from PIL import Image

    from tfmetainit.modalities.readers import photo_collections

    model = path.parent / "sparse"
    model.mkdir(exist_ok=True)
    if not (path.parent / "b.png").exists():
        Image.new("RGB", (8, 6)).save(path.parent / "b.png")
    content = path.read_bytes()
    if len(content) < 4:
        return
    one, two = struct.unpack("<HH", content[:4])
    content = content[4:]
    for name, part in (
        ("cameras", content[:one]),
        ("images", content[one : one + two]),
        ("points3D", content[one + two :]),
    ):
        (model / f"{name}.bin").write_bytes(part)
    photo_collections.read_collection(path.parent, 1.0)


def _npz():
    from tfmetainit.io import weights

    names = weights.weight_names(6)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in zip(names, _params()):
            archive.writestr(f"{name}.npy", _array_bytes(array))
    yield buffer.getvalue()


def _read_npz(path):
    from tfmetainit.io import weights

    weights.load_npz(path, [p.shape for p in _params()])


def _haiku():
    params = list(_params())
    mapping = {
        f"linear_{i}": {"w": params[2 * i], "b": params[2 * i + 1]}
        for i in range(3)
    }
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.dumps(mapping, protocol)


def _read_haiku(path):
    from tfmetainit.io import weights

    weights.load_haiku(path, [p.shape for p in _params()])


def _learner():
    from tfmetainit.fields import networks
    from tfmetainit.meta import maml

    return maml.MAML(networks.SIREN(2, 3, hidden_layers=2, hidden_units=_WIDTH))


def _checkpoint():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "a.weights.h5"
        _learner().save_weights(path)
        yield path.read_bytes()


def _read_checkpoint(path):
    from tfmetainit.runs import build

    named = path.rename(path.with_suffix(".weights.h5"))
    build.load_weights(_cached(_learner), named)


def _config():
    from tfmetainit.configs import text

    yield text.get_config("smoke").to_json().encode()


def _read_config(path):
    import ml_collections

    from tfmetainit.runs import build, workdir

    folder = path.parent / "run"
    folder.mkdir(exist_ok=True)
    path.rename(folder / "config.json")
    config = workdir.Workdir(folder).read_config()
    # Networks of any size may be asked for; that is not what is looked for.
    config.field = ml_collections.ConfigDict(
        {"name": "siren", "hidden_layers": 1, "hidden_units": 4}
    )
    build.build_learner(config, build.build_signal(config))


def _artifact():
    from tfmetainit.export import flatbuffer, lite
    from tfmetainit.export.adapter import Adapter

    adapter = Adapter(
        _learner(),
        input_shape=(2,),
        value_shape=(3,),
        coords_shape=(2,),
        max_steps=2,
        chunk=8,
    )
    yield flatbuffer.with_metadata(
        lite.convert(adapter, num_points=16, num_coords=16), {}
    )


def _read_artifact(path):
    import numpy as np

    from tfmetainit.litert.artifact import LiteArtifact

    artifact = LiteArtifact(path)
    coords = np.zeros([4, 2], np.float32)
    values = np.zeros([4, 3], np.float32)
    theta, _ = artifact.adapt(artifact.init(), coords, values, 1)
    artifact.predict(theta, coords)


_CACHE = {}


def _cached(make):
    if make not in _CACHE:
        _CACHE[make] = make()
    return _CACHE[make]


# Valid files, and what reads them.
TARGETS = {
    "image": (_image, _read_image),
    "sinogram": (_sinogram, _read_sinogram),
    "exchange": (_exchange, _read_exchange),
    "dicom": (_dicom, _read_dicom),
    "transforms": (_transforms, _read_transforms),
    "srn": (_srn, _read_srn),
    "llff": (_llff, _read_llff),
    "splits": (_splits, _read_splits),
    "colmap": (_colmap, _read_colmap),
    "npz": (_npz, _read_npz),
    "pickle": (_haiku, _read_haiku),
    "checkpoint": (_checkpoint, _read_checkpoint),
    "config": (_config, _read_config),
    "artifact": (_artifact, _read_artifact),
}


def _fuzz(name, seconds, folder):
    """Fuzzes one target in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["tfmetainit"]):
        from tfmetainit.io.errors import InputError

    make, read = TARGETS[name]
    folder = pathlib.Path(folder)
    seeds = folder / "seeds"
    seeds.mkdir()
    for index, content in enumerate(make()):
        (seeds / str(index)).write_bytes(content)
        (folder / "intact").write_bytes(content)
        if name != "artifact":
            read(folder / "intact")

    def test_one_input(data):
        path = folder / "input"
        path.write_bytes(data)
        try:
            read(path)
        except InputError as error:
            if "\n" in str(error):
                raise AssertionError("more than one line") from error

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-timeout={_SLOWEST}",
            f"-rss_limit_mb={_MEMORY_MIB}",
            f"-artifact_prefix={os.getcwd()}/fuzz-{name}-",
            "-print_final_stats=1",
            "-max_len=65536",
            "-seed=1",
            str(seeds),
        ],
        test_one_input,
    )
    atheris.Fuzz()


def main():
    """Runs the targets one after the other and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    values = parser.parse_args()
    if values.inside:
        _fuzz(values.targets[0], values.seconds, values.inside)
    failed, total = [], 0
    for name in values.targets:
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run(
                [
                    *(sys.executable, __file__, name),
                    *(f"--seconds={values.seconds}", f"--inside={folder}"),
                ],
                capture_output=True,
                text=True,
                errors="replace",
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
        found = re.search(r"number_of_executed_units: (\d+)", result.stderr)
        count = int(found[1]) if found else 0
        total += count
        print(f"{name:12} {count:>9,} inputs", end="")
        if result.returncode or not count:
            failed.append(name)
            print(f", FAILED\n{result.stderr[-4000:]}", end="")
        print(flush=True)
    print(f"{total:,} inputs, {len(failed)} targets failed {failed or ''}")
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main())
