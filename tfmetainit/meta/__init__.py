"""Meta-learning: tasks, the inner loop, and the learners that train through it.

May import: TensorFlow, Keras, `geometry`, `forward_models`. It does not depend
on files, modalities or signal classes.
"""

from tfmetainit.meta.checkpointing import FirstOrder, Recomputed
from tfmetainit.meta.functional import (
    Params,
    Sides,
    StepParams,
    bind,
    flatten,
    get_params,
    set_params,
    unflatten,
)
from tfmetainit.meta.inner_loop import SgdFit, adapt
from tfmetainit.meta.learner import MetaLearner
from tfmetainit.meta.maml import MAML
from tfmetainit.meta.reptile import Reptile
from tfmetainit.meta.step_sizes import StepSizes
from tfmetainit.meta.tasks import (
    FieldLoss,
    Observations,
    Task,
    mean_squared_error,
    psnr_from_mse,
)
