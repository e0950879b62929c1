"""Make a finished run the network that the package ships as pretrained="cifar10".

    python research/ship_run.py work/t0-cifar10 --record work/results/cifar10_t0.json

Matrices are stored in float16, which halves the file, and read as float32; how many of the test images then get another
answer is measured and goes into the record. The training curve keeps its epochs, not its steps. Nothing is changed
where the file is too large or the accuracy suffers.
"""
import argparse
import dataclasses
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from paddle_fasternet import History, evaluate, load_dataset, load_run
from paddle_fasternet._files import file_digest, write_json
from paddle_fasternet.weights import CIFAR10_RUN, read_weights
from paddle_fasternet.weights.write import write_arrays

WEIGHTS = "final_model.pdparams"
MOST_BYTES = 11_000_000
MOST_LOSS = 0.001  # of accuracy


def by_epoch(history):
    """The history with one value an epoch in its training record instead of one a step, a tenth of the file."""
    train = {"iter": "step", "loss": "train_loss", "acc": "train_acc"}
    record = {key: [epoch[name] for epoch in history.epochs] for key, name in train.items()}
    return dataclasses.replace(history, record={**history.record, "train": record})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--record", type=Path, required=True, help="what record_run.py made of it")
    parser.add_argument("--data-file", default=None)
    options = parser.parse_args()
    record = json.loads(options.record.read_text(encoding="utf-8"))  # first: without one nothing is to change
    _, test = load_dataset("cifar10", options.data_file)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(options.run / "config.json", folder)
        by_epoch(History.load(options.run / "history.json")).save(Path(folder) / "history.json")
        write_arrays({name: array.astype(np.float16) if array.ndim > 1 else array
                      for name, array in read_weights(options.run / WEIGHTS).items()}, Path(folder) / WEIGHTS)
        size = os.path.getsize(Path(folder) / WEIGHTS)
        runs = [load_run(path, "final") for path in (options.run, folder)]
        before, after = (evaluate(run.model, test, run.preprocess, flips=run.config.flip_test) for run in runs)
        changed = int((before.predicted != after.predicted).sum())
        print(f"{size / 1e6:.1f} MB; accuracy {before.accuracy:.4f} before and {after.accuracy:.4f} after; "
              f"{changed} of {len(test)} answers changed")
        if size > MOST_BYTES or after.accuracy < before.accuracy - MOST_LOSS:
            parser.error("too large, or less accurate than before; nothing was changed")
        for name in ("config.json", "history.json", WEIGHTS):
            shutil.copy(Path(folder) / name, CIFAR10_RUN)
    record["shipped"] = {"bytes": size, "weights": file_digest(CIFAR10_RUN / WEIGHTS), "accuracy": after.accuracy,
                         "changed_answers": changed}
    write_json(options.record, record)


if __name__ == "__main__":
    main()
