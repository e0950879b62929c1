"""The files that engines read: of a folder that ``export`` left, or made on demand from a network in memory."""
import ctypes
import json
import operator
import os
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np
import paddle

from .._check import check_number
from .._files import file_digest
from .._modes import evaluating
from .._plain import oddities
from ..bundle import Classifier, channel_values, input_type
from .fuse import fuse_conv_bn

INDEX = "export.json"

_memcmp = (ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


class NetworkFiles:
    """A network in memory; its files are written to a temporary folder when an engine asks for them.

    Args:
        source, image_size, mean, std, class_names: see ``Classifier.of``.

    Attributes: ``classifier``, whose network may change afterwards (see ``refresh``); ``image_size``, ``mean``,
    ``std``, ``class_names``.
    """

    accuracy = {}

    def __init__(self, source, image_size=None, mean=None, std=None, class_names=None):
        self.classifier = classifier = Classifier.of(source, image_size, mean, std, class_names)
        self.image_size, self.class_names = classifier.image_size, classifier.class_names
        self.mean, self.std = list(classifier.mean), list(classifier.std)
        self._read()

    def _read(self):
        """Take the network as it is now."""
        self._network = self._expected = self._folder = None
        outputs = self.expected()[1].shape
        self._watch = Watch(self.classifier.model)
        if len(outputs) != 2:
            raise ValueError(f"the network's outputs have the shape {list(outputs)}; it must be [N, classes]")
        if len(self.class_names) != outputs[1]:
            raise ValueError(f"class_names has {len(self.class_names)} names for a network of {outputs[1]} outputs")

    def __getstate__(self):
        """Without what belongs to this process and this network: files, the folded copy, what was watched."""
        return {name: value for name, value in vars(self).items()
                if name not in ("_network", "_expected", "_folder", "_watch")}

    def __setstate__(self, state):
        vars(self).update(state)
        self._read()

    def refresh(self):
        """Whether the network has changed since it was read; it is then read again."""
        if self._watch.unchanged():
            return False
        self._read()
        return True

    def expected(self):
        """(x, logits) of the network itself for a small random batch."""
        if self._expected is None:
            x = np.random.RandomState(0).standard_normal(
                (2, len(self.mean), self.image_size, self.image_size)).astype(np.float32)
            model = self.classifier.model
            with evaluating(model), paddle.no_grad():
                logits = model(paddle.to_tensor(x, dtype=input_type(model)))
            self._expected = x, logits.astype("float32").numpy()
        return self._expected

    def started(self):
        """An engine has what it needs: give the folded copy back."""
        self._network = None

    @property
    def network(self):
        """A folded copy of the network."""
        if self._network is None:
            self._network = fuse_conv_bn(self.classifier.model)
        return self._network

    def find(self, choices, write, missing):
        """Paths of files.

        Args:
            choices: tuples of names, each of which would do.
            write: ``write(network, folder, image_size, channels)`` makes them; None where a network does not suffice.
            missing: the error of an exported folder that lacks them.
        """
        if write is None:
            raise ValueError("precision='int8' needs a quantised network: export it with calibration=images, and give "
                             "the exported folder")
        if self._folder is None or not self._folder.is_dir():  # a forked child's may be gone with its parent
            self._folder = Path(tempfile.mkdtemp(prefix="paddle_fasternet_"))
            weakref.finalize(self, _remove, self._folder, os.getpid())
        for again in (False, True):
            for names in choices:
                paths = [self._folder / name for name in names]
                if all(path.exists() for path in paths):
                    return paths
            if not again:
                write(self.network, self._folder, self.image_size, len(self.mean))
        raise FileNotFoundError(f"{self._folder} lacks {choices[0]} after writing")

    def signature(self):
        """What the network's speed depends on, as plain values."""
        model = self.classifier.model
        return [[type(layer).__name__ for layer in model.sublayers()], [value.shape for value in model.parameters()],
                list(oddities(model))]


def _remove(folder, process):
    """Remove a temporary folder, unless this is a forked child of the process that made it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


class Watch:
    """Notices a change of a network: of its values, and of the layers and hooks that it consists of.

    Paddle counts no changes in place (``inplace_version`` stays as it is in ``set_value`` and in optimizers), so the
    values are compared with a copy: 1 ms for a T0 on a CPU.
    """

    def __init__(self, network):
        layers = network.sublayers(include_self=True)
        # the dicts themselves: what is put into them later is seen
        self._values = [held for layer in layers for held in (layer._parameters, layer._buffers)]
        self._parts = [held for layer in layers for held in (layer._sub_layers, layer._forward_pre_hooks,
                                                             layer._forward_post_hooks)]
        self._attributes = list(map(vars, layers))
        self._seen = self._look()
        self._copies = [tensor.numpy() for tensor in self._seen[0]]

    def _look(self):
        """Tensors, layers and hooks, and how many attributes each layer has: a method replaced on it is one more."""
        return ([tensor for held in self._values for tensor in held.values() if tensor is not None],
                [part for held in self._parts for part in held.values()], list(map(len, self._attributes)))

    def unchanged(self):
        """Whether nothing was changed."""
        tensors, parts, counts = self._look()
        return (_same_objects(tensors, self._seen[0]) and _same_objects(parts, self._seen[1])
                and counts == self._seen[2] and all(map(_holds, tensors, self._copies)))


def _same_objects(old, new):
    return len(old) == len(new) and all(map(operator.is_, old, new))


def _holds(tensor, array):
    """Whether a tensor's bytes are those of an array."""
    if list(tensor.shape) != list(array.shape) or tensor.element_size() != array.itemsize:
        return False
    if tensor.place.is_cpu_place() and tensor.is_contiguous():
        return not _memcmp(tensor.data_ptr(), array.ctypes.data, array.nbytes)
    return tensor.numpy().tobytes() == array.tobytes()


class ExportFiles:
    """A folder that ``export`` left. Every file is compared with its checksum before an engine sees it.

    Raises:
        FileNotFoundError: there is no such folder, or one of its files is missing.
        ValueError: it is not an export, or a file is damaged.
    """

    classifier = network = None  # it has files alone

    def __init__(self, folder):
        self.folder = Path(folder).expanduser()
        index = self.folder / INDEX
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder}: there is no such folder")
        if not index.is_file():
            hint = "; it holds a trained run: use load_run(folder), or export it first" if (
                self.folder / "history.json").exists() else ""
            raise ValueError(f"{self.folder} is not an exported network: it has no {INDEX}{hint}")
        try:
            self._index = content = json.loads(index.read_text(encoding="utf-8"))
            self.image_size = check_number("image_size", content["image_size"], low=1, integer=True)
            self.mean, self.std = channel_values("mean", content["mean"]), channel_values("std", content["std"])
            self.class_names = tuple(map(str, content["class_names"]))
            self.accuracy = {name: dict(values) for name, values in content["accuracy"].items()}
            self._signature = content["signature"]
            self._checksums = {str(name): str(value) for name, value in content["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} is damaged or not of this library: {error}") from error

    def refresh(self):
        """Whether what the engines run has changed: never, the files were read."""
        return False

    def started(self):
        """An engine has what it needs."""

    def notes(self, engine):
        """What an engine put into the index when the network was exported."""
        found = self._index.get(engine)
        return found if isinstance(found, dict) else None

    def names(self):
        """Of all files that the export wrote, beside its index."""
        return list(self._checksums)

    def names_of(self, choices):
        """The first tuple of names that are all there, or None."""
        return next((names for names in choices if set(names) <= set(self._checksums)), None)

    def find(self, choices, write, missing):
        """Paths of the files of one of ``choices``; see ``NetworkFiles.find``."""
        names = self.names_of(choices)
        if names is None:
            raise ValueError(f"{self.folder} has no {missing}")
        return [self._checked(name) for name in names]

    def signature(self):
        return self._signature

    def _checked(self, name):
        path = self.folder / name
        if path.parent != self.folder or not path.is_file():
            raise FileNotFoundError(f"{path} is missing; export the network again")
        if file_digest(path) != self._checksums[name]:
            raise ValueError(f"{path} is damaged: it is not what export wrote; export the network again")
        return path


def open_files(source, **settings):
    """The files of whatever a ``Predictor`` was given: a folder's path, a network, a classifier or a run."""
    if not isinstance(source, (str, os.PathLike)):
        return NetworkFiles(source, **settings)
    given = [name for name, value in settings.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)}: an exported folder has its own; leave them out")
    return ExportFiles(source)
