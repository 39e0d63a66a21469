"""Learning to fit: MAML for a neural field, from end to end.

    python examples/minimal_maml.py

Draws a class of signals, meta-trains on it, and adapts to a signal that was
never seen. Half a minute on one core.
"""

import keras
import numpy as np
import tensorflow as tf

import tfmetainit

SIDE = 16  # of an image, in pixels
STEPS = 4


def draw_task(rng):
    """One signal, a sum of two plane waves: what is seen of it, and scored."""
    frequencies = rng.uniform(-3, 3, [2, 2])  # waves per side: rows, columns
    phases = rng.uniform(0, 2 * np.pi, 2)

    def signal(coords):
        waves = np.sin(2 * np.pi * coords @ frequencies.T + phases)
        return np.float32(0.5 + 0.25 * waves.sum(-1, keepdims=True))

    pixels = np.float32(np.indices([SIDE, SIDE]).reshape(2, -1).T / SIDE)
    # A field that is scored only at the pixels can memorise them and be noise
    # in between, so the query is elsewhere.
    points = np.float32(rng.uniform(0, pixels.max(), [SIDE * SIDE, 2]))
    return tfmetainit.Task(
        # The first axis counts batches of observations, which the inner steps
        # take in turn. One batch: all pixels at every step.
        support=tfmetainit.Observations(pixels[None], signal(pixels)[None]),
        query=tfmetainit.Observations(points, signal(points)),
    )


def psnr_by_step(learner, task):
    """PSNR between the pixels, in dB, after 0, 1, ..., `STEPS` steps."""
    psnr = []
    for steps in range(STEPS + 1):
        # Weights in, weights out: adapting changes nothing in the learner.
        adapted, _ = learner.adapt(task.support, steps)
        psnr.append(float(learner.query_loss.psnr(adapted, task.query)))
    return psnr


def main():
    """Trains, and compares learned with random weights."""
    rng = np.random.default_rng(seed=0)
    drawn = [draw_task(rng) for _ in range(2000)]
    # An element of the dataset is a batch of tasks, here of three.
    tasks = tf.nest.map_structure(lambda *leaves: np.stack(leaves), *drawn)
    tasks = tf.data.Dataset.from_tensor_slices(tasks).shuffle(2000, seed=0)
    tasks = tasks.repeat().batch(3, drop_remainder=True)

    # w0 is the network's bandwidth: these waves are slow, so it is small.
    options = {"value_dims": 1, "hidden_layers": 3, "hidden_units": 64}
    field = tfmetainit.SIREN(w0=30.0, seed=0, **options)
    # The initial weights and a step size for each tensor are learned together.
    learner = tfmetainit.MAML(
        field, inner_steps=2, step_sizes="tensor", learn_step_sizes=True
    )
    learner.compile(keras.optimizers.Adam(3e-4, global_clipnorm=0.3))
    learner.fit(tasks, steps_per_epoch=100, epochs=5, shuffle=False, verbose=2)

    unseen = draw_task(rng)
    learned = psnr_by_step(learner, unseen)
    # Random weights have the best of several step sizes for this very signal.
    field = tfmetainit.SIREN(w0=30.0, seed=1, **options)
    rates = [1e-4, 1e-3, 1e-2, 1e-1]
    untrained = [tfmetainit.MAML(field, inner_lr=rate) for rate in rates]
    random = max((psnr_by_step(other, unseen) for other in untrained), key=max)
    print("PSNR in dB after gradient steps 0 to 4, between the pixels:")
    print("  learned weights", *(f"{psnr:6.1f}" for psnr in learned))
    print("  random weights ", *(f"{psnr:6.1f}" for psnr in random))


if __name__ == "__main__":
    main()
