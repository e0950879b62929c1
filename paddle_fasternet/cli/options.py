"""Options that several commands have, and what they stand for."""
import unicodedata
from pathlib import Path

from ..data import is_recorded, list_datasets, load_dataset, load_known, load_recorded
from ..deploy import ENGINES, PRECISIONS, Predictor
from ..training import load_run


def add_data(parser, default="auto"):
    parser.add_argument("--data", default=default, help=f"{', '.join(list_datasets())}, or a folder of pictures "
                                                        f"(default: {default or 'what the run was trained on'})")
    parser.add_argument("--data-file", default=None, help="CIFAR-10 archive (cifar-10-python.tar.gz) or its folder")


def add_device(parser, default=None):
    parser.add_argument("--device", default=default, metavar="NAME",
                        help="what Paddle computes on: cpu, gpu, gpu:1 (default: a GPU where it has one)")


def add_run(parser):
    parser.add_argument("--run", default="work/run", help="folder of a trained network or of an export; or cifar10, "
                                                      "the shipped network (default: %(default)s)")
    parser.add_argument("--which", default="best", help="weights of the epoch that did best on the test images, or "
                                                        "final (default: %(default)s)")


def add_engine(parser):
    parser.add_argument("--engine", default="auto", help=f"what runs the network: {', '.join(ENGINES)}; or auto, the "
                                                         "fastest one here, measured once (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help=f"{', '.join(PRECISIONS)}; or auto (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="of the engine (default: all cores)")


def load_data(options, run, class_names, parts=("train", "val")):
    """The sets of ``--data``, or those that ``run`` was trained and evaluated on.

    Of a folder that does not hold the run's own pictures, and is not split, all pictures are there to evaluate on.
    """
    data = run.data if run else {}
    name = options.data or data["name"]
    if name in list_datasets():
        train, test = load_dataset(name, options.data_file)
        return [{"train": train, "val": test}[part] for part in parts]
    if not options.data and not is_recorded(data):
        raise ValueError(f"data=None: {options.run} was trained on a data set in memory, {name!r}, which the command "
                         f"line cannot load; --data takes a folder of pictures or one of {', '.join(list_datasets())}, "
                         "and in Python evaluate() and export() take any ImageSet")
    if not options.data or is_recorded(data, options.data):
        return load_recorded(data, options.data, parts)
    return load_known(options.data, class_names, parts)


def display_width(text):
    """Columns of a terminal that a text takes: Chinese characters take two."""
    return sum(0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
               for character in text)


def find_run(options):
    """The training run of ``--run``; None where that is an exported folder."""
    folder = Path(options.run).expanduser()
    return None if (folder / "export.json").is_file() else load_run(folder, options.which)


def open_predictor(options, run):
    """The ``Predictor`` of a run, or where it is None of the exported folder ``--run``."""
    return Predictor(run or Path(options.run).expanduser(), options.engine, options.precision, options.threads)
