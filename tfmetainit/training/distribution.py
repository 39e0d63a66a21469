"""Training on several devices: every replica takes a share of the tasks.

This is data parallelism over the tasks of a meta-batch (tf.distribute). The
outer gradients of the replicas are averaged before they are clipped and
applied. The same seed and batch size therefore give the same weights on any
number of replicas, up to rounding. The strategies:

    one_device      the first GPU, or the CPU
    mirrored        all GPUs of this machine, or else all its CPU devices
    multi_worker    the devices of several machines, named by TF_CONFIG
    tpu             the TPU attached to this machine
"""

import json
import os

import tensorflow as tf

from tfmetainit.io.errors import InputError, reason
from tfmetainit.signals.base.signal_class import SignalClass

STRATEGIES = ("one_device", "mirrored", "multi_worker", "tpu")


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of one of `STRATEGIES`.

    Call it before TensorFlow has computed anything. With "multi_worker" it
    waits until all workers have started.

    Raises:
        InputError: if the name is unknown, TF_CONFIG is not valid, or there is
            no TPU.
    """
    if name not in STRATEGIES:
        raise InputError(
            f"`strategy` must be one of {', '.join(STRATEGIES)}. Received: "
            f"{name!r}"
        )
    if name == "one_device":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU")
        devices = devices or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([d.name for d in devices])
    if name == "multi_worker":
        _check_cluster(os.environ.get("TF_CONFIG", ""))
        return tf.distribute.MultiWorkerMirroredStrategy()
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        return tf.distribute.TPUStrategy(resolver)
    # Without a TPU the resolver raises errors of several kinds.
    except Exception as error:
        raise InputError(
            f"`strategy`=tpu needs a TPU; none was found: {reason(error)}"
        ) from error


def _check_cluster(text):
    """Raises InputError unless TF_CONFIG names all workers and this one."""
    try:
        cluster = json.loads(text)
        workers, task = cluster["cluster"]["worker"], cluster["task"]
        valid = task["type"] == "worker" and task["index"] in range(
            len([worker.rindex(":") for worker in workers])
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise InputError(
            "`strategy`=multi_worker needs the environment variable TF_CONFIG "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
            '"worker", "index": 0}}, with the index of this worker. '
            f"Received: {text[:200]!r}"
        )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes a run's files."""
    resolver = strategy.cluster_resolver
    return resolver is None or resolver.task_id in (None, 0)


def check_divisible(strategy: tf.distribute.Strategy, name: str, count: int):
    """Raises InputError unless every replica gets an equal share of `count`."""
    replicas = strategy.num_replicas_in_sync
    if count % replicas:
        raise InputError(
            f"`{name}` must be a multiple of the {replicas} devices that share "
            f"it. Received: {count}"
        )


def distribute(
    strategy: tf.distribute.Strategy,
    signal: SignalClass,
    split: str,
    batch_size: int,
    *,
    seed: int = 0,
    start: int = 0,
    count: int | None = None,
):
    """The batches of a split, each divided among a strategy's replicas.

    Args:
        strategy: as returned by `make_strategy`.
        signal: the signal class.
        split: one of its splits.
        batch_size: number of tasks in a batch over all replicas, a multiple of
            their number.
        seed: as in `SignalClass.make_dataset`.
        start: number of batches to skip, as in `SignalClass.make_dataset`.
        count: if set, only the first `count` tasks are used, a multiple of
            `batch_size`. They are kept in memory and repeated.

    Returns:
        A dataset for `keras.Model.fit`.
    """

    def batches(context):
        share = context.get_per_replica_batch_size(batch_size)
        workers = context.num_input_pipelines
        dataset = signal.make_dataset(
            split,
            share,
            seed=seed,
            # The replicas of a worker take its batches in turn.
            start=start * batch_size // (share * workers),
            shard=(context.input_pipeline_id, workers),
        )
        if count is None:
            return dataset
        return dataset.take(count // (share * workers)).cache().repeat()

    if strategy.num_replicas_in_sync == 1:
        return batches(tf.distribute.InputContext())
    return strategy.distribute_datasets_from_function(batches)
