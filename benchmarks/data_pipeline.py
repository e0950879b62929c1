"""Our loader against paddle.vision.transforms with DataLoader, side by side in one run.

    python benchmarks/data_pipeline.py [--data-file CIFAR10.tar.gz] [--out work/results]

Writes data_pipeline.json (images/s: median and quartiles of contenders measured in turn; statistics of both outputs)
and data_pipeline.png (images of both).

Speed is held against Paddle's OpenCV backend, its faster one. The statistics are held against its PIL backend, its
default: the OpenCV one (Paddle 2.6 and 3.3) draws a saturation factor twice, so that ColorJitter(saturation=0.2) acts
like 1.0, and takes 74 for every image's mean in the contrast.
"""
import argparse
import time

import numpy as np
import paddle
import paddle.vision.transforms as T
from PIL import Image

from paddle_fasternet import plots
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import machine
from paddle_fasternet.data import PRESETS, Augment, Loader, load_dataset

BATCH, SIZE, REPEATS = 128, 224, 5
WITHOUT_MIXUP = "crop=0.08,jitter=0.2,flip=0.5,rotate=20"  # the 2023 notebook's MixupImage did nothing


class TransformedImages(paddle.io.Dataset):
    """What the 2023 notebook had: one image at a time through a list of transforms."""

    def __init__(self, images, backend):
        mean, std = list(images.mean), list(images.std)
        self.pixels = list(images.images.transpose(0, 2, 3, 1).copy())
        if backend == "pil":
            self.pixels = [Image.fromarray(pixels) for pixels in self.pixels]
        self.labels = images.labels
        self.transform = T.Compose([
            T.RandomResizedCrop(SIZE), T.ColorJitter(0.2, 0.2, 0.2), T.RandomHorizontalFlip(0.5), T.RandomRotation(20),
            T.Transpose(), T.Normalize(mean, std, data_format="CHW")])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.pixels[index]), self.labels[index]


def seconds(batches):
    """Time from asking for the first batch to having the last, and the images in them."""
    start, images = time.perf_counter(), 0
    for x, _ in batches:
        images += len(x)
    return (time.perf_counter() - start) / images


def statistics(batches, epochs):
    """Figures of the output over several epochs, with the standard error of the mean, and the last batch."""
    own_mean, own_var = [], []
    for _ in range(epochs):
        for batch, _ in batches:
            x = np.asarray(batch)
            own_mean.append(x.mean((1, 2, 3)))
            own_var.append(x.var((1, 2, 3)))
    own_mean, own_var = np.concatenate(own_mean), np.concatenate(own_var)
    n = len(own_mean)
    figures = {"images": n, "mean": own_mean.mean(), "standard_error_of_mean": own_mean.std() / n**0.5,
               "variance": own_mean.var() + own_var.mean(), "std_of_image_means": own_mean.std(),
               "mean_of_image_variances": own_var.mean(), "std_of_image_variances": own_var.std()}
    return {key: round(float(value), 4) for key, value in figures.items()}, x


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-file", default=None)
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    folder = make_folder("out", options.out)
    train, _ = load_dataset("auto", options.data_file)
    few = train[:6 * BATCH]

    def ours(images, augment, size, batch=BATCH):
        return Loader(images, batch, Augment(augment, size, train.mean, train.std, len(train.class_names)),
                      shuffle=True, drop_last=True)

    def theirs(backend):
        return paddle.io.DataLoader(TransformedImages(few, backend), batch_size=BATCH, shuffle=True, drop_last=True,
                                    num_workers=2)

    contenders = {
        "ours, 32 px, flip, shift, normalise": ours(train[:20480], "standard", 32, 256),
        "ours, 224 px, notebook preset": ours(few, PRESETS["notebook"], SIZE),
        "ours, 224 px, notebook preset without mixup": ours(few, WITHOUT_MIXUP, SIZE),
        "paddle.vision.transforms (OpenCV) and DataLoader(num_workers=2), 224 px": theirs("cv2"),
        "paddle.vision.transforms (PIL) and DataLoader(num_workers=2), 224 px": theirs("pil"),
    }
    times = {name: [] for name in contenders}
    for turn in range(REPEATS + 1):
        for name, batches in contenders.items():
            value = seconds(batches)
            if turn:
                times[name].append(value)
    rates = {}
    for name, values in times.items():
        low, median, high = np.percentile(1 / np.array(values), (25, 50, 75))
        rates[name] = {"images_per_second": round(median), "quartiles": [round(low), round(high)]}
        print(f"{median:10,.0f} images/s  ({low:,.0f} to {high:,.0f})  {name}")
    names = list(contenders)
    ratio = np.median(np.array(times[names[3]]) / np.array(times[names[1]]))
    print(f"at 224 px ours is {ratio:.1f} times as fast as Paddle's OpenCV way (median of the ratios within a turn)")

    their_figures, their_images = statistics(contenders[names[4]], 10)
    our_figures, our_images = statistics(contenders[names[2]], 10)
    for key in their_figures:
        print(f"{key:26s} ours {our_figures[key]:10.4f}   theirs {their_figures[key]:10.4f}")
    low, high = np.percentile(their_images, (0.5, 99.5))
    shown = np.concatenate([our_images[:16], their_images[:16]])
    plots.save_figure(folder / "data_pipeline.png", plots.show_images, np.clip((shown - low) / (high - low), 0, 1),
                      4, 8, gt=["ours"] * 16 + ["paddle.vision"] * 16, scale=0.9)
    write_json(folder / "data_pipeline.json", {
        "command": "python benchmarks/data_pipeline.py", "machine": machine(),
        "data": train.source, "batch_size": BATCH, "repeats": REPEATS, "rates": rates,
        "ratio_at_224": round(float(ratio), 2),
        "statistics": {"ours": our_figures, "paddle.vision (PIL)": their_figures}})
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
