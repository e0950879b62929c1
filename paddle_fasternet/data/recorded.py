"""What a run writes down of the pictures in folders that it was trained on, and finding them again."""
import dataclasses
import hashlib
import os
import sys
from pathlib import Path

from .folder import base_of
from .layout import build, list_pictures


def describe_files(train, val):
    """Entries of a run's ``data`` for two sets: where they lie, and a digest of their file names; {} in memory."""
    found = {"train_from": train.record(), "val_from": val.record()}
    if not all(found.values()):
        return {}
    return {**found, "train_files": _digest(train.names), "val_files": _digest(val.names)}


def _digest(names):
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def is_recorded(data, folder=None):
    """Whether a run's ``data`` says where its pictures lie; with ``folder`` whether they seem to lie there."""
    record = data.get("val_from")
    if not record or folder is None:
        return bool(record)
    if record["part"] != "listed":
        return bool(record["inside"]) and Path(folder, record["inside"]).exists()
    base = base_of(folder, record["inside"])
    return sum((base / name).is_file() for name in record["files"]) * 2 >= len(record["files"])


def load_recorded(data, folder=None, parts=("train", "val")):
    """The sets that a run was trained and evaluated on, out of its ``data``.

    Args:
        data: of a ``Run``.
        folder: where the pictures are now; None: where they were.
        parts: which of the two to read.

    Pictures that the run was evaluated on are so again; where the split chose them by name, those that came later count
    as pictures of training. What differs is said in one line.

    Raises:
        FileNotFoundError: the folder is not there; says how to name another.
        ValueError: it has no picture of the run, or classes that the run does not know.
    """
    records, names = {part: data[f"{part}_from"] for part in ("train", "val")}, tuple(data["class_names"])
    listings = {}
    for part in parts:
        record = records[part]
        root = Path(folder or record["folder"]).expanduser()
        if not (root / record["inside"]).exists() and not root.is_file():
            raise FileNotFoundError(f"{root / record['inside']}: the pictures of the run are no longer there; name "
                                    "their folder with --data")
        listing = list_pictures(root, record["inside"], names)
        base, wanted = base_of(root, record["inside"]), record.get("files")
        relative = [Path(os.path.relpath(file, base)).as_posix() for file in listing.files]
        left_out = set(records["val"].get("files", ())) if record["part"] == "rest" else ()
        chosen = [i for i, name in enumerate(relative) if name not in left_out]
        if wanted is not None:
            number = {name: i for i, name in enumerate(relative)}
            chosen = [number[name] for name in wanted if name in number]
            missing = [name for name in wanted if name not in number]
            if not chosen:
                raise ValueError(f"{root} has none of the {len(wanted)} pictures of the run, such as {wanted[0]}; name "
                                 "their folder with --data")
            if missing:
                print(f"{root}: {len(missing)} of {len(wanted)} pictures of the run are no longer there, such as "
                      f"{missing[0]}", file=sys.stderr)
        elif len(chosen) != data[f"{part}_images"]:
            what = "training" if part == "train" else "evaluation"
            print(f"{root / record['inside']}: {len(chosen):,} pictures for {what}; when the run began there were "
                  f"{data[f'{part}_images']:,}", file=sys.stderr)
        listings[part] = dataclasses.replace(listing, files=[listing.files[i] for i in chosen],
                                             labels=[listing.labels[i] for i in chosen], part=record["part"])
    return build(list(listings.values()))
