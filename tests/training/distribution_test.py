"""Several devices, and several worker processes, train what one trains."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit import train
from tfmetainit.configs import text
from tfmetainit.io.errors import InputError
from tfmetainit.runs.workdir import Workdir
from tfmetainit.training import distribution

# Arguments: strategy, workdir, data_dir, number of virtual CPU devices.
_PROGRAM = """
import logging
import sys
from tfmetainit import cli
logging.basicConfig(level="INFO")
cli.quiet_tensorflow()
import tensorflow as tf
strategy, workdir, data_dir, devices, chunk, batch = sys.argv[1:]
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices)
)
import distribution_test
from tfmetainit import train
config = distribution_test.config(data_dir, int(chunk), int(batch))
train.train(config, workdir, strategy)
"""


def config(data_dir, chunk=0, batch=4):
    result = text.get_config("smoke")
    result.batch_size = batch
    result.optimizer.clip_norm = 0.01  # so that it clips
    result.signal.data_dir = str(data_dir)
    if chunk:
        result.learner.recompute = True
        result.learner.chunk = chunk
        result.learner.task_loop = "loop"
    return result


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, data_dir):
    """The run of one device: its folder, and what `train` returned."""
    workdir = tmp_path_factory.mktemp("runs") / "one"
    return workdir, train.train(config(data_dir), workdir)


def _start(
    strategy, workdir, data_dir, devices, environment=None, chunk=0, batch=4
):
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM]
        + [
            str(x) for x in (strategy, workdir, data_dir, devices, chunk, batch)
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.path.dirname(__file__),
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(process):
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope="module")
def assert_same_run(arrays_of, one_device):
    def check(workdir, expected=one_device):
        expected, summary = expected
        weights = arrays_of(Workdir(workdir).last)
        for name, value in arrays_of(Workdir(expected).last).items():
            np.testing.assert_allclose(
                weights[name], value, atol=1e-5, rtol=1e-5, err_msg=name
            )
        best = json.loads(Workdir(workdir).best_record.read_text())
        assert best["step"] == summary["best_step"]
        assert abs(best["psnr"] - summary["best_psnr"]) < 1e-4

    return check


@pytest.mark.parametrize(
    "chunk", [0, pytest.param(100, marks=pytest.mark.slow)]
)
def test_two_devices_train_what_one_does(
    chunk, assert_same_run, data_dir, tmp_path
):
    """Also where they recompute, in chunks and a loop, what the one keeps."""
    process = _start("mirrored", tmp_path / "run", data_dir, 2, chunk=chunk)
    output = _finish(process)
    assert "on 2 devices" in output
    assert_same_run(tmp_path / "run")


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _two_workers(workdir, data_dir, **options):
    """What two workers print, which train together."""
    hosts = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    workers = []
    for index in range(2):
        cluster = {
            "cluster": {"worker": hosts},
            "task": {"type": "worker", "index": index},
        }
        environment = {"TF_CONFIG": json.dumps(cluster)}
        workers.append(
            _start("multi_worker", workdir, data_dir, 1, environment, **options)
        )
    try:
        return [_finish(worker) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()


@pytest.mark.slow
def test_a_batch_of_64_on_devices_and_workers(
    assert_same_run, data_dir, tmp_path
):
    expected = tmp_path / "one"
    expected = expected, train.train(config(data_dir, batch=64), expected)
    _finish(_start("mirrored", tmp_path / "two", data_dir, 2, batch=64))
    assert_same_run(tmp_path / "two", expected)
    _two_workers(tmp_path / "workers", data_dir, batch=64)
    assert_same_run(tmp_path / "workers", expected)


@pytest.mark.slow
def test_two_workers_train_what_one_does(assert_same_run, data_dir, tmp_path):
    outputs = _two_workers(tmp_path / "run", data_dir)
    # The chief alone reports and writes.
    assert "val_psnr_2" in outputs[0]
    assert "val_psnr_2" not in outputs[1]
    assert_same_run(tmp_path / "run")


def test_the_share_of_a_replica():
    """Two workers of two devices each: who gets which tasks of eight."""

    class Numbers:
        def make_dataset(self, split, batch_size, seed, start, shard):
            index, number = shard
            first = start * batch_size * number
            numbers = tf.data.Dataset.range(first, 64).shard(number, index)
            return numbers.batch(batch_size)

    class Strategy:
        num_replicas_in_sync = 4

        def distribute_datasets_from_function(self, make):
            return [
                list(make(tf.distribute.InputContext(2, i, 4)).take(2))
                for i in range(2)
            ]

    even, odd = distribution.distribute(
        Strategy(), Numbers(), "train", 8, start=3
    )
    np.testing.assert_array_equal(even, [[24, 26], [28, 30]])
    np.testing.assert_array_equal(odd, [[25, 27], [29, 31]])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_cluster_that_is_none(text, monkeypatch, raises_with):
    monkeypatch.setenv("TF_CONFIG", text)
    with raises_with(InputError, "`strategy`", "TF_CONFIG", repr(text)):
        distribution.make_strategy("multi_worker")


def test_strategies_that_cannot_be_had(monkeypatch, raises_with):
    with raises_with(InputError, "`strategy`", "parameter_server"):
        distribution.make_strategy("parameter_server")
    monkeypatch.delenv("TPU_NAME", raising=False)
    with raises_with(InputError, "`strategy`", "tpu"):
        distribution.make_strategy("tpu")


def test_batches_that_cannot_be_shared(raises_with):
    class Strategy:
        num_replicas_in_sync = 2

    with raises_with(InputError, "`batch_size`", "2", "3"):
        distribution.check_divisible(Strategy(), "batch_size", 3)
