"""What the processor offers to this process. Nothing else in the package counts cores."""
import functools
import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


@functools.cache
def has_bfloat16():
    """Whether this processor multiplies bfloat16 numbers itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((set(line.split()) for line in file if line.startswith(("flags", "Features"))), set())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def cores():
    """Cores that this process may use: of its affinity, and at most those of its container's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _quota()))


default_threads = cores  # what an engine takes unless told otherwise


def paddle_threads():
    """Threads that Paddle's layers compute with on a CPU: one, unless OMP_NUM_THREADS said otherwise at its import."""
    return int(os.environ.get("OMP_NUM_THREADS", "1").split(",")[0])  # "4,2": of nested regions, the outermost


def _quota():
    """Cores that a container's quota amounts to, rounded up; infinity where there is none."""
    for values in (_read("cpu.max"), _read("cpu/cpu.cfs_quota_us") + _read("cpu/cpu.cfs_period_us")):
        if len(values) == 2 and min(values) > 0:
            return math.ceil(values[0] / values[1])
    return math.inf


def _read(name):
    """The integers of a file of the container: of cgroup version 2, or of version 1 in ``cpu/``; () where none are."""
    try:
        return tuple(int(word) for word in (_CGROUP / name).read_text(encoding="utf-8").split())
    except (OSError, ValueError):  # no such file, or "max"
        return ()
