"""Our loader of picture files against paddle.vision.datasets.DatasetFolder with DataLoader, in turn.

    python benchmarks/folder_loader.py [--data FOLDER_OR_TAR] [--out work/results]

Writes folder_loader.json: images/s from JPEG files to normalised batches of 224 pixels, median and quartiles of epochs
in turn, each contender in a process of its own. All have two workers and the same transforms: random resized crop,
flip, normalisation. "decoding alone" is OpenCV's JPEG decoder in two threads on the same files, the limit of every
loader that decodes with it; the share of decoding is our rate without a cache over that limit.
"""
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from turns import Contender, Record, in_turn, options, prepare

from paddle_fasternet.data import Augment, Loader, load_dataset

ARCHIVE = Path(__file__).resolve().parents[2] / "shared" / "data" / "clothing-photos.tar"
BATCH, SIZE, WORKERS = 64, 224, 2


def epoch(batches):
    """The function that is timed: one pass over the batches."""
    def call():
        for _ in batches:
            pass
    return call


def ours(folder, cache_mb):
    train = load_dataset(folder)[0]
    train.cache.megabytes = cache_mb
    return epoch(Loader(train, BATCH, Augment("crop,flip", SIZE, train.mean, train.std), shuffle=True,
                        workers=WORKERS))


def theirs(folder, backend):
    import paddle
    import paddle.vision.transforms as T
    train = load_dataset(folder)[0]
    paddle.vision.set_image_backend(backend)
    transform = T.Compose([T.RandomResizedCrop(SIZE), T.RandomHorizontalFlip(), T.Transpose(),
                           T.Normalize(list(train.mean), list(train.std), data_format="CHW")])
    images = paddle.vision.datasets.DatasetFolder(str(Path(train.root, train.inside)), transform=transform)
    return epoch(paddle.io.DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=WORKERS))


def decoding(folder):
    cv2.setNumThreads(1)
    files = load_dataset(folder)[0].files

    def call():
        with ThreadPoolExecutor(WORKERS) as pool:
            for _ in pool.map(lambda file: cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR), files):
                pass
    return call


def draw_pictures(folder):
    """A few JPEG files in two classes, for a quick run."""
    rng = np.random.default_rng(0)
    for part, count in (("train", BATCH), ("val", 4)):
        for i in range(count):
            path = Path(folder, part, "ab"[i % 2], f"{i}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.resize(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), (320, 240)))
    return folder


def main():
    parser = options(__doc__, turns=7)
    parser.add_argument("--data", default=str(ARCHIVE), help="folder of JPEG pictures, or a tar archive of one")
    given = prepare(parser)
    if not (given.quick or Path(given.data).exists()):
        parser.error(f"--data {given.data}: there is no such folder or archive")
    with tempfile.TemporaryDirectory() as folder:
        if given.quick:
            draw_pictures(folder)
        elif Path(given.data).is_file():
            with tarfile.open(given.data) as tar:
                tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        else:
            folder = given.data
        train = load_dataset(folder)[0]
        record = Record(given.out, "folder_loader", pictures=len(train), batch_size=BATCH, image_size=SIZE,
                        workers=WORKERS, median_height_and_width=np.median(train.sizes, axis=0).tolist())
        contenders = {
            "ours, decoded every time": Contender(ours, len(train), {"folder": folder, "cache_mb": 0}),
            "ours, decoded pictures in the cache": Contender(ours, len(train), {"folder": folder, "cache_mb": 4096}),
            "DatasetFolder (PIL)": Contender(theirs, len(train), {"folder": folder, "backend": "pil"}),
            "DatasetFolder (OpenCV)": Contender(theirs, len(train), {"folder": folder, "backend": "cv2"}),
            "decoding alone": Contender(decoding, len(train), {"folder": folder}),
        }
        measured = in_turn(contenders, **{**given.pace, "calls": 1, "seconds": 0.0})
        record.add("rates", measured)
    rates = {name: timing.images_per_second for name, timing in measured.timings.items()}
    own = rates["ours, decoded every time"]
    found = {"over_pil": own / rates["DatasetFolder (PIL)"], "over_opencv": own / rates["DatasetFolder (OpenCV)"],
             "share_of_decoding": own / rates["decoding alone"]}
    record.finish(**{name: round(value, 2) for name, value in found.items()})
    print(f"ours is {found['over_pil']:.2f} times as fast as DatasetFolder with PIL, {found['over_opencv']:.2f} times "
          f"with OpenCV; decoding is {found['share_of_decoding']:.0%} of our time")


if __name__ == "__main__":
    main()
