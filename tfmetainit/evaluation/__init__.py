"""Comparing a learned initialization with the paper's baselines.

May import: TensorFlow, matplotlib, `meta`, `io`, `geometry`, `signals.base`.
It has the baselines, their tuning, tables, curves and pictures; `evaluate.py`
uses these parts.
"""

from tfmetainit.evaluation.baselines import (
    AdamFit,
    Baselines,
    constant_floor,
    make_baselines,
)
from tfmetainit.evaluation.comparison import (
    LEARNED,
    OPTIONAL_ROWS,
    Comparison,
    Method,
    Scores,
)
from tfmetainit.evaluation.plots import save_curves, save_labelled_grid
from tfmetainit.evaluation.tables import markdown_table, to_markdown
