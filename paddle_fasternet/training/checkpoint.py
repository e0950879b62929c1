"""The files of a run's folder, and reading a run back from them."""
import dataclasses
import json
import pickle
import warnings

import numpy as np
import paddle

from .._check import check_choice, check_path
from .._files import is_sealed, remove_partial, replacing, seal, write_json
from .._modes import dynamic
from ..benchmark import machine
from ..bundle import Classifier
from ..data import describe_files
from ..weights import CIFAR10_RUN, load_weights, read_weights
from .config import TrainConfig
from .history import History
from .log import LOG, VISUALDL


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained network with all that is needed to use it.

    Attributes:
        config: the settings it was trained with.
        classifier: the network with its preprocessing and class names.
        data: name, source and sizes of the data it was trained on.
        history: what the training measured.
        machine: what ``benchmark.machine`` said of the one it began on; None where an earlier version trained it.

    Its classifier's parts can be had from the run too: ``model``, in evaluation mode, ``preprocess``, the ``Augment``
    from uint8 images to its input, and ``class_names``.
    """

    config: TrainConfig
    classifier: Classifier
    data: dict
    history: History
    machine: dict

    model = property(lambda self: self.classifier.model)
    preprocess = property(lambda self: self.classifier.preprocess)
    class_names = property(lambda self: self.classifier.class_names)

    def __repr__(self):
        return (f"Run({self.config.model}, image_size={self.config.image_size}, {self.data['name']}, "
                f"{len(self.class_names)} classes, {self.history})")


WEIGHTS = tuple(f"{name}_model{suffix}" for name in ("best", "final") for suffix in (".pdparams", ".pdopt"))
PICTURES = ("learning_curve.png", "predictions.png", "top_losses.png", "confusion.png", "class_accuracy.png")
# Written in turn, so that a good one is there whatever happens to the other
CHECKPOINTS = ("resume_a.pdparams", "resume_b.pdparams")
# What a folder is when a training begins
STATES = ("new", "resumed", "finished")
RUN_FILES = ("history.json", *WEIGHTS, *CHECKPOINTS, *PICTURES, LOG)


def clear_folder(folder, overwrite):
    """Make room for a new run in ``folder``, so that no file of an older one is taken for one of the new.

    Raises:
        FileExistsError: there is a run and ``overwrite`` is False, or something that is no run.
    """
    config = folder / "config.json"
    known = config.exists() and _is_ours(config)
    if config.exists() and not known:
        raise FileExistsError(f"{config} is not of this library and stays as it is; choose another out_dir")
    found = [name for name in RUN_FILES if (folder / name).exists()]
    if found and not known:
        raise FileExistsError(f"{folder} has a {found[0]} but no config.json of a run, so it may be somebody else's; "
                              "choose another out_dir")
    if not overwrite and set(found) - {LOG}:  # a run that died before its first checkpoint left its log alone
        raise FileExistsError(f"{folder} holds a run already; go on with it with resume=True (--resume), overwrite it "
                              "with overwrite=True (--overwrite), or choose another out_dir")
    curves = [str(path.relative_to(folder)) for path in folder.glob(f"{VISUALDL}/vdlrecords.*")] if known else []
    for name in (*RUN_FILES, *curves, "config.json"):  # it goes last: it says whose the others are
        (folder / name).unlink(missing_ok=True)


def _is_ours(path):
    """Whether a ``config.json`` is a run's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    if not isinstance(content, dict):
        return False
    parts = content.get("config"), content.get("data"), content.get("machine", content.get("versions"))
    return all(isinstance(part, dict) for part in parts)  # "versions" stood in earlier versions' runs


def save_config(folder, config, train, val, start=None):
    """Write ``config.json``: the settings, the data, the machine, and what the run started from where it is known."""
    write_json(folder / "config.json", {
        "config": config.to_dict(), "data": _describe(train, val), "machine": machine(),
        **({"pretrained": start} if start else {})})


def _describe(train, val):
    return {"name": train.name, "source": train.source, "class_names": list(train.class_names),
            "mean": train.mean, "std": train.std, "train_images": len(train), "val_images": len(val),
            **describe_files(train, val)}


def save_model(folder, name, model, optimizer):
    """Write ``name.pdparams`` and ``name.pdopt``, each whole or not at all, with a checksum."""
    for suffix, content in [(".pdopt", optimizer.state_dict()), (".pdparams", model.state_dict())]:
        with replacing(folder / f"{name}{suffix}") as file:
            paddle.save(content, file.name)
            seal(file)


class Checkpoints:
    """The state of a training in ``resume_a.pdparams`` and ``resume_b.pdparams``, written in turn.

    Either is a pickle of arrays alone, which ``read_weights`` reads without running it, and ends in a checksum.
    """

    def __init__(self, folder):
        self._paths = [folder / name for name in CHECKPOINTS]

    def save(self, arrays, progress):
        """Write a checkpoint over the older one; the newer one stays as it is."""
        progress = np.frombuffer(json.dumps(progress, allow_nan=False).encode(), np.uint8)
        with replacing(self._paths[0]) as file:
            pickle.dump({**arrays, "progress": progress}, file, protocol=4)
            seal(file)
        self._paths.reverse()

    def load(self):
        """(arrays, progress) of the newest checkpoint that is whole, or None where there is none.

        A damaged one is passed over with a warning.

        Raises:
            ValueError: all that there are are damaged.
        """
        found, damaged = [], []
        for path in [path for path in self._paths if path.exists()]:
            try:
                if not is_sealed(path):
                    raise ValueError(f"{str(path)!r} is damaged: it does not end in its checksum")
                arrays = dict(read_weights(path))
                progress = json.loads(arrays.pop("progress").tobytes())
                found.append((int(progress["steps"]), path, arrays, progress))
            except (ValueError, KeyError, TypeError) as error:
                damaged.append(str(error))
        if not found:
            if damaged:
                raise ValueError("; ".join(damaged) + "; start anew with overwrite=True (--overwrite)")
            return None
        for text in damaged:
            warnings.warn(f"{text}; going on from the checkpoint before it", stacklevel=4)
        _, newest, arrays, progress = max(found, key=lambda entry: entry[0])
        self._paths.sort(key=lambda path: path == newest)  # the other one is written over first
        return arrays, progress

    def remove(self):
        """The older one first: a kill in between leaves the newest."""
        for path in self._paths:
            path.unlink(missing_ok=True)


def open_folder(folder, config, train, val, overwrite, resume, start=None):
    """Make ``folder`` ready for a training, with its ``config.json``. ``start``: of the weights that it starts from.

    Returns:
        One of ``STATES``: "new"; with ``resume`` also "resumed" (there is a checkpoint to go on from) or "finished".

    Raises:
        FileExistsError: the folder holds what must not be written over.
        ValueError: the run to resume has other settings or data, or nothing to go on from.
    """
    remove_partial(folder, ("config.json", *RUN_FILES))
    if resume and (folder / "config.json").exists():
        check_same_run(folder, config, train, val, start)
        if any((folder / name).exists() for name in CHECKPOINTS):
            return "resumed"
        left = [name for name in (*WEIGHTS, "history.json") if (folder / name).exists()]
        if len(left) == len(WEIGHTS) + 1 and len(History.load(folder / "history.json").epochs) == config.epochs:
            return "finished"
        if left:
            raise ValueError(f"out_dir={str(folder)!r} holds a run without a checkpoint to go on from; overwrite it "
                             "with overwrite=True (--overwrite), or choose another out_dir")
    clear_folder(folder, overwrite)
    save_config(folder, config, train, val, start)
    return "new"


def check_same_run(folder, config, train, val, start=None):
    """Make sure that the run in ``folder`` was started with these settings and data, and from these weights.

    Raises:
        ValueError: it was not; names what differs.
        FileExistsError: there is no run of this library in it.
    """
    there = read_record(folder)
    data = _describe(train, val)
    for name in ("source", *(("name", "train_from", "val_from") if "val_from" in data else ())):
        data.pop(name)  # the same images may lie elsewhere
    differences = []
    settings = {**TrainConfig().to_dict(), **there["config"]}  # those that an older version lacked are at their default
    for before, now in [(settings, config.to_dict()), (there["data"], json.loads(json.dumps(data)))]:
        differences += [f"{name} is {before.get(name)!r} there, {now[name]!r} here" for name in now
                        if before.get(name) != now[name]]
    before, now = there.get("pretrained") or {}, start or {}
    if before.get("checksum") != now.get("checksum"):
        differences.append(f"pretrained is {before.get('from')!r} there, {now.get('from')!r} here"
                           + (" with other weights" if before.get("from") == now.get("from") else ""))
    if differences:
        more = ""
        if there["config"].get("epochs", config.epochs) < config.epochs:
            more = (f". The learning rate's course depends on epochs: finish this run with "
                    f"epochs={there['config']['epochs']}, and for more start another one from it in another out_dir, "
                    f"with pretrained={str(folder)!r} (--pretrained {folder})")
        raise ValueError(f"out_dir={str(folder)!r} holds a run with other settings or data, which cannot be resumed "
                         f"with these: {'; '.join(differences)}{more}")


def read_record(folder):
    """The content of a run's ``config.json``, also of an unfinished run; None where there is no such file.

    Its parts are "config" (fields of ``TrainConfig``), "data", "machine", and "pretrained" (what it started from) where
    it did not start from random weights.

    Raises:
        FileExistsError: the file is not of this library.
    """
    path = check_path("folder", folder) / "config.json"
    if not path.exists():
        return None
    if not _is_ours(path):
        raise FileExistsError(f"{path} is not of this library and stays as it is; choose another out_dir")
    return json.loads(path.read_text(encoding="utf-8"))


@dynamic
def load_run(folder, which="best"):
    """Read a run back from its folder alone.

    Args:
        folder: what ``fit`` was given as ``out_dir``; or "cifar10", the run whose weights this package ships, unless a
            folder of that name here holds a run.
        which: "best" (highest validation accuracy) or "final"; the shipped run has its final weights only.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is not what ``fit`` writes, or is not as it was written.
    """
    check_choice("which", which, ("best", "final"))
    folder = check_path("folder", folder)
    if str(folder) == "cifar10" and not (folder / "config.json").is_file():
        folder, which = CIFAR10_RUN, "final"
    for name in ("config.json", "history.json", f"{which}_model.pdparams"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is not the folder of a finished run: it has no {name}")
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config, data = TrainConfig.from_dict(content["config"]), content["data"]
        model = config.build_model(len(data["class_names"]), in_channels=len(data["mean"]))
        classifier = Classifier(model, config.image_size, data["mean"], data["std"], data["class_names"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} is not a run's configuration: {error}") from error
    weights = folder / f"{which}_model.pdparams"
    is_sealed(weights)  # raises where it is damaged; runs of earlier versions have no checksum
    load_weights(model, weights)
    model.eval()
    return Run(config, classifier, data, History.load(folder / "history.json"), content.get("machine"))
