"""Memory of a training on a folder whose decoded pictures are ten times the bound of the cache.

    OMP_NUM_THREADS=2 python tests/soak/folder_memory.py --data PHOTOS

PHOTOS has train/ and validation/. Its pictures stand in a temporary folder under as many names as it takes (hard links,
or copies where the disk has none). Writes work/results/folder_memory.json: bytes that the process holds, every second
of one epoch; fails where they grow once the cache is full.
"""
import argparse
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from long_run import resident

from paddle_fasternet import TrainConfig, fit, load_dataset
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import machine
from paddle_fasternet.data.folder import CACHE_MB
from paddle_fasternet.model import VARIANTS

SIZE, TIMES = 128, 10
SMALL = dict(embed_dim=16, depths=(1, 1, 1, 1), feature_dim=64)  # so that the pictures take the time
MOST_GROWTH = 30e6  # bytes after the cache is full; a batch and those prepared ahead take a part of it


def repeat(images, folder, count):
    """``count`` names in ``folder`` for the pictures of an ``ImageFolder``."""
    for number in range(count):
        file = Path(images.files[number % len(images)])
        to = Path(folder, images.class_names[images.labels[number % len(images)]], f"{number}{file.suffix}")
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, to)
        except OSError:
            shutil.copy(file, to)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--times", type=float, default=TIMES, help="the bound of the cache (default: %(default)s)")
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    out = make_folder("out", options.out)
    images, test = load_dataset(options.data)
    decoded = images.sizes.prod(axis=1).mean() * 3
    count = int(options.times * CACHE_MB * 2**20 / decoded)
    with tempfile.TemporaryDirectory(dir=out) as root:  # on the disk of the record: hard links do not leave theirs
        repeat(images, Path(root, "train"), count)
        repeat(test, Path(root, "validation"), len(test))
        train, test = load_dataset(root)
        config = TrainConfig(epochs=1, batch_size=64, image_size=SIZE, patch_size=4, augment="crop,flip")
        VARIANTS["fasternet_t0"] = SMALL
        held, cached, over = [], [], threading.Event()

        def watch():
            while not over.wait(1):
                held.append(resident())
                cached.append(train.cache.used)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        fit(config, train, test[:64], Path(root, "run"), progress=False)
        over.set()
        watcher.join()
    full = next(i for i, used in enumerate(cached) if used > 0.999 * CACHE_MB * 2**20)
    growth = float(np.median(held[-10:]) - np.median(held[full:full + 10]))
    print(f"{count} pictures, {count * decoded / 2**30:.1f} GiB decoded; the cache of {CACHE_MB} MiB is full after "
          f"{full} of {len(held)} s; from there {growth / 1e6:+.1f} MB")
    write_json(out / "folder_memory.json", {
        "command": "OMP_NUM_THREADS=2 python tests/soak/folder_memory.py --data PHOTOS", "machine": machine(),
        "pictures": count, "decoded_bytes": round(count * decoded), "cache_bytes": CACHE_MB * 2**20,
        "config": config.to_dict(), "bytes_every_second": held, "cached_every_second": cached,
        "cache_full_after_seconds": full, "growth_after": growth})
    if growth > MOST_GROWTH:
        sys.exit("memory grows")


if __name__ == "__main__":
    main()
