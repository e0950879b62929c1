"""LIME against InterpretDL's, side by side in one run; how true explanations are to the model; how far seeds differ.

    OMP_NUM_THREADS=2 python benchmarks/explain.py --data-file CIFAR10.tar.gz [--out work/results]

Needs InterpretDL (make interpretdl). Writes explain.json and explain.png.

Speed: FasterNet-T0 at 224 x 224, 1,000 samples, the photograph of a cat that scikit-image brings. The weights are the
shipped CIFAR-10 network's, so that the answers are those of a trained network; its stem for 2 x 2 pixels is spread
over 4 x 4, its first merging layer for 1 x 1 over 2 x 2. Every turn explains the image once with each contender,
superpixels included. The time inside the model is that in the predict function, from uint8 images to probabilities; the
next images are made meanwhile.

Faithfulness: the shipped CIFAR-10 network on test images, for the class that it predicts; LIME and Grad-CAM rank the
same superpixels, and random orders of them are the measure. Hidden parts have the mean colour of the image.
"""
import argparse
import contextlib
import io
import resource
import time

import cv2
import numpy as np

from paddle_fasternet import fasternet_t0, load_dataset, load_run, plots
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import machine
from paddle_fasternet.deploy import Predictor, offered
from paddle_fasternet.explain import LimeExplainer, average, grad_cam, measure_faithfulness, random_faithfulness
from paddle_fasternet.explain.predict import LayerPredictor
from paddle_fasternet.plots.explanations import draw_heat
from paddle_fasternet.weights import CIFAR10_RUN

MEAN, STD = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255  # what InterpretDL takes
SHOWN = 6


class Timed:
    """A predict function and the seconds spent in it."""

    def __init__(self, function):
        self.function, self.seconds = function, 0.0

    def __call__(self, images):
        start = time.perf_counter()
        answer = self.function(images)
        self.seconds += time.perf_counter() - start
        return answer


def photograph():
    from skimage import data
    return cv2.resize(data.chelsea()[:, 75:375], (224, 224), interpolation=cv2.INTER_AREA)


def network():
    """T0 as it is, with trained weights, those of smaller patches spread over larger ones."""
    trained = load_run(CIFAR10_RUN, "final").model
    model = fasternet_t0(num_classes=10)
    state = {name: value.numpy() for name, value in trained.state_dict().items()}
    for name in ("patch_embed.proj.weight", "stages.1.reduction.weight"):
        state[name] = state[name].repeat(2, 2).repeat(2, 3) / 4
    missing, unexpected = model.set_state_dict(state)
    assert not missing and not unexpected
    model.eval()
    return model


def distance(one, other):
    """How far two explanations of one class are apart: of the coefficients and of the five largest segments."""
    a, b = one.coefficients[0], other.coefficients[0]
    tops = [{i for i, _ in explanation.top()} for explanation in (one, other)]
    return {"largest_difference_over_largest": float(np.abs(a - b).max() / np.abs(a).max()),
            "correlation": float(np.corrcoef(a, b)[0, 1]), "common_of_top_five": len(tops[0] & tops[1])}


def speed(samples, repeats):
    """Samples a second of every contender, measured in turn; and whether their answers agree."""
    image = photograph()
    model = network()
    engines = [("auto", "fp32")] + [(engine, "bf16") for engine in ("openvino", "native") if "bf16" in offered(engine)]
    functions = {}
    for engine, precision in engines:
        predictor = Predictor(model, engine, precision, image_size=224, mean=MEAN, std=STD)
        functions[f"ours, {predictor.engine} {predictor.precision}"] = Timed(predictor)
    functions["ours, network itself"] = Timed(LayerPredictor(model, MEAN, STD, "eager"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, inside, found = {}, {}, {}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            function.seconds, start = 0.0, time.perf_counter()
            found[name] = LimeExplainer(function, seed=0).explain(image, num_samples=samples, progress=False)
            if turn:
                seconds.setdefault(name, []).append(time.perf_counter() - start)
                inside.setdefault(name, []).append(function.seconds)
        if turn == 0:
            memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            continue
        start = time.perf_counter()
        theirs = interpretdl(model, image, samples)
        seconds.setdefault("InterpretDL 0.8.0", []).append(time.perf_counter() - start)
    rows = {}
    for name, values in seconds.items():
        rate = samples / np.array(values)
        low, median, high = np.percentile(rate, (25, 50, 75))
        rows[name] = {"samples_per_second": round(median, 1), "quartiles": [round(low, 1), round(high, 1)],
                      "times_interpretdl": round(float(np.median(np.array(seconds["InterpretDL 0.8.0"]) / values)), 2)}
        if name in inside:
            shares = 1 - np.array(inside[name]) / values
            top = [i for i, _ in found[name].top()]
            rows[name].update(
                share_outside_model=round(float(np.median(shares)), 4),
                seconds_outside_model=round(float(np.median(np.array(values) - inside[name])), 4), top_five=top,
                same_top_five=set(top) == set(theirs["top_five"]), same_order=top == theirs["top_five"])
            scale = np.abs(theirs["coefficients"]).max()
            rows[name]["largest_difference_over_largest"] = float(
                np.abs(found[name].coefficients[0] - theirs["coefficients"]).max() / scale)
    rows["InterpretDL 0.8.0"]["top_five"] = theirs["top_five"]
    some = next(iter(found.values()))
    other_seed = LimeExplainer(functions[next(iter(found))], seed=1).explain(image, some.labels, num_samples=samples,
                                                                             progress=False)
    return {"samples": samples, "repeats": repeats, "segments": int(some.segments.max()) + 1, "contenders": rows,
            "two_seeds": distance(some, other_seed), "peak_memory_above_start_mb": round(memory, 1)}


def interpretdl(model, image, samples):
    """Its explanation of the likeliest class, its superpixels made anew as ours are."""
    from paddle_fasternet.explain.interpretdl import LIMECVInterpreter
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        weights = LIMECVInterpreter(model, device="cpu", random_seed=0).interpret(image, num_samples=samples,
                                                                                  visual=False)
    pairs, = weights.values()
    return {"top_five": [int(i) for i, _ in pairs[:5]],
            "coefficients": np.array([value for _, value in sorted(pairs)], np.float64)}


def faithfulness(images, samples):
    """Deletion and insertion of LIME, Grad-CAM and random orders; and two seeds of LIME."""
    run = load_run(CIFAR10_RUN, "final")
    predictor = Predictor(run)
    x = run.preprocess(images, None, None)[0]
    curves, seeds, shown = {"LIME": [], "Grad-CAM": [], "random order": []}, [], []
    for number, chw in enumerate(images):
        image = chw.transpose(1, 2, 0)
        first, second = (LimeExplainer(predictor, seed=seed).explain(image, num_samples=samples, progress=False)
                         for seed in (0, 1))
        seeds.append(distance(first, second))
        label, cam = first.labels[0], grad_cam(run.model, x[number:number + 1], first.labels[0])[0]
        options = dict(label=label, segments=first.segments)
        curves["LIME"].append(measure_faithfulness(predictor, image, first.coefficients[0], **options))
        curves["Grad-CAM"].append(measure_faithfulness(predictor, image, cam, **options))
        curves["random order"].append(average(random_faithfulness(predictor, image, seed=number, **options)))
        if number < SHOWN:
            shown.append((image, f"{first.name()}, {first.prediction[label]:.0%}", first.heatmap(), cam))
    areas = {kind: {name: np.array([getattr(one, f"{kind}_area") for one in found]) for name, found in curves.items()}
             for kind in ("deletion", "insertion")}
    figures = {"images": len(images), "samples": samples, "engine": f"{predictor.engine} {predictor.precision}",
               "grad_cam": "last stage, 4 x 4 places at 32 pixels"}
    for kind, found in areas.items():
        sign = 1 if kind == "deletion" else -1
        figures[kind] = {name: mean_and_error(values) for name, values in found.items()}
        figures[f"{kind}_better_than_random"] = {
            name: {**mean_and_error(sign * (found["random order"] - values)),
                   "images": float((sign * (found["random order"] - values) > 0).mean())}
            for name, values in found.items() if name != "random order"}
    figures["two_seeds"] = {key: mean_and_error(np.array([one[key] for one in seeds])) for key in seeds[0]}
    return figures, {name: average(found) for name, found in curves.items()}, shown


def mean_and_error(values):
    stdev = float(values.std(ddof=1))
    return {"mean": round(float(values.mean()), 4), "standard_error": round(stdev / len(values)**0.5, 4),
            "stdev": round(stdev, 4)}


def draw(shown, curves, figure=None):
    """Images with LIME and Grad-CAM above the mean curves."""
    figure.set_size_inches(11, 8.4)
    grid = figure.add_gridspec(4, 2 * SHOWN, height_ratios=(1, 1, 1, 2.1), hspace=0.12, wspace=0.08)
    for column, (image, title, heat, cam) in enumerate(shown):
        axes = [figure.add_subplot(grid[row, 2 * column:2 * column + 2]) for row in range(3)]
        axes[0].imshow(image)
        axes[0].set_title(title, fontsize=10)
        draw_heat(axes[1], image, heat)
        draw_heat(axes[2], image, cam)
        for ax, name in zip(axes, ("image", "LIME", "Grad-CAM")):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if column == 0:
                ax.set_ylabel(name)
    below = figure.add_gridspec(1, 2, top=0.36, bottom=0.02, wspace=0.1)
    plots.plot_faithfulness(curves, axes=[figure.add_subplot(place) for place in below])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-file", default=None)
    parser.add_argument("--out", default="work/results")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    folder = make_folder("out", options.out)
    record = {"command": f"OMP_NUM_THREADS={machine()['threads']} python benchmarks/explain.py --samples "
                         f"{options.samples} --repeats {options.repeats} --images {options.images}",
              "machine": machine()}
    record["speed"] = speed(options.samples, options.repeats)
    for name, row in record["speed"]["contenders"].items():
        print(f"{row['samples_per_second']:8.1f} samples/s  {row['times_interpretdl']:6.2f} times InterpretDL  "
              f"{row.get('share_outside_model', float('nan')):6.1%} outside the model  {name}")
    _, test = load_dataset("cifar10", options.data_file)
    record["data"] = test.source
    record["faithfulness"], curves, shown = faithfulness(test.images[:options.images], options.samples)
    for kind in ("deletion", "insertion", "deletion_better_than_random", "insertion_better_than_random", "two_seeds"):
        print(kind, record["faithfulness"][kind])
    plots.save_figure(folder / "explain.png", draw, shown, curves)
    write_json(folder / "explain.json", record)
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
