"""The command line: ``paddle-fasternet train | evaluate | predict | benchmark | convert | demo``."""
import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F

from . import __version__, plots
from ._check import check_number
from ._files import make_folder, write_json
from .benchmark import count_macs, count_parameters, machine, measure_speed
from .data import AUGMENTATIONS, DATASETS, Augment, load_dataset, read_image
from .model import create_model, list_models
from .training import TrainConfig, evaluate, fit, load_run
from .weights import TARGETS, convert

# What a first look needs: about two minutes on two cores. Digits have no mirror images.
_DEMO_IMAGES = 30_000
_DEMO = {
    "cifar10": {"epochs": 2, "patch_size": 4, "batch_size": 128},
    "digits": {"epochs": 16, "patch_size": 4, "batch_size": 64, "augment": "shift=3,rotate=10"},
}


def main(arguments=None):
    """Run one command; returns the exit status: 0; 2 after an error, which goes to stderr; 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (ValueError, TypeError, OSError, FloatingPointError, MemoryError) as error:
        print(f"paddle-fasternet {options.name}: {error or 'not enough memory'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"paddle-fasternet {options.name}: stopped; files written until now stay", file=sys.stderr)
        return 130
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="paddle-fasternet", allow_abbrev=False,
        description="FasterNet and its partial convolution for PaddlePaddle: train, evaluate, predict, measure.",
        epilog="Example: paddle-fasternet train --data cifar10 --epochs 20 --out work/t0 && paddle-fasternet predict "
               "cat.png --run work/t0")
    parser.add_argument("--version", action="version", version=f"paddle_fasternet {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def add(name, command, help_text, epilog=None):
        child = commands.add_parser(name, help=help_text, description=help_text, epilog=epilog, allow_abbrev=False)
        child.set_defaults(command=command)
        return child

    train = add("train", _train, "Train a network and leave its folder: weights, history, curves.",
                "augmentations: " + "; ".join(f"{name}[={default:g}] {text}"
                                              for name, (default, _, _, text) in AUGMENTATIONS.items()))
    _add_data(train)
    train.add_argument("--out", default="work/run", help="folder of the run (default: %(default)s)")
    train.add_argument("--overwrite", action="store_true", help="write over the run that is in the folder already")
    _add_config(train)

    evaluation = add("evaluate", _evaluate, "Classify the test images with a trained network; leaves pictures.")
    _add_run(evaluation)
    _add_data(evaluation, default=None)
    evaluation.add_argument("--out", default=None, help="folder for the pictures; default: the run's own")

    predict = add("predict", _predict, "Name what is in image files.")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    _add_run(predict)
    predict.add_argument("--top", type=int, default=3, help="how many classes to print (default: %(default)s)")

    bench = add("benchmark", _benchmark, "Measure latency and throughput, of the network alone and of the whole way "
                                         "from images to classes: median and quartiles, warmed up, synchronised.")
    bench.add_argument("--run", default=None, help="folder of a trained network; default: a new --model")
    bench.add_argument("--model", default=None, help=f"one of {', '.join(list_models())}; default: fasternet_t0")
    bench.add_argument("--num-classes", type=int, default=1000, help="outputs of the new model (default: %(default)s)")
    bench.add_argument("--image-size", type=int, default=None, help="default: the run's own; 224 for a new model")
    bench.add_argument("--batch-size", type=int, default=32, help="images in a batch (default: %(default)s)")
    bench.add_argument("--repeats", type=int, default=20, help="timed calls of each (default: %(default)s)")
    bench.add_argument("--json", default=None, help="also write the figures to this file")

    conversion = add("convert", _convert, "Rewrite a weight file under other names or in another format, bit for bit; "
                                          "nothing in the file is executed.")
    conversion.add_argument("source", help="a file of this library, PaddleClas, the authors, timm or the 2023 notebook")
    conversion.add_argument("target", help="ends in .pdparams, .safetensors, .pth or .pt")
    conversion.add_argument("--to", default=None, help=f"whose names: {', '.join(TARGETS)}; default: official for .pth "
                                                       "and .pt, paddle otherwise")

    demo = add("demo", _demo, "Train for a minute or two on CIFAR-10 (or the embedded digits where it cannot be had), "
                              "evaluate, measure, and leave pictures.")
    _add_data(demo)
    demo.add_argument("--out", default="work/demo", help="folder of the run; an earlier one there is overwritten "
                                                               "(default: %(default)s)")
    return parser


def _add_data(parser, default="auto"):
    parser.add_argument("--data", default=default, help=f"one of {', '.join(DATASETS)} "
                                                        f"(default: {default or 'what the run was trained on'})")
    parser.add_argument("--data-file", default=None, help="CIFAR-10 archive (cifar-10-python.tar.gz) or its folder")


def _add_run(parser):
    parser.add_argument("--run", default="work/run", help="folder of a trained network (default: %(default)s)")
    parser.add_argument("--which", default="best", help="weights of the epoch that did best on the test images, or "
                                                        "final (default: %(default)s)")


def _add_config(parser):
    """One option for each field of ``TrainConfig``, with its default and meaning."""
    group = parser.add_argument_group("settings (fields of TrainConfig)")
    for field in dataclasses.fields(TrainConfig):
        kind = float if field.default is None else type(field.default)
        option = {"default": field.default, "help": field.metadata["help"].replace("%", "%%")}
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
    config = TrainConfig(**{field.name: getattr(options, field.name) for field in dataclasses.fields(TrainConfig)})
    train, test = load_dataset(options.data, options.data_file)
    _train_and_report(config, train, test, options.out, options.overwrite)


def _train_and_report(config, train, test, out, overwrite):
    print(f"data: {train.name}, {len(train):,} training and {len(test):,} test images ({train.source})")
    history = fit(config, train, test, out, overwrite)
    last, best = history.epochs[-1], history.best
    print(f"accuracy {last['val_acc']:.2%} after the last epoch, at best {best['val_acc']:.2%} after epoch "
          f"{best['epoch']}; {last['seconds']:.0f} s in all; everything is in {out}")


def _evaluate(options):
    run = load_run(options.run, options.which)
    _, test = load_dataset(options.data or run.data["name"], options.data_file)
    _evaluate_and_draw(run, test, options.out or options.run)


def _evaluate_and_draw(run, test, out):
    if test.class_names != run.class_names:
        raise ValueError(f"the network was trained on {run.data['name']} ({', '.join(run.class_names)}); {test.name} "
                         "has other classes")
    folder = make_folder("out", out)
    result = evaluate(run.model, test, run.preprocess, progress=True)
    print(f"accuracy {result.accuracy:.2%} on {len(test):,} test images, cross-entropy {result.loss:.4f}")
    plots.save_figure(folder / "confusion.png", plots.plot_confusion, test.labels, result.predicted, test.class_names)
    plots.save_figure(folder / "class_accuracy.png", plots.plot_class_accuracy, test.labels, result.predicted,
                      test.class_names)
    names = np.array(test.class_names)
    shown = slice(0, 32)
    plots.save_figure(folder / "predictions.png", plots.show_images, test.images[shown], 4, 8,
                      pred=names[result.predicted[shown]], gt=names[test.labels[shown]])
    print("pictures: " + ", ".join(str(folder / name)
                                   for name in ("predictions.png", "confusion.png", "class_accuracy.png")))


def _predict(options):
    if options.top < 1:
        raise ValueError(f"top={options.top} must be at least 1")
    run = load_run(options.run, options.which)
    for path in options.images:
        x, _ = run.preprocess(read_image(path)[None], None, None)
        with paddle.no_grad():
            probabilities = F.softmax(run.model(paddle.to_tensor(x)))[0].numpy()
        best = probabilities.argsort()[::-1][:options.top]
        print(f"{path}: " + ", ".join(f"{run.class_names[i]} {probabilities[i]:.1%}" for i in best))


def _benchmark(options):
    if options.run and options.model:
        raise ValueError(f"model={options.model!r} goes with a new model, run={options.run!r} has its own: give one")
    if options.json:
        make_folder("json", Path(options.json).parent)
    if options.run:
        run = load_run(options.run)
        model, name, size, preprocess = run.model, run.config.model, run.config.image_size, run.preprocess
    else:
        name, size, preprocess = options.model or "fasternet_t0", 224, Augment("none", mean=[127.5] * 3, std=[64.0] * 3)
        model = create_model(name, num_classes=options.num_classes)
    size = size if options.image_size is None else options.image_size
    result = _measure(model, preprocess, size, options.batch_size, options.repeats)
    _print_speed(name, size, result)
    if options.json:
        write_json(options.json, {"model": name, "image_size": size, "batchnorm_folded": False, "machine": machine(),
                                  **{key: value if isinstance(value, int) else value.to_dict()
                                     for key, value in result.items()}})


def _measure(model, preprocess, size, batch_size, repeats=20):
    size = check_number("image_size", size, low=1, integer=True)
    batch_size = check_number("batch_size", batch_size, low=1, integer=True)
    images = np.random.RandomState(0).randint(0, 256, (batch_size, 3, size, size), np.uint8)
    preprocess = Augment("none", size, preprocess.mean, preprocess.std)
    return {"parameters": count_parameters(model), "macs": count_macs(model, size),
            **measure_speed(model, preprocess, images, repeats)}


def _print_speed(name, size, result):
    on = machine()
    print(f"{name} at {size} x {size}: {result['parameters']:,} parameters, {result['macs'] / 1e9:.3f} G "
          f"multiply-adds; {on['name']}, {on['cores']} cores, {on['device']}, {on['threads']} threads, "
          f"Paddle {on['paddle']}")
    print(f"one image:          {result['latency']}")
    print(f"network alone:      {result['throughput']}")
    print(f"images to classes:  {result['pipeline']}")


def _convert(options):
    origin, count = convert(options.source, options.target, options.to)
    print(f"{options.target}: {count} weights out of {options.source} ({origin} names)")


def _demo(options):
    train, test = load_dataset(options.data, options.data_file)
    train = train[:_DEMO_IMAGES]
    _train_and_report(TrainConfig(**_DEMO[train.name]), train, test, options.out, overwrite=True)
    run = load_run(options.out)
    _evaluate_and_draw(run, test, options.out)
    size = run.config.image_size
    result = _measure(run.model, run.preprocess, size, 32)
    _print_speed(run.config.model, size, result)
    print(f"It classifies {result['pipeline'].images_per_second:,.0f} images a second. Next: paddle-fasternet --help")
