"""The driver of the scripts beside it: contenders take turns, each in a process of its own.

A contender's threads, allocator and thread settings can slow down whoever shares its process: OpenMP's threads spin for
0.2 s after their work, and a library may change that for all. So each has a process (``child.py``), which is stopped by
SIGSTOP while others have their turn. One run measures all that it compares, in turn, so that a slow moment of the
machine meets all of them alike.
"""
import argparse
import dataclasses
import importlib.util
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import Timing, machine
from paddle_fasternet.native.cpu import default_threads

THREADS = default_threads()
FOLDER = Path(__file__).parent
TORCH = str(FOLDER.parent / "research" / "torch_fasternet.py")
PATHS = {"--out": [], "--data": ["--data", "FOLDER"],
         "--data-file": ["--data-file", "CIFAR10.tar.gz"], "--torch-python": ["--torch-python", "PYTHON"]}


# a process group of its own: it stops whole, and the system ends it where this process is killed
GROUP = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}


@dataclasses.dataclass(frozen=True)
class Contender:
    """What is timed, in a process of its own.

    Attributes:
        make: a function at the top of a script, or "path/of/script.py:function"; it returns the function without
            arguments that is timed. One with a method ``facts`` tells more at the end, in values that JSON has.
        images: images in a call.
        arguments: of ``make``, in values that JSON has.
        python: the Python that runs it.
        environment: variables beside OMP_NUM_THREADS, which is the number of cores.
    """

    make: object
    images: int
    arguments: dict = dataclasses.field(default_factory=dict)
    python: str = sys.executable
    environment: dict = dataclasses.field(default_factory=dict)

    def address(self):
        """(script, function's name)."""
        if isinstance(self.make, str):
            return self.make.rsplit(":", 1)
        return inspect.getfile(self.make), self.make.__name__


class Process:
    """A contender's process, which is stopped except during ``ask``.

    Raises:
        RuntimeError: the contender does not start, or ends; with the last lines that it wrote.
    """

    def __init__(self, contender):
        self._said = tempfile.TemporaryFile()
        script, function = contender.address()
        self._process = subprocess.Popen(
            [contender.python, "-W", "ignore", str(FOLDER / "child.py"), str(Path(script).resolve()), function,
             json.dumps(contender.arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS), "GLOG_minloglevel": "2", **contender.environment},
            **GROUP)
        try:
            self.said = json.loads(self._answer())
        except BaseException:
            self.close()
            raise
        self._signal(signal.SIGSTOP)

    def ask(self, request):
        self._signal(signal.SIGCONT)
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._answer()
        self._signal(signal.SIGSTOP)
        return json.loads(answer)

    def close(self):
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            pipe.close()

    def _answer(self):
        answer = self._process.stdout.readline()
        if not answer:
            status = self._process.wait()
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"it ended with status {status}: {' | '.join(lines[-3:])}")
        return answer

    def _signal(self, number):
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
            if number == signal.SIGSTOP:  # wait until it stands still, or has ended
                os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What ``in_turn`` found.

    Attributes:
        timings: {name: Timing}.
        facts: {name: what it told} of the contenders that have ``facts``.
        versions: {package: version} of all.
        refused: {name: why} of the contenders that failed.
    """

    timings: dict
    facts: dict
    versions: dict
    refused: dict

    def check(self):
        """RuntimeError where a contender failed."""
        if self.refused:
            raise RuntimeError("; ".join(f"{name}: {why}" for name, why in self.refused.items()))

    def rows(self, **columns):
        """A dict for each contender: ``columns``, its name, the Timing's values."""
        return [{**columns, "contender": name, **timing.to_dict()} for name, timing in self.timings.items()]


def in_turn(contenders, turns=5, calls=3, seconds=0.3, warmup=1, limit=None):
    """Time contenders, each in its own process, over ``turns`` turns of each after one that does not count.

    Args:
        contenders: {name: Contender}.
        turns: turns that count.
        calls, seconds: a turn has at least so many timed calls, and takes at least so long.
        warmup: untimed calls at the beginning of a turn: they wake the threads and fill the caches.
        limit: seconds after which no further turn begins, counted from the first; one always counts.
    """
    processes, refused = {}, {}
    values = {name: [] for name in contenders}
    try:
        for name, contender in contenders.items():
            try:
                processes[name] = Process(contender)
            except RuntimeError as error:
                refused[name] = str(error)
        begun = time.perf_counter()
        for turn in range(-1, turns):
            if turn > 0 and limit is not None and time.perf_counter() - begun > limit:
                break
            for name, process in list(processes.items()):
                try:
                    found = process.ask({"calls": calls, "seconds": seconds, "warmup": warmup})
                except RuntimeError as error:
                    refused[name] = str(error)
                    processes.pop(name).close()
                    continue
                if turn >= 0:
                    values[name] += found
        facts = {name: process.ask("facts") for name, process in processes.items() if process.said["facts"]}
    finally:
        for process in processes.values():
            process.close()
    timings = {name: Timing(*np.percentile(values[name], (50, 25, 75)).tolist(), len(values[name]),
                            contenders[name].images) for name in processes}
    versions = {name: version for process in processes.values() for name, version in process.said["versions"].items()}
    return Measured(timings, facts, versions, refused)


def alone(make, **arguments):
    """What one call of the function that ``make(**arguments)`` returns gives, in a process of its own."""
    process = Process(Contender(make, 1, arguments))
    try:
        return process.ask("result")
    finally:
        process.close()


class Record:
    """A record that is written as it grows: NAME.partial.json, at the end NAME.json in its place.

    Args:
        folder: where it is written.
        name: of the record.
        **content: what it begins with, beside the command and the machine.
    """

    def __init__(self, folder, name, **content):
        self.folder, self.name = folder, name
        os.environ["OMP_NUM_THREADS"] = str(THREADS)  # what ``machine`` reads, and what every contender gets
        self.content = {"command": command(), "machine": {**machine(), "versions": {}}, **content, "not_run": {}}

    def add(self, key, measured, **columns):
        """Append the rows of ``in_turn``'s result, show them and write what there is."""
        rows, setting = measured.rows(**columns), " ".join(map(str, columns.values()))
        self.content.setdefault(key, []).extend(rows)
        self.note(measured, setting)
        for row in rows:
            print(f"{setting} {row['contender']:36} {row['images_per_second']:10.1f} images/s "
                  f"({row['images'] / row['high']:.1f} to {row['images'] / row['low']:.1f})", flush=True)
        self.put()
        return rows

    def note(self, measured, setting=""):
        """Keep the packages' versions and what did not run of ``in_turn``'s result."""
        self.content["machine"]["versions"].update(measured.versions)
        for name, why in measured.refused.items():
            self.content["not_run"][f"{setting} {name}".strip()] = why
            print(f"{setting} {name:36} did not run: {why}", file=sys.stderr)

    def put(self, **content):
        """Write what there is, with ``content``."""
        self.content.update(content)
        write_json(self.folder / f"{self.name}.partial.json", self.content)

    def finish(self, **content):
        """Write NAME.json."""
        self.put(**content)
        os.replace(self.folder / f"{self.name}.partial.json", self.folder / f"{self.name}.json")
        print(f"written to {self.folder / self.name}.json")


def command():
    """The command that runs the script again; placeholders stand for the paths of this machine."""
    given, words = [], iter(sys.argv[1:])
    for word in words:
        name, equals, _ = word.partition("=")
        if name in PATHS:
            if not equals:
                next(words, None)
            given += PATHS[name]
        else:
            given.append(word)
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])


def options(doc, turns=5, torch=False, data=False):
    """An argument parser with the options that the scripts have in common.

    ``--quick`` makes a short run of everything that a script does; its figures mean nothing, and unless told otherwise
    it writes into a temporary folder.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--turns", type=int, default=turns, help="turns of each contender that count")
    parser.add_argument("--quick", action="store_true", help="see that it runs, in seconds; its figures mean nothing")
    parser.add_argument("--out", default=None, help="folder (default: work/results; of --quick: a temporary one)")
    if torch:
        parser.add_argument("--torch-python", default=None, help="a Python that has PyTorch, where this one has not")
    if data:
        parser.add_argument("--data-file", default=None, help="CIFAR-10, where it is not found by itself")
    return parser


def prepare(parser, packages=()):
    """The options as given, after everything that the script needs was checked: packages, PyTorch, output folder.

    Returns:
        argparse's result with ``out`` (a Path), ``turns`` (1 in a quick run), ``pace`` (what ``in_turn`` takes) and,
        of a parser with ``--torch-python``, ``torch_python``: None where there is no PyTorch, which is said.
    """
    given = parser.parse_args()
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"needs {', '.join(missing)}, which is not installed: pip install {' '.join(missing)}")
    if given.turns < 1:
        parser.error(f"--turns {given.turns} must be at least 1")
    try:
        given.out = make_folder("--out", given.out or (tempfile.mkdtemp() if given.quick else "work/results"))
    except OSError as error:
        parser.error(str(error))
    given.pace = {"turns": 1, "calls": 1, "seconds": 0.0} if given.quick else {"turns": given.turns}
    if hasattr(given, "torch_python"):
        wanted, given.torch_python = given.torch_python, given.torch_python or sys.executable
        try:
            subprocess.run([given.torch_python, "-c", "import torch"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            if wanted:
                parser.error(f"--torch-python {wanted} does not import torch")
            given.torch_python = None
            print("PyTorch is not installed here and is left out: pip install torch, or --torch-python")
    return given


def chosen(parser, only, names):
    """``names``, or those in ``only``; the script ends where one of these is not there."""
    for name in only or ():
        if name not in names:
            parser.error(f"--only {name!r} is not known; choose from: {', '.join(map(repr, names))}")
    return [name for name in names if not only or name in only]
