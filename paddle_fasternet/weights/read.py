"""Weight files to numpy arrays, without running them and without torch.

Formats, recognised by their first bytes: Paddle's pickles (.pdparams), torch's zip archives (.pth, .pt), safetensors.
The pickles go through ``safe_pickle``; sizes, shapes and offsets are held against the file before memory is taken.
"""
import json
import math
import os
import struct

import numpy as np

from .._check import check_path
from ..safe_pickle import ARRAY_CONSTRUCTORS, UnsafePickleError, loads
from .torch_archive import Tensor, TorchArchive, plain_tuple

# Where training scripts keep the weights inside a checkpoint; the first that is there is taken, so averages come first.
NESTS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model")

# bfloat16 has no numpy type: as in Paddle, its bits are uint16 until ``widen``. None of the formats has uint16 weights.
SAFETENSORS_DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "I16": "i2",
                      "I8": "i1", "U8": "u1", "BOOL": "b1"}
_MAX_HEADER = 4 << 20  # of a safetensors file; FasterNet-L's takes 80 KB
_MAX_NAME = 300
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch before 1.6 begins with this number


def read_weights(path):
    """The weights in a file under their own names, as numpy arrays; nothing in the file is executed.

    Args:
        path: a .pdparams, .pth, .pt or .safetensors file; its content decides, not its suffix.

    Returns:
        dict of name to array, in the machine's byte order, bfloat16 as float32; arrays may be read-only. Of a
        checkpoint with several entries the one named first in ``NESTS``.

    Raises:
        ValueError: the file is damaged, holds anything but arrays and tensors, or is in a format that is not read.
        OSError: there is no such file.
    """
    return {name: widen(array) for name, array in read_nested(path)[0].items()}


def widen(array):
    """bfloat16 bits (uint16) as float32; any other array as it is."""
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array


def read_nested(path):
    """(arrays, nest): as ``read_weights`` with bfloat16 as its bits, and the entry they were found in, "" if none."""
    with open(check_path("path", path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _read(file, size)
        except Exception as error:  # damaged files trip zipfile, json and numpy in many ways: one kind of error
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            reason = f"{kind}{str(error)[:400]}"
    raise ValueError(f"{os.fspath(path)!r} cannot be loaded: {reason}")


def _read(file, size):
    head = file.read(16)
    file.seek(0)
    archive = None
    if head.startswith(b"PK\x03\x04"):
        archive = TorchArchive(file, size)
        tree = archive.load()
    elif head.startswith(_OLD_TORCH):
        raise ValueError("it is in the format of torch before 1.6; load it with torch and torch.save it again")
    elif head.startswith(b"\x80"):
        tree = loads(file.read(), PADDLE_CONSTRUCTORS)
    elif len(head) > 8 and head[8:9] == b"{":
        tree = _read_safetensors(file, size)
    else:
        raise ValueError(f"it begins with {head!r}; that is no .pdparams, .pth of torch 1.6 or later, or .safetensors")

    tree, nest = _find_weights(tree)
    arrays = {}
    for name, value in tree.items():
        if type(value) is tuple and len(value) == 2 and isinstance(value[0], str):
            value = value[1]  # Paddle's (name, array)
        if isinstance(value, (np.ndarray, Tensor)) and isinstance(name, str):
            if len(name) > _MAX_NAME:
                raise ValueError(f"it has a name of {len(name)} characters")
            arrays[name] = value.array(archive) if isinstance(value, Tensor) else value
    if not arrays:
        raise ValueError("it holds no weights; expected a dict of arrays"
                         f"{'' if nest else ', or one of the entries ' + ', '.join(NESTS)}")
    if sum(array.nbytes for array in arrays.values()) > 2 * size:  # shared storages and strides of 0 repeat data
        raise ValueError("its tensors are larger than the file")
    _join_slices(arrays, tree.get("UnpackBigParamInfor@@"))
    return {name: _native(array) for name, array in arrays.items()}, nest


def _native(array):
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _find_weights(tree):
    """The innermost entry named in NESTS, and the way to it."""
    nests = []
    while isinstance(tree, dict) and len(nests) < 4:
        nest = next((n for n in NESTS if isinstance(tree.get(n), dict) and tree[n]), None)
        if nest is None:
            return tree, ".".join(nests)
        tree = tree[nest]
        nests.append(nest)
    raise ValueError(f"it holds a {type(tree).__name__}, not a dict of arrays")


def _join_slices(arrays, table):
    """Put together what ``paddle.save`` cut into pieces of 1 GiB for the pickle protocols 2 and 3."""
    for name, entry in (table or {}).items():
        pieces = [arrays.pop(piece) for piece in entry["slices"]]
        arrays[name] = np.concatenate([piece.reshape(-1) for piece in pieces]).reshape(entry["OriginShape"])


# Paddle: a tensor is an array, or tuple((name, array)), or eval("data", {"data": array}); none of these is called.


def _paddle_eval(code, names):
    if not isinstance(code, str) or code != "data" or type(names) is not dict or set(names) != {"data"}:
        raise UnsafePickleError("the pickle names builtins.eval with code in it; it was not run")
    return names["data"]


PADDLE_CONSTRUCTORS = {
    **ARRAY_CONSTRUCTORS,
    ("collections", "OrderedDict"): lambda: {},
    ("builtins", "tuple"): plain_tuple,
    ("builtins", "eval"): _paddle_eval,
    ("__builtin__", "tuple"): plain_tuple,  # the same in protocol 2
    ("__builtin__", "eval"): _paddle_eval,
}


def _read_safetensors(file, size):
    """https://github.com/huggingface/safetensors#format: header's length, header in JSON, the tensors without gaps."""
    length = struct.unpack("<Q", file.read(8))[0]
    if length > min(size - 8, _MAX_HEADER):
        raise ValueError(f"its header of {length} bytes is longer than the file or than {_MAX_HEADER} bytes")
    header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_no_repeats, parse_int=_short_int)
    data = file.read()
    header.pop("__metadata__", None)
    tree, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if dtype not in SAFETENSORS_DTYPES:
            raise ValueError(f"the tensor {name[:100]!r} is of type {str(dtype)[:20]}, which is not read")
        if len(shape) > 32 or any(type(n) is not int or n < 0 for n in (*shape, start, stop)):
            raise ValueError(f"the tensor {name[:100]!r} has no proper shape")
        dtype = np.dtype("<" + SAFETENSORS_DTYPES[dtype])
        if start != end or stop > len(data) or stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"the tensor {name[:100]!r} of shape {shape} does not lie at bytes {start} to {stop}")
        flat = np.frombuffer(data, dtype, (stop - start) // dtype.itemsize, start) if stop > start else \
            np.zeros(0, dtype)
        tree[name] = flat.reshape(shape)
        end = stop
    if end != len(data):
        raise ValueError(f"its header describes {end} of {len(data)} bytes")
    return tree


def _no_repeats(pairs):
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("its header has a name twice")
    return entries


def _short_int(digits):
    if len(digits) > 20:
        raise ValueError("its header has a number of more than 20 digits")
    return int(digits)
