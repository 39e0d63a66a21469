"""Reptile: Nichol et al. 2018, arXiv 1803.02999.

The outer gradient is the mean over tasks of theta_0 - theta_K. The outer
optimizer applies it, so that MAML and Reptile share one outer update (Tancik et
al. 2021, section 3).
"""

from tfmetainit.meta import functional, inner_loop
from tfmetainit.meta.learner import MetaLearner


class Reptile(MetaLearner):
    """Reptile: moves the initial weights towards the adapted ones.

    Args:
        field: as in `MetaLearner`, as are all further arguments.
        early_loss_weight: must be 0.

    Raises:
        ValueError: if `learn_step_sizes` or `early_loss_weight` is set, or
            `output_layer` is "solved". Reptile's outer gradient has no
            component along the step sizes, is not the gradient of an outer
            loss, and does not flow through a solution.
    """

    def __init__(self, field, *, early_loss_weight: float = 0.0, **kwargs):
        if kwargs.get("learn_step_sizes"):
            raise ValueError(
                "`learn_step_sizes` must be False: Reptile cannot learn step "
                "sizes. Use MAML for that. Received: learn_step_sizes=True"
            )
        if early_loss_weight:
            raise ValueError(
                "`early_loss_weight` must be 0: Reptile has no outer loss. Use "
                f"MAML for early losses. Received: {early_loss_weight=}"
            )
        if kwargs.get("output_layer", "stepped") != "stepped":
            raise ValueError(
                "`output_layer` must be 'stepped': Reptile cannot train "
                "through a solution. Use MAML for that. Received: output_layer="
                f"{kwargs['output_layer']!r}"
            )
        super().__init__(field, **kwargs)

    def outer_gradients(self, task):
        params = functional.get_params(self.field)
        in_loop = self.inner_steps > inner_loop.MOST_UNROLLED
        adapted, losses = self.adapt(task.support, in_loop=in_loop)
        gradients = [p - a for p, a in zip(params, adapted)]
        loss = self.query_loss(adapted, task.query)
        before = self.initial_loss(task, losses[0], self.query_loss)
        return gradients, loss, before
