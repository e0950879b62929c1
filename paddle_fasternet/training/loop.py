"""Training: from settings and images to a run's folder, through whatever ends the process on the way."""
import contextlib
import sys
import time
import warnings
from pathlib import Path

import paddle
from tqdm.auto import tqdm

from .. import plots
from .._check import check_number, check_type
from .._files import holding, make_folder
from .._modes import dynamic
from ..data import check_images
from .checkpoint import STATES, Checkpoints, open_folder, save_model
from .config import check_config
from .history import History
from .interrupt import stop_request
from .log import Log, check_visualdl
from .parallel import Processes, alone_in_this_process
from .precision import ordered_sums
from .small import suit_batch
from .start import find_source
from .trainer import Trainer

# A checkpoint waits until training has taken this many times as long as the last one took to write.
_LEAST_SHARE = 50


@dynamic
def fit(config, train, val, out_dir, overwrite=False, progress=True, *, pretrained=None, resume=False,
        checkpoint_seconds=60, visualdl=False):
    """Train a network and leave a run's folder that everything else reads.

    Args:
        config: a ``TrainConfig``.
        train, val: ``ImageSet`` or ``ImageFolder`` with the same classes; ``val`` is evaluated after every epoch.
        out_dir: folder for ``config.json``, ``history.json``, ``best_model.pdparams`` and ``final_model.pdparams``
            (the highest validation accuracy; the last epoch so far) with their ``.pdopt``, ``learning_curve.png``, and
            ``log.jsonl``, which gets a line every few steps. With ``ema_decay`` the weights are the averaged ones, the
            optimizer's state is of the trained ones. While it runs also ``resume_a.pdparams`` and
            ``resume_b.pdparams``, its checkpoints.
        overwrite: write over the run that is in ``out_dir`` already.
        progress: show a bar with loss, accuracy, images/s and the time left.
        pretrained: what training starts from instead of random weights: "imagenet" or True (downloaded once), "cifar10"
            (the weights shipped for fasternet_t0), the path of a weight file, a run's folder (its best weights), what
            ``load_run`` returned, or a ``FasterNet``. Variant, mixer and activation must be those of ``config``. The
            head starts fresh for other classes, the stem for other channels; stem and merging layers are resampled
            where patch sizes or overlaps differ (``weights.resample_patches``). One line on stderr says so.
            ``config.freeze`` and ``config.backbone_lr`` say how the rest is trained.
        resume: go on with the run in ``out_dir`` where it was interrupted, also in the middle of an epoch; on a CPU it
            ends in the same weights, bit for bit. Where no run is, one starts; where it is finished, nothing is done:
            the same call can be made until it returns.
        checkpoint_seconds: time between two checkpoints, at least fifty times what one takes to write; each epoch
            ends with one. 0: one after every step.
        visualdl: also write scalars for ``visualdl --logdir OUT_DIR``.

    Returns:
        The ``History``; ``load_run(out_dir)`` gives the network.

    Raises:
        FileExistsError: ``out_dir`` holds a run and neither ``overwrite`` nor ``resume`` is True, or files of something
            else.
        BlockingIOError: another training writes to ``out_dir``.
        FloatingPointError: the loss is not finite; the files of the epochs before stay.
        ImportError: VisualDL is wanted and not installed.
        RuntimeError: another thread of this process is training.
        KeyboardInterrupt: Ctrl-C or SIGTERM; there is a checkpoint of the step that was going on. A second Ctrl-C
            interrupts at once.
        OSError: ``out_dir`` cannot be written; what was there is unchanged. Or a file of ``pretrained`` is not there.
        ValueError: the sets do not fit each other, or the images the network, or the weights the network, or the
            settings the run to resume.

    A ``batch_size`` that nobody chose is halved for a small set, until an epoch has ten steps; ``config.json`` records
    the one that was used. After fewer than fifty steps BatchNorm's moving averages have not settled: what is evaluated
    and saved then has exact statistics of some training batches instead. The best epoch is never one whose network gave
    all validation images one class, unless all did.

    Sets Paddle's global random seed to ``config.seed``, then before every step to one made of it and the step's number.

    In several processes, started by ``python -m paddle.distributed.launch``, all call this with equal arguments and an
    ``out_dir`` that all of them see. ``batch_size`` stays that of the whole and must be a multiple of their number; the
    losses and accuracies are means over all. See the module ``parallel``, for BatchNorm too.
    """
    check_config(config)
    for argument, value in [("train", train), ("val", val)]:
        check_images(argument, value)
    for argument, value in [("overwrite", overwrite), ("resume", resume), ("visualdl", visualdl)]:
        check_type(argument, value, bool)
    checkpoint_seconds = check_number("checkpoint_seconds", checkpoint_seconds, low=0)
    if overwrite and resume:
        raise ValueError("overwrite=True and resume=True contradict each other: give one")
    if train.class_names != val.class_names:
        raise ValueError(f"train has the classes {train.class_names}, val has {val.class_names}")
    check_visualdl(visualdl)
    processes = Processes()
    if len(val) < processes.size:
        raise ValueError(f"val has {len(val)} images, fewer than the {processes.size} processes")
    config, remark = suit_batch(config, len(train), processes.size)
    if (pretrained is None or pretrained is False) and (config.freeze or config.backbone_lr != 1):
        raise ValueError(f"freeze={config.freeze!r}, backbone_lr={config.backbone_lr}: the backbone would be random; "
                         "give pretrained, the weights to start from, or leave these settings out")
    with alone_in_this_process(), processes.losing_others(), contextlib.ExitStack() as stack:
        stack.enter_context(ordered_sums(config.deterministic))
        source = find_source(pretrained, config)
        trainer = Trainer(config, train, processes, source)
        trainer.try_out(train, val)
        state = 0
        if processes.first:
            folder = make_folder("out_dir", out_dir)
            stack.enter_context(holding("out_dir", folder))
            state = STATES.index(open_folder(folder, config, train, val, overwrite, resume,
                                             source.record() if source else None))
        state = STATES[int(processes.sum(state))]  # the others wait here until the folder is ready
        folder = Path(out_dir).expanduser()
        run = _Run(folder, trainer, checkpoint_seconds)
        if state == "finished":
            trainer.history = History.load(folder / "history.json")
        else:
            if state == "resumed":
                run.resume()
            log = None
            if processes.first:
                log = Log(folder, visualdl)
                stack.callback(log.close)
                log.write(state, trainer.steps)
                for line in filter(None, (remark, *trainer.remarks) if state == "new" else ()):
                    print(line, file=sys.stderr)
            run.train(val, log, progress and processes.first)
        if processes.first:
            run.checkpoints.remove()
            if trainer.history.best.get("one_class"):
                print(f"out_dir={str(folder)!r}: after every epoch the network gave all validation images one class; "
                      "train for more epochs or at another lr", file=sys.stderr)
        processes.sum(0)  # nobody returns before the files are in place
    return trainer.history


class _Run:
    """A ``Trainer`` and its folder."""

    def __init__(self, folder, trainer, checkpoint_seconds):
        self.folder, self.trainer, self.checkpoints = folder, trainer, Checkpoints(folder)
        self.seconds_before, self.start = 0.0, time.perf_counter()
        self.checkpoint_seconds = checkpoint_seconds
        self.wait, self.saved = checkpoint_seconds, time.perf_counter()

    @property
    def seconds(self):
        """Since the start of the run, without the time between an interruption and the resumption."""
        return self.seconds_before + time.perf_counter() - self.start

    def resume(self):
        """Take up the newest checkpoint."""
        trainer, found = self.trainer, self.checkpoints.load()
        try:
            if found:
                trainer.restore(*found)
                self.seconds_before = float(found[1]["seconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the checkpoint in {self.folder} is not of this run: {error}") from error
        if trainer.processes.sum(trainer.steps) != trainer.steps * trainer.processes.size:
            raise ValueError(f"out_dir={str(self.folder)!r} must be a folder that all processes see; they found "
                             "different checkpoints there")
        if trainer.history.epochs and trainer.steps == trainer.history.epochs[-1]["step"]:
            self.publish()  # the process may have died between this checkpoint and the files of its epoch

    def save(self):
        """Write a checkpoint."""
        self.trainer.share_statistics()
        if self.trainer.processes.first:
            start = time.perf_counter()
            arrays, progress = self.trainer.state()
            self.checkpoints.save(arrays, {**progress, "seconds": self.seconds})
            cost = time.perf_counter() - start
            self.wait = max(self.checkpoint_seconds, _LEAST_SHARE * cost) if self.checkpoint_seconds else 0
        self.saved = time.perf_counter()

    def due(self):
        """Whether it is time for a checkpoint."""
        return self.trainer.processes.first and time.perf_counter() - self.saved >= self.wait

    def publish(self):
        """Write the files of a finished epoch; ``history.json``, the last, says that the others are there."""
        trainer = self.trainer
        with trainer.saved_weights():
            if not trainer.processes.first:
                return
            if trainer.history.best is trainer.history.epochs[-1]:
                save_model(self.folder, "best_model", trainer.model, trainer.optimizer)
            save_model(self.folder, "final_model", trainer.model, trainer.optimizer)
        trainer.history.save(self.folder / "history.json")
        plots.save_figure(self.folder / "learning_curve.png", plots.plot_history, trainer.history)

    def train(self, val, log, progress):
        """All epochs that are left."""
        trainer, config = self.trainer, self.trainer.config
        batch, steps = trainer.loader.batch_size, len(trainer.loader)
        with warnings.catch_warnings(), stop_request() as stop, \
                tqdm(total=config.epochs * steps * batch, initial=trainer.steps * batch, unit="img", unit_scale=True,
                     disable=not progress) as bar:
            # Paddle says so of every BatchNorm in training, and there is nothing to do about it
            warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
            # several processes agree at a fetch on what to do; on a GPU a fetch after every step would hold it up
            fetch_now = (lambda: stop.made or self.due()) if trainer.processes.size == 1 else \
                (lambda: paddle.get_device() == "cpu")
            for epoch in range(len(trainer.history.epochs), config.epochs):
                bar.set_description(f"epoch {epoch + 1}/{config.epochs}", refresh=False)
                for loss, accuracy, count in trainer.train_epoch(epoch, fetch_now):
                    bar.set_postfix(loss=f"{loss:.3f}", acc=f"{accuracy:.1%}", **_last_val(trainer.history),
                                    refresh=False)
                    bar.update(count * batch)
                    if log:
                        log.write("train", trainer.steps, loss=loss, acc=accuracy, lr=trainer.optimizer.get_lr())
                    self._save_or_stop(stop)
                trainer.finish_epoch(epoch, val, lambda: self.seconds)
                self.save()
                self.publish()
                last = trainer.history.epochs[-1]
                bar.set_postfix(loss=f"{last['train_loss']:.3f}", acc=f"{last['train_acc']:.1%}",
                                **_last_val(trainer.history))
                if log:
                    log.write("epoch", trainer.steps, **{key: last[key] for key in last if key != "step"})
                self._save_or_stop(stop, saved=True)

    def _save_or_stop(self, stop, saved=False):
        """After a fetch: a checkpoint where it is time or the end is asked for, and then the end."""
        trainer = self.trainer
        stopping, due = trainer.processes.any(stop.made, self.due())
        if (stopping or due) and not saved:
            self.save()
        total = trainer.config.epochs * len(trainer.loader)
        if stopping and not (saved and trainer.steps == total):
            raise KeyboardInterrupt(f"stopped after step {trainer.steps} of {total}; go on with resume=True (--resume)")


def _last_val(history):
    return {"val_acc": f"{history.epochs[-1]['val_acc']:.1%}"} if history.epochs else {}
