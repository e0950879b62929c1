"""Our loader against paddle.vision.transforms with DataLoader, side by side in one run.

    python benchmarks/data_pipeline.py [--data-file CIFAR10.tar.gz] [--out work/results]

Writes data_pipeline.json (images/s: median and quartiles of epochs in turn, each contender in a process of its own;
statistics of both outputs) and data_pipeline.png (images of both).

Speed is held against Paddle's OpenCV backend, its faster one. The statistics are held against its PIL backend, its
default: the OpenCV one (Paddle 2.6 and 3.3) draws a saturation factor twice, so that ColorJitter(saturation=0.2) acts
like 1.0, and takes 74 for every image's mean in the contrast.
"""
import numpy as np
import paddle
import paddle.vision.transforms as T
from PIL import Image
from turns import Contender, Record, chosen, in_turn, options, prepare

from paddle_fasternet import plots
from paddle_fasternet.data import PRESETS, Augment, Loader, load_dataset

BATCH, SIZE = 128, 224
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


def few_images(given):
    """(images of an epoch at 224 pixels, of one at 32 pixels)."""
    train, _ = load_dataset("digits") if given["quick"] else load_dataset("auto", given["data_file"])
    return train[:BATCH if given["quick"] else 6 * BATCH], train[:256 if given["quick"] else 20480]


def loader(images, augment, size, batch=BATCH):
    augment = Augment(augment, size, images.mean, images.std, len(images.class_names))
    return Loader(images, batch, augment, shuffle=True, drop_last=True)


def paddle_loader(images, backend):
    return paddle.io.DataLoader(TransformedImages(images, backend), batch_size=BATCH, shuffle=True, drop_last=True,
                                num_workers=2)


def epoch(way, given):
    """Contender: one epoch, from asking for the first batch to having the last."""
    batches = WAYS[way](*few_images(given))

    def call():
        for _ in batches:
            pass

    return call


WAYS = {  # name: (images at 224, images at 32) -> what gives batches
    "ours, 32 px, flip, shift, normalise": lambda _, many: loader(many, "standard", 32, 256),
    "ours, 224 px, notebook preset": lambda few, _: loader(few, PRESETS["notebook"], SIZE),
    "ours, 224 px, notebook preset without mixup": lambda few, _: loader(few, WITHOUT_MIXUP, SIZE),
    "paddle.vision.transforms (OpenCV) and DataLoader(num_workers=2), 224 px": lambda few, _: paddle_loader(few, "cv2"),
    "paddle.vision.transforms (PIL) and DataLoader(num_workers=2), 224 px": lambda few, _: paddle_loader(few, "pil"),
}


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
    parser = options(__doc__, data=True)
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", help="of the part about speed")
    given = prepare(parser)
    names = chosen(parser, given.only, list(WAYS))
    data = {"quick": given.quick, "data_file": given.data_file}
    few, many = few_images(data)  # before anything is measured
    record = Record(given.out, "data_pipeline", data=few.source, batch_size=BATCH, turns=given.pace["turns"])
    images = {name: len(many) // 256 * 256 if "32 px" in name else len(few) for name in names}
    measured = in_turn({name: Contender(epoch, images[name], dict(way=name, given=data)) for name in names},
                       given.pace["turns"], calls=1, seconds=0, warmup=0)
    rows = record.add("rows", measured)
    rates = {row["contender"]: {"images_per_second": round(row["images_per_second"]),
                                "quartiles": [round(row["images"] / row[key]) for key in ("high", "low")]}
             for row in rows}
    record.put(rates=rates)
    _, ours, unmixed, opencv, pil = WAYS
    if {ours, opencv} <= set(rates):
        ratio = rates[ours]["images_per_second"] / rates[opencv]["images_per_second"]
        record.put(ratio_at_224=round(ratio, 2))
        print(f"at 224 px ours is {ratio:.1f} times as fast as Paddle's OpenCV way (ratio of the medians)")

    their_figures, their_images = statistics(WAYS[pil](few, many), 1 if given.quick else 10)
    our_figures, our_images = statistics(WAYS[unmixed](few, many), 1 if given.quick else 10)
    for key in their_figures:
        print(f"{key:26s} ours {our_figures[key]:10.4f}   theirs {their_figures[key]:10.4f}")
    low, high = np.percentile(their_images, (0.5, 99.5))
    shown = np.concatenate([our_images[:16], their_images[:16]])
    plots.save_figure(given.out / "data_pipeline.png", plots.show_images,
                      np.clip((shown - low) / (high - low), 0, 1), 4, 8, gt=["ours"] * 16 + ["paddle.vision"] * 16,
                      scale=0.9)
    record.finish(statistics={"ours": our_figures, "paddle.vision (PIL)": their_figures})


if __name__ == "__main__":
    main()
