"""safe_pickle: what it reads, what it refuses, and that nothing is ever run."""
import os
import pickle
import struct
import subprocess
import time
import tracemalloc

import numpy as np
import pytest

from paddle_fasternet.safe_pickle import MAX_OPCODES, Name, UnsafePickleError, loads

RNG = np.random.RandomState(0)
ARRAYS = [*(RNG.randn(3, 4).astype(dtype) for dtype in ("f2", "f4", "f8", ">f4", "i2", "i8", "u1", "?")),
          np.asfortranarray(RNG.randn(3, 4)), np.zeros((0, 3), "f4"), np.array(3.5), RNG.randn(4, 6)[::2, ::3]]
HEADER = b"\x80\x02"
# In the words of protocol 2: an array to be filled, its type, and the instruction that fills it with shape and bytes.
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
DTYPE_U1 = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def array_pickle(shape, raw, dtype=DTYPE_U1):
    text = b"T" + struct.pack("<i", len(raw)) + raw
    return HEADER + RECONSTRUCT + b"(K\x01(" + shape + b"t" + dtype + b"\x89" + text + b"tb."


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_and_plain_values(protocol):
    for array in ARRAYS:
        value = {"a": array, "list": [array, (array, 1, "x")], "n": None, "t": True, "i": -2**40, "f": 1.5,
                 "b": b"\xff\0", "s": "\u00e9\u4e00", "empty": [[], {}, ()], 3: np.float32(2.5), "e": b""}
        got = loads(pickle.dumps(value, protocol))
        assert got.keys() == value.keys()
        assert got["a"].dtype == array.dtype and got["a"].shape == array.shape
        np.testing.assert_array_equal(got["a"], array)
        assert got["list"][0] is got["a"] and got["list"][1][0] is got["a"]  # as pickle does
        assert got["a"].flags.writeable is False
        assert {k: got[k] for k in "ntifbse"} == {k: value[k] for k in "ntifbse"}
        assert got["empty"] == [[], {}, ()] and got[3] == np.float32(2.5) and type(got[3]) is np.float32


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_arrays_of_numpy_1_and_2(module):
    data = array_pickle(b"K\x02K\x03", b"abcdef").replace(b"numpy.core.multiarray", module)
    np.testing.assert_array_equal(loads(data), np.frombuffer(b"abcdef", "u1").reshape(2, 3))


def test_python_2_strings():
    assert loads(HEADER + b"U\x03cat.") == "cat"
    assert loads(HEADER + b"U\x02\xc3\xa9.") == b"\xc3\xa9"
    assert loads(HEADER + b"T\x03\x00\x00\x00dog.") == "dog"
    assert loads(HEADER + b"I123\n.") == 123


def cifar_batch(count):
    """A batch as Python 2 wrote it into the official archive."""
    data = RNG.randint(0, 256, (count, 3072)).astype("u1")
    labels = [i % 10 for i in range(count)]
    names = [f"leptodactylus_pentadactylus_s_{i:06d}.png" for i in range(count)]
    raw = data.tobytes()
    pickled = (HEADER + b"}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05("
               + b"".join(b"K" + bytes([label]) for label in labels) + b"eU\x04dataq\x06"
               + RECONSTRUCT + b"q\x07(K\x01M" + struct.pack("<H", count) + b"M\x00\x0c\x86" + DTYPE_U1 + b"\x89T"
               + struct.pack("<i", len(raw)) + raw + b"tbU\x09filenamesq\x08](")
    strings = [b"U" + bytes([len(name)]) + name.encode() + b"r" + struct.pack("<I", 100 + i)
               for i, name in enumerate(names)]
    return pickled + b"".join(strings) + b"eu.", data, labels, names


def test_a_whole_cifar_batch_in_less_than_a_second():
    pickled, data, labels, names = cifar_batch(10000)
    start = time.perf_counter()
    got = loads(pickled)
    assert time.perf_counter() - start < 1
    np.testing.assert_array_equal(got["data"], data)
    assert got["labels"] == labels and got["filenames"] == names and got["batch_label"] == "training batch 1 of 5"


class Run:
    """Pickles into a call of its arguments."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_is_refused_and_not_run(tmp_path, protocol):
    marker = tmp_path / "marker"
    command = f"echo x > '{marker}'"
    attacks = [Run(os.system, command), Run(eval, f"open({str(marker)!r}, 'w').close()"),
               Run(exec, f"open({str(marker)!r}, 'w').close()"), Run(subprocess.call, ["touch", str(marker)])]
    for attack in attacks:
        for value in (attack, {"a": attack}, [np.zeros(3), (attack,)]):
            data = pickle.dumps(value, protocol)
            with pytest.raises(UnsafePickleError, match="it was not run"):
                loads(data)
            assert not marker.exists()
        pickle.loads(data)
        assert marker.exists(), "the attack is none"
        marker.unlink()


@pytest.mark.parametrize("data", [
    HEADER + b"cos\nsystem\nU\x01x\x85R.",
    HEADER + b"U\x01xios\nsystem\n.",  # INST without a mark
    HEADER + b"(U\x01xios\nsystem\n.",  # INST
    HEADER + b"(cos\nsystem\nU\x01xo.",  # OBJ
    HEADER + b"\x82\x01.",  # an extension code
    HEADER + b"cnumpy\nndarray\nK\x01\x85R.",  # may be mentioned, not called
    HEADER + b"cnumpy\nndarray\n}U\x01aK\x01sb.",  # attributes of a class
    HEADER + b"U\x01aU\x01b\x85R.",  # a string is called
    HEADER + b"Pperson\n.",
    HEADER + b"U\x01xQ.",
    b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",  # an attribute's attribute
    b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
    b"\x80\x05\x97.",  # out-of-band buffers
    HEADER + b"c_codecs\nencode\nU\x01aU\x06base64\x86R.",
], ids=repr)
def test_other_ways_to_code_are_refused(data):
    with pytest.raises(UnsafePickleError):
        loads(data)


@pytest.mark.parametrize("data", [
    array_pickle(b"K\x02", b"abc"),
    array_pickle(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff", b"a"),
    array_pickle(b"J\xff\xff\xff\x7f" * 5, b"abc"),
    array_pickle(b"K\x01" * 33, b"a"),
    array_pickle(b"G" + struct.pack(">d", 3.0), b"abc"),
    array_pickle(b"K\x01", b"abcdefgh", b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"),
    array_pickle(b"K\x01", b"abcdefgh", b"cnumpy\ndtype\nU\x02V8K\x00K\x01\x87R"),
    array_pickle(b"K\x01", b"a", DTYPE_U1.replace(b"|NNN", b"|NU\x01aN")),
    array_pickle(b"K\x01", b"a", b"N"),
    HEADER + RECONSTRUCT + b".",  # never filled
    HEADER + RECONSTRUCT + b"q\x01h\x01\x86.",  # used before it is filled
    HEADER + RECONSTRUCT + b"K\x01b.",
    array_pickle(b"K\x01", b"a")[:-1] + b"K\x01b.",  # filled twice
    HEADER + b"cnumpy.core.multiarray\nscalar\n" + DTYPE_U1 + b"U\x02ab\x86R.",
    HEADER + RECONSTRUCT.replace(b"numpy\nndarray", b"_codecs\nencode") + b".",
], ids=range(15))
def test_arrays_that_lie_are_refused(data):
    with pytest.raises(UnsafePickleError):
        loads(data)


@pytest.mark.parametrize("data", [
    b"", b".", b"\x80", HEADER, HEADER + b"K", HEADER + b"(.", HEADER + b"K\x01", HEADER + b"\x85.", HEADER + b"\x87.",
    HEADER + b"e.", HEADER + b"]u.", HEADER + b"]K\x01u.", HEADER + b"}(K\x01u.", HEADER + b"K\x01K\x02a.",
    HEADER + b"h\x01.", HEADER + b"q\x01.", HEADER + b"R.", HEADER + b"b.", HEADER + b"cnumpy.", HEADER + b"Ix\n.",
    HEADER + b"X\x02\x00\x00\x00\xff\xff.", HEADER + b"T\xff\xff\xff\xffa.", HEADER + b"K\x01K\x02\x93.", b"\x99.",
    b"hello, world", b"\x80\x02}(]K\x01u.",
], ids=repr)
def test_malformed_is_one_kind_of_error(data):
    with pytest.raises(UnsafePickleError):
        loads(data)


def traced_peak(data):
    """The peak memory of an attempt to read, in bytes, and whether it was refused."""
    tracemalloc.start()
    try:
        loads(data)
        refused = False
    except UnsafePickleError:
        refused = True
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, refused


def test_memory_is_not_taken_on_a_pickles_word():
    huge = struct.pack("<Q", 1 << 62)
    for data in (b"\x80\x05\x96" + huge + b"a.", b"\x80\x04\x8e" + huge + b"a.", b"\x80\x04\x8d" + huge + b"a.",
                 HEADER + b"T\xff\xff\xff\x7fa.", HEADER + b"\x8b\xff\xff\xff\x7fa.",
                 HEADER + b"\x8a\x20" + b"a" * 32 + b".", HEADER + b"I" + b"9" * 100_000 + b"\n."):
        peak, refused = traced_peak(data)
        assert refused and peak < 1 << 20
    peak, refused = traced_peak(HEADER + b"K\x01r\xff\xff\xff\xff.")  # a memo entry of a high number is one entry
    assert not refused and peak < 1 << 20


def test_one_string_is_not_made_into_many():
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x01"
    encode = b"c_codecs\nencode\nh\x01U\x06latin1\x86R"
    peak, refused = traced_peak(HEADER + b"](" + text + encode * 1000 + b"e.")
    assert refused and peak < 2 << 20


def test_work_is_bounded():
    with pytest.raises(UnsafePickleError, match="instructions"):
        loads(HEADER + b"N" * (MAX_OPCODES + 1) + b".")


def test_deep_nesting_does_not_crash():
    depth = 300_000
    value = loads(HEADER + b"]" * depth + b"a" * (depth - 1) + b".")
    assert type(value) is list and len(value) == 1
    del value
    with pytest.raises(UnsafePickleError, match="keys of type tuple"):
        loads(HEADER + b"})" + b"\x85" * depth + b"K\x01s.")


def test_constructors_and_persistent_ids():
    table = {("some.module", "Thing"): lambda *args: ("thing", args), ("some.module", "Mark"): None}
    data = HEADER + b"csome.module\nThing\ncsome.module\nMark\nU\x01kQ\x86R."
    (kind, (mark, stored)) = loads(data, table, persistent_load=lambda key: key + "!")
    assert kind == "thing" and isinstance(mark, Name) and repr(mark) == "some.module.Mark" and stored == "k!"
    with pytest.raises(UnsafePickleError, match="outside itself"):
        loads(data, table)
    with pytest.raises(UnsafePickleError, match=r"some\.module\.Thing"):
        loads(data)


def test_random_corruptions_raise_nothing_else():
    rng = np.random.RandomState(1)
    seeds = [np.frombuffer(pickle.dumps({"a": ARRAYS[1], "b": [1, "x", (2.5, None)]}, p), "u1") for p in (2, 3, 4, 5)]
    seeds.append(np.frombuffer(cifar_batch(3)[0], "u1")[:200])
    outcomes = {"read": 0, "refused": 0}
    for i in range(4000):
        data = seeds[i % len(seeds)].copy()
        places = rng.randint(0, len(data), rng.randint(1, 5))
        data[places] = rng.randint(0, 256, len(places))
        try:
            loads(data.tobytes()[:rng.randint(1, 2 * len(data))])
            outcomes["read"] += 1
        except UnsafePickleError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100
