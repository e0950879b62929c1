"""The import of Paddle without its remarks, in the processes that are our command."""
import contextlib
import importlib.metadata
import io
import os
import sys
import warnings
from pathlib import Path

# What Paddle prints on import wherever OMP_NUM_THREADS is above 1, as it should be here.
_PRINTED = ("WARNING: OMP_NUM_THREADS set to", "PLEASE USE OMP_NUM_THREADS WISELY")


def is_command():
    """Whether this process is ``paddle-fasternet`` or ``python -m paddle_fasternet``."""
    program = Path((getattr(sys, "argv", None) or [""])[0])
    if program.name == "-m":  # so while Python looks for the module; Python 3.9 does not know which one
        return "paddle_fasternet" in getattr(sys, "orig_argv", ["paddle_fasternet"])
    return program.stem in ("paddle-fasternet", "paddle-fasternet-script")


@contextlib.contextmanager
def without_remarks():
    """Import Paddle within the block. In our command its remarks are left out; a program's own import stays as it is.

    Left out are the advice on ccache and OMP_NUM_THREADS, and the warnings that Paddle's CPU packages log from C++
    (GLOG_minloglevel=0 shows them): on PIR, on type promotion. Python's warnings, errors, and the warnings of Paddle's
    GPU packages, on drivers and cuDNN, are shown.
    """
    if not is_command():
        yield
        return
    warnings.filterwarnings("ignore", message="No ccache found", category=UserWarning)
    if not _installed("paddlepaddle-gpu"):
        os.environ.setdefault("GLOG_minloglevel", "2")
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines(keepends=True):
            if not line.startswith(_PRINTED):
                sys.stderr.write(line)


def _installed(distribution):
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
