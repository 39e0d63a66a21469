"""Figures: labelled grids of pictures, curves of PSNR."""

import numpy as np

# pyplot would choose a backend, and replace that of a notebook.
from matplotlib.figure import Figure

from tfmetainit.io import files

_LONG = 101  # points; the axis of longer curves is logarithmic from step 10 on


def save_labelled_grid(path, rows, column_titles, row_titles=()):
    """Saves a grid of pictures with titles of its columns and rows.

    Args:
        path: the picture file, replaced atomically.
        rows: lists of images `[height, width, 3]` in [0, 1].
        column_titles: one string per column.
        row_titles: one string per row, or empty.
    """
    num_rows, num_columns = len(rows), len(column_titles)
    figure = Figure(
        figsize=(1.35 * num_columns, 1.4 * num_rows + 0.4),
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
    for axis, title in zip(axes[:, 0], row_titles):
        axis.set_ylabel(title, fontsize=9)
    _save(figure, path)


def save_curves(path, panels, *, title=""):
    """Saves curves of PSNR over gradient steps, with one panel per condition.

    Args:
        path: the picture file, replaced atomically.
        panels: tuples (title, curves, levels). `curves` maps a method's name to
            its PSNRs in dB after 0, 1, ... steps; those that are not finite
            are left out. `levels` maps the name of a
            method without steps to its PSNR, which is drawn as a dotted line.
        title: title of the figure.
    """
    figure = Figure(
        figsize=(max(7.0, 4.6 * len(panels)), 4.6), layout="constrained"
    )
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (panel_title, curves, levels) in zip(axes, panels):
        draw_curves(axis, curves, levels)
        axis.set_title(panel_title, fontsize=10)
    axes[0].set_ylabel("PSNR (dB)")
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    _save(figure, path)


def draw_curves(axis, curves, levels):
    """Draws one panel of `save_curves` on matplotlib axes."""
    for label, curve in curves.items():
        learned = label.startswith("Learned")
        marker = "o" if learned else "."
        steps = np.flatnonzero(np.isfinite(curve))
        axis.plot(
            steps,
            np.asarray(curve)[steps],
            marker=marker if len(curve) <= 30 else None,
            linewidth=2.5 if learned else 1.3,
            label=label,
        )
    for label, level in levels.items():
        color = "grey" if label.startswith("Constant") else "black"
        axis.axhline(level, color=color, linestyle=":", label=label)
    length = max(map(len, curves.values()))
    if length > _LONG:
        axis.set_xscale("symlog", linthresh=10, linscale=1)
        # With levels, matplotlib would begin far below 0.
        axis.set_xlim(0, length - 1)
    axis.set_xlabel("gradient steps")
    axis.grid(alpha=0.3)


def _save(figure, path):
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
