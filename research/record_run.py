"""Put finished runs of one recipe on record: settings, machine, history, accuracy over seeds, and their curves.

    paddle-fasternet train --data cifar10 --recipe cpu --seed 0 --out work/t0-0
    python research/record_run.py work/t0-0 --name cifar10_t0
    python research/record_run.py work/t0-1 --name cifar10_t0 --add     # another seed, another day

Writes work/results/NAME.json and, unless it adds to what is there, NAME.png (curves) and NAME_predictions.png of the
first run.
"""
import argparse
import json
import statistics
from pathlib import Path

import numpy as np

from paddle_fasternet import TrainConfig, evaluate, load_dataset, load_run, plots
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import count_macs, count_parameters


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


def settings(config):
    """All but the seed."""
    return {key: value for key, value in config.to_dict().items() if key != "seed"}


def figures(path, run, accuracy):
    """What the record holds of a run."""
    epochs = run.history.epochs
    if abs(accuracy - epochs[-1]["val_acc"]) > 1e-6:
        raise SystemExit(f"{path}: evaluated again, it has {accuracy} instead of {epochs[-1]['val_acc']}")
    if run.machine is None:
        raise SystemExit(f"{path}: its config.json, of an earlier version, does not name the machine it was trained on")
    return {"seed": run.config.seed, "accuracy": accuracy, "seconds": epochs[-1]["seconds"],
            "train_seconds": sum(epoch["train_seconds"] for epoch in epochs),
            "command": command(run.config, path), "config": run.config.to_dict(), "data": run.data,
            "machine": run.machine, "epochs": epochs}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs that differ in their seed alone")
    parser.add_argument("--name", required=True)
    parser.add_argument("--add", action="store_true", help="to the seeds that the record has")
    parser.add_argument("--data-file", default=None)
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    folder = make_folder("out", options.out)
    path = folder / f"{options.name}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if options.add else {"runs": []}
    runs = [load_run(run, "final") for run in options.runs]
    configs = [TrainConfig.from_dict(run["config"]) for run in before["runs"]] + [run.config for run in runs]
    if any(settings(config) != settings(configs[0]) for config in configs):
        parser.error("the runs differ in more than their seed")
    if len({config.seed for config in configs}) < len(configs):
        parser.error(f"a seed is there twice: {[config.seed for config in configs]}")
    _, test = load_dataset("cifar10", options.data_file)
    results = [evaluate(run.model, test, run.preprocess, flips=run.config.flip_test) for run in runs]
    found = before["runs"] + [figures(run_folder, run, result.accuracy)
                              for run_folder, run, result in zip(options.runs, runs, results)]
    accuracies = [run["accuracy"] for run in found]
    first = runs[0]
    write_json(path, {
        **before, "accuracy_of": "the last epoch's weights on the test images; no epoch was chosen by them",
        "mean": statistics.mean(accuracies), "stdev": statistics.stdev(accuracies) if len(found) > 1 else None,
        "parameters": count_parameters(first.model), "macs": count_macs(first.model, first.config.image_size),
        "runs": found})
    if not options.add:
        plots.save_figure(path.with_suffix(".png"), plots.plot_history, first.history)
        names, shown = np.array(test.class_names), slice(0, 32)
        plots.save_figure(folder / f"{options.name}_predictions.png", plots.show_images, test.images[shown], 4, 8,
                          pred=names[results[0].predicted[shown]], gt=names[test.labels[shown]])
    print(f"accuracy {accuracies}, mean {statistics.mean(accuracies):.4f}; written to {folder}")


if __name__ == "__main__":
    main()
