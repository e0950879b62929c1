"""What an engine is."""
import importlib.util
import os
import weakref

import paddle

from ...native import cpu

PRECISIONS = ("fp32", "bf16", "fp16", "int8")  # fp16: on a GPU


class Engine:
    """Runs a network that classifies images. One object an engine, in ``ENGINES`` under its name.

    A new engine is a subclass in a file of its own and an entry in ``engines/__init__.py``; nothing else names it.

    Attributes:
        name: as users write it.
        package: that it needs beside Paddle, by its name at pip; None if there is none.
        writes_with: packages that it needs to write what it reads of a network in memory.
        reads: the format of ``export`` whose files it reads.
        checks: whether ``export`` compares these files with the network by this engine.
        keeps_notes: whether ``export.json`` holds what ``notes`` returns, under the engine's name.
        order: its place as a rule among the engines, by speed.
        starts_quickly: whether it is worth its start for a single evaluation.
        takes_any_layer: whether it runs every layer that Paddle runs.
        runs_layers: whether it runs Paddle's layers themselves, for images of any size.
        follows_device: whether it computes on Paddle's current device; the others compute on the CPU.
    """

    name = None
    package = None
    writes_with = ()
    reads = None
    checks = keeps_notes = False
    order = 0
    starts_quickly = False
    takes_any_layer = False
    runs_layers = False
    follows_device = False

    def precisions(self):
        """Precisions that the engine has on this machine where it is installed; () if there is none."""
        raise NotImplementedError

    def start(self, files, precision, threads):
        """A function from float32 [N, C, S, S], normalised, to logits float32 [N, K].

        It may have a method ``run_uint8`` from the images as they are, uint8 [N, S, S, C]. It is called by one thread
        at a time.

        Args:
            files: ``NetworkFiles`` or ``ExportFiles``.
            precision: one of ``PRECISIONS``.
            threads: it may use.

        Raises:
            ValueError, ImportError, FileNotFoundError: it does not run the network; the message names the layer, file
                or package and the way out.
        """
        raise NotImplementedError

    def offered(self):
        """Precisions that the engine has on this machine, () where it is not installed."""
        return self.precisions() if self.package is None or is_installed(self.package) else ()

    def why_not_here(self):
        """Why the engine has no precision on this machine and what to do; "" if it has one."""
        if self.offered():
            return ""
        return f"not installed: pip install {self.package} (or all engines: pip install 'paddle_fasternet[deploy]')"

    def has(self, files, precision):
        """Whether there is, or as far as can be told without writing it can be made, what the engine reads."""
        if files.classifier is not None:
            return precision != "int8" and all(map(is_installed, self.writes_with))
        return files.names_of(self.files(precision)) is not None

    def files(self, precision):
        """Names of the files that the engine reads: a list of tuples, each of which would do."""
        raise NotImplementedError

    def quantise(self, folder, batches):
        """Write the int8 files of an export; nothing for an engine that has no int8.

        Args:
            folder: with the other files of the export.
            batches: normalised training images, float32 [1, C, S, S] each.
        """

    def notes(self, network):
        """What the engine must find in ``export.json`` beside the files of a folded network: plain values, or None."""

    def check(self, precision):
        """Raise what a user needs to hear where the engine does not run here, or not at that precision.

        Raises:
            ImportError: the engine is not installed.
            ValueError: the precision is not offered on this machine.
        """
        offered = self.offered()
        if not offered:
            raise ImportError(f"engine={self.name!r}: {self.why_not_here()}")
        if on_cpu() or not self.follows_device:
            check_processor(precision)
        if precision not in offered:
            raise ValueError(f"precision={precision!r} is not offered by engine={self.name!r}, which has "
                             f"{', '.join(offered)}")


def check_processor(precision):
    """Raise ValueError where no engine has ``precision`` because of the processor."""
    if precision == "fp16":
        raise ValueError("precision='fp16' is for a GPU; take precision='bf16' or 'fp32' on a CPU")
    if precision == "bf16" and not cpu.has_bfloat16():
        raise ValueError("precision='bf16' needs a processor with bfloat16 instructions (AVX512_BF16 or AMX), which "
                         "this one has not; take precision='fp32'")


def is_installed(package):
    """Whether a package is there, without importing it."""
    return importlib.util.find_spec(package) is not None


def on_cpu():
    """Whether Paddle's current device is the CPU."""
    return not paddle.get_device().startswith("gpu")


def to_device(images, mean, std):
    """uint8 [N, S, S, C] to what a network takes, float32 [N, C, S, S], on Paddle's device.

    As bytes they cross the bus in a quarter of the time.
    """
    x = paddle.to_tensor(images).astype("float32").transpose([0, 3, 1, 2])
    mean, std = (paddle.to_tensor(values, "float32").reshape([1, -1, 1, 1]) for values in (mean, std))
    return (x - mean) / std


_running, _watching = weakref.WeakSet(), []
_imported_in = os.getpid()


def in_forked_child():
    """Whether this process was forked after Paddle was imported: the threads of its OpenMP library are not there."""
    return os.getpid() != _imported_in


def watch_forks(run, before=None):
    """Keep a started engine whole in forked children, where its threads do not exist.

    A child starts engines of its own. It must never destroy the inherited ones: ONNX Runtime and OpenVINO wait for
    their threads when they are destroyed, Paddle Inference aborts (2026.4, 1.27, 3.3).

    Args:
        run: the started engine.
        before: called in the parent before each fork, from the first engine on that gives one.
    """
    _running.add(run)
    if not _watching and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_keep_inherited)
    if before not in _watching:
        _watching.append(before)
        if before is not None:
            os.register_at_fork(before=before)


def _keep_inherited():
    import ctypes
    for run in list(_running):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(run))
    _running.clear()
