"""What a run carries along and what is done with it: steps, evaluation, its state to arrays and back."""
import contextlib
import dataclasses
import itertools
import math
import time

import numpy as np
import paddle

from ..bundle import Classifier
from ..data import Augment, Loader
from ..evaluation import evaluate
from ..losses import LabelSmoothingCrossEntropy
from ..native.cpu import default_threads
from . import statistics
from .history import History
from .native import use_native_kernels, why_not
from .optimizers import WeightAverage, build_optimizer, learning_rate, moments
from .precision import LEAST_SCALE, amp_dtype, cast, finite_statistics, float32_remark
from .small import class_weights
from .start import divide, frozen_features, start_from

# The host waits for a GPU only this often: losses stay on the device until then.
_STEPS_BETWEEN_FETCHES = 20


class Trainer:
    """Network, optimizer, loader, averaged weights, history, and how far the run has come.

    Everything random depends on (seed, step) or (seed, epoch, batch) alone, so that the number of steps done is the
    whole of the random state.

    Args:
        config: ``TrainConfig``.
        train: the training images, an ``ImageSet`` or an ``ImageFolder``.
        processes: ``Processes`` that share each batch; one, as a rule.
        source: the ``Source`` of weights to start from; None: random ones.

    Attributes:
        model, optimizer, history: as they are now.
        classifier: ``model`` with its preprocessing and class names.
        remarks: lines for the user, on what was taken from ``source`` and on what computes.
        average: ``WeightAverage``, or None without ``ema_decay``.
        steps: done so far.
        epoch_seconds: of training in the present epoch.
    """

    def __init__(self, config, train, processes, source=None):
        paddle.seed(config.seed)
        classes = len(train.class_names)
        self.model = config.build_model(classes, in_channels=train.channels)
        self.classifier = Classifier(self.model, config.image_size, train.mean, train.std, train.class_names)
        self.preprocess = self.classifier.preprocess
        self.config, self.processes = config, processes
        self.loader = Loader(train, min(config.batch_size, len(train)), self._augment(0, train), shuffle=True,
                             drop_last=True, seed=config.seed, shard=(processes.rank, processes.size),
                             balanced=config.balance == "sampling")
        self.remarks, self._frozen, forward = [], [], self.model
        if source:
            fresh, remark = start_from(source, self.model, config, train.class_names)
            self._frozen, self.remarks = divide(self.model, fresh, config), [remark]
            forward = self._forward(fresh)
        dtype = _choose_kernels(self.model, config, processes)
        self.remarks += filter(None, [float32_remark(self.model, dtype)])
        self.optimizer = build_optimizer(self.model, config)
        weights = class_weights(train) if config.balance == "weights" else None
        self.step_once, self.scaler = _make_step(self.model, forward, self.optimizer, config, processes, dtype,
                                                 weights)
        self.average = WeightAverage(self.model, config.ema_decay) if config.ema_decay else None
        self.history, self.steps, self.epoch_seconds = History(), 0, 0.0
        self._statistics = None, ()  # the step at which they were estimated, and they

    def _forward(self, fresh):
        """What computes the logits: the network, or its head alone on the features of a backbone that stays."""
        if not self.config.freeze:
            return self.model
        trained = sorted({name.rsplit(".", 2)[0] for name in fresh if not name.startswith("head.")})
        if trained:
            self.remarks.append(f"freeze='backbone': {', '.join(trained)} is trained too, so every step goes through "
                                "the whole network in Paddle's layers")
            return self.model
        features = frozen_features(self.model, self.config, self.classifier, _threads(self.processes))
        return lambda images: self.model.head(features(images))

    def _train_mode(self):
        self.model.train()
        for layer in self._frozen:
            layer.eval()

    def _augment(self, epoch, train):
        """What applies in an epoch: the first may be on smaller images, the last with an augmentation of their own."""
        config = self.config
        augment = config.augment if epoch < config.epochs - config.final_epochs else config.final_augment
        size = config.early_size if epoch < config.early_epochs else config.image_size
        return Augment(augment, size, train.mean, train.std, len(train.class_names))

    def try_out(self, train, val):
        """Run two images of each set through everything, so that what does not fit fails before a file is written."""
        self.model.eval()
        last = self.config.epochs - 1
        trainings = [self._augment(epoch, train) for epoch in {0, min(self.config.early_epochs, last), last}]
        with paddle.no_grad():
            for images, prepare in [*((train, augment) for augment in trainings), (val, self.preprocess)]:
                x, _ = prepare.batch(images, np.arange(min(2, len(images))), np.random.default_rng(0))
                self.model(paddle.to_tensor(x))

    def train_epoch(self, epoch, fetch_now):
        """The rest of an epoch: yields (loss, accuracy, steps) at every fetch, the means over the steps since the last.

        Args:
            epoch: from 0.
            fetch_now: called after every step; a true answer fetches the numbers at once, which on a GPU waits for it.
        """
        self._train_mode()
        self.loader.augment = self._augment(epoch, self.loader.images)
        last = len(self.loader) * (epoch + 1)
        start, pending = time.perf_counter(), []
        with contextlib.closing(self.loader.epoch(epoch, len(self.loader) - (last - self.steps))) as batches:
            for images, labels in batches:
                paddle.seed(_seed_of_step(self.config.seed, self.steps, self.processes.rank))
                self.optimizer.set_lr(learning_rate(self.config, self.steps, len(self.loader)))
                pending.append(self.step_once(images, labels))
                if self.average:
                    self.average.update(self.steps)
                self.steps += 1
                if len(pending) == _STEPS_BETWEEN_FETCHES or self.steps == last or fetch_now():
                    fetched = (*self._fetch(pending, epoch), len(pending))
                    pending = []
                    self.epoch_seconds += time.perf_counter() - start
                    yield fetched
                    start = time.perf_counter()

    def _fetch(self, pending, epoch):
        """Fetch the pending steps' numbers into the history; returns their mean loss and accuracy."""
        first = self.steps - len(pending) + 1
        numbers = paddle.stack([paddle.stack(pair) for pair in pending], axis=1).numpy()
        losses, accuracies = self.processes.sum(numbers) / self.processes.size
        for offset, loss in enumerate(losses):
            if not (np.isfinite(loss) or self.scaler.is_enable()):  # float16's scaler skips the step
                raise self._not_finite("loss", loss, first + offset, epoch)
        if self.scaler.is_enable() and float(self.scaler.state_dict()["scale"]) < LEAST_SCALE:
            raise FloatingPointError(
                f"float16 overflows at every factor on the loss (step {self.steps}, epoch {epoch + 1}): not in the "
                "gradients alone. Try amp='bfloat16' where the device has it, a lower lr, or amp='off'")
        self.history.add_steps(first, losses, accuracies)
        return _mean(losses), float(accuracies.mean())

    def finish_epoch(self, epoch, val, seconds):
        """Evaluate, and enter the epoch into the history. ``seconds``: since the start of the run, asked at the end."""
        loss, accuracy, one_class = self._evaluate(val)
        if not math.isfinite(loss):
            raise self._not_finite("validation loss", loss, self.steps, epoch)
        train, steps = self.history.record["train"], len(self.loader)
        train_loss = _mean(np.array(train["loss"][-steps:], float))
        if not math.isfinite(train_loss):
            raise self._not_finite("loss", train_loss, self.steps, epoch)
        self.history.add_epoch({
            "epoch": epoch + 1, "step": self.steps, "lr": self.optimizer.get_lr(),
            "train_loss": train_loss, "train_acc": float(np.mean(train["acc"][-steps:])),
            "val_loss": loss, "val_acc": accuracy, "train_seconds": self.epoch_seconds,
            "images_per_second": steps * self.loader.batch_size / self.epoch_seconds, "seconds": seconds(),
            **({"one_class": True} if one_class else {})})
        self.epoch_seconds = 0.0

    def _evaluate(self, val):
        """(cross-entropy, accuracy, one class) of the weights that are saved.

        The last says whether images of several classes were all given the same one. Each process takes its part of the
        images.
        """
        self.share_statistics()
        part = val[self.processes.rank::self.processes.size]
        with self.saved_weights():
            result = evaluate(self.classifier, part, flips=self.config.flip_test, threads=_threads(self.processes))
        loss, right, count = self.processes.sum([result.loss * len(part), result.accuracy * len(part), len(part)])
        given = self.processes.sum(np.bincount(result.predicted, minlength=len(val.class_names)))
        one_class = np.count_nonzero(given) == 1 < len(np.unique(val.labels))
        return float(loss / count), float(right / count), one_class

    def _not_finite(self, what, value, step, epoch):
        return FloatingPointError(
            f"the {what} is {value} at step {step} (epoch {epoch + 1}), learning rate about "
            f"{self.optimizer.get_lr():.2g}. Try a lower lr, more warmup_epochs, a smaller clip_grad, or amp='off'")

    @contextlib.contextmanager
    def saved_weights(self):
        """Within the block the network has the weights to evaluate and save.

        These are the averaged weights where there are any, and after few steps estimated statistics of BatchNorm, which
        depend on the weights, the seed and the step alone. All processes enter together.
        """
        with self.average.in_place() if self.average else contextlib.nullcontext():
            with statistics.in_place(self._estimated_statistics()):
                yield

    def _estimated_statistics(self):
        """BatchNorm's statistics of the weights now in the network; () once the moving average has settled."""
        if not 0 < self.steps < statistics.SETTLED_AFTER:
            return ()
        if self._statistics[0] != self.steps:
            epoch = (self.steps - 1) // len(self.loader)
            self.loader.augment = self._augment(epoch, self.loader.images)
            self._train_mode()
            if not statistics.moving_norms(self.model):
                return ()
            with contextlib.closing(self.loader.epoch(epoch)) as batches:
                some = itertools.islice(batches, statistics.batches_needed(self.loader.batch_size))
                self._statistics = self.steps, statistics.estimate(self.model, some, self.processes)
        return self._statistics[1]

    def share_statistics(self):
        """Average BatchNorm's running statistics over the processes."""
        state = self.model.state_dict()
        names = [name for name, tensor in state.items() if tensor.stop_gradient]  # Paddle has them as parameters
        for tensors in (state, *([self.average.state] if self.average else [])):
            self.processes.average([tensors[name] for name in names])

    def state(self):
        """(arrays, progress) for ``restore``: a dict of arrays, and plain values for JSON."""
        names = {theirs: ours for theirs, ours, _ in moments(self.model, self.optimizer)}
        optimizer = self.optimizer.state_dict()
        if set(optimizer) != set(names):
            raise RuntimeError(f"the optimizer's state is not as expected: {sorted(set(optimizer) ^ set(names))[:4]}")
        tensors = {**self._tensors(), **{names[name]: tensor for name, tensor in optimizer.items()}}
        scaler = {key: value.tolist() if isinstance(value, np.ndarray) else value
                  for key, value in self.scaler.state_dict().items()}
        return ({name: np.asarray(tensor.numpy()) for name, tensor in tensors.items()},
                {"steps": self.steps, "epoch_seconds": self.epoch_seconds, "scaler": scaler,
                 "history": dataclasses.asdict(self.history)})

    def restore(self, arrays, progress):
        """Go on from what ``state`` gave, in this process or an earlier one.

        Raises:
            ValueError: it is the state of another training.
        """
        tensors, state = self._tensors(), moments(self.model, self.optimizer)
        expected = {**{name: tuple(tensor.shape) for name, tensor in tensors.items()},
                    **{ours: shape for _, ours, shape in state}}
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise ValueError("its weights are those of another network")
        try:
            history, steps = History.from_dict(progress["history"]), int(progress["steps"])
            behind = steps - len(history.epochs) * len(self.loader)
            if not 0 <= behind <= len(self.loader) or len(history.record["train"]["iter"]) != steps:
                raise ValueError(f"its {steps} steps do not fit its history")
            self.history, self.steps, self.epoch_seconds = history, steps, float(progress["epoch_seconds"])
            if progress["scaler"]:
                self.scaler.load_state_dict(progress["scaler"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"its progress is not what a training writes: {error!r}") from error
        for parameter in self.model.parameters():  # an optimizer that has made no step has nowhere to put its state
            if not parameter.stop_gradient:
                parameter.grad = paddle.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.clear_grad()
        self.optimizer.set_lr(learning_rate(self.config, max(steps - 1, 0), len(self.loader)))
        self.optimizer.set_state_dict({theirs: paddle.to_tensor(arrays[ours]) for theirs, ours, _ in state})
        for name, tensor in tensors.items():
            tensor.set_value(arrays[name])

    def _tensors(self):
        """{name in a checkpoint: tensor} of the network and of the averaged weights."""
        parts = {"model": self.model.state_dict(), "average": self.average.state if self.average else {}}
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def _mean(losses):
    """Of those that are finite: a step that float16 overflowed in is skipped."""
    finite = losses[np.isfinite(losses)]
    return float(finite.mean()) if len(finite) else math.nan


def _seed_of_step(seed, step, rank):
    """63 bits for Paddle's generator: stochastic depth depends on these three alone."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _threads(processes):
    """The kernels' threads in each of the processes."""
    return max(default_threads() // processes.size, 1)


def _choose_kernels(model, config, processes):
    """Let the network use the native kernels if it should and can; the dtype of Paddle's mixed precision, or None."""
    precisions = {"auto": ("bf16", "fp32"), "bfloat16": ("bf16",), "off": ("fp32",)}.get(config.amp, ())
    if config.freeze:
        if config.kernels == "native":
            raise ValueError(f"kernels='native': they train the backbone, which freeze={config.freeze!r} leaves as it "
                             "is; use kernels='auto'")
        return amp_dtype(config.amp)
    if config.kernels == "paddle" or (config.kernels == "auto" and paddle.get_device() != "cpu"):
        return amp_dtype(config.amp)
    for precision in precisions:
        if not why_not(model, precision):
            use_native_kernels(model, precision, _threads(processes))
            return None
    if config.kernels == "native":
        reason = why_not(model, precisions[-1]) if precisions else "they know no float16; use amp='auto'"
        raise ValueError(f"kernels='native': {reason}, or use kernels='auto'")
    return amp_dtype(config.amp)


def _make_step(model, forward, optimizer, config, processes, dtype, weights=None):
    """(step, scaler): ``step`` updates the weights with one batch and returns loss and accuracy, on the device.

    ``forward`` gives the logits of images; ``weights`` are those of the classes in the loss.
    """
    loss_function = LabelSmoothingCrossEntropy(config.smoothing, weights)
    scaler = paddle.amp.GradScaler(enable=dtype == "float16")

    def step(images, labels):
        with cast(dtype), finite_statistics(model, dtype):
            logits = forward(images)
        loss = loss_function(logits, labels)
        scaler.scale(loss).backward()
        processes.average_gradients(model)
        scaler.step(optimizer)
        scaler.update()
        optimizer.clear_grad()
        target = labels.argmax(1) if labels.ndim == 2 else labels
        return loss.detach(), (logits.detach().argmax(1) == target).astype("float32").mean()

    return step, scaler
