"""Kill a training with SIGKILL at random moments, resume it, and hold its end against that of one left alone.

    OMP_NUM_THREADS=2 python tests/soak/kill_and_resume.py

Writes work/results/kill_and_resume.json: for each kill what was going on, how many steps were done and how many of them
were lost; whether the final weights, the best weights and the history are equal, bit for bit; what a checkpoint costs.
"""
import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from paddle_fasternet import TrainConfig, fit, load_dataset
from paddle_fasternet._files import write_json
from paddle_fasternet.benchmark import machine
from paddle_fasternet.training import checkpoint, trainer
from paddle_fasternet.weights import read_weights

CONFIG = dict(epochs=2, batch_size=32, patch_size=4, augment="shift=3,mixup,cutmix", drop_path_rate=0.1, ema_decay=0.99)
TRAIN, TEST = 640, 1400  # images; many to evaluate, so that kills meet that too
CHECKPOINT_SECONDS = 0.3
PHASES = ("starting", "step", "between steps", "evaluation", "writing")
COMMAND = "OMP_NUM_THREADS=2 python tests/soak/kill_and_resume.py"


def child(folder, board_path):
    """Train in ``folder`` and keep two numbers in a shared file that outlives a kill: phase, steps done."""
    board = np.memmap(board_path, np.int64, "r+", shape=2)
    fit_module = sys.modules["paddle_fasternet.training.loop"]
    fit_module._LEAST_SHARE = 0  # as often as asked for, so that a kill meets the writing too

    def during(phase, function):
        def wrapped(*args, **kwargs):
            before, board[0] = board[0], PHASES.index(phase)
            result = function(*args, **kwargs)
            board[0] = before
            return result
        return wrapped

    real = trainer._make_step

    def make_step(*args):
        step, scaler = real(*args)

        def counted(*batch):
            if board[0] == 0:
                board[0] = PHASES.index("between steps")
            result = during("step", step)(*batch)
            board[1] += 1
            return result
        return counted, scaler

    restore = trainer.Trainer.restore

    def restored(self, *args):
        restore(self, *args)
        board[1] = self.steps

    trainer.Trainer.restore = restored
    trainer._make_step = make_step
    trainer.evaluate = during("evaluation", trainer.evaluate)
    checkpoint.Checkpoints.save = during("writing", checkpoint.Checkpoints.save)
    fit_module._Run.publish = during("writing", fit_module._Run.publish)
    images, _ = load_dataset("digits")
    fit(TrainConfig(**CONFIG), images[:TRAIN], images[:TEST], folder, progress=False, resume=True,
        checkpoint_seconds=CHECKPOINT_SECONDS)


def outcome(folder):
    """Everything a finished run leaves but the clock's readings."""
    history = json.loads((folder / "history.json").read_text())
    epochs = [{key: value for key, value in epoch.items() if "second" not in key} for epoch in history["epochs"]]
    weights = {name: {key: value.tobytes() for key, value in read_weights(folder / name).items()}
               for name in ("best_model.pdparams", "final_model.pdparams")}
    return weights, history["record"], epochs


def start(folder, board):
    board[:] = 0
    return subprocess.Popen([sys.executable, __file__, "--child", str(folder), board.filename])


def wait_for_training(process, board):
    while board[0] == 0 and process.poll() is None:
        time.sleep(0.005)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="work/results")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    rng, kills, runs = random.Random(options.seed), [], 0
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        np.zeros(2, np.int64).tofile(root / "board")
        board = np.memmap(root / "board", np.int64, "r+", shape=2)
        process = start(root / "alone", board)
        wait_for_training(process, board)
        begun = time.perf_counter()
        if process.wait():
            sys.exit("the training without kills failed")
        duration = time.perf_counter() - begun
        expected, steps = outcome(root / "alone"), int(board[1])
        print(f"alone: {steps} steps in {duration:.1f} s", flush=True)
        while len(kills) < options.kills:
            folder = root / f"run{runs}"
            while True:
                process = start(folder, board)
                wait_for_training(process, board)
                try:
                    process.wait(rng.uniform(0, duration / 4) if len(kills) < options.kills else None)
                    break  # it came to its end
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                phase, done = PHASES[board[0]], int(board[1])
                saved = checkpoint.Checkpoints(folder).load()
                kept = saved[1]["steps"] if saved else 0
                if saved is None and done == steps:  # it had removed its checkpoints and was about to return
                    phase, kept = "after the end", done
                kills.append({"run": runs, "phase": phase, "step": done, "checkpoint": kept, "repeated": done - kept})
                print(kills[-1], flush=True)
            if process.returncode:
                sys.exit(f"run {runs} did not resume")
            if outcome(folder) != expected:
                sys.exit(f"run {runs} ended in other weights or another history")
            print(f"run {runs}: equal", flush=True)
            runs += 1
        cost = checkpoint_cost(root)
    repeated = [kill["repeated"] for kill in kills]
    write_json(Path(options.out) / "kill_and_resume.json", {
        "command": COMMAND, "machine": machine(), "config": TrainConfig(**CONFIG).to_dict(),
        "data": "digits", "images": [TRAIN, TEST],
        "checkpoint_seconds": CHECKPOINT_SECONDS, "steps_of_a_run": steps, "seconds_of_a_run": round(duration, 2),
        "kills": len(kills), "runs": runs, "resumed": len(kills), "equal_weights_and_history": True,
        "by_phase": dict(collections.Counter(kill["phase"] for kill in kills)),
        "repeated_steps": {"mean": float(np.mean(repeated)), "median": float(np.median(repeated)),
                           "largest": max(repeated)},
        "checkpoint": cost, "each": kills})
    print(f"{len(kills)} kills in {runs} runs, all resumed, all equal; repeated steps: mean {np.mean(repeated):.1f}")


def checkpoint_cost(root, repeats=20):
    """Bytes of T0's checkpoint with averaged weights, and seconds to write one: median and quartiles."""
    images, _ = load_dataset("digits")
    seconds, sizes = [], []
    run = sys.modules["paddle_fasternet.training.loop"]._Run
    save = run.save

    def timed(self):
        begun = time.perf_counter()
        save(self)
        seconds.append(time.perf_counter() - begun)
        sizes.append(os.path.getsize(self.checkpoints._paths[-1]))

    run.save = timed
    config = TrainConfig(**{**CONFIG, "epochs": 1})
    fit(config, images[:32 * repeats], images[:200], root / "cost", progress=False, checkpoint_seconds=0)
    run.save = save
    low, median, high = np.percentile(seconds, (25, 50, 75)).round(4).tolist()
    return {"bytes": sizes[-1], "seconds": {"median": median, "low": low, "high": high, "repeats": len(seconds)},
            "share_at_most": 1 / sys.modules["paddle_fasternet.training.loop"]._LEAST_SHARE}


if __name__ == "__main__":
    main()
