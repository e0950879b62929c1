"""Options that several commands have, and what they stand for."""
from pathlib import Path

from ..data import DATASETS, load_dataset
from ..deploy import ENGINES, PRECISIONS, Predictor
from ..training import load_run


def add_data(parser, default="auto"):
    parser.add_argument("--data", default=default, help=f"one of {', '.join(DATASETS)} "
                                                        f"(default: {default or 'what the run was trained on'})")
    parser.add_argument("--data-file", default=None, help="CIFAR-10 archive (cifar-10-python.tar.gz) or its folder")


def add_run(parser):
    parser.add_argument("--run", default="work/run", help="folder of a trained network (default: %(default)s)")
    parser.add_argument("--which", default="best", help="weights of the epoch that did best on the test images, or "
                                                        "final (default: %(default)s)")


def add_engine(parser):
    parser.add_argument("--engine", default="auto", help=f"what runs the network: {', '.join(ENGINES)}; or auto, the "
                                                         "fastest one here, measured once (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help=f"{', '.join(PRECISIONS)}; or auto (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="of the engine (default: all cores)")


def load_data(options, run):
    """``load_dataset`` of ``--data``, or of what ``run`` was trained on."""
    name = options.data or run.data["name"]
    if not options.data and name not in DATASETS:
        raise ValueError(f"data=None: {options.run} was trained on a data set of your own, {name!r}, which the command "
                         f"line cannot load; --data takes one of {', '.join(DATASETS)}, and in Python evaluate() and "
                         "export() take any ImageSet")
    return load_dataset(name, options.data_file)


def find_run(options):
    """The training run of ``--run``; None where that is an exported folder."""
    folder = Path(options.run).expanduser()
    return None if (folder / "export.json").is_file() else load_run(folder, options.which)


def open_predictor(options, run):
    """The ``Predictor`` of a run, or where it is None of the exported folder ``--run``."""
    return Predictor(run or Path(options.run).expanduser(), options.engine, options.precision, options.threads)
