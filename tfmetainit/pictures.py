"""Pictures of fields and curves, as arrays and files. No TensorFlow."""

import numpy as np

# Not pyplot: a figure of its own needs no display, and leaves the backend of a
# notebook that imports this as it is.
from matplotlib.figure import Figure

from tfmetainit import files

_GAP = 2  # pixels between the pictures of a grid


def grid(rows) -> np.ndarray:
    """Pictures in rows and columns, with a white gap between them.

    Args:
        rows: lists of images `[height, width, 3]` of one size, in [0, 1].

    Returns:
        float array `[grid height, grid width, 3]`, clipped to [0, 1].
    """
    height, width, _ = np.shape(rows[0][0])
    columns = max(len(row) for row in rows)
    canvas = np.ones(
        [
            len(rows) * (height + _GAP) - _GAP,
            columns * (width + _GAP) - _GAP,
            3,
        ],
        np.float32,
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (height + _GAP), j * (width + _GAP)
            canvas[top : top + height, left : left + width] = np.clip(
                image, 0.0, 1.0
            )
    return canvas


def save_labelled_grid(path, rows, column_titles):
    """Saves a grid of pictures with a title over each column.

    Args:
        path: the picture file, replaced atomically.
        rows: lists of images `[height, width, 3]` in [0, 1].
        column_titles: one string a column.
    """
    num_rows, num_columns = len(rows), len(column_titles)
    figure = Figure(
        figsize=(1.35 * num_columns, 1.4 * num_rows + 0.3),
        layout="constrained",
    )
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            axis = axes[i, j]
            axis.imshow(np.clip(image, 0.0, 1.0), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if i == 0:
                axis.set_title(column_titles[j], fontsize=9)
    _save(figure, path)


def save_curves(path, curves, *, floor=None, title=""):
    """Saves PSNR over gradient steps, one line a method.

    Args:
        path: the picture file, replaced atomically.
        curves: maps a label to PSNRs in dB after 0, 1, ... steps.
        floor: PSNR of the best constant image, drawn as a dotted line.
        title: of the plot.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axis = figure.subplots()
    for label, curve in curves.items():
        learned = label == "Learned"
        axis.plot(
            range(len(curve)),
            curve,
            marker="o" if learned else ".",
            linewidth=2.5 if learned else 1.3,
            label=label,
        )
    if floor is not None:
        axis.axhline(floor, color="grey", linestyle=":", label="Constant image")
    axis.set(xlabel="gradient steps", ylabel="PSNR (dB)", title=title)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    _save(figure, path)


def _save(figure, path):
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
