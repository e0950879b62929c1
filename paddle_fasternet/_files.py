"""Files that appear whole or not at all, also out of a download."""
import contextlib
import errno
import http.client
import json
import os
import tempfile
import urllib.error
import urllib.request
import uuid
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """A file to write to that takes the place of ``path`` when all went well, and is removed otherwise."""
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with open(partial, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EISDIR):
            raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_json(path, content):
    """Write ``content`` as JSON, whole or not at all. NaN and infinities are refused: JSON has none."""
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def make_folder(argument, path):
    """Make the folder ``path`` where it is missing and make sure that files can be written there."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{argument}={path!r} must be a path, not {type(path).__name__}")
    path = Path(os.path.expanduser(path))
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(f"{argument}={str(path)!r} cannot be written: {error.strerror}; choose another folder") from error
    return path


def download(url, path, check, most=None):
    """Download ``url`` to ``path``, with a bar.

    Args:
        check: called with the downloaded file's path before it takes its place; raises ValueError to throw it away.
        most: bytes that the file may have.

    Raises:
        ConnectionError: no connection, or it broke off.
        ValueError: the file is larger than ``most``, or ``check`` refused it.
    """
    from tqdm import tqdm
    try:
        with urllib.request.urlopen(url, timeout=30) as answer, replacing(path) as file:
            total = int(answer.headers.get("Content-Length") or 0)
            with tqdm(total=total or None, unit="B", unit_scale=True, desc=Path(path).name) as bar:
                for block in iter(lambda: answer.read(1 << 16), b""):
                    file.write(block)
                    bar.update(len(block))
                    if most and max(total, file.tell()) > most:
                        raise ValueError(f"{url} has more than {most} bytes")
            if total and file.tell() != total:
                raise ConnectionError(f"the connection ended after {file.tell()} of {total} bytes")
            file.flush()
            check(file.name)
    except urllib.error.HTTPError as error:
        error.close()
        raise ConnectionError(f"cannot download {url} ({error})") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(f"cannot download {url} ({reason})") from None
