"""Two processes under Paddle's launch. Each start takes seconds, so one script does all that goes well."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from networks import TINY
from paddle import nn

from paddle_fasternet import TrainConfig, fit, load_run
from paddle_fasternet.data import Loader
from paddle_fasternet.model import VARIANTS

ROOT = Path(__file__).resolve().parents[2]
QUICK = dict(epochs=2, batch_size=8, lr=4e-3, augment="none", warmup_epochs=0.5, drop_path_rate=0.0)

# What both the script under launch and the tests need
SETUP = """
import json, os, signal, sys, time
rank = int(os.environ["PADDLE_TRAINER_ID"])
time.sleep(rank)  # one that comes before the first has opened its store tries again only after three seconds
import numpy as np
import paddle
from paddle import nn
from paddle_fasternet import TrainConfig, fit, load_run, plots
from paddle_fasternet.data import ImageSet
from paddle_fasternet.model import VARIANTS
from paddle_fasternet.training import trainer
plots.save_figure = lambda *_: None

loaded = np.load("set.npz")
images = ImageSet(loaded["images"], loaded["labels"], ("red", "green", "blue", "yellow"), "colours", "made")
small, quick = json.loads(sys.argv[1]), json.loads(sys.argv[2])
VARIANTS["fasternet_t0"] = small

def before_step(number, function):
    real, calls = trainer._make_step, []
    def make_step(*args):
        step, scaler = real(*args)
        def counted(*batch):
            calls.append(1)
            if len(calls) == number:
                trainer._make_step = real
                function()
            return step(*batch)
        return counted, scaler
    trainer._make_step = make_step
"""


@pytest.fixture
def launch(tiny_set, tmp_path):
    """Run a script in two processes; (exit status, what launch printed, the processes' logs)."""
    np.savez(tmp_path / "set.npz", images=tiny_set.images, labels=tiny_set.labels)

    def start(script):
        (tmp_path / "script.py").write_text(SETUP + script)
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PADDLE_")}
        done = subprocess.run(
            [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", "log",
             "script.py", json.dumps(TINY), json.dumps(QUICK)], cwd=tmp_path, timeout=120, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**outside, "PYTHONPATH": str(ROOT)})
        logs = [(tmp_path / "log" / f"workerlog.{rank}").read_text() for rank in range(2)]
        return done.returncode, done.stdout, logs

    return start


def test_two_processes_train_as_one(launch, tiny_set, tmp_path, monkeypatch):
    status, _, logs = launch("""
history = fit(TrainConfig(**quick), images, images, "bn", progress=False)
# interrupted by a signal that one process alone gets, and resumed
before_step(7, lambda: rank == 1 and os.kill(os.getpid(), signal.SIGINT))
try:
    fit(TrainConfig(**quick), images, images, "stopped", progress=False)
except KeyboardInterrupt as stopped:
    print("STOPPED", stopped)
again = fit(TrainConfig(**quick), images, images, "stopped", progress=False, resume=True)
print("RESUMED", again.record == history.record)
# which part of a batch an image is in makes no difference to a normalisation of its own
VARIANTS["fasternet_t0"] = {**small, "norm_layer": lambda channels: nn.GroupNorm(1, channels)}
plain = fit(TrainConfig(**quick, ema_decay=0.9), images, images, "plain", progress=False)
model = load_run("plain", "final").model
print("RECORD", json.dumps([plain.record, float(sum(p.abs().sum() for p in model.parameters()))]))
for match, change, val in [("batch_size=9 must be a multiple of the 2 processes", {"batch_size": 9}, images),
                           ("val has 1 images, fewer than the 2 processes", {}, images[:1])]:
    try:
        fit(TrainConfig(**{**quick, **change}), images, val, "bad", progress=False)
    except ValueError as error:
        assert match in str(error), error
        print("REFUSED")
""")
    assert status == 0, logs
    for log in logs:
        assert "STOPPED stopped after step 7 of 10; go on with resume=True" in log and log.count("REFUSED") == 2
        assert "RESUMED True" in log
    records = [log.split("RECORD ")[1].split("\n")[0] for log in logs]
    assert records[0] == records[1]  # both know the whole

    monkeypatch.setitem(VARIANTS, "fasternet_t0", {**TINY, "norm_layer": lambda channels: nn.GroupNorm(1, channels)})
    monkeypatch.chdir(tmp_path)
    alone = fit(TrainConfig(**QUICK, ema_decay=0.9), tiny_set, tiny_set, "alone", progress=False)
    record, _ = json.loads(records[0])
    for part, key in [("train", "loss"), ("val", "loss"), ("val", "acc")]:
        np.testing.assert_allclose(record[part][key], alone.record[part][key], atol=2e-5)
    ours, theirs = (load_run(name, "final").model.state_dict() for name in ("alone", "plain"))
    for name, value in ours.items():
        np.testing.assert_allclose(value.numpy(), theirs[name].numpy(), atol=1e-4, err_msg=name)


def test_a_process_that_dies_ends_the_run_with_its_error(launch, tiny_set, tmp_path, monkeypatch):
    start = time.perf_counter()
    status, said, logs = launch("""
def die():
    if rank == 1:
        raise ValueError("process one is ill")
before_step(7, die)
fit(TrainConfig(**quick), images, images, "run", progress=False, checkpoint_seconds=0)
""")
    assert status != 0 and time.perf_counter() - start < 60
    assert "ValueError: process one is ill" in said and "Container rank 1 status failed" in said
    # what is there can be gone on with, in one process too
    monkeypatch.setitem(VARIANTS, "fasternet_t0", TINY)
    history = fit(TrainConfig(**QUICK), tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)
    assert history.record["train"]["iter"] == list(range(1, 11))
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"event": "resumed", "step": 6} in events


def test_the_parts_make_the_whole(tiny_set):
    parts = []
    for rank in range(2):
        loader = Loader(tiny_set, 8, shuffle=True, drop_last=True, seed=3, shard=(rank, 2))
        assert len(loader) == 5
        parts.append([(images.numpy(), labels.numpy()) for images, labels in loader.epoch(1)])
    whole = Loader(tiny_set, 8, shuffle=True, drop_last=True, seed=3)
    for (images, labels), first, second in zip(whole.epoch(1), *parts):
        for part, rank in ((first, 0), (second, 1)):
            np.testing.assert_array_equal(part[0], images.numpy()[rank::2])
            np.testing.assert_array_equal(part[1], labels.numpy()[rank::2])


@pytest.mark.parametrize("shard, batch_size, message", [
    ((1, 1), 8, "0 <= rank < size"), ((0, 0), 8, "0 <= rank < size"), ((0, 1, 2), 8, "0 <= rank < size"),
    ((0, 3), 8, "a multiple of the 3 processes"), ((0, 8), 8, "at least 2 images"),
])
def test_shards_that_cannot_be(tiny_set, shard, batch_size, message):
    with pytest.raises(ValueError, match=message):
        Loader(tiny_set, batch_size, shard=shard)
