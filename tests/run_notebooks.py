"""Run the notebooks from top to bottom, without a browser.

    python tests/run_notebooks.py                    # all, in quick mode, into a temporary folder; changes nothing
    python tests/run_notebooks.py Compare --keep DIR # one of them, and the executed notebook stays in DIR
    python tests/run_notebooks.py --full FasterNet   # as it stands, and its outputs are written into notebooks/

Quick mode is what `make notebooks` runs: it takes the embedded digits and fails where a notebook fails, writes to
stderr, leaves no picture, or needs more than --limit seconds. In full a notebook takes CIFAR-10 and its own settings,
and trains what is not trained yet; work/results/mixers.json and mixers.png come from Compare.
"""
import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from paddle_fasternet._files import write_json

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ("FasterNet", "DWConv", "Compare", "Operators", "Explain", "Deploy", "MyPictures", "Detect")
OWN_DATA = ("MyPictures", "Detect")  # notebooks whose data is no known set
RESULTS = {"Compare": ("mixers.json", "mixers.png")}  # what becomes a record, out of work/notebooks/mixers
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(name, target, parameters, cell_seconds=None):
    """Run a notebook in its own folder; returns it with its outputs, and a list of what ended it early."""
    import nbformat
    import papermill
    from nbclient.exceptions import CellControlSignal  # the kernel died, or a cell took too long
    from papermill.exceptions import PapermillExecutionError
    failed = []
    try:
        papermill.execute_notebook(ROOT / "notebooks" / f"{name}.ipynb", target, parameters, cwd=ROOT / "notebooks",
                                   kernel_name="python3", progress_bar=False, execution_timeout=cell_seconds)
    except (PapermillExecutionError, CellControlSignal) as error:
        failed = [f"it failed: {str(error).strip()}"]
    return nbformat.read(target, as_version=4), failed


def outputs(notebook):
    """(number of the cell, output) of all that a notebook, or its JSON, shows."""
    return [(number, output) for number, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"
            for output in cell["outputs"]]


def complaints(notebook):
    """What is wrong with an executed notebook, in sentences."""
    found = [f"cell {number} wrote to stderr: {''.join(output['text']).strip()}" for number, output in outputs(notebook)
             if output.get("name") == "stderr"]
    if not any("image/png" in output.get("data", {}) for _, output in outputs(notebook)):
        found.append("it left no picture")
    return found


def tidy(notebook):
    """Take out what only the run knows: papermill's notes, and the progress bars, dead without a kernel."""
    notebook["metadata"] = {key: notebook["metadata"][key] for key in ("kernelspec", "language_info")}
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
    return notebook


def run_quick(name, folder, data, limit):
    """Returns the complaints about one notebook, and prints how long it took."""
    start = time.perf_counter()
    parameters = {"quick": True, "out_dir": str(folder / name.lower())}
    if name not in OWN_DATA:
        parameters["data"] = data
    notebook, failed = execute(name, folder / f"{name}.ipynb", parameters, cell_seconds=round(limit))
    found = failed or complaints(notebook)
    seconds = time.perf_counter() - start
    if seconds > limit:
        found.append(f"it took {seconds:.0f} s, more than {limit:.0f}")
    print(f"{name:10} {seconds:5.1f} s  {'failed' if found else 'passed'}", flush=True)
    return [f"{name}: {text}" for text in found]


def run_full(name):
    """Execute a notebook as it stands and write its outputs into it, and its records into work/results."""
    import nbformat
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        notebook, failed = execute(name, Path(folder) / f"{name}.ipynb", {})
    found = failed or complaints(notebook)
    if found:
        return [f"{name}: {text}; notebooks/{name}.ipynb stays as it was" for text in found]
    nbformat.write(tidy(notebook), ROOT / "notebooks" / f"{name}.ipynb")
    for file in RESULTS.get(name, ()):
        source, target = (ROOT / "work" / folder / file for folder in ("notebooks/mixers", "results"))
        if source.suffix == ".json":
            content = json.loads(source.read_text(encoding="utf-8"))
            write_json(target, {"command": f"python tests/run_notebooks.py --full {name}", **content})
        else:
            shutil.copy(source, target)
    print(f"{name:10} {time.perf_counter() - start:7.1f} s  written into notebooks/", flush=True)
    return []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NOTEBOOKS)}; none: all")
    parser.add_argument("--full", action="store_true", help="as they stand; writes their outputs into notebooks/")
    parser.add_argument("--data", default="digits", help="data set of quick mode (default: %(default)s)")
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="where quick mode leaves what it ran")
    parser.add_argument("--limit", type=float, default=180, metavar="SECONDS",
                        help="the most that a notebook may need in quick mode: twice 90, since others may use "
                             "the machine (default: %(default)s)")
    options = parser.parse_args()
    for name in options.names:
        if name not in NOTEBOOKS:
            parser.error(f"there is no notebook {name!r}; choose from: {', '.join(NOTEBOOKS)}")
    try:
        import papermill  # noqa: F401
    except ImportError as error:
        parser.error(f'running notebooks needs papermill: pip install -e ".[notebooks]" ({error})')
    names, found = options.names or NOTEBOOKS, []
    if options.full:
        found = [text for name in names for text in run_full(name)]
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.keep or Path(temporary)).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            found = [text for name in names for text in run_quick(name, folder, options.data, options.limit)]
    print("\n".join(found), file=sys.stderr) if found else print("all passed")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
