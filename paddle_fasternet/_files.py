"""Files that appear whole or not at all, also out of a download; checksums in them; folders that one process holds."""
import contextlib
import errno
import hashlib
import http.client
import json
import os
import tempfile
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from ._check import check_path

# What disks and folders refuse with: full, over quota, too large a file, read-only, forbidden, broken, a folder.
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR}
_SEAL = b"\nsha256 "  # and 64 digits: the end of a sealed file


@contextlib.contextmanager
def replacing(path):
    """A file to write to that takes the place of ``path``, on the disk, when all went well; it is removed otherwise."""
    path = Path(os.path.realpath(os.path.expanduser(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with open(partial, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _flush_folder(path.parent)
    except OSError as error:
        if error.errno in _REFUSALS:
            raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def _flush_folder(path):
    """Put a new name in a folder on the disk too; not every file system can."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_partial(folder, names):
    """Remove what ``replacing`` left of the files ``names`` when its process was killed."""
    for name in names:
        for path in folder.glob(f".{name}.*.part"):
            path.unlink(missing_ok=True)


def seal(file):
    """Append the checksum of what is in ``file``, open for reading and writing. Who reads a pickle never gets to it."""
    file.seek(0)
    file.write(_SEAL + _digest(file, os.fstat(file.fileno()).st_size))


def is_sealed(path):
    """Whether a file ends in a checksum.

    Raises:
        ValueError: the checksum is not that of the file.
        OSError: there is no such file.
    """
    with open(path, "rb") as file:
        content = os.fstat(file.fileno()).st_size - len(_SEAL) - 64
        file.seek(max(content, 0))
        if file.read(len(_SEAL)) != _SEAL:
            return False
        expected = file.read(64)
        file.seek(0)
        if _digest(file, content) != expected:
            raise ValueError(f"{os.fspath(path)!r} is damaged: its SHA-256 is not the one that it was written with")
    return True


def _digest(file, size):
    """SHA-256 of the next ``size`` bytes, in hexadecimal; the position is behind them then."""
    digest = hashlib.sha256()
    while size > 0:
        block = file.read(min(size, 1 << 20))
        if not block:
            raise ValueError(f"{file.name!r} became shorter while it was read")
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()


def file_digest(path, algorithm="sha256"):
    """Checksum of a whole file, in hexadecimal."""
    digest = hashlib.new(algorithm)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def holding(argument, folder):
    """Within the block no other process gets ``folder`` from here. The hold ends with the process, however that ends.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"{argument}={str(folder)!r} is in use: another training writes there; wait for its "
                                  "end or choose another folder") from None
        except OSError:  # a network file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def write_json(path, content):
    """Write ``content`` as JSON, whole or not at all. NaN and infinities are refused: JSON has none."""
    try:
        text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:  # the name of a file is not UTF-8: JSON's own escapes keep it
        text = json.dumps(content, indent=1, allow_nan=False).encode("ascii")
    with replacing(path) as file:
        file.write(text + b"\n")


def make_folder(argument, path):
    """Make the folder ``path`` where it is missing and make sure that files can be written there."""
    path = check_path(argument, path)
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
