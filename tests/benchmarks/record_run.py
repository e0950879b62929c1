"""Put finished runs of one recipe on record: settings, machine, history, accuracy over seeds, and their curves.

    paddle-fasternet train --data cifar10 --epochs 12 --out work/t0-cifar10
    python tests/benchmarks/record_run.py work/t0-cifar10 --name cifar10_t0

Writes work/results/NAME.json and, of the first run, NAME.png (curves) and NAME_predictions.png.
"""
import argparse
import json
import statistics
from pathlib import Path

import numpy as np

from paddle_fasternet import TrainConfig, evaluate, load_dataset, load_run, plots
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import count_macs, count_parameters, machine


def command(config, out):
    """The command that trained it: every setting that is not the default."""
    changed = {key: value for key, value in config.to_dict().items() if value != TrainConfig().to_dict()[key]}
    given = " ".join(f"--{'no-' if value is False else ''}{key.replace('_', '-')}{_value(value)}"
                     for key, value in changed.items())
    return f"paddle-fasternet train --data cifar10 {given} --out {out}"


def _value(value):
    if isinstance(value, bool):
        return ""
    return f" {' '.join(map(str, value))}" if isinstance(value, list) else f" {value}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs that differ in their seed alone")
    parser.add_argument("--name", required=True)
    parser.add_argument("--data-file", default=None)
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    folder = make_folder("out", options.out)
    runs = [load_run(path, "final") for path in options.runs]
    settings = [{key: value for key, value in run.config.to_dict().items() if key != "seed"} for run in runs]
    if any(other != settings[0] for other in settings):
        parser.error("the runs differ in more than their seed")
    _, test = load_dataset("cifar10", options.data_file)
    results = [evaluate(run.model, test, run.preprocess, flips=run.config.flip_test) for run in runs]
    accuracies = [result.accuracy for result in results]
    for run, accuracy in zip(runs, accuracies):
        if abs(accuracy - run.history.epochs[-1]["val_acc"]) > 1e-6:
            parser.error(f"evaluated again, a run has {accuracy} instead of {run.history.epochs[-1]['val_acc']}")
    first = runs[0]
    write_json(folder / f"{options.name}.json", {
        "command": command(first.config, options.runs[0]),
        "accuracy_of": "the last epoch's weights on the test images; no epoch was chosen by them",
        "accuracy": accuracies, "seeds": [run.config.seed for run in runs], "mean": statistics.mean(accuracies),
        "stdev": statistics.stdev(accuracies) if len(runs) > 1 else None,
        "seconds": [run.history.epochs[-1]["seconds"] for run in runs],
        "parameters": count_parameters(first.model), "macs": count_macs(first.model, first.config.image_size),
        "machine": machine(), "run": json.loads((options.runs[0] / "config.json").read_text(encoding="utf-8")),
        "epochs": [run.history.epochs for run in runs], "record": first.history.record})
    plots.save_figure(folder / f"{options.name}.png", plots.plot_history, first.history)
    names, shown = np.array(test.class_names), slice(0, 32)
    plots.save_figure(folder / f"{options.name}_predictions.png", plots.show_images, test.images[shown], 4, 8,
                      pred=names[results[0].predicted[shown]], gt=names[test.labels[shown]])
    print(f"accuracy {accuracies}, mean {statistics.mean(accuracies):.4f}; written to {folder}")


if __name__ == "__main__":
    main()
