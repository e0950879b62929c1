"""A trained detector: pictures in, boxes out; its files, and its export for Paddle Inference."""
import copy
import dataclasses
import json
from pathlib import Path
from unittest import mock

import numpy as np
import paddle
from paddle import nn

from .._check import check_number, check_path
from .._files import is_sealed, make_folder, write_json
from ..bundle import IMAGENET_MEAN, IMAGENET_STD
from ..data.images import read_picture
from ..native.cpu import default_threads
from ..weights import read_weights
from .build import build_detector
from .geometry import letterbox
from .score import score

DESCRIPTION, WEIGHTS, PROGRAM = "detector.json", "detector.pdparams", "inference"
PARTS = ("class_names", "shape", "mean", "std")


@dataclasses.dataclass(frozen=True)
class Box:
    """One object.

    Attributes:
        name: its class.
        score: 0 to 1.
        xyxy: [x0, y0, x1, y1] in pixels of the picture as it came.
        label: number of the class.
    """

    name: str
    score: float
    xyxy: list
    label: int

    def __str__(self):
        return f"{self.name} {self.score:.2f} [{', '.join(f'{value:.0f}' for value in self.xyxy)}]"


class Detector:
    """Finds objects: ``for box in detector("cell.jpg"): print(box)``.

    Args:
        network: a function from float32 [N, 3, H, W] and the factors [N] by which the pictures were scaled to one array
            [n, 6] for each picture: label, score, x0, y0, x1, y1 before scaling.
        class_names: names of the labels.
        shape: (H, W) of the network's input.
        mean, std: of the three channels, 0 to 255.
        threshold: boxes with a lower score are left out.
    """

    def __init__(self, network, class_names, shape, mean=IMAGENET_MEAN, std=IMAGENET_STD, threshold=0.4):
        self.network = network
        self.class_names, self.shape = tuple(class_names), tuple(shape)
        self.mean, self.std = tuple(mean), tuple(std)
        self.threshold = check_number("threshold", threshold, low=0.0, high=1.0)

    def __call__(self, picture, threshold=None):
        """Boxes of a picture, best first.

        Args:
            picture: a path, a PIL image, or an array uint8 [H, W, 3].
            threshold: lowest score; None is the detector's.

        Returns:
            list of ``Box``.

        Raises:
            FileNotFoundError, ValueError: there is no such file, or it is no picture.
        """
        threshold = self.threshold if threshold is None else check_number("threshold", threshold, low=0.0, high=1.0)
        return self.boxes(self.predict([picture])[0], threshold)

    def boxes(self, rows, threshold=None):
        """Rows of ``predict`` as a list of ``Box``, best first."""
        threshold = self.threshold if threshold is None else threshold
        rows = rows[np.argsort(-rows[:, 1], kind="stable")]
        return [Box(self.class_names[int(row[0])], float(row[1]), [round(float(value), 1) for value in row[2:]],
                    int(row[0])) for row in rows if row[1] >= threshold]

    def predict(self, pictures, batch_size=8):
        """For each picture float32 [n, 6]: label, score, x0, y0, x1, y1, with boxes of any score, as AP needs them."""
        found = []
        for start in range(0, len(pictures), batch_size):
            opened = [_open(picture) for picture in pictures[start:start + batch_size]]
            inputs, factors = zip(*(letterbox(picture, self.shape) for picture in opened))
            rows = self.network(normalize(np.stack(inputs), self.mean, self.std), np.array(factors, np.float32))
            for picture, each in zip(opened, rows):
                height, width = picture.shape[:2]
                each[:, 2:] = each[:, 2:].clip(0, [width, height, width, height])
                found.append(each)
        return found

    def evaluate(self, boxes):
        """The ``Score`` on a ``BoxSet``.

        Raises:
            ValueError: the set has other classes.
        """
        if tuple(boxes.class_names) != self.class_names:
            raise ValueError(f"the set has the classes {', '.join(boxes.class_names)}, the detector "
                             f"{', '.join(self.class_names)}")
        return score(boxes, self.predict(boxes.files))


def _open(picture):
    if not isinstance(picture, np.ndarray):
        return read_picture(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(f"picture of shape {list(picture.shape)}, {picture.dtype}, must be uint8 [H, W, 3]")
    return picture


def normalize(pictures, mean, std):
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W]."""
    scale, bias = 1 / np.array(std, np.float32), -np.array(mean, np.float32) / np.array(std, np.float32)
    return np.ascontiguousarray((pictures * scale + bias).transpose(0, 3, 1, 2))


class EagerNetwork:
    """A detector of PaddleDetection as a ``Detector``'s network, in Paddle's layers."""

    def __init__(self, model):
        self.model = model

    @paddle.no_grad()
    def __call__(self, x, factors):
        was_training = self.model.training
        self.model.eval()
        try:
            bbox, count = _forward(self.model, paddle.to_tensor(x), paddle.to_tensor(np.stack([factors, factors], 1)))
        finally:
            if was_training:
                self.model.train()
        return _rows(bbox.numpy(), count.numpy())


class InferenceNetwork:
    """An exported detector in Paddle Inference: oneDNN on a CPU, CUDA where Paddle's current device is a GPU."""

    def __init__(self, folder, threads=None):
        from paddle import inference
        program = [folder / f"{PROGRAM}{suffix}" for suffix in (".json", ".pdmodel")]
        program = next((path for path in program if path.is_file()), None)
        if program is None:
            raise FileNotFoundError(f"{folder} has no {PROGRAM}.json or {PROGRAM}.pdmodel")
        config = inference.Config(str(program), str(folder / f"{PROGRAM}.pdiparams"))
        config.disable_glog_info()
        if paddle.get_device().startswith("gpu"):
            config.enable_use_gpu(256, int(paddle.get_device().split(":")[1]))
        else:
            config.disable_gpu()
            config.enable_mkldnn()
            config.set_cpu_math_library_num_threads(threads or default_threads())
        self._predictor = inference.create_predictor(config)
        self._inputs, self._outputs = (
            [handle(name) for name in names] for handle, names in (
                (self._predictor.get_input_handle, self._predictor.get_input_names()),
                (self._predictor.get_output_handle, self._predictor.get_output_names())))

    def __call__(self, x, factors):
        for handle, array in zip(self._inputs, (x, np.stack([factors, factors], 1))):
            handle.copy_from_cpu(np.ascontiguousarray(array, np.float32))
        self._predictor.run()
        return _rows(*(handle.copy_to_cpu() for handle in self._outputs[:2]))


def _forward(model, image, scale):
    """(bbox [n, 6], bbox_num [N]) of PaddleDetection's detector; scale: [N, 2], y before x."""
    found = model({"image": image, "im_shape": scale, "scale_factor": scale})
    return found["bbox"], found["bbox_num"]


def _rows(bbox, count):
    bbox = np.array(bbox, np.float32).reshape(-1, 6)
    return np.split(bbox, np.cumsum(count)[:-1]) if bbox.size and bbox[0, 0] >= 0 else [
        np.zeros((0, 6), np.float32) for _ in count]


class _GraphNMS:
    """PaddleDetection's suppression of overlapping boxes; for Paddle 3's graphs, which 2.6.0 does not know, too."""

    def __init__(self, nms):
        self._nms = nms

    def __call__(self, boxes, scores):
        if not getattr(paddle.framework, "in_pir_mode", lambda: False)():
            return self._nms(boxes, scores)
        nms = self._nms
        bbox, index, count = paddle._C_ops.multiclass_nms3(
            boxes, scores, None, nms.score_threshold, nms.nms_top_k, nms.keep_top_k, nms.nms_threshold, nms.normalized,
            nms.nms_eta, -1)
        return bbox, count, index


def _enlarge(x, scale_factor, data_format="NCHW"):
    """``interpolate`` to the nearest pixel by a whole factor, as the neck calls it: [N, C, H, W] to larger H, W."""
    factor, (_, channels, height, width) = int(scale_factor), x.shape
    x = x.reshape([-1, channels, height, 1, width, 1]).expand([-1, channels, height, factor, width, factor])
    return x.reshape([-1, channels, height * factor, width * factor])


class _Exported(nn.Layer):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image, scale_factor):
        return _forward(self.model, image, scale_factor)


def describe(folder, **content):
    """Write ``detector.json``, which says what the network in a folder is."""
    write_json(Path(folder) / DESCRIPTION, {"kind": "detector", **content})


def load_detector(folder, threshold=0.4):
    """The detector of a training's folder or of an exported one.

    Args:
        folder: what ``train_detector`` was given as ``out_dir``, or ``export_detector`` as ``folder``. The first runs
            in Paddle's layers, the second in Paddle Inference.
        threshold: boxes with a lower score are left out; a call may give another one.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is not what this library writes.
    """
    folder = check_path("folder", folder)
    content = read_description(folder)
    parts = {name: content[name] for name in PARTS}
    if content.get("exported"):
        return Detector(InferenceNetwork(folder), **parts, threshold=threshold)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}: its training has not come to its first evaluation")
    is_sealed(weights)
    model = build_detector(len(content["class_names"]), content["config"]["backbone"], nms=content["config"]["nms"],
                           embed_overlap=content["embed_overlap"])
    set_arrays(model, read_weights(weights), weights)
    model.eval()
    return Detector(EagerNetwork(model), **parts, threshold=threshold)


def read_description(folder):
    """What ``detector.json`` says.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is another library's.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not the folder of a detector: it has no {DESCRIPTION}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        good = content["kind"] == "detector" and len(content["shape"]) == 2 and all(name in content for name in PARTS)
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise ValueError(f"{path} does not describe a detector of this library")
    return content


def set_arrays(model, arrays, path):
    """All of a network's weights from arrays of the same names and shapes; ValueError before any is changed."""
    own = model.state_dict()
    wrong = sorted(set(own) ^ set(arrays)) + [name for name in own if name in arrays
                                              and list(own[name].shape) != list(arrays[name].shape)]
    if wrong:
        raise ValueError(f"{path} is not of this detector: {', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}")
    for name, tensor in own.items():
        tensor.set_value(np.ascontiguousarray(arrays[name]))


def export_detector(source, folder):
    """Write a trained detector for Paddle Inference, normalisation of the pictures left to ``load_detector``.

    Args:
        source: a training's folder, or a ``Detector`` in Paddle's layers, which stays as it is.
        folder: is made. It gets ``inference.json`` (Paddle 2.6: ``.pdmodel``) and ``inference.pdiparams``, with inputs
            image float32 [N, 3, H, W] and scale_factor [N, 2] and outputs bbox [n, 6] and bbox_num [N], and
            ``detector.json``.

    Returns:
        the folder's path.

    Raises:
        ValueError: the source is exported already.
    """
    detector = source if isinstance(source, Detector) else load_detector(source)
    if not isinstance(detector.network, EagerNetwork):
        raise ValueError(f"source={source!r} is an exported detector; give the folder of its training")
    folder = make_folder("folder", folder)
    model = copy.deepcopy(detector.network.model)
    model.eval()
    model.yolo_head.nms = _GraphNMS(model.yolo_head.nms)
    for layer in model.sublayers():  # PaddleDetection folds its RepVGG blocks itself
        if hasattr(layer, "convert_to_deploy"):
            layer.convert_to_deploy()
    spec = [paddle.static.InputSpec([None, 3, *detector.shape], "float32", "image"),
            paddle.static.InputSpec([None, 2], "float32", "scale_factor")]
    # oneDNN in Paddle Inference 3.3 stops at the operator that ``interpolate`` becomes
    with mock.patch.object(nn.functional, "interpolate", _enlarge):
        paddle.jit.save(_Exported(model), str(folder / PROGRAM), input_spec=spec)
    describe(folder, exported=True, **{name: list(getattr(detector, name)) for name in PARTS})
    return folder
