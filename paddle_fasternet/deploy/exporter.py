"""Leave a network as a folder that other programs open: Paddle Inference, ONNX, PaddleX, and ``Predictor``."""
import contextlib
import io
import json
import os
import shutil
import uuid
from pathlib import Path

import numpy as np
import paddle

from .. import data
from .._check import check_choice, check_path, check_type
from .._files import file_digest, write_json
from .._modes import dynamic
from ..benchmark import count_macs, count_parameters, machine
from ..model import VARIANTS, FasterNet
from .engines import ENGINES, PRECISIONS, by_speed, is_installed, offered
from .files import INDEX, ExportFiles, NetworkFiles
from .formats import write_onnx, write_paddle
from .predictor import Predictor

FORMATS = ("paddle", "onnx", "paddlex")
CALIBRATION_IMAGES = 300  # NNCF's own default


@dynamic
def export(model, out_dir, image_size=None, formats=FORMATS, class_names=None, *, mean=None, std=None,
           calibration=None, validation=None, overwrite=False, progress=True):
    """Write a network, BatchNorm folded, for use elsewhere; nothing of it stays if anything goes wrong.

    Args:
        model: what ``load_run`` returned, a ``Classifier`` or a pretrained network, which know all the rest by
            themselves, or another network.
        out_dir: folder for ``export.json`` and the formats' files; ``Predictor(out_dir)`` opens it.
        image_size: side of the square input in pixels.
        formats: "paddle": ``inference.json`` (Paddle 2.6: ``.pdmodel``) and ``inference.pdiparams``, input "x" float32
            [N, C, S, S] normalised, outputs probabilities and logits [N, K]. "onnx": ``model.onnx``, the same input,
            output "logits". "paddlex": ``inference.yml`` beside Paddle's files; PaddleX 3 opens the folder.
        class_names: of the outputs; None numbers them.
        mean, std: of each channel in 0..255 for a bare network; None takes ImageNet's.
        calibration: a set of training images. 300 of them are used to quantise the network to int8
            by NNCF: ``model_int8.onnx`` for ONNX Runtime and, where OpenVINO is installed, ``model_int8.xml`` and
            ``.bin`` for it; without, there is no int8.
        validation: a set of images: every precision that this machine offers is tried on it, and its accuracy written
            into ``export.json`` (of int8, the worst engine's), from which ``Predictor`` knows what it may choose.
        overwrite: put the new export in the place of the one in ``out_dir``; other files there stay.
        progress: show bars.

    Returns:
        The folder's path.

    Raises:
        FileExistsError: ``out_dir`` holds something already.
        ImportError: a package that a format needs is not installed.
        ValueError: a format is unknown, the network's layers cannot be written, or what was written answers otherwise
            than the network.
    """
    formats = _check_formats(formats)
    check_type("overwrite", overwrite, bool)
    for argument, images in (("calibration", calibration), ("validation", validation)):
        if images is not None:
            data.check_images(argument, images)
    if calibration is not None and "onnx" not in formats:
        raise ValueError(f"calibration needs formats=(..., 'onnx'), not formats={formats}: int8 is made from ONNX")
    network = NetworkFiles(model, image_size, mean, std, class_names)
    if validation is not None and validation.class_names != network.class_names:
        raise ValueError(f"validation has the classes {validation.class_names}, the network {network.class_names}")
    out_dir = _check_folder(out_dir, overwrite)
    with _folder_in_the_place_of(out_dir) as folder:
        if "paddle" in formats:
            write_paddle(network.network, folder, network.image_size, len(network.mean))
        if "paddlex" in formats:
            _write_paddlex(network, folder)
        if "onnx" in formats:
            write_onnx(network.network, folder, network.image_size, len(network.mean))
        if calibration is not None:
            _quantise(folder, network, calibration, progress)
        _write_index(folder, network, formats, {})
        _compare(folder, network, formats)
        if validation is not None:
            _write_index(folder, network, formats, _accuracy(folder, validation, progress))
    return out_dir


def packages_of(name):
    """Packages that a format is written and checked with."""
    return [package for engine in ENGINES.values() if engine.checks and engine.reads == name
            for package in (*engine.writes_with, engine.package) if package]


def _check_formats(formats):
    """The formats as a tuple, with what they imply, and with what they need installed."""
    formats = tuple(formats) if isinstance(formats, (list, tuple, set)) else (formats,)
    for name in formats:
        check_choice("formats", name, FORMATS)
    if not formats:
        raise ValueError(f"formats={formats} is empty; choose from: {', '.join(FORMATS)}")
    for name in formats:
        packages = packages_of(name)
        if not all(map(is_installed, packages)):
            raise ImportError(f"formats={formats}: {name!r} needs the packages {' and '.join(packages)}, which checks "
                              "it: pip install 'paddle_fasternet[deploy]'; formats=('paddle', 'paddlex') needs neither")
    return formats if "paddlex" not in formats or "paddle" in formats else ("paddle", *formats)


def _check_folder(out_dir, overwrite):
    out_dir = Path(os.path.realpath(check_path("out_dir", out_dir)))
    if out_dir.exists() and not (out_dir.is_dir() and not any(out_dir.iterdir())):
        if not (out_dir / INDEX).is_file():
            raise FileExistsError(f"{out_dir} is there already and is no export: choose another out_dir")
        if not overwrite:
            raise FileExistsError(f"{out_dir} holds an export already: choose another out_dir, or overwrite=True "
                                  "(--overwrite)")
    return out_dir


@contextlib.contextmanager
def _folder_in_the_place_of(path):
    """A new folder that takes the place of ``path`` when all went well, and is removed otherwise."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.iterdir():
            with open(file, "rb") as written:
                os.fsync(written.fileno())
        if path.exists():
            _replace(path, partial)
        else:
            os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(path, new):
    """Put the folder ``new`` in the place of ``path``; what the export in ``path`` did not write stays there."""
    own, old = [], new.with_suffix(".old")
    if (path / INDEX).is_file():
        with contextlib.suppress(ValueError):  # a damaged export
            own = [INDEX, *ExportFiles(path).names()]
    os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(old, path)
        raise
    for file in old.iterdir():
        if own and file.name not in own and not (path / file.name).exists():
            os.replace(file, path / file.name)
    shutil.rmtree(old, ignore_errors=True)


def _write_index(folder, network, formats, accuracy):
    """``export.json``: all that a predictor needs to know beside the files, and their checksums."""
    layer = network.network
    names = sorted(path.name for path in folder.iterdir() if path.name != INDEX)
    write_json(folder / INDEX, {
        "name": variant_of(layer), "formats": list(formats), "image_size": network.image_size,
        "mean": network.mean, "std": network.std, "class_names": list(network.class_names),
        "parameters": count_parameters(layer), "macs": count_macs(layer, network.image_size, len(network.mean)),
        **{engine.name: engine.notes(layer) for engine in ENGINES.values() if engine.keeps_notes},
        "signature": network.signature(), "accuracy": accuracy,
        "files": {name: file_digest(folder / name) for name in names}, "machine": machine()})


def variant_of(network):
    """Name of the variant that a FasterNet's width and depths are of; its class's name for any other network."""
    if isinstance(network, FasterNet):
        depths = tuple(len(stage.blocks) for stage in network.stages if hasattr(stage, "blocks"))
        width = network.patch_embed.proj.weight.shape[0]
        for name, settings in VARIANTS.items():
            if (settings["embed_dim"], settings["depths"]) == (width, depths):
                return name
    return type(network).__name__


def _write_paddlex(network, folder):
    """PaddleX's description of the preprocessing, the classes, and which of its own models this is to be taken for."""
    if len(network.mean) != 3:
        raise ValueError(f"PaddleX reads images as RGB; the network takes {len(network.mean)} channels: leave "
                         "'paddlex' out of formats")
    variant = variant_of(network.network)
    size, known = network.image_size, variant.startswith("fasternet_")
    operations = [{"ResizeImage": {"resize_short": size}}, {"CropImage": {"size": size}},
                  {"NormalizeImage": {"channel_num": 3, "order": "", "scale": 1 / 255,
                                      "mean": [value / 255 for value in network.mean],
                                      "std": [value / 255 for value in network.std]}},
                  {"ToCHWImage": None}]
    content = {"Global": {"model_name": f"FasterNet-{variant[-2:].upper().lstrip('_')}" if known else "FasterNet-T0"},
               "PreProcess": {"transform_ops": operations},
               "PostProcess": {"Topk": {"topk": min(5, len(network.class_names)),
                                        "label_list": list(network.class_names)}}}
    (folder / "inference.yml").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _quantise(folder, network, images, progress):
    """int8 by NNCF's post-training quantisation, whose scales come from training images; for each engine a file."""
    if not is_installed("nncf"):
        raise ImportError("calibration needs the package nncf: pip install 'paddle_fasternet[deploy]', or leave "
                          "calibration out (there is then no int8)")
    chosen = np.linspace(0, len(images) - 1, min(CALIBRATION_IMAGES, len(images))).astype(int)
    prepare = network.classifier.preprocess
    batches = [prepare.batch(images, [i])[0] for i in chosen]
    # NNCF's bars know no switch; they go to stdout
    with contextlib.nullcontext() if progress else contextlib.redirect_stdout(io.StringIO()):
        for engine in ENGINES.values():
            engine.quantise(folder, batches)


def _compare(folder, network, formats):
    """Raise ValueError unless the files' logits are the network's."""
    x, expected = network.expected()
    limit = 1e-4 if paddle.get_device() == "cpu" else 1e-2  # TF32 tensor cores keep 10 mantissa bits
    for engine in ENGINES.values():
        if engine.checks and engine.reads in formats:
            written = Predictor(folder, engine.name, "fp32").logits(x)
            worst = np.abs(written - expected).max() / max(np.abs(expected).max(), 1e-12)
            if not worst <= limit:
                raise ValueError(f"the exported {engine.reads} files answer otherwise than the network: by {worst:.1e} "
                                 "of the largest logit")


def _accuracy(folder, images, progress):
    """{precision: what it does on labelled images}, of the precisions that there are files and an engine for here."""
    files, record, reference = ExportFiles(folder), {}, None
    for precision in PRECISIONS:
        engines = [name for name in by_speed() if not ENGINES[name].runs_layers and precision in offered(name)
                   and ENGINES[name].has(files, precision)]
        rows = []
        for engine in engines if precision == "int8" else engines[:1]:  # int8 is another file for each engine
            predicted = Predictor(folder, engine, precision)(images, progress).argmax(1)
            reference = predicted if reference is None else reference
            rows.append({"engine": engine, "images": len(images), "data": images.name,
                         "top1": float((predicted == images.labels).mean()),
                         "same_as_fp32": float((predicted == reference).mean())})
        if rows:
            worst = min(rows, key=lambda row: row["top1"])
            record[precision] = {**worst, "same_as_fp32": min(row["same_as_fp32"] for row in rows)}
    return record
