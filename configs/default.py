"""The fields of every config; each config overrides some of them.

This config is not trained itself. A config is a document: its docstring has the
section of the paper, the command, the time it took, and the PSNR to expect.
Every option of a class is a field here or in one of the configs, so that it is
a flag of the commands.
"""

import ml_collections
from ml_collections import config_dict


def get_config():
    """The fields of every config, with their defaults."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_steps = 2_500  # outer iterations
    config.batch_size = 1  # tasks in a meta-batch
    config.jit_compile = False  # for GPUs; XLA's sine is slow on a CPU
    # Initial weights: a run (its folder, or the name of a pretrained one), or a
    # file of a field's weights (.npz, or the authors' .pickle).
    config.warm_start = config_dict.placeholder(str)

    # Of the products in training on GPUs: "tensorfloat32" is faster on Ampere
    # and later, and exact to 10 bits only; validation during training has it
    # too. Loading a run sets the process back to float32.
    config.matmul_precision = "float32"

    # All fields but `name` are arguments of the module's `make_signal_class`.
    config.signal = ml_collections.ConfigDict({"name": ""})
    config.signal.resolution = 64

    # An option that is None has the default of the class (fields/networks.py).
    # Options of other classes must stay None.
    config.field = ml_collections.ConfigDict()
    config.field.name = "siren"
    config.field.hidden_layers = 4  # paper
    config.field.hidden_units = 256  # paper
    # "mixed_bfloat16" for GPUs and CPUs with bfloat16 units (docs/scale.md).
    config.field.hidden_dtype = config_dict.placeholder(str)
    config.field.dtype = config_dict.placeholder(str)  # or "float64"
    config.field.w0 = config_dict.placeholder(float)  # of siren
    config.field.output_offset = config_dict.placeholder(float)  # of siren
    # Of fourier_mlp and simplified_nerf.
    config.field.num_frequencies = config_dict.placeholder(int)
    config.field.initializer = config_dict.placeholder(str)  # paper: "haiku"
    config.field.scale = config_dict.placeholder(float)  # of fourier_mlp
    # Of simplified_nerf.
    config.field.max_exponent = config_dict.placeholder(float)
    config.field.density = config_dict.placeholder(str)
    config.field.density_shift = config_dict.placeholder(float)

    config.learner = ml_collections.ConfigDict()
    config.learner.name = "maml"
    config.learner.inner_steps = 2  # paper
    config.learner.inner_lr = 1e-2  # paper; here the initial value
    # "curvature" is better after a few steps, but its exported files are more
    # than three times as large (docs/recipe.md).
    config.learner.step_sizes = "tensor"
    config.learner.learn_step_sizes = True
    config.learner.step_size_gain = 512.0  # about 2% per iteration
    # "solved": in closed form after the steps (meta/output_layer.py).
    config.learner.output_layer = "stepped"  # paper
    config.learner.ridge = config_dict.placeholder(float)  # if it is solved
    # "halves": each step sees half of a picture's pixels (meta/halves.py).
    config.learner.step_on = "all"  # paper
    config.learner.early_loss_weight = 0.2  # paper: 0
    config.learner.eval_steps = 8
    config.learner.task_loop = config_dict.placeholder(str)
    # Of maml (meta/maml.py).
    config.learner.first_order = config_dict.placeholder(bool)
    config.learner.recompute = config_dict.placeholder(bool)
    config.learner.chunk = config_dict.placeholder(int)
    config.signal.inner_steps = config.learner.get_ref("inner_steps")

    config.optimizer = ml_collections.ConfigDict()
    # The hidden kernels of a SIREN with w0 = 200 are small, 4e-4 on average:
    # 1e-5 (paper) is slow.
    config.optimizer.learning_rate = 4e-5
    # Factor of the output kernel's rate. The output kernel of a SIREN starts as
    # small as the hidden ones, and ends twenty times as large.
    config.optimizer.output_gain = 10.0
    config.optimizer.curvature_gain = 50.0  # of step sizes "curvature"
    config.optimizer.warmup_steps = 100
    config.optimizer.final_fraction = 0.01
    config.optimizer.clip_norm = 0.3
    config.optimizer.epsilon = 1e-7  # Adam's

    config.validation = ml_collections.ConfigDict()
    config.validation.every = 250  # outer iterations; also of checkpoints
    config.validation.num_signals = 24

    # The prior by which fits predict unobserved values, measured at the end of
    # the training (meta/completion.py).
    config.prior = ml_collections.ConfigDict()
    config.prior.num_signals = 0  # of training; 0 for no prior
    config.prior.num_components = 64
    # Of a predicted value in a fit, beside 1 for an observed one.
    config.prior.unseen_weight = 0.1

    # Baselines of `python -m tfmetainit.evaluate` (Tancik et al. 2021, 4).
    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.num_signals = 100
    config.evaluation.num_tuning_signals = 4
    config.evaluation.num_steps = 10
    config.evaluation.num_fit_steps = 1000  # for Mean and Matched
    # How many Adam steps a random init needs to match the learned one.
    config.evaluation.num_match_signals = 20
    config.evaluation.max_match_steps = 150
    config.evaluation.sgd_rates = (3e-3, 1e-2, 3e-2, 1e-1)
    config.evaluation.adam_rates = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
    return config


def get_image_config():
    """The fields of every config of images (`signals.base.ImageSignal`)."""
    config = get_config()
    # 0: no random pixels, as in the paper. They make a step cheaper, but give a
    # worse result for the same time, because fits use all pixels; and they need
    # learner.step_on = "all".
    config.signal.points_per_step = 0
    config.learner.output_layer = "solved"
    # Four steps on half of the pixels take the time of two on all of them, and
    # fit better.
    config.learner.step_on = "halves"
    config.learner.inner_steps = 4
    # For about 1 000 outer steps; 2e-5 is better for 2 500 (docs/recipe.md).
    config.optimizer.learning_rate = 3e-5
    config.optimizer.output_gain = 5.0
    # With 0 (paper), fields of this recipe memorise the pixels.
    config.signal.query_between = 0.5
    config.signal.shuffle_buffer = 10_000
    config.prior.num_signals = 512
    return config


def get_ray_config():
    """The fields of every config of rays (`signals.base.RaySignal`)."""
    config = get_config()
    config.signal.rays_per_step = 128
    config.signal.query_rays = 256
    config.signal.num_samples = 128
    config.signal.eval_batches = 128
    config.signal.shuffle_buffer = 1_000
    config.field.name = "simplified_nerf"
    config.field.hidden_layers = 5  # paper
    config.learner.early_loss_weight = 0.0
    config.optimizer.output_gain = 1.0
    return config


def add_generated(config, *, num_train, num_eval):
    """Adds the fields of a class that is drawn from a seed."""
    config.signal.num_train = num_train
    config.signal.num_eval = num_eval
    config.signal.data_seed = 0
    # TFDS's folder; None for ~/tensorflow_datasets.
    config.signal.data_dir = config_dict.placeholder(str)


def use_paper_images(config):
    """Sets every number that the paper's image experiments state."""
    config.num_steps = 150_000
    config.batch_size = 3
    config.signal.resolution = 178
    config.signal.points_per_step = 0
    config.signal.query_between = 0.0
    config.learner.step_on = "all"
    config.learner.inner_steps = 2
    config.optimizer.learning_rate = 1e-5
    use_paper_outer_loop(config)


def use_paper_outer_loop(config):
    """Sets the outer loop that all experiments of the paper share."""
    config.learner.step_sizes = "scalar"
    config.learner.learn_step_sizes = False
    config.learner.early_loss_weight = 0.0
    config.learner.output_layer = "stepped"
    config.optimizer.output_gain = 1.0
    config.optimizer.warmup_steps = 0
    config.optimizer.final_fraction = 1.0
    config.optimizer.clip_norm = 0.0
    # With Keras's 1e-7, Reptile's small gradients move the weights less.
    config.optimizer.epsilon = 1e-8
    config.validation.every = 1_000


def apply_variant(config, variant):
    """Applies the part after the colon in --config=configs/text.py:smoke.

    "smoke" shrinks a config until a run takes seconds. It runs the same code,
    but the network is too small and the steps are too few to learn anything.

    Raises:
        ValueError: if the variant is unknown.
    """
    if variant not in ("", "smoke"):
        raise ValueError(
            f"A config's variant must be 'smoke' or none. Received: {variant!r}"
        )
    if variant == "smoke":
        config.num_steps = 4
        config.signal.resolution = 16
        for name, value in (
            ("num_train", 32),
            ("num_eval", 8),
            ("num_samples", 8),
            ("rays_per_step", 32),
        ):
            if name in config.signal:
                config.signal[name] = value
        config.field.hidden_layers = 2
        config.field.hidden_units = 16
        config.learner.inner_steps = min(config.learner.inner_steps, 2)
        config.learner.eval_steps = 3
        config.optimizer.warmup_steps = 2
        config.validation.every = 2
        config.validation.num_signals = 4
        config.prior.num_signals = 0
        config.evaluation.num_signals = 4
        config.evaluation.num_match_signals = 2
        config.evaluation.num_tuning_signals = 2
        config.evaluation.num_steps = 4
        config.evaluation.max_match_steps = 8
        config.evaluation.num_fit_steps = 10
        for name in ("sgd_rates", "adam_rates"):
            config.evaluation[name] = config.evaluation[name][:2]
    return config
