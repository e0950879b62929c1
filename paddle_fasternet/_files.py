"""Files that appear whole or not at all."""
import contextlib
import json
import os
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """Give a temporary path beside ``path``; it takes the place of ``path`` if the block ends without an error."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path, content):
    """Write ``content`` as JSON, whole or not at all. NaN and infinities are refused: JSON has none."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def make_folder(argument, path):
    """Make the folder ``path`` where it is missing and make sure that files can be written there."""
    path = Path(path).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OSError(f"{argument}={str(path)!r} cannot be written: {error.strerror}; choose another folder") from error
    return path
