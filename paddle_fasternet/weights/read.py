"""Weight files to numpy arrays, without running them and without torch.

Formats, recognised by their first bytes: Paddle's pickles (.pdparams), torch's zip archives (.pth, .pt), safetensors.
The pickles go through ``safe_pickle``; sizes, shapes and offsets are held against the file before memory is taken.
"""
import json
import math
import os
import struct
import zipfile

import numpy as np

from ..safe_pickle import ARRAY_CONSTRUCTORS, Name, UnsafePickleError, loads

# Where training scripts keep the weights inside a checkpoint; the first that is there is taken, so averages come first.
NESTS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model")

# bfloat16 has no numpy type: as in Paddle, its bits are uint16 until ``widen``. None of the formats has uint16 weights.
SAFETENSORS_DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "I16": "i2",
                      "I8": "i1", "U8": "u1", "BOOL": "b1"}
TORCH_DTYPES = {"DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "u2",
                "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
                "ByteStorage": "u1", "BoolStorage": "b1"}
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
    with open(path, "rb") as file:
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
        archive = _TorchArchive(file, size)
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
        value = _Tensor.of(value)
        if value is not None and isinstance(name, str):
            if len(name) > _MAX_NAME:
                raise ValueError(f"it has a name of {len(name)} characters")
            arrays[name] = value.array(archive) if isinstance(value, _Tensor) else value
    _join_slices(arrays, tree.get("UnpackBigParamInfor@@"))
    if not arrays:
        raise ValueError("it holds no weights; expected a dict of arrays"
                         f"{'' if nest else ', or one of the entries ' + ', '.join(NESTS)}")
    if sum(array.nbytes for array in arrays.values()) > 2 * size:  # shared storages and strides of 0 repeat data
        raise ValueError("its tensors are larger than the file")
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


def _plain_tuple(items):
    if type(items) is not tuple:
        raise UnsafePickleError("the pickle makes a tuple of something that is none")
    return items


def _paddle_eval(code, names):
    if not isinstance(code, str) or code != "data" or type(names) is not dict or set(names) != {"data"}:
        raise UnsafePickleError("the pickle names builtins.eval with code in it; it was not run")
    return names["data"]


PADDLE_CONSTRUCTORS = {
    **ARRAY_CONSTRUCTORS,
    ("collections", "OrderedDict"): lambda: {},
    ("builtins", "tuple"): _plain_tuple,
    ("builtins", "eval"): _paddle_eval,
    ("__builtin__", "tuple"): _plain_tuple,  # the same in protocol 2
    ("__builtin__", "eval"): _paddle_eval,
}


# torch: data.pkl names storages, which are members of the archive, and says how tensors lie in them.


class _Storage:
    def __init__(self, member, dtype, numel):
        self.member, self.dtype, self.numel = member, dtype, numel


class _Tensor:
    """A torch tensor whose place inside its storage was checked; read only if it is asked for."""

    def __init__(self, storage, offset, size, stride, *_):
        if not isinstance(storage, _Storage) or type(size) is not tuple or type(stride) is not tuple \
                or len(size) != len(stride) or len(size) > 32 \
                or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
            raise UnsafePickleError("a tensor has no storage or no proper shape")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if all(size) else offset - 1
        if last >= storage.numel:
            raise UnsafePickleError(f"a tensor of shape {list(size)} reaches element {last} of a storage of "
                                    f"{storage.numel}")
        self.storage, self.offset, self.size = storage, offset, size
        self.stride = [step if n > 1 else 0 for n, step in zip(size, stride)]

    @staticmethod
    def of(value):
        """The array or tensor that an entry of a weight file stands for; None if it is something else."""
        if type(value) is tuple and len(value) == 2 and isinstance(value[0], str):
            value = value[1]  # Paddle's (name, array)
        return value if isinstance(value, (np.ndarray, _Tensor)) else None

    def array(self, archive):
        dtype = self.storage.dtype
        if not all(self.size):
            return np.zeros(self.size, dtype)
        flat = archive.storage(self.storage.member, dtype)[self.offset:]
        strides = [step * dtype.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(flat, self.size, strides, writeable=False)


class _TorchArchive:
    def __init__(self, file, size):
        self.zip = zipfile.ZipFile(file)
        self.members, self.storages = {}, {}
        for member in self.zip.infolist():
            name = member.orig_filename
            if name.startswith("/") or ".." in name.split("/") or any(c in name for c in "\\\0:"):
                raise ValueError(f"the archive's member {name[:100]!r} has an absolute or climbing path")
            if name in self.members:
                raise ValueError(f"the archive has {name[:100]!r} twice")
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise ValueError(f"the archive's member {name[:100]!r} is compressed or encrypted; "
                                 "torch.save does neither (is it a TorchScript program?)")
            if member.file_size != member.compress_size or member.header_offset + member.file_size > size:
                raise ValueError(f"the archive's member {name[:100]!r} reaches past the end of the file")
            self.members[name] = member
        if sum(member.file_size for member in self.members.values()) > size:
            raise ValueError("the archive's members overlap")

    def load(self):
        pickles = [name for name in self.members if name.split("/")[-1] == "data.pkl" and name.count("/") <= 1]
        if len(pickles) != 1:
            raise ValueError(f"it is a zip archive, but not one by torch.save (it has {len(pickles)} data.pkl)")
        self.folder = pickles[0][:-len("data.pkl")]
        order = self.members.get(self.folder + "byteorder")
        self.order = ">" if order is not None and self.zip.read(order) == b"big" else "<"
        return loads(self.zip.read(self.members[pickles[0]]), TORCH_CONSTRUCTORS, self.persistent_load)

    def persistent_load(self, key):
        """The storage that ("storage", type, member, device, elements) stands for."""
        if type(key) is not tuple or len(key) != 5 or key[0] != "storage" or not isinstance(key[1], Name) \
                or key[1].name not in TORCH_DTYPES or not isinstance(key[2], str) or type(key[4]) is not int:
            raise UnsafePickleError("a tensor's storage is of an unknown kind")
        dtype = np.dtype(self.order + TORCH_DTYPES[key[1].name])
        member = self.members.get(f"{self.folder}data/{key[2]}")
        if member is None:
            raise UnsafePickleError(f"the archive lacks the storage {key[2][:100]!r}")
        if member.file_size != key[4] * dtype.itemsize:
            raise UnsafePickleError(f"the storage {key[2][:100]!r} has {member.file_size} bytes, not {key[4]} times "
                                    f"{dtype.itemsize}")
        return _Storage(member, dtype, key[4])

    def storage(self, member, dtype):
        """The storage's elements, read once; zipfile compares the checksum."""
        if member.filename not in self.storages:
            self.storages[member.filename] = self.zip.read(member)
        return np.frombuffer(self.storages[member.filename], dtype)


TORCH_CONSTRUCTORS = {
    **ARRAY_CONSTRUCTORS,  # checkpoints hold metrics as numpy numbers
    **{("torch", name): None for name in TORCH_DTYPES},
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch", "Size"): _plain_tuple,
    ("collections", "OrderedDict"): lambda: {},
    ("argparse", "Namespace"): lambda: {},  # the arguments that timm's training script keeps; left out
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
