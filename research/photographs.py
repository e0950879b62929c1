"""A folder of photographs trained on in several ways: from scratch, and from weights that were there already.

    OMP_NUM_THREADS=2 python research/photographs.py --data PHOTOS
    OMP_NUM_THREADS=2 python research/photographs.py --data PHOTOS --only cifar10 "coarse stages"

PHOTOS has train/ and validation/ with a subfolder for each class. The record has the accuracy of the last epoch, none
chosen by the validation pictures; it grows way by way, and a way that is finished is read from its folder again.
"""
import argparse
import shlex
from pathlib import Path

from paddle_fasternet import TrainConfig, evaluate, fit, load_dataset, load_run, plots
from paddle_fasternet._check import check_choice
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import machine

# {name: (what it starts from, how the settings differ from recipe "finetune")}
WAYS = {
    "cifar10": ("cifar10", {}),
    "scratch": (None, {}),
    "coarse stages": ("cifar10", {"merge_sizes": (2, 2, 2)}),
    "scratch, coarse stages": (None, {"merge_sizes": (2, 2, 2)}),
    "224, coarse stages": ("cifar10", {"merge_sizes": (2, 2, 2), "image_size": 224}),
    "adamw": ("cifar10", {"optimizer": "adamw", "lr": 1e-3, "backbone_lr": 0.3, "weight_decay": 0.02,
                          "ema_decay": 0.0}),
    "slow backbone": ("cifar10", {"backbone_lr": 0.3}),
    "balanced": ("cifar10", {"balance": "weights"}),
    "fine patches": ("cifar10", {"patch_size": 2}),
    "60 epochs": ("cifar10", {"epochs": 60}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", default=list(WAYS), metavar="WAY", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", default="work/photographs", metavar="FOLDER", help="of the runs")
    parser.add_argument("--out", default="work/results", metavar="FOLDER", help="of the record and the picture")
    options = parser.parse_args()
    for way in options.only:
        check_choice("only", way, WAYS)
    out = make_folder("out", options.out)
    train, val = load_dataset(options.data)
    rows, curves = [], {}
    for way in options.only:
        pretrained, changes = WAYS[way]
        folder = Path(options.runs, f"{way.replace(',', '').replace(' ', '-')}-{options.seed}")
        fit(TrainConfig.recipe("finetune", seed=options.seed, **changes), train, val, folder, pretrained=pretrained,
            resume=True)
        run = load_run(folder, "final")
        result = evaluate(run, val, flips=run.config.flip_test)
        last = run.history.epochs[-1]
        rows.append({
            "way": way, "pretrained": pretrained, "accuracy": result.accuracy, "top5": result.top5,
            "per_class": result.per_class(), "seconds": last["seconds"], "config": run.config.to_dict(),
            "machine": run.machine, "validation_accuracy": [epoch["val_acc"] for epoch in run.history.epochs]})
        curves[way] = run.history
        print(f"{way}: {result.accuracy:.2%}, {last['seconds']:.0f} s")
        write_json(out / "photographs.json", {
            "command": f"python research/photographs.py --data PHOTOS --only {shlex.join(options.only)} "
                       f"--seed {options.seed}",
            "machine": machine(), "data": {"name": train.name, "classes": list(train.class_names), "train": len(train),
                                           "validation": len(val)}, "rows": rows})
    plots.save_figure(out / "photographs.png", plots.plot_histories, curves)


if __name__ == "__main__":
    main()
