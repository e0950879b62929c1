"""Pytest plug-in: all tests run on ``gpu_fake:0``, a device that is no CPU (gpu_fake.cpp).

    python -m pytest -p tests.device.plugin          # what ``make test-device`` does

It builds the device's library for the installed Paddle, makes it Paddle's current device, and stands in for the few
functions that Paddle offers for CUDA alone. Tests that mean the CPU carry the marker ``cpu`` and are skipped.
"""
import contextlib
import hashlib
import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("gpu_fake.cpp")
DEVICE = "gpu_fake:0"


def build():
    """Compile the device for the installed Paddle, once for each state of the source; returns the library's folder."""
    paddle = Path(importlib.util.find_spec("paddle").origin).parent
    key = hashlib.sha256(SOURCE.read_bytes() + (paddle / "version" / "__init__.py").read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"paddle_fasternet_device_{os.getuid()}_{key}"
    library = folder / "libgpu_fake.so"
    if not library.exists():
        folder.mkdir(exist_ok=True)
        core = paddle / "libs" / "libphi_core.so"  # Paddle 3; 2.6 has all in one library
        core = core if core.exists() else paddle / "base" / "libpaddle.so"
        partial = folder / f"{os.getpid()}.part"
        subprocess.run(["g++", "-std=c++17", "-O1", "-fPIC", "-shared", "-DPADDLE_WITH_CUSTOM_DEVICE",
                        "-DPADDLE_WITH_CUSTOM_KERNEL", f"-I{paddle / 'include'}",
                        f"-I{paddle / 'include' / 'third_party'}", str(SOURCE), "-o", str(partial), str(core),
                        f"-Wl,-rpath,{core.parent}"], check=True)
        os.replace(partial, library)
    return folder


def use_device():
    """Make ``gpu_fake:0`` the current device of this process; before Paddle is imported."""
    os.environ["CUSTOM_DEVICE_ROOT"] = str(build())
    os.environ.setdefault("GLOG_minloglevel", "2")  # it reports every library that it loads
    import paddle
    del os.environ["CUSTOM_DEVICE_ROOT"]  # processes that a test starts have the CPU
    paddle.set_device(DEVICE)
    paddle.device.cuda.get_device_name = lambda device=None: "a device that is no CPU"
    paddle.amp.is_float16_supported = paddle.amp.is_bfloat16_supported = lambda device=None: True
    # the CPU kernels behind the device know no half precision: it casts nothing, the scaler still does its work
    paddle.amp.auto_cast = _cast_nothing


@contextlib.contextmanager
def _cast_nothing(enable=True, *_, dtype="float16", **__):
    from paddle.amp.auto_cast import amp_global_state
    if enable:
        amp_global_state().amp_dtype = dtype  # as Paddle's own; the scaler looks whether it is float16
    yield


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("cpu"):
            item.add_marker(pytest.mark.skip(reason="means the CPU"))


use_device()  # before conftest.py imports Paddle
