"""The file that ``paddle-fasternet predict --out`` writes."""
import csv
import io

from .._check import check_choice, check_path
from .._files import make_folder, replacing, write_json

ENDINGS = (".csv", ".json")


def check_answers(out):
    """``out`` as a Path that can be written, or None; raises before anything is computed."""
    if out is None:
        return None
    path = check_path("out", out)
    check_choice("ending of out", path.suffix.lower(), ENDINGS)
    make_folder("out", path.parent)
    return path


def write_answers(path, files, answers):
    """Write what ``Predictor.classify`` gave for each file, as CSV or as JSON.

    CSV: a line for each file, "file", then "class 1", "probability 1" and so on; UTF-8 with a mark that spreadsheets
    look for. JSON: a list of {"file": ..., "classes": [{"name": ..., "probability": ...}, ...]}.
    """
    if path.suffix.lower() == ".json":
        content = [{"file": str(file), "classes": [{"name": name, "probability": probability}
                                                   for name, probability in answer]}
                   for file, answer in zip(files, answers)]
        write_json(path, content)
        return
    table, count = io.StringIO(newline=""), max(map(len, answers), default=0)
    writer = csv.writer(table)
    writer.writerow(["file", *(f"{what} {i + 1}" for i in range(count) for what in ("class", "probability"))])
    writer.writerows([str(file), *(value for name, probability in answer for value in (name, f"{probability:.6f}"))]
                     for file, answer in zip(files, answers))
    with replacing(path) as file:
        file.write(table.getvalue().encode("utf-8-sig", "backslashreplace"))
