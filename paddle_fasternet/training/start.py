"""What a training starts from: the weights of another network, as far as they fit, and what of it is trained."""
import dataclasses
import os
import zlib
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from .._check import check_type
from ..bundle import Classifier
from ..deploy import start_fastest
from ..model import VARIANTS, FasterNet, FasterNetBlock, PatchEmbed, PatchMerging, patch_shape
from ..weights import CIFAR10_RUN, fetch_pretrained, load_arrays, resample_patches
from .checkpoint import Run, load_run

_NONE = "the weights have none"


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Weights to start from.

    Attributes:
        title: what ``pretrained`` was, in words; ``config.json`` records it.
        arrays: {our name: array}.
        class_names: of the head's outputs, None where nobody knows.
        model: the network that had the weights; None where they come from a file.
        origin: whose names a file had, see ``weights.names``.
    """

    title: str
    arrays: dict
    class_names: tuple = None
    model: nn.Layer = None
    origin: str = "paddle"

    def record(self):
        """What ``config.json`` holds of it; the checksum tells other weights from the same ones at another place."""
        checksum = 0
        for name in sorted(self.arrays):
            checksum = zlib.crc32(name.encode() + np.ascontiguousarray(self.arrays[name]).tobytes(), checksum)
        return {"from": self.title, "checksum": f"{checksum:08x}"}


def find_source(pretrained, config):
    """The ``Source`` that ``fit(pretrained=...)`` names; None for None and False.

    Raises:
        TypeError, ValueError: it is none, or cannot be read.
        FileNotFoundError: there is no such file or folder.
        ConnectionError: ImageNet's weights cannot be fetched.
    """
    if pretrained is None or pretrained is False:
        return None
    if pretrained is True or (isinstance(pretrained, str) and pretrained == "imagenet"):
        return Source("imagenet", *_read(fetch_pretrained(config.model)))
    if isinstance(pretrained, str) and pretrained == "cifar10":
        run = load_run(CIFAR10_RUN, "final")
        return _of_network("cifar10", run.model, run.class_names)
    if isinstance(pretrained, (str, os.PathLike)):
        path = Path(pretrained).expanduser()
        if path.is_dir():
            run = load_run(path)
            return _of_network(str(path), run.model, run.class_names)
        if not path.exists():
            raise FileNotFoundError(f"pretrained={os.fspath(pretrained)!r}: there is no such file or folder; give "
                                    "'imagenet' or True, 'cifar10', a weight file, a run's folder, or a network")
        return Source(str(path), *_read(path))
    if isinstance(pretrained, (Run, Classifier)):
        return _of_network(f"a {type(pretrained).__name__}", pretrained.model, pretrained.class_names)
    if isinstance(pretrained, FasterNet):
        return _of_network("a network", pretrained, getattr(pretrained.bundle, "class_names", None))
    raise TypeError(f"pretrained={pretrained!r} must be True (ImageNet-1k), 'cifar10', a weight file, a run's folder, "
                    "what load_run returned, or a FasterNet")


def _read(path):
    origin, arrays = load_arrays(path)
    return arrays, None, None, origin


def _of_network(title, model, class_names):
    check_type("pretrained", model, FasterNet)
    arrays = {name: np.asarray(tensor.astype("float32").numpy()) for name, tensor in model.state_dict().items()}
    return Source(title, arrays, class_names, model)


def start_from(source, model, config, class_names):
    """Load a source's weights into ``model``, as far as they fit.

    Returns:
        (names of the parameters that start fresh, a line that says what is not as it was there).

    Raises:
        ValueError: the source is another network; the message names the argument. ``model`` is then as it was.
    """
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {name: array for name, array in source.arrays.items() if name in ours or not name.startswith("norm")}
    values, fresh, said = dict(theirs), [], []

    def leave_out(prefix, why):
        fresh.extend(name for name in ours if name.startswith(prefix))
        for name in [name for name in values if name.startswith(prefix)]:
            del values[name]
        said.append(f"{prefix.rstrip('.')} starts fresh ({why})")

    _check_same_network(source, theirs, ours, model, config)
    classes = np.shape(theirs.get("head.bias", ()))
    if classes != ours["head.bias"]:
        leave_out("head.", f"{ours['head.bias'][0]} classes instead of {classes[0]}" if classes else _NONE)
    elif source.class_names not in (None, class_names):
        leave_out("head.", "other classes")
    for name, layer in _embeddings(model):
        weight = f"{name}.{'proj' if name == 'patch_embed' else 'reduction'}.weight"
        old, new = np.shape(values.get(weight, ())), ours[weight]
        if len(old) != 4 or old == new:
            continue
        if old[:2] != new[:2]:
            leave_out(f"{name}.", f"in_channels {new[1]} instead of {old[1]}")
        else:
            values[weight] = resample_patches(values[weight], _patches(source, name, old[2], layer), patch_shape(layer))
            said.append(f"{weight[:-7]} is resampled from {old[2]} x {old[3]} to {new[2]} x {new[3]} pixels")
    if not any(name.startswith("avgpool_pre_head.") for name in values):
        leave_out("avgpool_pre_head.", _NONE)

    wrong = [f"{name} {list(np.shape(values[name])) if name in values else 'missing'} instead of {list(shape)}"
             for name, shape in ours.items() if name not in fresh and np.shape(values.get(name, ())) != shape]
    wrong += [f"{name} unknown" for name in values if name not in ours]
    if wrong:
        raise ValueError(f"pretrained={source.title!r} does not fit the network of config: {', '.join(wrong[:4])}"
                         f"{', ...' if len(wrong) > 4 else ''}")
    for name, tensor in model.state_dict().items():
        if name in values:
            tensor.set_value(np.ascontiguousarray(values[name]).astype(np.float32))
    return set(fresh), f"pretrained={source.title!r}: {'; '.join(said) or 'all weights are taken'}"


def _embeddings(model):
    """(name, layer) of the stem and the merging layers."""
    return [(name, layer) for name, layer in model.named_sublayers() if isinstance(layer, (PatchEmbed, PatchMerging))]


def _patches(source, name, size, layer):
    """(step, overlap) of the source's patches of ``size`` pixels. A file does not tell them apart: overlap as here."""
    if source.model is not None:
        return patch_shape(dict(_embeddings(source.model))[name])
    overlap = 0 if source.title == "imagenet" else patch_shape(layer)[1]
    return (size - 2 * overlap, overlap) if size > 2 * overlap else (size, 0)


def _check_same_network(source, theirs, ours, model, config):
    """Raise ValueError, naming the argument, where the weights are those of another variant, mixer or activation."""
    def refuse(argument, there):
        raise ValueError(f"{argument}={getattr(config, argument)!r}, but pretrained={source.title!r} has {there}; give "
                         f"the settings that the weights were trained with, or other weights")

    if _form(theirs) != _form(ours):
        refuse("model", next((name for name, variant in VARIANTS.items()
                              if _form(theirs) == (variant["embed_dim"], tuple(variant["depths"]))),
                             "the embed_dim and depths {} and {}".format(*_form(theirs))))
    ours_mixed, theirs_mixed = ({name: np.shape(value) if not isinstance(value, tuple) else value
                                 for name, value in names.items() if ".spatial_mixing." in name}
                                for names in (ours, theirs))
    if ours_mixed.keys() != theirs_mixed.keys():
        refuse("mixer", "another mixer")
    for name, shape in theirs_mixed.items():
        if shape != ours_mixed[name]:
            if len(shape) == 4 and shape[2:] != ours_mixed[name][2:]:
                refuse("kernel_size", f"kernels of {shape[2]} x {shape[3]}")
            refuse("n_div" if config.mixer == "pconv" else "mixer", f"{name} {list(shape)}")
    if source.origin == "notebook" and not config.embed_act:
        refuse("embed_act", "the 2023 notebook's network, which has True")
    if source.model is not None:
        for argument, find in [("embed_act", lambda network: type(network.patch_embed.act)), ("act", _activation),
                               ("mixer", _mixer)]:
            if find(source.model) is not find(model):
                refuse(argument, find(source.model).__name__)


def _form(names):
    """(embed_dim, depths) by the weights' names and shapes."""
    stem = names.get("patch_embed.norm.weight", ())
    depths = [0] * 4
    for name in names:
        parts = name.split(".")
        if parts[0] == "stages" and len(parts) > 3 and parts[2] == "blocks" and int(parts[1]) // 2 < 4:
            depths[int(parts[1]) // 2] = max(depths[int(parts[1]) // 2], int(parts[3]) + 1)
    shape = stem if isinstance(stem, tuple) else np.shape(stem)
    return shape[0] if shape else None, tuple(depths)


def _blocks(model):
    return [layer for layer in model.sublayers() if isinstance(layer, FasterNetBlock)]


def _activation(model):
    return type(_blocks(model)[0].mlp[2])


def _mixer(model):
    return type(_blocks(model)[0].spatial_mixing)


def divide(model, fresh, config):
    """Set what is trained and how fast, by ``freeze`` and ``backbone_lr``; returns the layers that stay as they are.

    The backbone is all but the head and the parameters ``fresh``. Frozen layers stay in evaluation mode: BatchNorm
    normalises by the statistics of the weights, and nothing is dropped.
    """
    backbone = [(name, parameter) for name, parameter in model.named_parameters()
                if not name.startswith("head.") and name not in fresh]
    for _, parameter in backbone:
        if config.freeze:
            parameter.stop_gradient = True
        else:
            parameter.optimize_attr["learning_rate"] = config.backbone_lr
    if not config.freeze:
        return []
    return [layer for name, layer in model.named_sublayers()
            if name.split(".")[0] != "head" and not any(other.startswith(f"{name}.") for other in fresh)]


def frozen_features(model, config, classifier, threads):
    """A function images [N, C, S, S] -> features [N, feature_dim] of a backbone that is not trained, without gradients.

    The fastest engine computes them, and Paddle's layers where none takes the network or the images have another size.
    """
    backbone = config.build_model(0, model.in_channels)
    weights = model.state_dict()
    backbone.set_state_dict({name: weights[name] for name in backbone.state_dict()})
    backbone.eval()
    names = range(model.head.weight.shape[0])
    engine = start_fastest(Classifier(backbone, config.image_size, classifier.mean, classifier.std, names), threads)

    @paddle.no_grad()
    def features(images):
        if engine is None or images.shape[2:] != [config.image_size] * 2:
            return backbone(images)
        return paddle.to_tensor(engine.logits(images))

    return features
