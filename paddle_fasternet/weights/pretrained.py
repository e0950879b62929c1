"""Pretrained weights: those that PaddleClas publishes for the six variants, and the one that this package ships.

PaddleClas's were trained on ImageNet-1k. Addresses: its ppcls/arch/backbone/model_zoo/fasternet.py. There are no
checksums; a file is held against the variant's names, shapes and size instead.
"""
import json
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import paddle.utils.download

from .._files import download
from ..bundle import IMAGENET_MEAN, IMAGENET_STD, Classifier
from ..layers import ACTIVATIONS
from .load import apply_weights, match_weights
from .names import to_ours
from .read import read_nested

BASE_URL = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/"
# The published networks: file, embed_dim, depths; n_div 4, mlp_ratio 2, feature_dim 1280, 1,000 classes.
PUBLISHED = {
    "fasternet_t0": ("FasterNet_T0_pretrained.pdparams", 40, (1, 2, 8, 2)),
    "fasternet_t1": ("FasterNet_T1_pretrained.pdparams", 64, (1, 2, 8, 2)),
    "fasternet_t2": ("FasterNet_T2_pretrained.pdparams", 96, (1, 2, 8, 2)),
    "fasternet_s": ("FasterNet_S_pretrained.pdparams", 128, (1, 2, 13, 2)),
    "fasternet_m": ("FasterNet_M_pretrained.pdparams", 144, (3, 4, 18, 3)),
    "fasternet_l": ("FasterNet_L_pretrained.pdparams", 192, (3, 4, 18, 3)),
}


# The folder of a run: ``load_run(CIFAR10_RUN, "final")`` gives its preprocessing and class names too. Its card is
# docs/model_card.md.
CIFAR10_RUN = Path(__file__).parent / "cifar10"


def shipped_arguments(name, pretrained):
    """Arguments of ``FasterNet`` in which the shipped network differs from its variant; {} for any other weights.

    Raises:
        TypeError: ``pretrained`` is no choice and no path.
        ValueError: no weights of that kind are shipped for the variant.
    """
    if not isinstance(pretrained, (bool, str, os.PathLike)):
        raise TypeError(f"pretrained={pretrained!r} must be True, False, 'cifar10' or the path of a weight file")
    if pretrained != "cifar10":
        return {}
    config = json.loads((CIFAR10_RUN / "config.json").read_text(encoding="utf-8"))["config"]
    if name != config["model"]:
        raise ValueError(f"pretrained='cifar10' is shipped for {config['model']} alone, not for {name}")
    names = ("mixer", "n_div", "kernel_size", "patch_size", "merge_sizes", "embed_act", "embed_overlap")
    found = {key: config[key] for key in names if key in config}  # a setting younger than the run is at its default
    return {**found, "act_layer": ACTIVATIONS[config["act"]]} if config.get("act") else found


def load_pretrained(model, name, pretrained):
    """Load pretrained weights; a head of another size starts fresh, and a line on stderr says so.

    Args:
        model: the FasterNet to load into.
        name: the variant, one of ``PUBLISHED``.
        pretrained: True for the ImageNet-1k weights, downloaded once into Paddle's weight cache; "cifar10" for the
            shipped ones (build the model with ``shipped_arguments``); or a file's path, see ``load_weights``.

    Returns:
        ``LoadReport``.

    Raises:
        ValueError: ``pretrained`` is neither; or anything but the head does not fit. The model is then as it was.
        ConnectionError: the download failed; the message says where to put the file by hand.
    """
    path = find_pretrained(name, pretrained)
    report, values = match_weights(model, path)
    names = report.missing + report.unexpected + [entry[0] for entry in report.mismatched]
    if report.notes or not all(n.startswith("head.") for n in names):
        raise ValueError(report.complaint("load_weights(model, path, strict=False) takes what fits."))
    if names and model.num_classes:
        print(f"{path}: its head does not fit num_classes={model.num_classes} and is left out; the model's head starts "
              "fresh", file=sys.stderr)
    apply_weights(values)
    model.pretrained_facts = _facts(model, pretrained)
    return report


def find_pretrained(name, pretrained):
    """The path of the file that ``pretrained`` stands for; see ``load_pretrained``, whose errors these are."""
    if pretrained is True:
        return fetch_pretrained(name)
    if pretrained == "cifar10":
        return os.fspath(CIFAR10_RUN / "final_model.pdparams")
    if isinstance(pretrained, (str, os.PathLike)) and os.path.isfile(os.path.expanduser(pretrained)):
        return os.path.expanduser(pretrained)
    raise ValueError(f"pretrained={pretrained!r} is not known; give True (the ImageNet-1k weights), 'cifar10' (the "
                     "shipped ones) or the path of a weight file")


def _facts(model, pretrained):
    """What is known of the weights now in ``model``, for ``bundle_of``; None of those of a file."""
    if pretrained is True:
        facts = {"image_size": 224, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "class_names": None}
    elif pretrained == "cifar10":
        content = json.loads((CIFAR10_RUN / "config.json").read_text(encoding="utf-8"))
        facts = {"image_size": content["config"]["image_size"],
                 **{name: tuple(content["data"][name]) for name in ("mean", "std", "class_names")}}
        if model.num_classes != len(facts["class_names"]):  # the head is not pretrained
            facts["class_names"] = None
    else:
        return None
    return {"classifier": facts, "head": _checksum(model.head)}


def bundle_of(model):
    """The ``Classifier`` of a network that ``load_pretrained`` filled; None for any other.

    The class names go when the head changes, because nobody knows the classes of the new one.
    """
    if model.pretrained_facts is None:
        return None
    facts = dict(model.pretrained_facts["classifier"])
    if _checksum(model.head) != model.pretrained_facts["head"]:
        facts["class_names"] = None
    return Classifier(model, **facts)


def _checksum(layer):
    return zlib.crc32(b"".join(value.numpy().tobytes() for value in layer.state_dict().values()))


def fetch_pretrained(name):
    """The path of a variant's ImageNet-1k weights in Paddle's weight cache, downloaded if they are not there.

    Raises:
        ValueError: the file in the cache is not this variant's.
        ConnectionError: it could not be downloaded.
    """
    file = PUBLISHED[name][0]
    url, path = BASE_URL + file, os.path.join(paddle.utils.download.WEIGHTS_HOME, file)
    if os.path.exists(path):
        try:
            check_published(path, name)
        except ValueError as error:
            raise ValueError(f"{error}\nDelete {path} to have it downloaded again.") from None
        return path
    shapes = published_shapes(name)
    most = 4 * sum(int(np.prod(shape)) for shape in shapes.values()) + (1 << 20)  # float32, names and the like
    try:
        download(url, path, lambda part: check_published(part, name), most)
    except ConnectionError as error:
        raise ConnectionError(f"{error}. Fetch it where there is a network and put it at {path}, or give its path as "
                              "pretrained=...") from None
    except ValueError as error:
        raise ValueError(f"what {url} sent is not {name}, and was thrown away: {error}") from None
    return path


def check_published(path, name):
    """Raise ValueError unless the file holds exactly the published weights' names and shapes, as float32."""
    origin, arrays = to_ours(read_nested(path)[0])
    shapes = published_shapes(name)
    wrong = [f"{key} {list(arrays[key].shape) if key in arrays else 'missing'}"
             for key, shape in shapes.items() if key not in arrays or arrays[key].shape != shape]
    wrong += [f"{key} unexpected" for key in arrays if key not in shapes]
    wrong += [f"{key} {array.dtype}" for key, array in arrays.items() if array.dtype != np.float32]
    if wrong:
        raise ValueError(f"{path} ({origin} names) is not {name} for 1,000 classes: {', '.join(wrong[:4])}"
                         f"{', ...' if len(wrong) > 4 else ''}")


def published_shapes(name):
    """Every name and shape in a published file."""
    _, dim, depths = PUBLISHED[name]
    shapes = {"patch_embed.proj.weight": (dim, 3, 4, 4)}
    norms = {"patch_embed.norm": dim}
    for stage, depth in enumerate(depths):
        if stage:
            dim *= 2
            shapes[f"stages.{2 * stage - 1}.reduction.weight"] = (dim, dim // 2, 2, 2)
            norms[f"stages.{2 * stage - 1}.norm"] = dim
        for block in range(depth):
            prefix = f"stages.{2 * stage}.blocks.{block}."
            shapes[prefix + "spatial_mixing.partial_conv3.weight"] = (dim // 4, dim // 4, 3, 3)
            shapes[prefix + "mlp.0.weight"] = (2 * dim, dim, 1, 1)
            shapes[prefix + "mlp.3.weight"] = (dim, 2 * dim, 1, 1)
            norms[prefix + "mlp.1"] = 2 * dim
    shapes.update({f"{norm}.{kind}": (size,) for norm, size in norms.items()
                   for kind in ("weight", "bias", "_mean", "_variance")})
    shapes.update({"avgpool_pre_head.1.weight": (1280, dim, 1, 1), "head.weight": (1280, 1000), "head.bias": (1000,)})
    return shapes
