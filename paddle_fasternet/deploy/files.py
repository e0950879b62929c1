"""The files that engines read: of a folder that ``export`` left, or made on demand from a network in memory."""
import dataclasses
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path

import paddle
from paddle import nn

from .._check import check_number
from ..bundle import Classifier, channel_values
from ..model import FasterNet
from .fuse import fuse_conv_bn
from .native_form import native_settings
from .onnx_graph import to_onnx

INDEX = "export.json"
PADDLE, ONNX, INT8 = "inference", "model.onnx", "model_int8.onnx"
INT8_OPENVINO = "model_int8.xml", "model_int8.bin"


class NetworkFiles:
    """A network in memory, folded; its files are written to a temporary folder when an engine asks for them.

    Args:
        source, image_size, mean, std, class_names: see ``Classifier.of``.
    """

    accuracy = {}

    def __init__(self, source, image_size=None, mean=None, std=None, class_names=None):
        self.classifier = classifier = Classifier.of(source, image_size, mean, std, class_names)
        self.network = fuse_conv_bn(classifier.model)
        self.image_size, self.class_names = classifier.image_size, classifier.class_names
        self.mean, self.std = list(classifier.mean), list(classifier.std)
        outputs = dataclasses.replace(classifier, model=self.network).count_outputs()
        if len(self.class_names) != outputs:
            raise ValueError(f"class_names has {len(self.class_names)} names for a network of {outputs} outputs")
        self._folder = None

    def layer(self):
        return self.network

    def paddle(self):
        """Paths of Paddle's program and parameters."""
        files = paddle_files(self._temporary())
        if not files:
            write_paddle(self.network, self._temporary(), self.image_size, len(self.mean))
        return files or paddle_files(self._temporary())

    def onnx(self, precision="fp32"):
        """Path of the ONNX file of that precision."""
        if precision == "int8":
            raise ValueError("precision='int8' needs a quantised network: export it with calibration=images, and give "
                             "the exported folder")
        if importlib.util.find_spec("onnx") is None:
            raise ImportError("ONNX files need the package onnx: pip install onnx (or pip install "
                              "'paddle_fasternet[deploy]')")
        path = self._temporary() / ONNX
        if not path.exists():
            write_onnx(self.network, path, self.image_size, len(self.mean))
        return path

    openvino = onnx  # OpenVINO reads ONNX

    def precisions(self):
        """Those that there are, or can be, files for."""
        return ("fp32", "bf16")

    def has(self, engine, precision):
        """Whether there is, or can be made, what that engine reads."""
        if engine == "native":
            return precision != "int8" and native_settings(self.network) is not None
        return precision != "int8" and (engine in ("eager", "paddle") or importlib.util.find_spec("onnx") is not None)

    def signature(self):
        """What the network's speed depends on, as plain values."""
        return [[type(layer).__name__ for layer in self.network.sublayers()],
                [value.shape for value in self.network.parameters()]]

    def folded_arrays(self):
        """Weights by official name, and what ``NativeNetwork`` must know beside them; ValueError for other networks."""
        if not isinstance(self.network, FasterNet):
            raise ValueError(f"{type(self.network).__name__} is not a FasterNet")
        settings = native_settings(self.network)
        if settings is None:
            raise ValueError("the native engine runs FasterNet with PConv or identity mixers and ReLU or GELU alone")
        return {name: value.astype("float32").numpy() for name, value in self.network.state_dict().items()}, settings

    def _temporary(self):
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="paddle_fasternet_"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder


class ExportFiles:
    """A folder that ``export`` left. Every file is compared with its checksum before an engine sees it.

    Raises:
        FileNotFoundError: there is no such folder, or one of its files is missing.
        ValueError: it is not an export, or a file is damaged.
    """

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
            content = json.loads(index.read_text(encoding="utf-8"))
            self.image_size = check_number("image_size", content["image_size"], low=1, integer=True)
            self.mean, self.std = channel_values("mean", content["mean"]), channel_values("std", content["std"])
            self.class_names = tuple(map(str, content["class_names"]))
            self.accuracy = {name: dict(values) for name, values in content["accuracy"].items()}
            self._signature = content["signature"]
            self._native = dict(content["native"]) if content["native"] else None
            self._checksums = {str(name): str(value) for name, value in content["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} is damaged or not of this library: {error}") from error

    def layer(self):
        program, _ = self.paddle()
        logits_of = paddle.jit.load(str(program.with_suffix("")))
        return lambda x: logits_of(x)[1]

    def paddle(self):
        names = [name for name in self._checksums if Path(name).stem == PADDLE and Path(name).suffix != ".yml"]
        if len(names) != 2:
            raise ValueError(f"{self.folder} has no Paddle inference files; export with formats=('paddle',)")
        program, parameters = sorted(names, key=lambda name: name.endswith(".pdiparams"))
        return self._checked(program), self._checked(parameters)

    def onnx(self, precision="fp32"):
        name = INT8 if precision == "int8" else ONNX
        if name not in self._checksums:
            raise ValueError(f"{self.folder} has no {name}; export with formats=('onnx',)" +
                             (" and calibration=images" if precision == "int8" else ""))
        return self._checked(name)

    def openvino(self, precision="fp32"):
        """Path of what OpenVINO reads: int8 has a file of its own, all else is in the ONNX file."""
        if precision != "int8":
            return self.onnx(precision)
        if not self.has("openvino", "int8"):
            raise ValueError(f"{self.folder} has no {INT8_OPENVINO[0]}; export with formats=('onnx',) and "
                             "calibration=images, where OpenVINO is installed")
        return [self._checked(name) for name in INT8_OPENVINO][0]

    def names(self):
        """Of all files that the export wrote, beside its index."""
        return list(self._checksums)

    def precisions(self):
        return ("fp32", "bf16", *(["int8"] if INT8 in self._checksums else []))

    def has(self, engine, precision):
        if engine in ("eager", "paddle"):
            return f"{PADDLE}.pdiparams" in self._checksums
        if engine == "native" and (self._native is None or importlib.util.find_spec("onnx") is None):
            return False
        if (engine, precision) == ("openvino", "int8"):
            return set(INT8_OPENVINO) <= set(self._checksums)
        return (INT8 if precision == "int8" else ONNX) in self._checksums

    def signature(self):
        return self._signature

    def folded_arrays(self):
        if self._native is None:
            raise ValueError("the exported network is not a FasterNet")
        if importlib.util.find_spec("onnx") is None:
            raise ImportError("engine='native' reads the exported folder with the package onnx: pip install onnx")
        import onnx
        from onnx import numpy_helper
        weights = onnx.load(str(self.onnx())).graph.initializer
        return {weight.name: numpy_helper.to_array(weight) for weight in weights
                if weight.name.endswith((".weight", ".bias"))}, self._native

    def _checked(self, name):
        path = self.folder / name
        if path.parent != self.folder or not path.is_file():
            raise FileNotFoundError(f"{path} is missing; export the network again")
        if sha256(path) != self._checksums[name]:
            raise ValueError(f"{path} is damaged: it is not what export wrote; export the network again")
        return path


def write_paddle(network, folder, image_size, channels):
    """Paddle's program and parameters of a folded network; outputs: probabilities, logits, [N, K] each."""

    class WithProbabilities(nn.Layer):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            logits = self.network(x)
            return nn.functional.softmax(logits), logits

    layer = WithProbabilities()
    layer.eval()
    spec = paddle.static.InputSpec([None, channels, image_size, image_size], "float32", "x")
    paddle.jit.save(layer, str(Path(folder) / PADDLE), input_spec=[spec])


def paddle_files(folder):
    """(program, parameters) in a folder, or None: Paddle 3 writes .json, 2.6 .pdmodel."""
    parameters = Path(folder) / f"{PADDLE}.pdiparams"
    for suffix in (".json", ".pdmodel"):
        program = parameters.with_suffix(suffix)
        if program.exists() and parameters.exists():
            return program, parameters
    return None


def write_onnx(network, path, image_size, channels):
    """A folded network as an ONNX file."""
    Path(path).write_bytes(to_onnx(network, (channels, image_size, image_size)).SerializeToString())


def sha256(path):
    """Checksum of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def open_files(source, **settings):
    """The files of whatever a ``Predictor`` was given: a folder's path, a network or a run."""
    if not isinstance(source, (str, os.PathLike)):
        return NetworkFiles(source, **settings)
    given = [name for name, value in settings.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)}: an exported folder has its own; leave them out")
    return ExportFiles(source)
