"""What each ingredient of a recipe gives: short trainings on CIFAR-10 that differ from a base in one setting.

    OMP_NUM_THREADS=2 python tests/benchmarks/recipe_study.py --data-file cifar-10-python.tar.gz --only base muon he

Each training is added to work/results/recipe_study.json when it ends; those that are there already are left out, and
one that was interrupted goes on. Accuracies are the last epoch's on the test images; no epoch was chosen by them.
"""
import argparse
import json
import shutil
import statistics
from pathlib import Path

from paddle_fasternet import TrainConfig, fit, load_dataset
from paddle_fasternet._check import check_choice
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import machine

BASE = TrainConfig.recipe("short").to_dict()
STUDY = {  # name: what differs from the base
    "base": {},
    "init of the paper": {"init": "paper"},
    "no flips at test": {"flip_test": False},
    "patch 1": {"patch_size": 1},
    "patch 1, decay 0.5, cutout, ema": {"patch_size": 1, "weight_decay": 0.5, "augment": "altflip,shift=4,cutout",
                                        "ema_decay": 0.998},
    "patch 1, merge 2 2 1": {"patch_size": 1, "merge_sizes": (2, 2, 1)},
    "patch 4": {"patch_size": 4},
    "merge 1 2 2": {"merge_sizes": (1, 2, 2)},
    "merge 2 1 2": {"merge_sizes": (2, 1, 2)},
    "merge 2 2 1": {"merge_sizes": (2, 2, 1)},
    "merge 1 2 1": {"merge_sizes": (1, 2, 1)},
    "merge 1 1 2": {"merge_sizes": (1, 1, 2)},
    "fp32": {"amp": "off"},
    "batch 128": {"batch_size": 128},
    "batch 512": {"batch_size": 512},
    "lr 2e-3": {"lr": 2e-3},
    "lr 8e-3": {"lr": 8e-3},
    "linear": {"schedule": "linear"},
    "no warm-up": {"warmup_epochs": 0},
    "weight decay 0.005": {"weight_decay": 0.005},
    "weight decay 0.2": {"weight_decay": 0.2},
    "weight decay 0.5": {"weight_decay": 0.5},
    "weight decay 1": {"weight_decay": 1},
    "n_div 2": {"n_div": 2},
    "drop path 0.1": {"drop_path_rate": 0.1},
    "adamw": {"optimizer": "adamw"},
    "lr 1.6e-2": {"lr": 1.6e-2},
    "no smoothing": {"smoothing": 0},
    "smoothing 0.2": {"smoothing": 0.2},
    "ema 0.99": {"ema_decay": 0.99},
    "ema 0.998": {"ema_decay": 0.998},
    "altflip": {"augment": "altflip,shift=4"},
    "shift 2": {"augment": "flip,shift=2"},
    "cutout": {"augment": "flip,shift=4,cutout"},
    "cutmix": {"augment": "flip,shift=4,cutmix"},
    "flip alone at the end": {"final_epochs": 1, "final_augment": "flip"},
    "24 pixels first": {"early_epochs": 2, "early_size": 24},
    "activation behind embeddings": {"embed_act": True},
    "dwconv": {"mixer": "dwconv"},
}


def train(config, train_set, test_set, folder):
    """One training's figures."""
    history = fit(config, train_set, test_set, folder, resume=True)
    last = history.epochs[-1]
    return {"config": config.to_dict(), "accuracy": last["val_acc"], "val_loss": last["val_loss"],
            "train_loss": last["train_loss"], "seconds": last["seconds"],
            "train_seconds": sum(epoch["train_seconds"] for epoch in history.epochs),
            "images_per_second": statistics.median(epoch["images_per_second"] for epoch in history.epochs),
            "accuracies": [epoch["val_acc"] for epoch in history.epochs], "machine": machine()}


def table(runs):
    """Lines of text: mean accuracy over the seeds and its distance to the base, seconds, images/s; best first."""
    groups = {}
    for run in runs:
        groups.setdefault((run["name"], run["config"]["epochs"]), []).append(run)
    mean = {key: statistics.mean(run["accuracy"] for run in group) for key, group in groups.items()}
    lines = [f"{'':30s}{'epochs':>7}{'seeds':>6}{'accuracy':>10}{'spread':>8}{'to base':>9}{'seconds':>9}"
             f"{'images/s':>10}"]
    for key in sorted(groups, key=lambda key: (key[1], -mean[key])):
        group, (name, epochs) = groups[key], key
        spread = statistics.stdev(run["accuracy"] for run in group) if len(group) > 1 else float("nan")
        base = mean.get(("base", epochs), float("nan"))
        lines.append(f"{name:30s}{epochs:7d}{len(group):6d}{mean[key]:10.2%}{100 * spread:8.2f}"
                     f"{100 * (mean[key] - base):+9.2f}{statistics.mean(run['seconds'] for run in group):9.0f}"
                     f"{statistics.mean(run['images_per_second'] for run in group):10.0f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(STUDY), help=f"some of: {', '.join(STUDY)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=BASE["epochs"])
    parser.add_argument("--images", type=int, default=None, help="take so many of the training images")
    parser.add_argument("--data-file", default=None)
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    for name in options.only:
        check_choice("only", name, STUDY)
    path = make_folder("out", options.out) / "recipe_study.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": []}
    train_set, test_set = load_dataset("cifar10", options.data_file)
    train_set = train_set[:options.images]
    for seed in options.seeds:
        for name in options.only:
            config = TrainConfig(**{**BASE, "epochs": options.epochs, **STUDY[name], "seed": seed})
            if any(run["config"] == config.to_dict() and run["train_images"] == len(train_set)
                   for run in content["runs"]):
                continue
            folder = Path("work/study") / f"{name.replace(' ', '-').replace(',', '')}-{options.epochs}-{seed}"
            run = {"name": name, "changes": STUDY[name], "seed": seed, "train_images": len(train_set),
                   **train(config, train_set, test_set, folder)}
            content["runs"].append(json.loads(json.dumps(run)))
            content["command"] = "OMP_NUM_THREADS=2 python tests/benchmarks/recipe_study.py --data-file FILE"
            write_json(path, content)
            shutil.rmtree(folder)
            print(f"{name}, seed {seed}: {run['accuracy']:.2%} in {run['seconds']:.0f} s", flush=True)
    print(table(content["runs"]))


if __name__ == "__main__":
    main()
