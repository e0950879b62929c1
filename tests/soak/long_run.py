"""What a long training holds on to: memory, threads and open files over 2,000 steps.

    OMP_NUM_THREADS=2 python tests/soak/long_run.py

Everything that keeps state is on: averaged weights, stochastic depth, mixing augmentation, checkpoints, an evaluation
and the files of an epoch every 100 steps. Writes work/results/long_run.json and fails where memory grows.
"""
import argparse
import ctypes
import gc
import os
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from paddle_fasternet import TrainConfig, fit, load_dataset
from paddle_fasternet._files import write_json
from paddle_fasternet.benchmark import machine
from paddle_fasternet.training import trainer

STEPS, BATCH = 2000, 8
MOST_GROWTH = 2e6  # bytes over the second half; the history itself takes a tenth of it


def resident():
    """Bytes of memory that this process holds, without what it could give back at once."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def held():
    return {"threads": threading.active_count(), "files": len(os.listdir("/proc/self/fd"))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS, help="a multiple of 100")
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    images, test = load_dataset("digits")
    config = TrainConfig(epochs=options.steps // 100, batch_size=BATCH, patch_size=4, ema_decay=0.99,
                         drop_path_rate=0.1, augment="shift=3,mixup,cutmix")
    memory, inside, real = [], [], trainer.Trainer.finish_epoch

    def finish_epoch(self, *args):
        memory.append(resident())
        inside.append(held())
        real(self, *args)

    trainer.Trainer.finish_epoch = finish_epoch
    with tempfile.TemporaryDirectory() as root:
        fit(TrainConfig(epochs=1, batch_size=BATCH, patch_size=4), images[:BATCH], test[:BATCH], Path(root) / "first",
            progress=False)  # what is loaded once
        memory.clear(), inside.clear()
        before = held()
        fit(config, images[:100 * BATCH], test[:100], Path(root) / "run", progress=False, checkpoint_seconds=5)
        after = held()
    half = len(memory) // 2
    growth = float(np.median(memory[-half // 2:]) - np.median(memory[half:half + half // 2 + 1]))
    print(f"{options.steps} steps: {memory[0] / 1e6:.0f} MB after 100 steps, {memory[-1] / 1e6:.0f} MB at the end, "
          f"{growth / 1e6:.1f} MB of it in the second half; held before {before}, within {inside[-1]}, after {after}")
    write_json(Path(options.out) / "long_run.json", {
        "command": "OMP_NUM_THREADS=2 python tests/soak/long_run.py", "machine": machine(),
        "config": config.to_dict(), "data": "digits", "steps": options.steps,
        "bytes_every_100_steps": memory, "growth_in_second_half": growth, "held_before": before,
        "held_within": inside[-1], "held_after": after})
    if growth > MOST_GROWTH or before != after:
        sys.exit("something is held on to")


if __name__ == "__main__":
    main()
