"""Training and evaluation."""
import contextlib
import dataclasses
import math
import time
import warnings

import numpy as np
import paddle
import paddle.nn.functional as F
from tqdm.auto import tqdm

from .. import plots
from .._check import check_type
from .._files import make_folder
from ..data import Augment, ImageSet, Loader
from ..losses import LabelSmoothingCrossEntropy
from .checkpoint import clear_folder, save_checkpoint, save_config
from .config import TrainConfig
from .history import History

# The host waits for the device only this often: losses stay on the device until then.
_STEPS_BETWEEN_LOOKS = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What ``evaluate`` found: mean cross-entropy, share of right answers, and probabilities float32 [N, K]."""

    loss: float
    accuracy: float
    probabilities: np.ndarray

    @property
    def predicted(self):
        """The most likely label of each image, int64 [N]."""
        return self.probabilities.argmax(1)


def evaluate(model, images, preprocess=None, batch_size=256, progress=False):
    """Classify an ``ImageSet`` and compare with its labels.

    Args:
        model: a network with logits [N, K]; it is evaluated in evaluation mode and left in the mode it had.
        images: an ``ImageSet``.
        preprocess: an ``Augment`` (a run's ``preprocess``); None normalises with the set's own statistics.
        batch_size: images in a forward pass.
        progress: show a bar.

    Raises:
        ValueError: the network has other outputs than the set has classes.
    """
    loader = Loader(images, batch_size, preprocess)
    was_training = model.training
    model.eval()
    logits, classes = [], len(images.class_names)
    try:
        with paddle.no_grad():
            for batch, _ in tqdm(loader, desc="evaluating", disable=not progress, leave=False):
                logits.append(model(batch).astype("float32"))
                if logits[-1].shape[1:] != [classes]:
                    raise ValueError(f"the network has outputs of shape {list(logits[-1].shape)}, the images have "
                                     f"{classes} classes")
    finally:
        if was_training:
            model.train()
    logits = paddle.concat(logits)
    labels = paddle.to_tensor(images.labels)
    probabilities = F.softmax(logits).numpy()
    return Evaluation(float(F.cross_entropy(logits, labels)),
                      float((probabilities.argmax(1) == images.labels).mean()), probabilities)


def learning_rate(config, step, steps_per_epoch):
    """Linear warm-up, then a cosine to zero; ``step`` counts from 0 and the last step's rate is above zero."""
    total, warmup = config.epochs * steps_per_epoch, config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def fit(config, train, val, out_dir, overwrite=False, progress=True):
    """Train a network and leave a run's folder that everything else reads.

    Args:
        config: a ``TrainConfig``.
        train, val: ``ImageSet`` with the same classes; ``val`` is evaluated after every epoch.
        out_dir: folder for ``config.json``, ``history.json``, ``best_model.pdparams`` and ``final_model.pdparams``
            (the highest validation accuracy; the last epoch so far) with their ``.pdopt``, ``learning_curve.png``.
            With ``ema_decay`` the weights are the averaged ones, the optimizer's state is of the trained ones.
        overwrite: write over the run that is in ``out_dir`` already.
        progress: show a bar with loss, accuracy, images/s and the time left.

    Returns:
        The ``History``; ``load_run(out_dir)`` gives the network.

    Raises:
        FileExistsError: ``out_dir`` holds a run and ``overwrite`` is False, or a ``config.json`` of something else.
        FloatingPointError: the loss is not finite; the files of the epochs before stay.
        OSError: ``out_dir`` cannot be written.
        ValueError: the sets do not fit each other, or the images the network.

    Sets Paddle's global random seed to ``config.seed``.
    """
    for argument, value, kind in [("config", config, TrainConfig), ("train", train, ImageSet), ("val", val, ImageSet)]:
        check_type(argument, value, kind)
    if train.class_names != val.class_names:
        raise ValueError(f"train has the classes {train.class_names}, val has {val.class_names}")
    if paddle.distributed.get_world_size() > 1:
        raise ValueError("fit trains in one process; it was started as one of "
                         f"{paddle.distributed.get_world_size()}, each of which would train the same")
    trainer = _Trainer(config, train)
    trainer.try_out(train, val)

    folder = make_folder("out_dir", out_dir)
    clear_folder(folder, overwrite)
    save_config(folder, config, train, val)
    history, images, start = trainer.history, len(trainer.loader) * trainer.loader.batch_size, time.perf_counter()
    with warnings.catch_warnings(), tqdm(total=config.epochs * images, unit="img", unit_scale=True,
                                         disable=not progress) as bar:
        # Paddle says so of every BatchNorm in training, and there is nothing to do about it
        warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
        for epoch in range(config.epochs):
            train_loss, train_acc, seconds = trainer.train_epoch(epoch, bar)
            result, state = trainer.evaluate(epoch, val)
            history.add_epoch({
                "epoch": epoch + 1, "step": trainer.steps, "lr": trainer.optimizer.get_lr(), "train_loss": train_loss,
                "train_acc": train_acc, "val_loss": result.loss, "val_acc": result.accuracy, "train_seconds": seconds,
                "images_per_second": images / seconds, "seconds": time.perf_counter() - start})
            if history.best is history.epochs[-1]:
                save_checkpoint(folder, "best_model", state, trainer.optimizer)
            save_checkpoint(folder, "final_model", state, trainer.optimizer)
            history.save(folder / "history.json")
            plots.save_figure(folder / "learning_curve.png", plots.plot_history, history)
            bar.set_postfix(loss=f"{train_loss:.3f}", acc=f"{train_acc:.1%}", **_last_val(history))
    return history


class _Trainer:
    """What a run carries along: network, optimizer, loader, averaged weights, history, and the number of steps done."""

    def __init__(self, config, train):
        paddle.seed(config.seed)
        classes = len(train.class_names)
        self.model = config.build_model(classes, in_channels=train.images.shape[1])
        self.loader = Loader(train, min(config.batch_size, len(train)),
                             Augment(config.augment, config.image_size, train.mean, train.std, classes),
                             shuffle=True, drop_last=True, seed=config.seed)
        self.preprocess = Augment("none", config.image_size, train.mean, train.std)
        self.optimizer = _build_optimizer(self.model, config)
        self.step_once = _make_step(self.model, self.optimizer, config)
        self.average = WeightAverage(self.model, config.ema_decay) if config.ema_decay else None
        self.config, self.history, self.steps = config, History(), 0

    def try_out(self, train, val):
        """Run two images of each set through everything, so that what does not fit fails before a file is written."""
        self.model.eval()
        with paddle.no_grad():
            for images, prepare in ((train, self.loader.augment), (val, self.preprocess)):
                x, _ = prepare(images.images[:2], images.labels[:2], np.random.default_rng(0))
                self.model(paddle.to_tensor(x))

    def train_epoch(self, epoch, bar):
        """One pass over the training set; returns its mean loss and accuracy, and the seconds it took."""
        self.model.train()
        start, pending, last = time.perf_counter(), [], len(self.loader) * (epoch + 1)
        for images, labels in self.loader.epoch(epoch):
            self.optimizer.set_lr(learning_rate(self.config, self.steps, len(self.loader)))
            pending.append(self.step_once(images, labels))
            if self.average:
                self.average.update(self.steps)
            self.steps += 1
            if len(pending) == _STEPS_BETWEEN_LOOKS or self.steps == last:
                loss, accuracy = self._look(pending, epoch)
                bar.set_description(f"epoch {epoch + 1}/{self.config.epochs}", refresh=False)
                bar.set_postfix(loss=f"{loss:.3f}", acc=f"{accuracy:.1%}", **_last_val(self.history), refresh=False)
                bar.update(len(pending) * self.loader.batch_size)
                pending = []
        seconds, record = time.perf_counter() - start, self.history.record["train"]
        loss, accuracy = (float(np.mean(record[key][-len(self.loader):])) for key in ("loss", "acc"))
        return loss, accuracy, seconds

    def _look(self, pending, epoch):
        """Fetch the pending steps' numbers into the history; returns their mean loss and accuracy."""
        first = self.steps - len(pending) + 1
        losses, accuracies = paddle.stack([paddle.stack(pair) for pair in pending], axis=1).numpy()
        for offset, loss in enumerate(losses):
            if not np.isfinite(loss):
                raise self._not_finite("loss", loss, first + offset, epoch)
        self.history.add_steps(first, losses, accuracies)
        return float(losses.mean()), float(accuracies.mean())

    def evaluate(self, epoch, val):
        """(Evaluation, state): of the averaged weights where there are any, otherwise of the trained ones."""
        with self.average.in_place() if self.average else contextlib.nullcontext():
            result = evaluate(self.model, val, self.preprocess)
            if not math.isfinite(result.loss):
                raise self._not_finite("validation loss", result.loss, self.steps, epoch)
            return result, {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def _not_finite(self, what, value, step, epoch):
        return FloatingPointError(
            f"the {what} is {value} at step {step} (epoch {epoch + 1}), learning rate about "
            f"{self.optimizer.get_lr():.2g}. Try a lower lr, more warmup_epochs, a smaller clip_grad, or amp='off'")


def _last_val(history):
    return {"val_acc": f"{history.epochs[-1]['val_acc']:.1%}"} if history.epochs else {}


def _build_optimizer(model, config):
    """AdamW that leaves normalisation, biases and layer scale (all that is a vector) without decay."""
    decayed = {parameter.name for parameter in model.parameters() if parameter.ndim > 1}
    return paddle.optimizer.AdamW(
        learning_rate=config.lr, parameters=model.parameters(), weight_decay=config.weight_decay,
        apply_decay_param_fun=lambda name: name in decayed,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(config.clip_grad) if config.clip_grad else None)


def _amp_dtype(amp):
    """The dtype of mixed precision on the current device, or None."""
    on_cpu = paddle.get_device() == "cpu"
    if amp == "float16" and on_cpu:
        raise ValueError("amp='float16' needs a GPU; a CPU has bfloat16 (or off)")
    if amp != "auto":
        return None if amp == "off" else amp
    if on_cpu:
        return None
    return "bfloat16" if paddle.amp.is_bfloat16_supported() else "float16"


def _make_step(model, optimizer, config):
    """A function of one batch that updates the weights and returns loss and accuracy as tensors on the device."""
    loss_function = LabelSmoothingCrossEntropy(config.smoothing)
    dtype = _amp_dtype(config.amp)
    scaler = paddle.amp.GradScaler(enable=dtype == "float16")

    def step(images, labels):
        with paddle.amp.auto_cast(enable=dtype is not None, dtype=dtype or "bfloat16"):
            logits = model(images)
        loss = loss_function(logits, labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.clear_grad()
        target = labels.argmax(1) if labels.ndim == 2 else labels
        return loss.detach(), (logits.detach().argmax(1) == target).astype("float32").mean()

    return step


class WeightAverage:
    """Exponential moving average of a network's floating-point state, BatchNorm statistics included.

    The decay rises to ``decay`` as (1 + t) / (10 + t), so that the first weights are soon forgotten.
    """

    def __init__(self, model, decay):
        self.decay = decay
        self._live = {name: tensor for name, tensor in model.state_dict().items() if "float" in str(tensor.dtype)}
        self._average = {name: tensor.clone().detach() for name, tensor in self._live.items()}

    @paddle.no_grad()
    def update(self, step):
        """Take in the weights after step number ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in self._live.items():
            self._average[name].lerp_(tensor, 1 - decay)

    @contextlib.contextmanager
    def in_place(self):
        """Within the block the network has the averaged weights."""
        trained = {name: tensor.clone().detach() for name, tensor in self._live.items()}
        try:
            for name, tensor in self._live.items():
                tensor.set_value(self._average[name])
            yield
        finally:
            for name, tensor in self._live.items():
                tensor.set_value(trained[name])
