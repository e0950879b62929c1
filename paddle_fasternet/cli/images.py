"""``paddle-fasternet predict | explain``."""
import os
import sys
from pathlib import Path

import numpy as np

from .. import plots
from .._check import check_choice, check_number
from .._files import make_folder
from ..data import read_image
from ..data.augment import resize
from ..data.scan import pictures
from ..deploy import Predictor
from ..explain import METHODS, LimeExplainer, plot_explanations
from ..training import load_run
from .answers import check_answers, write_answers
from .options import add_engine, add_run, find_run, open_predictor


def add_commands(add):
    """Describe the commands of this module to the parser."""
    predict = add("predict", _predict, "Name what is in image files.",
                  "Files that cannot be read are named and left out; the exit status is then 1.")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    add_run(predict)
    add_engine(predict)
    predict.add_argument("--out", default=None, metavar="FILE", help="write the answers to this file, .csv or .json, "
                                                                     "instead of showing them")
    predict.add_argument("--top", type=int, default=3, help="how many classes to print (default: %(default)s)")

    explanation = add("explain", _explain, "Draw what in an image speaks for a class, and what against it.")
    explanation.add_argument("image", metavar="IMAGE", help="an image file; its central square is taken")
    add_run(explanation)
    explanation.add_argument("--out", default="explanation.png", help="picture to write: .png, .jpg, .pdf, .svg; with "
                                                                      "lime also .npz, all numbers (default: "
                                                                      "%(default)s)")
    explanation.add_argument("--label", default=None, help="name or number of the class; default: the likeliest")
    explanation.add_argument("--method", default="lime", help=f"one of {', '.join(METHODS)}, or all, side by side "
                                                              "(default: %(default)s)")
    explanation.add_argument("--samples", type=int, default=1000, help="images with hidden parts that lime tries "
                                                                       "(default: %(default)s)")
    explanation.add_argument("--seed", type=int, default=0, help="equal seeds give equal explanations (default: "
                                                                 "%(default)s)")


def _predict(options):
    top = check_number("top", options.top, low=1, integer=True)
    out = check_answers(options.out)
    predictor = open_predictor(options, find_run(options))
    files = [file for image in options.images for file in _files(image)]
    failed = []

    def tell(number, error):
        failed.append(number)
        print(f"paddle-fasternet predict: {error}", file=sys.stderr)

    answers = predictor.classify(files, top, progress=len(files) > 32, on_error=tell)
    if out:
        write_answers(out, files, answers)
        print(f"{len(files) - len(failed):,} images classified; written to {out}")
    else:
        for file, answer in zip(files, answers):
            shown = file.encode("utf-8", "backslashreplace").decode()  # a name may be no UTF-8
            if answer:
                print(f"{shown}: " + ", ".join(f"{name} {probability:.1%}" for name, probability in answer))
    return 1 if failed else 0


def _files(image):
    """The pictures in a folder and below it; a file itself."""
    if not os.path.isdir(image):
        return [image]
    found = pictures(image)
    if not found:
        raise ValueError(f"{image}: there are no pictures in this folder")
    return found


def _explain(options):
    out = Path(options.out).expanduser()
    check_choice("method", options.method, (*METHODS, "all"))
    endings = (*plots.PICTURES, ".npz") if options.method == "lime" else plots.PICTURES
    check_choice("ending of out", out.suffix.lower(), endings)
    samples = check_number("samples", options.samples, low=1, integer=True)
    seed = check_number("seed", options.seed, low=0, high=2**31, integer=True)
    make_folder("out", out.parent)
    run = load_run(options.run, options.which)
    label = None
    if options.label is not None:
        check_choice("label", options.label, [*run.class_names, *map(str, range(len(run.class_names)))])
        label = run.class_names.index(options.label) if options.label in run.class_names else int(options.label)
    image = resize(read_image(options.image)[None].astype(np.float32), run.config.image_size)
    image = image[0].round().astype(np.uint8)  # [3, S, S], what the network sees
    if options.method == "lime":
        found = LimeExplainer(Predictor(run), seed=seed).explain(image, label, num_samples=samples)
        found.save(out)
        print(f"{options.image}: {found.name()} {found.prediction[found.labels[0]]:.1%}; R² {found.r2[0]:.2f} over "
              f"{found.num_samples:,} samples; written to {out}")
    else:
        methods = METHODS if options.method == "all" else [options.method]
        plots.save_figure(out, plot_explanations, run.model, image, run.preprocess.mean, run.preprocess.std, label,
                          run.class_names, methods=methods, num_samples=samples, seed=seed)
        print(f"{options.image}: {', '.join(METHODS[method] for method in methods)}; written to {out}")
