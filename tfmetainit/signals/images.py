"""Faces and natural images: CelebA and Imagenette through TFDS.

The paper trains on 178 x 178 centre crops (Tancik et al. 2021, section 4.1).
TFDS downloads both datasets. If it cannot, set `data_dir` to a folder in which
TFDS has prepared them, or `manual_dir` to one with the downloaded archives.
"""

import pathlib

import tensorflow_datasets as tfds

from tfmetainit.io.errors import InputError, reason
from tfmetainit.signals.base.image_signal import ImageSignal
from tfmetainit.signals.base.tfds_source import tfds_images

# Imagenette has no test split: its validation images are divided in two.
_SPLITS = {
    "celeb_a": {"train": "train", "validation": "validation", "test": "test"},
    "imagenette": {
        "train": "train",
        "validation": "validation[:50%]",
        "test": "validation[50%:]",
    },
}


def make_signal_class(
    *,
    dataset: str,
    resolution: int = 178,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    **options,
) -> ImageSignal:
    """The class of a TFDS image dataset.

    Args:
        dataset: "celeb_a", or "imagenette" with an optional TFDS config, for
            example "imagenette/320px-v2".
        resolution: side of the centre crops in pixels.
        data_dir: TFDS's folder; by default its own, `~/tensorflow_datasets`.
        manual_dir: folder with archives that were downloaded by hand.
        **options: further arguments of `ImageSignal`.

    Raises:
        InputError: if the dataset is unknown, or, at the first `make_dataset`,
            if it cannot be downloaded.
    """
    name = dataset.split("/")[0]
    if name not in _SPLITS:
        raise InputError(
            f"`dataset` must be one of {sorted(_SPLITS)}, with or without a "
            f"TFDS config. Received: dataset={dataset!r}"
        )

    def open_source():
        builder = _prepare(dataset, data_dir, manual_dir)
        feature = builder.info.features["image"]
        return tfds_images(
            feature, lambda split: (builder, _SPLITS[name][split])
        )

    return ImageSignal(open_source, resolution=resolution, **options)


def _prepare(dataset, data_dir, manual_dir):
    """The builder of a dataset, which is downloaded unless it is prepared.

    Raises:
        InputError: if it is not prepared and cannot be downloaded.
    """
    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
        if manual_dir and not pathlib.Path(builder.data_dir).exists():
            _check_archives(builder, pathlib.Path(manual_dir))
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
        )
    except InputError:
        raise
    # The downloader's errors are of many kinds: HTTP, DNS, checksums, disk.
    except Exception as error:
        raise InputError(
            f"The dataset {dataset} is not prepared and cannot be downloaded "
            f"({reason(error)}). Prepare it with TFDS on another machine and "
            "set `data_dir` to its folder, or put the downloaded "
            "archives into a folder and set `manual_dir` to it."
        ) from error
    return builder


def _check_archives(builder, folder):
    """Raises InputError unless a folder has what TFDS would download.

    TFDS would try the network for minutes before it named a missing file, and
    would show two checksums for one of another version.
    """
    sizes = {i.filename: int(i.size) for i in builder.url_infos.values()}
    if builder.name == "imagenette":
        name = f"{builder.builder_config.dirname}.tgz"
        sizes = {name: sizes[name]}
    found = {
        name: (folder / name).stat().st_size
        for name in sizes
        if (folder / name).is_file()
    }
    if found != sizes:
        states = [
            f"{name} of {found[name]} bytes"
            if name in found
            else f"{name} missing"
            for name in sorted(sizes)
            if found.get(name) != sizes[name]
        ]
        wanted = [f"{name} of {size} bytes" for name, size in sizes.items()]
        raise InputError(
            f"`manual_dir` must hold the files of {builder.name} as TFDS "
            f"knows them: {', '.join(wanted)}. Received: {folder} with "
            f"{', '.join(states)}. configs/image_folder.py reads unpacked "
            "pictures of any version."
        )
