"""The zip archives of torch.save (torch 1.6 and later), read without torch and without running them.

``data.pkl`` names storages, which are members of the archive, and says how tensors lie in them.
"""
import zipfile

import numpy as np

from ..safe_pickle import ARRAY_CONSTRUCTORS, Name, UnsafePickleError, loads

# torch's storage types in numpy's; bfloat16 as its bits, see read.py
TORCH_DTYPES = {"DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "u2",
                "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
                "ByteStorage": "u1", "BoolStorage": "b1"}


class _Storage:
    def __init__(self, member, dtype, numel):
        self.member, self.dtype, self.numel = member, dtype, numel


class Tensor:
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

    def array(self, archive):
        dtype = self.storage.dtype
        if not all(self.size):
            return np.zeros(self.size, dtype)
        flat = archive.storage(self.storage.member, dtype)[self.offset:]
        strides = [step * dtype.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(flat, self.size, strides, writeable=False)


class TorchArchive:
    """A file of torch.save whose members were checked: stored plainly, inside the file, under harmless names.

    Nothing is ever extracted, so the names could do no harm; a file that has others is not torch's and not read.
    """

    def __init__(self, file, size):
        self.zip = zipfile.ZipFile(file)
        self.members, self.storages = {}, {}
        for member in self.zip.infolist():
            name = member.orig_filename
            if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/") or "\\" in name or "\0" in name:
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


def plain_tuple(items):
    if type(items) is not tuple:
        raise UnsafePickleError("the pickle makes a tuple of something that is none")
    return items


TORCH_CONSTRUCTORS = {
    **ARRAY_CONSTRUCTORS,  # checkpoints hold metrics as numpy numbers
    **{("torch", name): None for name in TORCH_DTYPES},
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch", "Size"): plain_tuple,
    ("collections", "OrderedDict"): lambda: {},
    ("argparse", "Namespace"): lambda: {},  # the arguments that timm's training script keeps; left out
}
