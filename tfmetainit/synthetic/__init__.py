"""Synthetic signals of the embedded classes: phantoms, objects, a landmark.

May import: NumPy, `geometry`. All random numbers come from a generator that the
caller passes.
"""

from tfmetainit.synthetic.landmark_model import draw_photograph
from tfmetainit.synthetic.object_models import (
    draw_object,
    draw_poses,
    render_view,
)
from tfmetainit.synthetic.phantoms import (
    SHEPP_LOGAN,
    random_ellipses,
    render_ellipses,
)
from tfmetainit.synthetic.ray_casting import Light, Solid, cast, solid
