"""``paddle-fasternet train | evaluate | demo``."""
import argparse
import dataclasses
import sys
import types
from pathlib import Path

from .. import plots
from .._files import make_folder
from ..data import AUGMENTATIONS, DATASETS, load_dataset, parse_augment
from ..deploy import Predictor
from ..training import RECIPES, TrainConfig, evaluate, fit, load_run, read_record
from .options import add_data, add_engine, add_run, display_width, find_run, load_data, open_predictor
from .speed import measure, print_speed

# What a first look takes: about two minutes on two cores.
_DEMO_IMAGES = 30_000
_CLASSES_SHOWN = 30


def add_commands(add):
    """Describe the commands of this module to the parser."""
    train = add("train", _train, "Train a network and leave its folder: weights, history, curves.",
                "augmentations: " + "; ".join(f"{name}[={default:g}] {text}"
                                              for name, (default, _, _, text) in AUGMENTATIONS.items()))
    add_data(train)
    train.set_defaults(data=None)  # with --resume: what the run was trained on
    train.add_argument("--pretrained", metavar="WHAT",
                       help="weights to start from: cifar10 (shipped), imagenet (downloaded), a weight file, or a "
                            "run's folder")
    train.add_argument("--out", default="work/run", help="folder of the run (default: %(default)s)")
    train.add_argument("--overwrite", action="store_true", help="write over the run that is in the folder already")
    train.add_argument("--resume", action="store_true",
                       help="go on with the run in the folder where it was interrupted, with its data, settings and "
                            "weights unless they are given; begin where there is none, do nothing where it is finished")
    train.add_argument("--checkpoint-seconds", type=float, default=60, metavar="X",
                       help="time between two checkpoints (default: %(default)s)")
    train.add_argument("--recipe", metavar="NAME", help=f"start from the settings of {', '.join(RECIPES)}; those given "
                                                        "as options are over the recipe's")
    train.add_argument("--visualdl", action="store_true", help="also write scalars for visualdl --logdir")
    _add_config(train)

    evaluation = add("evaluate", _evaluate, "Classify the test images with a trained network; leaves pictures.")
    add_run(evaluation)
    add_data(evaluation, default=None)
    add_engine(evaluation)
    evaluation.add_argument("--flips", action=argparse.BooleanOptionalAction, default=None,
                            help="take the mean over each image and its mirror image, for twice the time (default: as "
                                 "in the run's training)")
    evaluation.add_argument("--out", default=None, help="folder for the pictures; default: the run's own")

    demo = add("demo", _demo, "Train for a minute or two on CIFAR-10 (or the embedded digits where it cannot be had), "
                              "evaluate, measure, and leave pictures.")
    add_data(demo)
    demo.add_argument("--out", default="work/demo", help="folder of the run; an earlier one there is overwritten "
                                                               "(default: %(default)s)")


def _add_config(parser):
    """One option for each field of ``TrainConfig``, with its default and meaning; what is not given is left out."""
    group = parser.add_argument_group("settings (fields of TrainConfig)")
    for field in dataclasses.fields(TrainConfig):
        kind = field.metadata["kind"]
        option = {"default": argparse.SUPPRESS, "help": field.metadata["help"].replace("%", "%%")}
        if kind is bool:
            option["action"] = argparse.BooleanOptionalAction
        elif kind is tuple:
            option.update(type=int, nargs="+", metavar="N")
        else:
            option.update(type=kind, metavar={int: "N", float: "X", str: "NAME"}[kind])
        if field.default is not None:
            shown = " ".join(map(str, field.default)) if kind is tuple else field.default
            option["help"] += f" (default: {shown})"
        group.add_argument(f"--{field.name.replace('_', '-')}", **option)


def _train(options):
    given = {name: value for name, value in vars(options).items() if name in TrainConfig.help_texts()}
    before = read_record(options.out) if options.resume else None
    if options.recipe:
        config = TrainConfig.recipe(options.recipe, **given)
    else:
        config = TrainConfig.from_dict({**(before["config"] if before else {}), **given})
    pretrained = options.pretrained
    if before and pretrained is None:
        pretrained = before.get("pretrained", {}).get("from")
    if before and not options.data:
        options.run = options.out
        train, test = load_data(options, types.SimpleNamespace(data=before["data"]), before["data"]["class_names"])
    else:
        train, test = load_dataset(options.data or "auto", options.data_file)
    if not getattr(DATASETS.get(train.name), "mirror", True) and {"flip", "altflip"} & set(
            parse_augment(config.augment)):
        print(f"{train.name}: a mirror image means something else here; leave out the flips, such as --augment shift",
              file=sys.stderr)
    _train_and_report(config, train, test, options.out, overwrite=options.overwrite, resume=options.resume,
                      pretrained=pretrained, checkpoint_seconds=options.checkpoint_seconds, visualdl=options.visualdl)


def _train_and_report(config, train, test, out, **options):
    print(f"data: {train.name}, {len(train):,} training and {len(test):,} test images ({train.source})")
    history = fit(config, train, test, out, **options)
    last, best = history.epochs[-1], history.best
    print(f"accuracy {last['val_acc']:.2%} after the last epoch, at best {best['val_acc']:.2%} after epoch "
          f"{best['epoch']}; {last['seconds']:.0f} s in all; everything is in {out}")


def _evaluate(options):
    run = find_run(options)
    if not (run or options.data):
        raise ValueError(f"data=None: {options.run} is an exported folder, which does not say what it was trained on; "
                         "name the data set with --data")
    predictor = open_predictor(options, run)
    [test] = load_data(options, run, predictor.class_names, ["val"])
    if test.class_names != predictor.class_names:
        raise ValueError(f"the network knows {', '.join(predictor.class_names)}; {test.name} has other classes")
    flips = bool(run and run.config.flip_test) if options.flips is None else options.flips
    out = options.run if Path(options.run).expanduser().is_dir() else "work/cifar10"  # the shipped network's
    _evaluate_and_draw(predictor, test, options.out or out, flips)


def _evaluate_and_draw(predictor, test, out, flips):
    folder = make_folder("out", out)
    result = evaluate(predictor, test, progress=True, flips=flips)
    print(f"accuracy {result.accuracy:.2%} on {len(test):,} test images, cross-entropy {result.loss:.4f} "
          f"({predictor.engine}, {predictor.precision})")
    _print_classes(result)
    plots.save_figure(folder / "confusion.png", plots.plot_confusion, test.labels, result.predicted, test.class_names)
    plots.save_figure(folder / "class_accuracy.png", plots.plot_class_accuracy, test.labels, result.predicted,
                      test.class_names)
    shown = result.predicted[:32]
    plots.save_figure(folder / "predictions.png", plots.show_images, test, 4, 8,
                      pred=[test.class_names[label] for label in shown])
    plots.save_figure(folder / "top_losses.png", plots.plot_top_losses, test, result)
    print("pictures: " + ", ".join(str(folder / name) for name in ("predictions.png", "top_losses.png",
                                                                   "confusion.png", "class_accuracy.png")))


def _print_classes(result):
    """Precision, recall and F1 of each class; of many classes, those with the lowest F1."""
    rows = result.per_class()
    if len(rows) > 5:
        print(f"the true class is among the five likeliest for {result.top5:.2%}")
    shown = rows if len(rows) <= _CLASSES_SHOWN else sorted(rows, key=lambda row: row["f1"])[:_CLASSES_SHOWN]
    if len(shown) < len(rows):
        print(f"the {len(shown)} of {len(rows)} classes with the lowest F1:")
    width = max(map(display_width, ["class", *(row["class"] for row in shown)]))
    print(f"{'class'.ljust(width)}  images  precision  recall      F1")
    for row in shown:
        name = row["class"] + " " * (width - display_width(row["class"]))
        print(f"{name}  {row['images']:6,}  {row['precision']:9.1%}  {row['recall']:6.1%}  {row['f1']:6.1%}")


def _demo(options):
    train, test = load_dataset(options.data, options.data_file)
    train = train[:_DEMO_IMAGES]
    settings = dict(DATASETS[train.name].demo)
    config = TrainConfig.recipe(settings.pop("recipe"), **settings) if "recipe" in settings else TrainConfig(**settings)
    _train_and_report(config, train, test, options.out, overwrite=True)
    run = load_run(options.out)
    _evaluate_and_draw(Predictor(run), test, options.out, run.config.flip_test)
    size = run.config.image_size
    result = measure(run.model, run.preprocess, size, 32)
    print_speed(run.config.model, size, result)
    print(f"It classifies {result['pipeline'].images_per_second:,.0f} images a second. Next: paddle-fasternet --help")
