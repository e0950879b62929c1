"""Read pickles without running them.

``pickle.load`` calls whatever a file names. This reader is a small stack machine over ``pickletools.genops``, which
only splits a pickle into its instructions: it makes numbers, strings, lists, dicts, tuples and numpy arrays of plain
numbers, and calls nothing but the functions in a table of its own. Even numpy's constructors are stand-ins, since
numpy trusts the state it is given.

It reads protocols 2 to 5 (files by Python 2 and 3, numpy 1 and 2), as far as data sets and weight files use them: no
sets, no objects, no protocol 0 and 1.
"""
import io
import math
import pickletools

import numpy as np

MAX_OPCODES = 1_000_000  # a CIFAR-10 batch takes 40,000; bounds time (seconds) and small objects (100 MB)
MAX_LINE = 256  # of the instructions that are lines of text: names and numbers
_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_PUSH = {"BININT", "BININT1", "BININT2", "INT", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
         "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_MAKE = {"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
         "EMPTY_LIST": list, "EMPTY_DICT": dict}
_IGNORE = {"PROTO", "FRAME", "STOP"}


class UnsafePickleError(ValueError):
    """The pickle names something that is not in the table, or is malformed."""


class Name:
    """A ``module.name`` that a pickle mentions, and the function in its place (None: may be mentioned, not called)."""

    __slots__ = ("module", "name", "make")

    def __init__(self, module, name, make):
        self.module, self.name, self.make = module, name, make

    def __repr__(self):
        return f"{self.module}.{self.name}"


class _DType:
    """Stand-in for numpy.dtype: a plain number type and its byte order."""

    def __init__(self, code, *_):
        if not isinstance(code, str) or code not in _DTYPES:
            raise UnsafePickleError(f"arrays of type {str(code)[:20]!r} are not read, only plain numbers")
        self.numpy = np.dtype(code)

    def build(self, state):
        _, order, *fields = state[:5]
        if order not in ("<", ">", "|", "=") or any(field is not None for field in fields):
            raise UnsafePickleError("arrays of a structured type are not read")
        self.numpy = self.numpy.newbyteorder(order)


class _Array:
    """Stand-in for a numpy array between its two instructions, REDUCE (which names it) and BUILD (which fills it)."""

    def __init__(self, kind, *_):
        if not isinstance(kind, Name) or (kind.module, kind.name) != ("numpy", "ndarray"):
            raise UnsafePickleError("subclasses of numpy.ndarray are not read")
        self.memo_keys = []

    @staticmethod
    def build(state):
        _, shape, dtype, fortran, raw = state
        return _make_array(raw, dtype, shape, "F" if fortran is True else "C")


def _make_array(raw, dtype, shape, order="C"):
    """A read-only array over ``raw``, after every claim about it was checked; no memory is taken."""
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw  # Python 2's strings
    if not isinstance(raw, (bytes, bytearray)) or not isinstance(dtype, _DType) or order not in ("C", "F"):
        raise UnsafePickleError("an array lacks its bytes or its type")
    if not isinstance(shape, tuple) or len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
        raise UnsafePickleError("an array's shape is not a tuple of at most 32 sizes")
    if math.prod(shape) * dtype.numpy.itemsize != len(raw):
        raise UnsafePickleError(f"an array of shape {list(shape)} and type {dtype.numpy} does not fit its "
                                f"{len(raw)} bytes")
    array = np.frombuffer(raw, dtype.numpy) if raw else np.zeros(0, dtype.numpy)
    array = array.reshape(shape, order=order)
    array.flags.writeable = False
    return array


def _make_scalar(dtype, raw):
    return _make_array(raw, dtype, ())[()]


def _encode(text, encoding):
    if encoding not in ("latin1", "latin-1"):
        raise UnsafePickleError(f"_codecs.encode to {str(encoding)[:20]!r} is not read")
    return text.encode("latin-1")


# What numpy's pickles name: numpy 1 and 2, and how protocol 2 writes bytes.
ARRAY_CONSTRUCTORS = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _make_scalar,
    ("numpy._core.multiarray", "scalar"): _make_scalar,
    ("numpy.core.numeric", "_frombuffer"): _make_array,
    ("numpy._core.numeric", "_frombuffer"): _make_array,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): lambda: b"",
}


def loads(data, constructors=ARRAY_CONSTRUCTORS, persistent_load=None):
    """The object in a pickle, made without calling anything that the pickle names.

    Args:
        data: the pickle's bytes; what follows its end is ignored.
        constructors: (module, name) to the function called in its place, with the pickle's arguments; to None where
            the name may be mentioned but not called. Functions see such names as ``Name`` objects. They must trust
            nothing and should raise ``UnsafePickleError``.
        persistent_load: called with a persistent id; None refuses them.

    Returns:
        Arrays are read-only views of the bytes read. Strings of Python 2 are str where they are ASCII, else bytes.

    Raises:
        UnsafePickleError (a ValueError): the pickle names anything else, or is malformed, or has more than
            ``MAX_OPCODES`` instructions. No other exception, whatever the bytes are.
    """
    try:
        return _Machine(data, constructors, persistent_load).run()
    except UnsafePickleError:
        raise
    except Exception as error:  # a malformed pickle can trip over anything: it stays one kind of error
        reason = f"{type(error).__name__}: {str(error)[:200]}"
    raise UnsafePickleError(f"malformed pickle ({reason})")


class _Lines(io.BytesIO):
    """Lines end after MAX_LINE bytes: genops turns a line of digits into an int, in quadratic time on old Pythons."""

    def readline(self, size=-1):
        return super().readline(MAX_LINE)


class _Machine:
    def __init__(self, data, constructors, persistent_load):
        self.data, self.constructors, self.persistent_load = data, constructors, persistent_load
        self.stack, self.marks, self.memo, self.names = [], [], {}, {}
        self.unfilled = 0  # arrays named and not filled
        self.budget = 2 * len(data)

    def run(self):
        count = 0
        for opcode, arg, _ in pickletools.genops(_Lines(self.data)):
            name = opcode.name
            count += 1
            if count > MAX_OPCODES:
                raise UnsafePickleError(f"the pickle has more than {MAX_OPCODES} instructions")
            if name in _PUSH:
                if name in ("LONG1", "INT") and arg.bit_length() > 64:
                    raise UnsafePickleError("integers of more than 64 bits are not read")
                self.stack.append(arg)
            elif name in _MAKE:
                self.stack.append(_MAKE[name]())
            elif name in _HANDLERS:
                _HANDLERS[name](self, arg)
            elif name not in _IGNORE:
                raise UnsafePickleError(f"the pickle instruction {name} is not read")
        if self.unfilled:
            raise UnsafePickleError("an array has no contents")
        return self.stack.pop()

    def spend(self, values):
        """Each long string makes one array or one other string; memoised ones must not be made into thousands."""
        self.budget -= sum(len(v) for v in values if isinstance(v, (str, bytes, bytearray)) and len(v) > 64)
        if self.budget < 0:
            raise UnsafePickleError("the pickle holds less data than it makes")

    def python2_string(self, text):
        self.stack.append(text if text.isascii() else text.encode("latin-1"))

    def mark(self, _):
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self):
        items, self.stack = self.stack, self.marks.pop()
        return items

    def tuple_since_mark(self, _):
        items = self.since_mark()  # this exchanges the stack
        self.stack.append(tuple(items))

    def make_tuple(self, size):
        if len(self.stack) < size:
            raise UnsafePickleError("malformed pickle (stack underflow)")
        self.stack[-size:] = [tuple(self.stack[-size:])]

    def extend(self, items):
        if type(self.stack[-1]) is not list:
            raise UnsafePickleError("the pickle appends to something that is not a list")
        self.stack[-1].extend(items)

    def set_items(self, items):
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise UnsafePickleError("the pickle sets items of something that is not a dict")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in (str, bytes, int):  # nested keys would hash without end
                raise UnsafePickleError(f"dict keys of type {type(key).__name__} are not read")
            self.stack[-1][key] = value

    def set_item(self, _):
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def put(self, key):
        self.memo[key] = self.stack[-1]
        if isinstance(self.stack[-1], _Array):
            self.stack[-1].memo_keys.append(key)

    def get(self, key):
        value = self.memo[key]
        if isinstance(value, _Array):
            raise UnsafePickleError("an array is used before it is filled")
        self.stack.append(value)

    def find(self, module, name):
        if (module, name) not in self.constructors:
            raise UnsafePickleError(f"the pickle names {str(module)[:100]}.{str(name)[:100]}, which is neither array "
                                    "nor tensor; it was not run")
        named = Name(module, name, self.constructors[module, name])
        self.stack.append(self.names.setdefault((module, name), named))

    def stack_global(self, _):
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnsafePickleError("malformed pickle (a name that is not a string)")
        self.find(module, name)

    def call(self, _):
        args, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Name) or name.make is None or type(args) is not tuple:
            raise UnsafePickleError(f"the pickle calls {name if isinstance(name, Name) else 'something'}, "
                                    "which is no constructor")
        self.spend(args)
        made = name.make(*args)
        self.unfilled += isinstance(made, _Array)
        self.stack.append(made)

    def build(self, _):
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Array):
            self.spend(state)
            self.stack[-1] = target.build(state)
            self.unfilled -= 1
            for key in target.memo_keys:
                if self.memo[key] is target:
                    self.memo[key] = self.stack[-1]
        elif isinstance(target, _DType):
            target.build(state)
        elif type(target) is not dict:  # a dict's attributes (torch notes its version there) are left out
            raise UnsafePickleError("the pickle sets the state of something that is not an array")

    def persistent_id(self, _):
        if self.persistent_load is None:
            raise UnsafePickleError("the pickle refers to data outside itself")
        self.stack.append(self.persistent_load(self.stack.pop()))


_HANDLERS = {
    "SHORT_BINSTRING": _Machine.python2_string, "BINSTRING": _Machine.python2_string, "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple_since_mark, "TUPLE1": lambda self, _: self.make_tuple(1),
    "TUPLE2": lambda self, _: self.make_tuple(2), "TUPLE3": lambda self, _: self.make_tuple(3),
    "APPEND": lambda self, _: self.extend([self.stack.pop()]),
    "APPENDS": lambda self, _: self.extend(self.since_mark()),
    "SETITEM": _Machine.set_item, "SETITEMS": lambda self, _: self.set_items(self.since_mark()),
    "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put, "MEMOIZE": lambda self, _: self.put(len(self.memo)),
    "BINGET": _Machine.get, "LONG_BINGET": _Machine.get,
    "GLOBAL": lambda self, arg: self.find(*arg.split(" ", 1)), "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.call, "NEWOBJ": _Machine.call, "BUILD": _Machine.build, "BINPERSID": _Machine.persistent_id,
}
