"""LIME against InterpretDL's, side by side in one run; how true explanations are to the model; how far seeds differ.

    python benchmarks/explain.py --data-file CIFAR10.tar.gz [--out work/results]

Needs InterpretDL (make interpretdl). Writes explain.json and explain.png.

Speed: FasterNet-T0 at 224 x 224, 1,000 samples, the photograph of a cat that scikit-image brings. The weights are the
shipped CIFAR-10 network's, so that the outputs are those of a trained network; the filters of its overlapping merging
layers are summed into those of T0, which do not overlap. Every contender has a process of its own, and every turn
explains the image once with each, superpixels included. The time inside the model is that in the predict function, from
uint8 images to probabilities; the next images are made meanwhile.

Faithfulness: the shipped CIFAR-10 network on test images, for the class that it predicts; LIME and Grad-CAM rank the
same superpixels, and random orders of them are the measure. Hidden parts have the mean colour of the image.
"""
import contextlib
import io
import resource
import time

import cv2
import numpy as np
from turns import Contender, Record, chosen, in_turn, options, prepare

from paddle_fasternet import fasternet_t0, load_dataset, load_run, plots
from paddle_fasternet.data import ImageSet
from paddle_fasternet.deploy import Predictor, offered
from paddle_fasternet.explain import LimeExplainer, average, grad_cam, measure_faithfulness, random_faithfulness
from paddle_fasternet.explain.predict import LayerPredictor
from paddle_fasternet.plots.explanations import draw_heat
from paddle_fasternet.weights import CIFAR10_RUN

MEAN, STD = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255  # what InterpretDL takes
THEIRS = "InterpretDL 0.8.0"
SHOWN = 6


def photograph():
    from skimage import data
    return cv2.resize(data.chelsea()[:, 75:375], (224, 224), interpolation=cv2.INTER_AREA)


def network():
    """T0 with the shipped network's weights, filters of overlapping patches summed into those of T0."""
    trained = load_run(CIFAR10_RUN, "final").model
    model = fasternet_t0(num_classes=10)
    state = {name: value.numpy() for name, value in trained.state_dict().items()}
    for name, value in model.state_dict().items():
        side = value.shape[-1]
        if value.ndim == 4 and side != state[name].shape[-1]:
            state[name] = shrink(state[name], side)
    missing, unexpected = model.set_state_dict(state)
    assert not missing and not unexpected
    model.eval()
    return model


def shrink(filters, side):
    """Filters [..., k, k] summed into [..., side, side], so that a constant image gives the same."""
    even = -(-filters.shape[-1] // side) * side
    padded = np.pad(filters, [(0, 0), (0, 0), *[(0, even - filters.shape[-1])] * 2])
    return padded.reshape(*filters.shape[:2], side, even // side, side, even // side).sum((3, 5))


class Ours:
    """Contender: one explanation of the photograph by ``LimeExplainer``."""

    def __init__(self, engine, precision, samples):
        self.before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.image, self.samples, self.inside, self.found = photograph(), samples, [], None
        if precision:
            self.predict = Predictor(network(), engine, precision, image_size=224, mean=MEAN, std=STD)
            self.engine = f"{self.predict.engine} {self.predict.precision}"
        else:
            self.predict, self.engine = LayerPredictor(network(), MEAN, STD, "eager"), "the network itself"

    def _timed(self, images):
        start = time.perf_counter()
        found = self.predict(images)
        self.inside[-1] += time.perf_counter() - start
        return found

    def explain(self, labels=None, seed=0):
        return LimeExplainer(self._timed, seed=seed).explain(self.image, labels, num_samples=self.samples,
                                                             progress=False)

    def __call__(self):
        self.inside.append(0.0)
        self.found = self.explain()

    def facts(self):
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.before) / 1024
        inside = list(self.inside)
        return {"engine": self.engine, "inside": inside, "coefficients": self.found.coefficients[0].tolist(),
                "top_five": [int(i) for i, _ in self.found.top()], "segments": int(self.found.segments.max()) + 1,
                "peak_memory_above_start_mb": round(memory, 1),
                "two_seeds": distance(self.found, self.explain(self.found.labels, seed=1))}


class InterpretDL:
    """Contender: InterpretDL's explanation of the likeliest class, its superpixels made in every call, as ours are."""

    def __init__(self, samples):
        from paddle_fasternet.explain.interpretdl import LIMECVInterpreter
        self.interpreter = LIMECVInterpreter
        self.model, self.image, self.samples, self.weights = network(), photograph(), samples, None

    def __call__(self):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.weights = self.interpreter(self.model, device="cpu", random_seed=0).interpret(
                self.image, num_samples=self.samples, visual=False)

    def facts(self):
        pairs, = self.weights.values()
        return {"top_five": [int(i) for i, _ in pairs[:5]], "coefficients": [float(c) for _, c in sorted(pairs)]}


def distance(one, other):
    """How far two explanations of one class are apart: of the coefficients and of the five largest segments."""
    a, b = one.coefficients[0], other.coefficients[0]
    tops = [{i for i, _ in explanation.top()} for explanation in (one, other)]
    return {"largest_difference_over_largest": float(np.abs(a - b).max() / np.abs(a).max()),
            "correlation": float(np.corrcoef(a, b)[0, 1]), "common_of_top_five": len(tops[0] & tops[1])}


def contenders(samples):
    """{name: Contender}; ``images`` of a call are its samples."""
    engines = {"ours, fastest": ("auto", "fp32"), "ours, network itself": ("eager", "")}
    engines.update({f"ours, {engine} bf16": (engine, "bf16") for engine in ("openvino", "native")
                    if "bf16" in offered(engine)})
    found = {name: Contender(Ours, samples, dict(engine=engine, precision=precision, samples=samples))
             for name, (engine, precision) in engines.items()}
    return {**found, THEIRS: Contender(InterpretDL, samples, dict(samples=samples))}


def speed(measured, samples):
    """What the record has of the speed; whether the explanations agree."""
    theirs = measured.facts.get(THEIRS)
    rows = {}
    for name, timing in measured.timings.items():
        facts = measured.facts[name]
        if name == "ours, fastest":  # named after the engine that "auto" found
            name = f"ours, {facts['engine']}"
        rows[name] = {"samples_per_second": round(timing.images_per_second, 1),
                      "quartiles": [round(samples / value, 1) for value in (timing.high, timing.low)],
                      "top_five": facts["top_five"]}
        if theirs:
            rows[name]["times_interpretdl"] = round(measured.timings[THEIRS].median / timing.median, 2)
        if "inside" in facts:
            inside = float(np.median(facts["inside"][1:]))  # the first does not count
            rows[name].update(share_outside_model=round(1 - inside / timing.median, 4),
                              seconds_outside_model=round(timing.median - inside, 4),
                              peak_memory_above_start_mb=facts["peak_memory_above_start_mb"])
            if theirs:
                a, b = (np.array(one["coefficients"]) for one in (facts, theirs))
                rows[name].update(same_top_five=set(facts["top_five"]) == set(theirs["top_five"]),
                                  same_order=facts["top_five"] == theirs["top_five"],
                                  largest_difference_over_largest=float(np.abs(a - b).max() / np.abs(b).max()))
    ours = next((facts for facts in measured.facts.values() if "segments" in facts), {})
    return {"samples": samples, "contenders": rows, **{key: ours[key] for key in ("segments", "two_seeds") if ours}}


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
    parser = options(__doc__, data=True)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", help="of the part about speed")
    given = prepare(parser, ["interpretdl"])
    if given.quick:
        given.samples, given.images = 100, 2
        thumbnail = cv2.resize(photograph(), (32, 32), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
        test = ImageSet(np.stack([thumbnail] * 2), np.array([3, 3]), load_run(CIFAR10_RUN, "final").class_names, "cat",
                        "scikit-image")
    else:
        _, test = load_dataset("cifar10", given.data_file)  # before anything is measured
    found = contenders(given.samples)
    names = chosen(parser, given.only, [name for name in found if not given.quick or "bf16" not in name])
    record = Record(given.out, "explain", turns=given.pace["turns"], data=test.source)
    measured = in_turn({name: found[name] for name in names}, given.pace["turns"], calls=1, seconds=0, warmup=0)
    record.note(measured)
    record.put(speed=speed(measured, given.samples))
    for name, row in record.content["speed"]["contenders"].items():
        print(f"{row['samples_per_second']:8.1f} samples/s  {row.get('times_interpretdl', 0):6.2f} times InterpretDL  "
              f"{row.get('share_outside_model', float('nan')):6.1%} outside the model  {name}")
    figures, curves, shown = faithfulness(test.images[:given.images], given.samples)
    record.put(faithfulness=figures)
    for kind in ("deletion", "insertion", "deletion_better_than_random", "insertion_better_than_random", "two_seeds"):
        print(kind, figures[kind])
    plots.save_figure(given.out / "explain.png", draw, shown, curves)
    record.finish()


if __name__ == "__main__":
    main()
