"""Two processes against one at the same total batch: losses side by side, and what happens when one process is killed.

    OMP_NUM_THREADS=1 python tests/soak/two_processes.py

Both use one thread a process. Once with BatchNorm, whose statistics are of each process's part of a batch, and once
with a normalisation of each image by itself, where nothing may differ. Writes work/results/two_processes.json and .png.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from paddle import nn

from paddle_fasternet import TrainConfig, fit, load_dataset, plots
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import machine
from paddle_fasternet.model import VARIANTS

CONFIG = dict(epochs=3, batch_size=64, patch_size=4, augment="none", drop_path_rate=0.0, lr=1e-3)
NORMS = {"batch": nn.BatchNorm2D, "image": lambda channels: nn.GroupNorm(1, channels)}


def train(norm, folder):
    """One process, or one of several under launch."""
    VARIANTS["fasternet_t0"] = {**VARIANTS["fasternet_t0"], "norm_layer": NORMS[norm]}
    images, test = load_dataset("digits")
    fit(TrainConfig(**CONFIG), images, test, folder, progress=False)


def start(processes, norm, folder):
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(processes), "--log_dir", f"{folder}-log"]
    command = [sys.executable, *(launch if processes > 1 else []), __file__, "--worker", norm, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_one(root):
    """Seconds until launch has ended after SIGKILL of the second process in the middle of the training."""
    process = start(2, "batch", root / "killed")
    log = root / "killed" / "log.jsonl"
    while not log.exists() or log.read_text().count('"train"') < 3:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {}
    for child in children:
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks.update({int(entry.split(b"=")[1]): int(child) for entry in environment
                      if entry.startswith(b"PADDLE_TRAINER_ID=")})
    begun = time.perf_counter()
    os.kill(ranks[1], signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    return {"seconds_until_the_end": round(time.perf_counter() - begun, 1), "exit_status": process.returncode,
            "named_by_launch": next(line.split(" cmd")[0] for line in said.splitlines()
                                    if line.startswith("Container rank")),
            "steps_logged": log.read_text().count('"train"')}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="work/results")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        train(*options.worker)
        return
    out, results = make_folder("out", options.out), {}
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        for norm in NORMS:
            for processes in (1, 2):
                folder = root / f"{norm}{processes}"
                process = start(processes, norm, folder)
                said, _ = process.communicate()
                if process.returncode:
                    sys.exit(said)
                history = json.loads((folder / "history.json").read_text())
                results[norm, processes] = {
                    "train_loss": history["record"]["train"]["loss"], "val_loss": history["record"]["val"]["loss"],
                    "val_acc": history["record"]["val"]["acc"],
                    "images_per_second": [round(epoch["images_per_second"], 1) for epoch in history["epochs"]]}
        killed = kill_one(root)
    record = {"command": "OMP_NUM_THREADS=1 python tests/soak/two_processes.py", "machine": machine(),
              "config": TrainConfig(**CONFIG).to_dict(), "data": "digits", "one_process_is_killed": killed}
    for norm in NORMS:
        one, two = results[norm, 1], results[norm, 2]
        far = {key: float(np.abs(np.subtract(one[key], two[key])).max()) for key in ("train_loss", "val_loss")}
        record[f"normalised_by_{norm}"] = {"one": one, "two": two, "largest_difference": far}
        print(f"normalised by {norm}: largest difference {far}; images/s {one['images_per_second']} against "
              f"{two['images_per_second']}")
    print(f"one of two killed: {killed}")
    write_json(out / "two_processes.json", record)
    plots.save_figure(out / "two_processes.png", draw, results)


def draw(results, figure):
    figure.set_size_inches(10, 3.5)
    for axis, norm in zip(figure.subplots(1, 2, sharey=True), NORMS):
        for processes, style, label in ((1, "-", "one process"), (2, "--", "two processes")):
            axis.plot(results[norm, processes]["train_loss"], style, label=label)
        axis.set(title=f"normalised by {norm}", xlabel="step", ylabel="training loss")
        axis.legend()


if __name__ == "__main__":
    main()
