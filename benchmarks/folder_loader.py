"""Our loader of picture files against paddle.vision.datasets.DatasetFolder with DataLoader, in turn.

    python benchmarks/folder_loader.py [--data FOLDER_OR_TAR] [--quick] [--out work/results]

Writes folder_loader.json: images/s from JPEG files to normalised batches of 224 pixels, median and quartiles. Each
contender runs in a process of its own, with two workers and the same transforms: random resized crop, flip,
normalisation. "decoding alone" is OpenCV's JPEG decoder in two threads on the same files, the limit of every loader
that decodes with it; the share of decoding is our rate without a cache over that limit.
"""
import argparse
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import machine
from paddle_fasternet.data import Augment, Loader, load_dataset

ARCHIVE = Path(__file__).resolve().parents[2] / "shared" / "data" / "clothing-photos.tar"
BATCH, SIZE, WORKERS, REPEATS = 64, 224, 2, 7
CONTENDERS = {
    "ours": "paddle_fasternet, decoded every time",
    "cached": "paddle_fasternet, decoded pictures in the cache",
    "pil": "DatasetFolder (PIL) and DataLoader(num_workers=2)",
    "cv2": "DatasetFolder (OpenCV) and DataLoader(num_workers=2)",
    "decoding": "decoding alone, two threads",
}


def ours(folder, cache_mb):
    train = load_dataset(folder)[0]
    train.cache.megabytes = cache_mb
    return Loader(train, BATCH, Augment("crop,flip", SIZE, train.mean, train.std), shuffle=True, drop_last=True,
                  workers=WORKERS)


def theirs(folder, backend):
    import paddle
    import paddle.vision.transforms as T
    train = load_dataset(folder)[0]
    paddle.vision.set_image_backend(backend)
    transform = T.Compose([T.RandomResizedCrop(SIZE), T.RandomHorizontalFlip(), T.Transpose(),
                           T.Normalize(list(train.mean), list(train.std), data_format="CHW")])
    images = paddle.vision.datasets.DatasetFolder(str(Path(train.root, train.inside)), transform=transform)
    return paddle.io.DataLoader(images, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=WORKERS)


class Decoding:
    """Decode every file and give its batch's length."""

    def __init__(self, folder):
        import cv2
        cv2.setNumThreads(1)
        self.files = load_dataset(folder)[0].files

    def __iter__(self):
        import cv2
        with ThreadPoolExecutor(WORKERS) as pool:
            for picture in pool.map(lambda file: cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR),
                                    self.files):
                yield picture[None], None


def serve(name, folder):
    """For each line of stdin: one pass over the files, answered by "images seconds"."""
    batches = {"ours": lambda: ours(folder, 0), "cached": lambda: ours(folder, 4096), "decoding": lambda:
               Decoding(folder), "pil": lambda: theirs(folder, "pil"), "cv2": lambda: theirs(folder, "cv2")}[name]()
    print("ready", flush=True)
    for _ in sys.stdin:
        start, images = time.perf_counter(), 0
        for x, _ in batches:
            images += len(x)
        print(images, time.perf_counter() - start, flush=True)


class Contender:
    """One of ``CONTENDERS`` in a process of its own."""

    def __init__(self, name, folder):
        self._process = subprocess.Popen([sys.executable, "-W", "ignore", __file__, "--serve", name, "--data", folder],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                         text=True)
        if self._process.stdout.readline().strip() != "ready":
            raise OSError(f"{name} does not run; see python {__file__} --serve {name} --data {folder}")

    def rate(self):
        """Images/s of one pass."""
        print(flush=True, file=self._process.stdin)
        images, seconds = map(float, self._process.stdout.readline().split())
        return images / seconds

    def close(self):
        self._process.communicate()


def quick_folder(folder):
    """A few small JPEG files in two classes."""
    from PIL import Image
    rng = np.random.default_rng(0)
    for part, count in (("train", 3 * BATCH), ("val", 4)):
        for i in range(count):
            path = Path(folder, part, "ab"[i % 2], f"{i}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((320, 240)).save(path)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(ARCHIVE), help="folder of JPEG pictures, or a tar archive of one")
    parser.add_argument("--quick", action="store_true", help="try every step, on a few pictures that are drawn")
    parser.add_argument("--out", default="work/results")
    parser.add_argument("--serve", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.data)
    out = make_folder("out", options.out)
    with tempfile.TemporaryDirectory() as folder:
        if options.quick:
            folder = quick_folder(folder)
        elif Path(options.data).is_file():
            with tarfile.open(options.data) as tar:
                tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        else:
            folder = options.data
        pictures, contenders = load_dataset(folder)[0], {name: Contender(name, folder) for name in CONTENDERS}
        rates = {name: [] for name in CONTENDERS}
        for turn in range(-1, 1 if options.quick else REPEATS):
            for name, contender in contenders.items():
                rate = contender.rate()
                if turn >= 0:
                    rates[name].append(rate)
        for contender in contenders.values():
            contender.close()
    rows = {}
    for name, values in rates.items():
        low, median, high = np.percentile(values, (25, 50, 75))
        rows[name] = {"contender": CONTENDERS[name], "images_per_second": round(median, 1),
                      "quartiles": [round(low, 1), round(high, 1)]}
        print(f"{median:9,.0f} images/s  ({low:,.0f} to {high:,.0f})  {CONTENDERS[name]}")
    medians = {name: np.median(values) for name, values in rates.items()}
    record = {"command": "python benchmarks/folder_loader.py" + " --quick" * options.quick, "machine": machine(),
              "pictures": len(pictures), "median_size": np.median(pictures.sizes, axis=0).tolist(),
              "batch_size": BATCH, "image_size": SIZE, "workers": WORKERS, "repeats": len(rates["ours"]), "rates": rows,
              "ours_over_pil": round(medians["ours"] / medians["pil"], 2),
              "ours_over_cv2": round(medians["ours"] / medians["cv2"], 2),
              "share_of_decoding": round(medians["ours"] / medians["decoding"], 2)}
    print(f"ours is {record['ours_over_pil']} times as fast as DatasetFolder with PIL, {record['ours_over_cv2']} times "
          f"with OpenCV; decoding is {record['share_of_decoding']:.0%} of our time")
    write_json(out / "folder_loader.json", record)


if __name__ == "__main__":
    main()
