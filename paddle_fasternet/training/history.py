"""What a run measured, as it went."""
import dataclasses
import json
import math

from .._check import check_path
from .._files import write_json


def _empty_record():
    return {part: {"iter": [], "loss": [], "acc": []} for part in ("train", "val")}


@dataclasses.dataclass
class History:
    """Loss and accuracy by step and by epoch; ValueError unless the two are as described.

    Attributes:
        record: {"train" | "val": {"iter": steps, "loss": [...], "acc": shares}}, the 2023 notebook's record, which
            ``plot_learning_curve`` draws: training at every step, validation at the end of every epoch. The training
            loss is the one minimised, on augmented images with smoothed labels; the validation loss is the plain
            cross-entropy, and can be lower. None: float16 overflowed, and the step was skipped.
        epochs: one dict for each: epoch (from 1), step, lr, train_loss, train_acc, val_loss, val_acc, train_seconds,
            images_per_second (training alone), seconds (since the start, evaluation and writing included);
            one_class=True where the network gave one class to validation images of several.
    """

    record: dict = dataclasses.field(default_factory=_empty_record)
    epochs: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        try:
            lists = [self.record[part][key] for part in ("train", "val") for key in ("iter", "loss", "acc")]
            if not all(isinstance(values, list) for values in [*lists, self.epochs]):
                raise TypeError("what should be lists are none")
            [epoch["val_acc"] for epoch in self.epochs]
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"record or epochs are not what a training writes: {error!r}") from error

    def __repr__(self):
        best = self.best
        told = f", val_acc {best['val_acc']:.2%} at best, after epoch {best['epoch']}" if best else ""
        steps = self.epochs[-1]["step"] if best and "step" in self.epochs[-1] else len(self.record["train"]["iter"])
        return f"History({len(self.epochs)} epochs, {steps:,} steps{told})"

    @property
    def best(self):
        """The epoch's dict with the highest validation accuracy (the first of equals); None before the first epoch.

        A network that gives all images one class can have the highest accuracy where the classes are uneven. Its epoch
        counts only where no other is there.
        """
        return max(self.epochs, key=lambda epoch: (not epoch.get("one_class"), epoch["val_acc"]), default=None)

    def add_steps(self, first_step, losses, accuracies):
        """Append training steps ``first_step``, ``first_step`` + 1, ..."""
        train = self.record["train"]
        train["iter"] += range(first_step, first_step + len(losses))
        train["loss"] += [round(float(x), 6) if math.isfinite(x) else None for x in losses]
        train["acc"] += [round(float(x), 6) for x in accuracies]

    def add_epoch(self, epoch):
        """Append an epoch's dict, and its validation to the record."""
        self.epochs.append({key: round(value, 6) if isinstance(value, float) else value
                            for key, value in epoch.items()})
        val = self.record["val"]
        val["iter"].append(epoch["step"])
        val["loss"].append(round(epoch["val_loss"], 6))
        val["acc"].append(round(epoch["val_acc"], 6))

    def save(self, path):
        """Write as JSON, whole or not at all."""
        write_json(check_path("path", path), dataclasses.asdict(self))

    @classmethod
    def load(cls, path):
        """Read what ``save`` wrote."""
        path = check_path("path", path)
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path} is not a history that a run wrote: {error}") from error

    @classmethod
    def from_dict(cls, content):
        """The inverse of ``dataclasses.asdict``; ValueError where it is not what that gives."""
        try:
            return cls(record=content["record"], epochs=content["epochs"])
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"content has no record or epochs: {error!r}") from error
