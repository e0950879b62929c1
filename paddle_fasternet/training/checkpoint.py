"""The files of a run's folder, and reading a run back from them."""
import dataclasses
import json
import platform
from pathlib import Path

import paddle
from paddle import nn

from .._check import check_choice
from .._files import replacing, write_json
from ..data import Augment
from ..weights import load_weights
from .config import TrainConfig
from .history import History


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained network with all that is needed to use it.

    Attributes:
        config: the settings it was trained with.
        model: the network in evaluation mode.
        preprocess: the ``Augment`` that turns uint8 images into its input.
        class_names: of its outputs.
        data: name, source and sizes of the data it was trained on.
        history: what the training measured.
    """

    config: TrainConfig
    model: nn.Layer
    preprocess: Augment
    class_names: tuple
    data: dict
    history: History


RUN_FILES = ("history.json", "best_model.pdparams", "best_model.pdopt", "final_model.pdparams", "final_model.pdopt",
             "learning_curve.png", "predictions.png", "confusion.png", "class_accuracy.png")


def clear_folder(folder, overwrite):
    """Make room for a new run in ``folder``, so that no file of an older one is taken for one of the new.

    Raises:
        FileExistsError: there is a run and ``overwrite`` is False, or a ``config.json`` that is no run's.
    """
    config = folder / "config.json"
    if config.exists():
        try:
            known = {"config", "data", "versions"} <= set(json.loads(config.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            known = False
        if not known:
            raise FileExistsError(f"{config} is not of this library and stays as it is; choose another out_dir")
    if not overwrite and any((folder / name).exists() for name in RUN_FILES):
        raise FileExistsError(f"{folder} holds a run already; choose another out_dir, or overwrite it with "
                              "overwrite=True (--overwrite)")
    for name in ("config.json", *RUN_FILES):
        (folder / name).unlink(missing_ok=True)


def save_config(folder, config, train, val):
    """Write ``config.json``: the settings, the data and the versions behind a run."""
    write_json(folder / "config.json", {
        "config": config.to_dict(),
        "data": {"name": train.name, "source": train.source, "class_names": list(train.class_names),
                 "mean": train.mean, "std": train.std, "train_images": len(train), "val_images": len(val)},
        "versions": {"paddle": paddle.__version__, "python": platform.python_version(), "device": paddle.get_device()},
    })


def save_checkpoint(folder, name, state, optimizer):
    """Write ``name.pdparams`` and ``name.pdopt``, each whole or not at all."""
    for suffix, content in [(".pdopt", optimizer.state_dict()), (".pdparams", state)]:
        with replacing(folder / f"{name}{suffix}") as file:
            paddle.save(content, file.name)


def load_run(folder, which="best"):
    """Read a run back from its folder alone.

    Args:
        folder: what ``fit`` was given as ``out_dir``.
        which: "best" (highest validation accuracy) or "final".

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is not what ``fit`` writes.
    """
    check_choice("which", which, ("best", "final"))
    folder = Path(folder).expanduser()
    for name in ("config.json", "history.json", f"{which}_model.pdparams"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is not the folder of a finished run: it has no {name}")
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config, data = TrainConfig.from_dict(content["config"]), content["data"]
        class_names = tuple(data["class_names"])
        preprocess = Augment("none", config.image_size, data["mean"], data["std"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} is not a run's configuration: {error}") from error
    model = config.build_model(len(class_names), in_channels=len(preprocess.mean))
    load_weights(model, folder / f"{which}_model.pdparams")
    model.eval()
    return Run(config, model, preprocess, class_names, data, History.load(folder / "history.json"))
