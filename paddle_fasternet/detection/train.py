"""Training of PP-YOLOE on a folder of pictures: made for hundreds of pictures, a CPU and a limit of time."""
import concurrent.futures
import contextlib
import dataclasses
import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
import paddle

from .._check import check_choice, check_number, check_type
from .._files import holding, make_folder, remove_partial, replacing, seal, write_json
from ..benchmark import machine
from ..bundle import IMAGENET_MEAN, IMAGENET_STD
from ..training.checkpoint import CHECKPOINTS, Checkpoints
from ..training.interrupt import stop_request
from ..training.log import LOG, Log
from ..training.optimizers import WeightAverage, moments
from .build import OTHERS, build_detector, list_backbones
from .detector import DESCRIPTION, WEIGHTS, Detector, EagerNetwork, describe, normalize, read_description
from .geometry import augment, input_shape, shrink

HISTORY = "history.json"
FLIPS = ("none", "horizontal", "both")
_FILES = (*CHECKPOINTS, WEIGHTS, HISTORY, LOG, "curves.png")
_MEMORY = 1 << 30  # bytes of decoded pictures that are kept
_SECONDS_BETWEEN_CHECKPOINTS = 120


@dataclasses.dataclass(frozen=True)
class DetectConfig:
    """Settings of a training. The learning rate falls to zero where either ``epochs`` or ``minutes`` is reached.

    Attributes:
        backbone: one of ``list_backbones()``.
        pretrained: "auto" takes "cifar10" for fasternet_t0 and False for any other; or as in ``detection.FasterNet``.
        image_size: the input has about as many pixels as a square of this side, in the pictures' shape.
        batch_size: pictures in a step.
        epochs: most passes over the training pictures.
        minutes: most minutes, evaluation included; None leaves the end to ``epochs``.
        lr, weight_decay: of AdamW; norms and biases are not decayed.
        warmup: share of the training in which the learning rate rises.
        static: share of the training with PP-YOLOE's static assignment (ATSS), before the task-aligned one.
        flip: mirror images: "none", "horizontal", or "both" for pictures without an up and a down.
        ema_decay: of the averaged weights, which are the result.
        evaluations: how often the validation pictures are tried, the end included.
        nms: overlap from which the lower of two boxes of one class is dropped.
        seed: of weights, order and augmentation.
    """

    backbone: str = "fasternet_t0"
    pretrained: object = "auto"
    image_size: int = 320
    batch_size: int = 8
    epochs: int = 300
    minutes: float = 60.0
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.03
    static: float = 0.15
    flip: str = "horizontal"
    ema_decay: float = 0.998
    evaluations: int = 10
    nms: float = 0.6
    seed: int = 0

    def __post_init__(self):
        check_choice("backbone", self.backbone, list_backbones())
        if self.pretrained == "auto":
            object.__setattr__(self, "pretrained", "cifar10" if self.backbone == "fasternet_t0" else False)
        if isinstance(self.pretrained, Path):
            object.__setattr__(self, "pretrained", str(self.pretrained))
        if self.pretrained and self.backbone in OTHERS:
            raise ValueError(f"pretrained={self.pretrained!r} goes with a FasterNet; backbone={self.backbone!r} starts "
                             "from scratch: pretrained=False")
        check_number("image_size", self.image_size, low=96, high=2048, integer=True)
        for name, low in (("batch_size", 1), ("epochs", 1), ("evaluations", 1), ("seed", 0)):
            check_number(name, getattr(self, name), low=low, integer=True)
        if self.minutes is not None:
            check_number("minutes", self.minutes, low=0.01)
        check_number("lr", self.lr, low=1e-8)
        check_number("weight_decay", self.weight_decay, low=0.0)
        for name in ("warmup", "static", "ema_decay", "nms"):
            check_number(name, getattr(self, name), low=0.0, high=1.0)
        check_choice("flip", self.flip, FLIPS)


def train_detector(config, train, val, out_dir, *, resume=False, overwrite=False, report=None):
    """Train a detector and evaluate it.

    Args:
        config: ``DetectConfig``.
        train, val: ``BoxSet`` of the same classes.
        out_dir: is made. It gets ``detector.json``, ``detector.pdparams`` (the averaged weights), ``history.json``,
            ``log.jsonl`` and, until the end, checkpoints.
        resume: go on with what ``out_dir`` holds; the seconds that it took count.
        overwrite: throw away what ``out_dir`` holds.
        report: called with a line of text after each evaluation; ``print``, say.

    Returns:
        (detector, history): ``Detector`` with the averaged weights; a dict with "steps", a list of {"step", "seconds",
        "loss", "loss_cls", "loss_iou", "loss_dfl", "lr"}, and "evaluations", a list of {"step", "epoch", "seconds",
        "ap", "ap50", "ap75", "classes", "images_per_second"}.

    Raises:
        FileExistsError: ``out_dir`` holds a training and neither resume nor overwrite is set.
        ValueError: the training to resume has other settings; or the sets have different classes.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM, after a checkpoint.
    """
    check_type("config", config, DetectConfig)
    if train.class_names != val.class_names:
        raise ValueError(f"train has the classes {', '.join(train.class_names)}, val has {', '.join(val.class_names)}")
    folder = make_folder("out_dir", out_dir)
    with holding("out_dir", folder):
        remove_partial(folder, (DESCRIPTION, *_FILES))
        found = _open(folder, config, train, resume, overwrite)
        with contextlib.closing(Log(folder)) as log, stop_request() as stop, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
            training = _Training(folder, config, train, val, log, report or (lambda text: None))
            if found:
                training.restore()
            training.run(stop)
        return training.detector(), training.history


def _open(folder, config, train, resume, overwrite):
    """Make room in the folder; whether there is something to go on with."""
    if (folder / DESCRIPTION).exists():
        there = read_description(folder)
        if there.get("exported"):
            raise FileExistsError(f"{folder} holds an exported detector; choose another out_dir")
        if resume:
            settings = json.loads(json.dumps(dataclasses.asdict(config)))
            differences = [f"{name} is {there['config'].get(name)!r} there, {value!r} here"
                           for name, value in settings.items() if there["config"].get(name) != value]
            if list(train.class_names) != there["class_names"]:
                differences.append("the classes differ")
            if differences:
                raise ValueError(f"out_dir={str(folder)!r} holds a training with other settings: "
                                 f"{'; '.join(differences)}")
            if any((folder / name).exists() for name in CHECKPOINTS):
                return True
            if (folder / WEIGHTS).exists():
                raise FileExistsError(f"{folder} holds a training that is finished; overwrite=True (--overwrite) "
                                      "starts it again")
        elif not overwrite and any((folder / name).exists() for name in (*CHECKPOINTS, WEIGHTS)):
            raise FileExistsError(f"{folder} holds a training already; go on with it with resume=True (--resume), "
                                  "overwrite it with overwrite=True (--overwrite), or choose another out_dir")
    elif any((folder / name).exists() for name in _FILES):
        raise FileExistsError(f"{folder} holds files of another kind of training; choose another out_dir")
    for name in (*_FILES, DESCRIPTION):
        (folder / name).unlink(missing_ok=True)
    return False


class Batches:
    """Training batches of one size, each made by (seed, step) alone, one ahead in a thread."""

    def __init__(self, boxes, shape, config):
        self._boxes, self._shape, self._config = boxes, shape, config
        self.steps_per_epoch = math.ceil(len(boxes) / config.batch_size)
        self._kept, self._bytes = {}, 0
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._ahead = {}

    def __call__(self, step):
        """A dict of arrays: image float32 [N, 3, H, W], gt_class int64 and gt_bbox and pad_gt_mask float32 [N, n, .]"""
        ready = self._ahead.pop(step, None) or self._pool.submit(self._make, step)
        self._ahead = {step + 1: self._pool.submit(self._make, step + 1)}
        return ready.result()

    def close(self):
        self._pool.shutdown(cancel_futures=True)

    def _make(self, step):
        rng = np.random.default_rng([self._config.seed, 1, step])
        samples = [self._sample(index, rng) for index in self._indices(step)]
        most = max(1, *(len(labels) for _, _, labels in samples)) if len(samples) > 1 else max(1, len(samples[0][2]))
        batch = {"gt_bbox": np.zeros((len(samples), most, 4), np.float32),
                 "gt_class": np.zeros((len(samples), most, 1), np.int64),
                 "pad_gt_mask": np.zeros((len(samples), most, 1), np.float32)}
        for i, (_, boxes, labels) in enumerate(samples):
            batch["gt_bbox"][i, :len(boxes)] = boxes
            batch["gt_class"][i, :len(boxes), 0] = labels
            batch["pad_gt_mask"][i, :len(boxes)] = 1
        batch["image"] = normalize(np.stack([picture for picture, _, _ in samples]), IMAGENET_MEAN, IMAGENET_STD)
        return batch

    def _indices(self, step):
        """Which pictures a step takes: the epochs' orders, one after the other, cut into batches."""
        size, count = self._config.batch_size, len(self._boxes)
        start = step * size
        return [int(np.random.default_rng([self._config.seed, 0, position // count]).permutation(count)[
            position % count]) for position in range(start, start + size)]

    def _sample(self, index, rng):
        if index not in self._kept:
            entry = shrink(self._boxes.picture(index), self._shape)
            if self._bytes + entry[0].nbytes > _MEMORY:
                return self._augment(index, entry, rng)
            self._kept[index] = entry
            self._bytes += entry[0].nbytes
        return self._augment(index, self._kept[index], rng)

    def _augment(self, index, entry, rng):
        picture, factor = entry
        return augment(picture, self._boxes.boxes[index] * np.float32(factor), self._boxes.labels[index], self._shape,
                       rng, self._config.flip)


class _Training:
    """The network, its optimizer, its average, and how far they are."""

    def __init__(self, folder, config, train, val, log, report):
        self.folder, self.config, self.train, self.val, self.log, self.report = folder, config, train, val, log, report
        paddle.seed(config.seed)
        self.model = build_detector(len(train.class_names), config.backbone, config.pretrained, config.nms)
        self.shape = input_shape(train.sizes, config.image_size)
        decayed = {each.name for each in self.model.parameters() if each.ndim > 1}
        self.optimizer = paddle.optimizer.AdamW(
            config.lr, parameters=[each for each in self.model.parameters() if not each.stop_gradient],
            weight_decay=config.weight_decay, apply_decay_param_fun=lambda name: name in decayed,
            grad_clip=paddle.nn.ClipGradByGlobalNorm(10.0))
        self.average = WeightAverage(self.model, config.ema_decay)
        self.checkpoints = Checkpoints(folder)
        self.batches = Batches(train, self.shape, config)
        self.steps, self.seconds = 0, 0.0
        self.history = {"steps": [], "evaluations": []}
        if not (folder / DESCRIPTION).exists():
            describe(folder, class_names=list(train.class_names), shape=list(self.shape), mean=list(IMAGENET_MEAN),
                     std=list(IMAGENET_STD), config=dataclasses.asdict(config),
                     embed_overlap=getattr(self.model.backbone, "embed_overlap", None),
                     data={"train": len(train), "val": len(val)}, machine=machine())

    def progress(self):
        """0 at the start, 1 at the end."""
        shares = [self.steps / (self.config.epochs * self.batches.steps_per_epoch)]
        if self.config.minutes is not None:
            shares.append(self.seconds / (60 * self.config.minutes))
        return max(shares)

    def run(self, stop):
        """Steps until the end, with evaluations and checkpoints on the way."""
        before, start = self.seconds, time.monotonic()
        saved, sums, images = start, [], 0
        try:
            while self.progress() < 1:
                sums.append(self._step())
                images += self.config.batch_size
                self.seconds = before + time.monotonic() - start
                due = len(self.history["evaluations"]) + 1 <= self.progress() * self.config.evaluations
                if len(sums) >= 20 or due:
                    self._record(sums)
                    sums = []
                if due and self.progress() < 1:
                    self._evaluate(images / (time.monotonic() - start))
                if stop.made or time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                    self._save()
                    saved = time.monotonic()
                if stop.made:
                    raise KeyboardInterrupt(f"stopped after step {self.steps} with a checkpoint; --resume goes on")
                self.seconds = before + time.monotonic() - start
            if not self.history["evaluations"] or self.history["evaluations"][-1]["step"] != self.steps:
                self._evaluate(images / max(time.monotonic() - start, 1e-9) if images else None)
        finally:
            self.batches.close()
        self.checkpoints.remove()

    def _step(self):
        """One update; the losses."""
        done = self.progress()
        rate = self.config.lr * (min(done / self.config.warmup, 1) if self.config.warmup else 1)
        rate *= 0.5 * (1 + math.cos(math.pi * min(done, 1)))
        self.optimizer.set_lr(max(rate, 1e-3 * self.config.lr))
        batch = {name: paddle.to_tensor(array) for name, array in self.batches(self.steps).items()}
        paddle.seed(int(np.random.SeedSequence([self.config.seed, 2, self.steps]).generate_state(1)[0]))
        self.model.train()
        losses = self.model({**batch, "epoch_id": 0 if done < self.config.static else 1})
        value = float(losses["loss"])
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value} at step {self.steps}; lr={self.config.lr} is too high")
        losses["loss"].backward()
        self.optimizer.step()
        self.optimizer.clear_grad()
        self.average.update(self.steps)
        self.steps += 1
        return {name: float(losses[name]) for name in ("loss", "loss_cls", "loss_iou", "loss_dfl")}

    def _record(self, sums):
        entry = {"step": self.steps, "seconds": round(self.seconds, 1),
                 **{name: round(float(np.mean([each[name] for each in sums])), 4) for name in sums[0]},
                 "lr": self.optimizer.get_lr()}
        self.history["steps"].append(entry)
        self.log.write("train", self.steps, **{name: entry[name] for name in entry if name != "step"})

    def _evaluate(self, images_per_second):
        with self.average.in_place():
            found = self.detector().evaluate(self.val)
            arrays = {name: np.asarray(tensor.numpy()) for name, tensor in self.model.state_dict().items()}
        with replacing(self.folder / WEIGHTS) as file:
            paddle.save(arrays, file.name)
            seal(file)
        entry = {"step": self.steps, "epoch": round(self.steps / self.batches.steps_per_epoch, 2),
                 "seconds": round(self.seconds, 1), **dataclasses.asdict(found),
                 "images_per_second": images_per_second and round(images_per_second, 2)}
        self.history["evaluations"].append(entry)
        write_json(self.folder / HISTORY, self.history)
        self.log.write("evaluate", self.steps, seconds=self.seconds, ap=found.ap, ap50=found.ap50)
        speed = f", {images_per_second:.1f} images/s" if images_per_second else ""
        self.report(f"{self.seconds / 60:5.1f} min, epoch {entry['epoch']:.0f}{speed}: AP50 {found.ap50:.3f}, "
                    f"AP {found.ap:.3f}")

    def detector(self):
        """The network as it is now as a ``Detector``."""
        return Detector(EagerNetwork(self.model), self.train.class_names, self.shape)

    def _tensors(self):
        return {f"{part}/{name}": tensor for part, tensors in (("model", self.model.state_dict()),
                                                               ("average", self.average.state))
                for name, tensor in tensors.items()}

    def _save(self):
        names = {theirs: ours for theirs, ours, _ in moments(self.model, self.optimizer)}
        state = {names[name]: tensor for name, tensor in self.optimizer.state_dict().items() if name in names}
        arrays = {name: np.asarray(tensor.numpy()) for name, tensor in {**self._tensors(), **state}.items()}
        self.checkpoints.save(arrays, {"steps": self.steps, "seconds": self.seconds, "history": self.history})

    def restore(self):
        """Go on from the newest checkpoint of the folder."""
        arrays, progress = self.checkpoints.load()
        tensors, state = self._tensors(), moments(self.model, self.optimizer)
        missing = sorted({*tensors, *(ours for _, ours, _ in state)} - set(arrays))
        if missing:
            raise ValueError(f"the checkpoint in {self.folder} is of another network: it has no {missing[0]}")
        for parameter in self.model.parameters():  # an optimizer that has made no step has nowhere to put its state
            if not parameter.stop_gradient:
                parameter.grad = paddle.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.clear_grad()
        self.optimizer.set_state_dict({theirs: paddle.to_tensor(arrays[ours]) for theirs, ours, _ in state})
        for name, tensor in tensors.items():
            tensor.set_value(arrays[name])
        self.steps, self.seconds, self.history = progress["steps"], progress["seconds"], progress["history"]
