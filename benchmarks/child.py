"""A contender's process: makes a function without arguments, then times calls of it when asked.

    PYTHON benchmarks/child.py SCRIPT FUNCTION JSON

FUNCTION of SCRIPT is called with the arguments in JSON. Every line on standard input is a request: a turn, answered by
the seconds of its timed calls; "facts", answered by the call's method ``facts``; or "result", answered by what one call
returns. Only the standard library is imported here, so that any Python can run it.
"""
import importlib
import json
import os
import sys
import time
from pathlib import Path

PACKAGES = ("openvino", "onnxruntime", "nncf", "interpretdl", "paddlex", "torch")  # whose versions a record names


def take_turn(call, calls, seconds, warmup):
    """Seconds of at least ``calls`` calls that take at least ``seconds`` together, after ``warmup`` untimed ones."""
    for _ in range(warmup):
        call()
    values = []
    while len(values) < calls or sum(values) < seconds:
        start = time.perf_counter()
        call()
        values.append(time.perf_counter() - start)
    return values


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    script, function, arguments = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    sys.path[0] = str(script.parent)
    call = getattr(importlib.import_module(script.stem), function)(**arguments)
    versions = {name: getattr(sys.modules[name], "__version__", "") for name in PACKAGES if name in sys.modules}
    print(json.dumps({"facts": hasattr(call, "facts"), "versions": versions}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = call.facts() if request == "facts" else call() if request == "result" else take_turn(call, **request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
