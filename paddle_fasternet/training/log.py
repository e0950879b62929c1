"""A line for every fetch of a training's numbers, in a file that can be followed, and on request VisualDL's curves."""
import json
import os

LOG = "log.jsonl"
VISUALDL = "visualdl"


class Log:
    """Appends to ``log.jsonl`` in a run's folder: one JSON object a line, each written in one piece.

    Args:
        folder: the run's.
        visualdl: also write scalars for ``visualdl --logdir FOLDER``.
    """

    def __init__(self, folder, visualdl=False):
        self._path = folder / LOG
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._visualdl = None
        if visualdl:
            from visualdl import LogWriter
            self._visualdl = LogWriter(logdir=str(folder / VISUALDL))

    def write(self, event, step, **values):
        """One line: what happened, after which step, and numbers."""
        line = json.dumps({"event": event, "step": step,
                           **{key: round(value, 6) if isinstance(value, float) else value
                              for key, value in values.items()}})
        try:
            os.write(self._file, line.encode() + b"\n")
        except OSError as error:
            raise OSError(error.errno, f"{self._path} cannot be written: {error.strerror}") from error
        if self._visualdl:
            for key, value in values.items():
                self._visualdl.add_scalar(tag=f"{event}/{key}", step=step, value=value)

    def close(self):
        os.close(self._file)
        if self._visualdl:
            self._visualdl.close()


def check_visualdl(wanted):
    """Raise ImportError, which says what to install, where VisualDL is wanted and cannot be had."""
    if wanted:
        try:
            import visualdl  # noqa: F401
        except ImportError as error:
            raise ImportError(f"visualdl=True needs VisualDL: pip install visualdl ({error})") from error
