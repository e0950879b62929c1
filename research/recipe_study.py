"""What each ingredient of a recipe gives: short trainings on CIFAR-10 that differ from a base in one setting.

    OMP_NUM_THREADS=2 python research/recipe_study.py --data-file cifar-10-python.tar.gz --only base adamw
    OMP_NUM_THREADS=2 python research/recipe_study.py --data-file cifar-10-python.tar.gz --base overfitting \
        --only base "n_div 2" --images 25000

The base "short" is the recipe of that name. With "overfitting", on half of the images, accuracy on the test images
stands still long before the end, as in an hour's training, in a fifth of the time. "cpu" is the recipe of that name,
"forty" what it was before its patches overlapped.

Each training is added to work/results/recipe_study.json when it ends; those that are there already are left out, and
one that was interrupted goes on. Accuracies are the last epoch's on the test images; no epoch was chosen by them.
"""
import argparse
import json
import shutil
import statistics
from pathlib import Path

from paddle_fasternet import TrainConfig, fit, load_dataset, load_run
from paddle_fasternet._check import check_choice
from paddle_fasternet._files import make_folder, write_json

BASES = {"short": TrainConfig.recipe("short").to_dict(),
         "overfitting": TrainConfig.recipe("short", epochs=24, augment="altflip,shift=4,cutout",
                                           ema_decay=0.998).to_dict(),
         "forty": TrainConfig.recipe("cpu", embed_overlap=0, epochs=40, weight_decay=0.05,
                                     augment="altflip,shift=4,cutout").to_dict(),
         "cpu": TrainConfig.recipe("cpu").to_dict()}
STUDY = {  # name: what differs from the base
    "base": {},
    "init of the paper": {"init": "paper"},
    "no flips at test": {"flip_test": False},
    "patch 1": {"patch_size": 1},
    "patch 1, decay 0.5": {"patch_size": 1, "weight_decay": 0.5},
    "merge 1 2 2, n_div 2, decay 0.4": {"merge_sizes": (1, 2, 2), "n_div": 2, "weight_decay": 0.4},
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
    "24 pixels first": {"early_epochs": 2, "early_size": 24},
    "activation behind embeddings": {"embed_act": True},
    "overlap": {"embed_overlap": 1},
    "overlap, activation": {"embed_overlap": 1, "embed_act": True},
    "overlap, n_div 2": {"embed_overlap": 1, "n_div": 2},
    "overlap, batch 128": {"embed_overlap": 1, "batch_size": 128},
    "overlap, decay 0.15, 30 epochs": {"embed_overlap": 1, "weight_decay": 0.15, "epochs": 30},
    "overlap, decay 0.3, 22 epochs": {"embed_overlap": 1, "weight_decay": 0.3, "epochs": 22},
    "overlap, drop path 0.1": {"embed_overlap": 1, "drop_path_rate": 0.1},
    "overlap, weight decay 0.5": {"embed_overlap": 1, "weight_decay": 0.5},
    "overlap, weight decay 1": {"embed_overlap": 1, "weight_decay": 1},
    "overlap, weight decay 0.5, smoothing 0.2": {"embed_overlap": 1, "weight_decay": 0.5, "smoothing": 0.2},
    "overlap, smoothing 0.2": {"embed_overlap": 1, "smoothing": 0.2},
    "overlap, merge 1 1 2, 24 pixels first, 12 epochs": {
        "embed_overlap": 1, "merge_sizes": (1, 1, 2), "weight_decay": 0.15, "epochs": 12, "early_epochs": 7,
        "augment": "altflip,shift=4"},
    "dwconv": {"mixer": "dwconv"},
}
REGULARISED = {"embed_overlap": 1, "weight_decay": 0.5, "augment": "altflip,shift=4"}  # the best of "overfitting"
AUGMENTATIONS = {  # the same, for each base: one thing in its augmentation
    "short": {
        "altflip": {"augment": "altflip,shift=4"},
        "shift 2": {"augment": "flip,shift=2"},
        "cutout": {"augment": "flip,shift=4,cutout"},
        "cutmix": {"augment": "flip,shift=4,cutmix"},
        "flip alone at the end": {"final_epochs": 1, "final_augment": "flip"},
    },
    "overfitting": {
        "cutout 0.5": {"augment": "altflip,shift=4,cutout=0.5"},
        "cutmix instead of cutout": {"augment": "altflip,shift=4,cutmix"},
        "cutmix": {"augment": "altflip,shift=4,cutout,cutmix"},
        "cutmix at the end": {"final_epochs": 8, "final_augment": "altflip,shift=4,cutout,cutmix"},
        "mixup": {"augment": "altflip,shift=4,cutout,mixup"},
        "jitter": {"augment": "altflip,shift=4,cutout,jitter"},
        "crop instead of shift": {"augment": "altflip,crop=0.5,cutout"},
        "overlap, weight decay 0.5, no cutout": REGULARISED,
        "overlap, weight decay 0.5, no cutout, smoothing 0.2": {**REGULARISED, "smoothing": 0.2},
        "overlap, weight decay 0.5, no cutout, 24 pixels first": {**REGULARISED, "early_epochs": 6, "early_size": 24},
        "overlap, activation, weight decay 0.5, no cutout": {**REGULARISED, "embed_act": True},
        "overlap, mixup": {"embed_overlap": 1, "augment": "altflip,shift=4,cutout,mixup"},
        "overlap, crop": {"embed_overlap": 1, "augment": "altflip,crop=0.5,cutout"},
    },
    "forty": {
        "overlap, decay 0.3, no cutout, 24 epochs": {
            "embed_overlap": 1, "weight_decay": 0.3, "augment": "altflip,shift=4", "epochs": 24},
        "overlap, decay 0.3, smaller cutout, 25 epochs": {
            "embed_overlap": 1, "weight_decay": 0.3, "augment": "altflip,shift=4,cutout=0.2", "epochs": 25},
    },
    "cpu": {},
}


def read(path):
    """The record so far."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": []}


def train(config, train_set, test_set, folder):
    """One training's figures."""
    history = fit(config, train_set, test_set, folder, resume=True)
    last = history.epochs[-1]
    return {"config": config.to_dict(), "accuracy": last["val_acc"], "val_loss": last["val_loss"],
            "train_loss": last["train_loss"], "seconds": last["seconds"],
            "train_seconds": sum(epoch["train_seconds"] for epoch in history.epochs),
            "images_per_second": statistics.median(epoch["images_per_second"] for epoch in history.epochs),
            "accuracies": [epoch["val_acc"] for epoch in history.epochs],
            "machine": load_run(folder, "final").machine}


def table(runs):
    """Lines of text: mean accuracy over the seeds and its distance to the base, seconds, images/s; best first."""
    groups = {}
    for run in runs:
        groups.setdefault((run["name"], (run["base"], run["config"]["epochs"], run["train_images"])), []).append(run)
    mean = {key: statistics.mean(run["accuracy"] for run in group) for key, group in groups.items()}
    lines = [f"{'':50s}{'base':>12}{'epochs':>7}{'images':>7}{'seeds':>6}{'accuracy':>10}{'spread':>8}"
             f"{'to base':>9}{'seconds':>9}{'images/s':>10}"]
    for key in sorted(groups, key=lambda key: (key[1], -mean[key])):
        group, (name, (base, epochs, images)) = groups[key], key
        spread = statistics.stdev(run["accuracy"] for run in group) if len(group) > 1 else float("nan")
        to_base = 100 * (mean[key] - mean.get(("base", key[1]), float("nan")))
        lines.append(f"{name:50s}{base:>12}{epochs:7d}{images:7d}{len(group):6d}{mean[key]:10.2%}{100 * spread:8.2f}"
                     f"{to_base:+9.2f}{statistics.mean(run['seconds'] for run in group):9.0f}"
                     f"{statistics.mean(run['images_per_second'] for run in group):10.0f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", choices=BASES, default="short", help="the settings that the trainings differ from")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names in STUDY and AUGMENTATIONS; default: "
                        "all of the base's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=None, help="default: the base's")
    parser.add_argument("--images", type=int, default=None, help="take so many of the training images")
    parser.add_argument("--data-file", default=None)
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    study = {**STUDY, **AUGMENTATIONS[options.base]}
    names = options.only or list(study)
    for name in names:
        check_choice("only", name, study)
    path = make_folder("out", options.out) / "recipe_study.json"
    base = dict(BASES[options.base])
    if options.epochs is not None:
        base["epochs"] = options.epochs
    train_set, test_set = load_dataset("cifar10", options.data_file)
    train_set = train_set[:options.images]
    for seed in options.seeds:
        for name in names:
            config = TrainConfig(**{**base, **study[name], "seed": seed})
            if any(TrainConfig.from_dict(run["config"]) == config and run["train_images"] == len(train_set)
                   for run in read(path)["runs"]):
                continue
            folder = Path("work/study") / f"{options.base}-{name.replace(' ', '_')}-{config.epochs}-{seed}"
            run = {"name": name, "base": options.base, "changes": study[name], "seed": seed,
                   "train_images": len(train_set), **train(config, train_set, test_set, folder)}
            content = read(path)  # again: another study may have written in the meantime
            content["runs"].append(json.loads(json.dumps(run)))
            content["command"] = "python research/recipe_study.py --data-file FILE --base BASE --only NAME"
            write_json(path, content)
            shutil.rmtree(folder)
            print(f"{name}, seed {seed}: {run['accuracy']:.2%} in {run['seconds']:.0f} s", flush=True)
    print(table(read(path)["runs"]))


if __name__ == "__main__":
    main()
