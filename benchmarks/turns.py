"""Timing contenders in turn, some of them in processes of their own; for the scripts beside it."""
import subprocess
import time
from pathlib import Path

import numpy as np

from paddle_fasternet.benchmark import Timing
from paddle_fasternet.deploy.processor import default_threads

THREADS = default_threads()
PAUSE = 0.3  # seconds before a contender's turn: the threads of the one before have gone to sleep by then
CALLS, SECONDS = 3, 0.3  # a turn has at least so many timed calls, and takes at least so long


class Torch:
    """``torch_fasternet.py`` in a process of its own, which times each call itself.

    Args:
        python: a Python that has PyTorch.
        task, name, size, batch, precision: see there.
        **options: of the script, such as patch_size=2.

    Raises:
        OSError: it does not run; what PyTorch said is on stderr.
    """

    def __init__(self, python, task, name, size, batch, precision, **options):
        script = Path(__file__).parents[1] / "research" / "torch_fasternet.py"
        given = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(script), task, name, str(size), str(batch), precision, str(THREADS), *given],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self._process.stdout.readline().split()
        if answer[:1] != ["ready"]:
            raise OSError(f"{python} does not run {script.name} {task} {precision} {options}")
        self.version = answer[1]

    def seconds(self):
        print(flush=True, file=self._process.stdin)
        return float(self._process.stdout.readline())

    def close(self):
        self._process.communicate()


def time_call(call):
    """Seconds of a call; one that has ``seconds`` tells them itself."""
    if hasattr(call, "seconds"):
        return call.seconds()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(contenders, repeats):
    """{name: (call, images)} to {name: Timing} over ``repeats`` turns of each, after one that does not count."""
    seconds = {name: [] for name in contenders}
    for turn in range(-1, repeats):
        for name, (call, _) in contenders.items():
            time.sleep(PAUSE)
            time_call(call)  # wakes the threads and fills the caches
            values = []
            while len(values) < CALLS or sum(values) < SECONDS:
                values.append(time_call(call))
            if turn >= 0:
                seconds[name] += values
    return {name: Timing(*np.percentile(values, (50, 25, 75)).tolist(), len(values), contenders[name][1])
            for name, values in seconds.items()}
