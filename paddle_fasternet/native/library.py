"""The one compiled library of this package: where it is, whether it fits its sources, which kernels it offers here.

It is a plain shared library that ctypes loads. It is built when the package is installed, if there is a C++ compiler;
without one everything else works. ``inference.py`` and ``training/native.py`` call it.
"""
import ctypes
import functools
import hashlib
import sysconfig
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_SOURCES = Path(__file__).parent / "csrc"


def structure(name, **fields):
    """A C structure of these fields, for ctypes."""
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


# Images of csrc/common/network.h: either bytes (NHWC) or floats (NCHW)
Images = structure("Images", bytes=ctypes.c_void_p, floats=ctypes.c_void_p, count=ctypes.c_long, height=ctypes.c_long,
                   width=ctypes.c_long)


@functools.cache
def load_library():
    """(the library, ""), or where there is none for this processor, built from these sources: (None, why)."""
    own = sysconfig.get_config_var("EXT_SUFFIX") or ""
    paths = sorted(_PACKAGE.glob("_native*"), key=lambda path: (not path.name.endswith(own), path.name))
    again = "run: pip install --force-reinstall --no-deps paddle_fasternet (in a clone: pip install -e .)"
    if not paths:
        return None, ("the native engine was not built, because there was no C++ compiler, or too old a one, when "
                      f"paddle_fasternet was installed; install g++ and {again}")
    try:
        library = ctypes.CDLL(str(paths[0]))
    except OSError as error:
        return None, f"the native engine cannot be loaded: {error}"
    sources = _sources()
    if sources and _built_from(library) not in ("", sources):
        return None, f"the native engine was built from other sources than those beside it; {again}"
    library.fasternet_kind.restype = library.fasternet_training_kind.restype = ctypes.c_char_p
    return library, ""


def _built_from(library):
    """The checksum of the sources that the library was built from; "" where it was built by hand."""
    if not hasattr(library, "fasternet_sources"):
        return "older"
    library.fasternet_sources.restype = ctypes.c_char_p
    return library.fasternet_sources().decode()


def _sources():
    """The checksum of the C++ in this package, as setup.py makes it; "" where it was installed without."""
    paths = sorted([*_SOURCES.rglob("*.h"), *_SOURCES.rglob("*.cpp")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest() if paths else ""


def kinds(function="fasternet_kind"):
    """{kind: number} of the kernels that this processor and build offer, best first: {"bf16-amx": 0, ...}.

    ``function``: the library's, which names them.
    """
    library, _ = load_library()
    found, number = {}, 0
    while library is not None and (name := getattr(library, function)(number)) is not None:
        if name:
            found[name.decode()] = number
        number += 1
    return found


def find_kind(precision, found):
    """The first of the kinds ``found`` that is ``precision``, or computes in it; None where there is none."""
    return next((kind for kind in found if precision in (kind, kind.split("-")[0])), None)


def available():
    """The precisions that this processor and build offer: ("fp32",), ("fp32", "bf16"), or () (see ``why_not``)."""
    names = {kind.split("-")[0] for kind in kinds()}
    return tuple(precision for precision in ("fp32", "bf16") if precision in names)


def why_not(precision="fp32"):
    """Why ``precision`` is not available and what to do; "" if it is."""
    library, reason = load_library()
    return reason if library is None or precision in available() else missing(precision)


def missing(precision):
    """What to say where no kernel of that precision is among those of this processor and build."""
    return (f"precision={precision!r} needs a processor with AVX512-BF16 or AMX, and a library built by GCC 11 or "
            "newer; use precision='fp32'")
