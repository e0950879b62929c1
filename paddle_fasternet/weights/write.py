"""Weights to files, each written whole or not at all."""
import json
import os
import pickle
import struct
import zipfile

import numpy as np
from paddle import nn

from .._check import check_path, check_type
from .._files import replacing
from .names import from_ours
from .read import SAFETENSORS_DTYPES
from .torch_archive import TORCH_DTYPES

SUFFIXES = (".pdparams", ".safetensors", ".pth", ".pt")


def save_weights(model, path):
    """Write a model's weights, statistics included.

    Args:
        model: a FasterNet.
        path: its suffix decides. .pdparams: for ``paddle.load``, names as PaddleClas has them. .safetensors: the same
            names. .pth or .pt: for ``torch.load``, names and layout of the official torch network. Folders are made.

    Raises:
        ValueError: the suffix is unknown, or the model's mixer does not exist in the official network (.pth, .pt).
        OSError: the file cannot be written; what was there is then unchanged.
    """
    check_type("model", model, nn.Layer)
    path = check_path("path", path)
    arrays = {name: np.asarray(parameter.numpy()) for name, parameter in model.state_dict().items()}
    if check_suffix(path) in (".pth", ".pt"):
        arrays = from_ours(arrays, "official")
    write_arrays(arrays, path)


def check_suffix(path):
    """The path's suffix; ValueError unless it is one of ``SUFFIXES``."""
    suffix = os.path.splitext(os.fspath(path))[1]
    if suffix not in SUFFIXES:
        raise ValueError(f"path={os.fspath(path)!r} must end in one of: {', '.join(SUFFIXES)}")
    return suffix


def write_arrays(arrays, path):
    """A dict of name to array into a file of the path's kind; arrays of uint16 are written as bfloat16."""
    write = {".pdparams": _write_paddle, ".safetensors": _write_safetensors}.get(check_suffix(path), _write_torch)
    with replacing(path) as file:
        write(file, {name: np.asarray(array, order="C") for name, array in arrays.items()})


def _write_paddle(file, arrays):
    pickle.dump(arrays, file, protocol=4)  # what paddle.save makes of a dict of arrays


def _write_safetensors(file, arrays):
    codes = {np.dtype(dtype): code for code, dtype in SAFETENSORS_DTYPES.items()}
    # The format wants every tensor aligned: the widest types come first.
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header, end = {}, 0
    for name in names:
        start, end = end, end + arrays[name].nbytes
        header[name] = {"dtype": codes[arrays[name].dtype], "shape": list(arrays[name].shape),
                        "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in names:
        file.write(arrays[name].tobytes())


def _write_torch(file, arrays):
    """A zip archive as torch.save makes it: data.pkl with the instructions below, and a member for each tensor."""
    storages = {np.dtype(dtype): name for name, dtype in TORCH_DTYPES.items()}
    body = b"\x80\x02ccollections\nOrderedDict\n)R("
    for key, (name, array) in enumerate(arrays.items()):
        strides = [int(np.prod(array.shape[axis + 1:])) for axis in range(array.ndim)]
        body += (_text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + _text("storage")
                 + f"ctorch\n{storages[array.dtype]}\n".encode() + _text(str(key)) + _text("cpu") + _int(array.size)
                 + b"tQ" + _int(0) + b"(" + b"".join(map(_int, array.shape)) + b"t("
                 + b"".join(map(_int, strides)) + b"t\x89ccollections\nOrderedDict\n)RtR")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", body + b"u.")
        archive.writestr("archive/byteorder", "little")
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")


def _text(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _int(number):
    return b"J" + struct.pack("<i", number)
