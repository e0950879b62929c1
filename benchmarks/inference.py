"""FasterNet's inference beside other engines', in turn within one run; writes work/results/inference.json and .png.

    python benchmarks/inference.py [--torch-python PYTHON_THAT_HAS_TORCH] [--data-file CIFAR10.tar.gz]

Batch 1 is latency: one image, nothing else in flight. Batch 32 is throughput. Every contender has a process of its own
and the settings that its own documentation advises (``contenders.py``): OpenVINO with the latency hint for one image,
and for batches with both hints, the throughput hint with requests in flight; ONNX Runtime with all graph optimisations;
PyTorch compiled, channels last, autocast for bf16 (its int8 is left out); Paddle's layers without gradients. "plain" is
the network as it is, with BatchNorm, written by nothing but the exporter.

The part "accuracy" is the shipped network on all CIFAR-10 test images in every engine and precision.
"""
import itertools
import json
import re
import tempfile
from pathlib import Path

import numpy as np
from contenders import (
    eager,
    export_quietly,
    network,
    ours,
    peers,
    random_images,
    torch_inference,
    write_plain,
)
from turns import THREADS, Contender, Record, chosen, in_turn, options, prepare

from paddle_fasternet import evaluate, list_models, load_dataset, load_run, plots
from paddle_fasternet._files import file_digest
from paddle_fasternet.benchmark import count_macs
from paddle_fasternet.deploy import ENGINES, PRECISIONS, Predictor, export, offered
from paddle_fasternet.weights import CIFAR10_RUN

CLASSES = 1000


def all_contenders(model, folder, precision, batch, size, torch_python):
    """{name: Contender} of one variant; those of this library begin with "ours"."""
    found = {f"ours: {engine}": ours(engine, precision, batch, size, folder=str(folder / "ours"))
             for engine in ENGINES if engine != "eager" and precision in offered(engine)}
    if precision == "fp32":
        found["Paddle eager"] = Contender(eager, batch, dict(batch=batch, size=size, model=model, num_classes=CLASSES))
    found.update(peers(folder, precision, batch, size))
    if torch_python and precision != "int8":
        found["PyTorch, compiled"] = torch_inference(torch_python, model, precision, batch, size)
    return found


def write_files(model, folder, size, precisions, quick):
    """What the contenders of one variant read."""
    folder.mkdir()
    built, int8 = network(model, num_classes=CLASSES), "int8" in precisions
    export_quietly(built, folder / "ours", size, CLASSES, calibration=random_images(64, size) if int8 else None)
    write_plain(built, folder, size, int8)


def load_images(given):
    """(training images, test images) of the part about accuracy."""
    if given.quick:
        classes = load_run(CIFAR10_RUN, "final").class_names
        images = random_images(40, 32, len(classes))
        return images, images
    return load_dataset("cifar10", given.data_file)


def accuracy_rows(folder, train, test, precisions):
    """The shipped network: every engine and precision against the eager network."""
    run = load_run(CIFAR10_RUN, "final")
    expected = evaluate(run.model, test, run.preprocess)
    export(run, folder / "cifar10", calibration=train if "int8" in precisions else None, progress=False)
    images, rows = test.images.transpose(0, 2, 3, 1), []
    for engine in ENGINES:
        for precision in offered(engine):
            if precision not in precisions:
                continue
            predicted = Predictor(folder / "cifar10", engine, precision, THREADS)(images)
            top1 = float((predicted.argmax(1) == test.labels).mean())
            rows.append({"engine": engine, "precision": precision, "images": len(test), "top1": round(top1, 5),
                         "points_lost": round(100 * (expected.accuracy - top1), 3),
                         "other_answers": int((predicted.argmax(1) != expected.predicted).sum()),
                         "largest_difference": float(np.abs(predicted - expected.probabilities).max())})
            print(rows[-1], flush=True)
    return {"weights": file_digest(CIFAR10_RUN / "final_model.pdparams"), "eager_top1": expected.accuracy, "rows": rows}


def summary(rows):
    """Our best against the best peer for each model, precision and batch; and our int8 against our bf16."""
    best = {}
    for row in rows:
        key = row["model"], row["precision"], row["batch"]
        side = "ours" if row["ours"] else "peer"
        if key not in best or side not in best[key] or (
                row["images_per_second"] > best[key][side]["images_per_second"]):
            best.setdefault(key, {})[side] = row
    result = []
    for (model, precision, batch), sides in best.items():
        if len(sides) < 2:  # --only left one side out
            continue
        own, peer = sides["ours"], sides["peer"]
        entry = {"model": model, "precision": precision, "batch": batch, "ours": own["contender"],
                 "ours_images_per_second": own["images_per_second"], "peer": peer["contender"],
                 "peer_images_per_second": peer["images_per_second"],
                 "ratio": round(own["images_per_second"] / peer["images_per_second"], 3)}
        if precision == "int8" and "ours" in best.get((model, "bf16", batch), {}):
            entry["over_our_bf16"] = round(
                own["images_per_second"] / best[model, "bf16", batch]["ours"]["images_per_second"], 3)
        result.append(entry)
    return result


def drawn(rows):
    """The rows of the picture: where a peer has two precisions beside int8, the faster, under the peer's one name."""
    best = {}
    for row in rows:
        name = re.sub(r", \w+ beside int8", "", row["contender"])
        key = row["model"], row["precision"], row["batch"], name
        if key not in best or row["images_per_second"] > best[key]["images_per_second"]:
            best[key] = {**row, "contender": name}
    return list(best.values())


def main():
    parser = options(__doc__, torch=True, data=True)
    parser.add_argument("--models", nargs="+", choices=list_models(), metavar="MODEL",
                        default=["fasternet_t0", "fasternet_t2", "fasternet_s"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--parts", nargs="+", choices=("speed", "accuracy"), default=["speed", "accuracy"],
                        help="what is left out stays in the record as it was")
    parser.add_argument("--only", nargs="+", metavar="CONTENDER")
    given = prepare(parser, ["openvino", "onnx", "onnxruntime", "nncf"])
    size = 224
    if given.quick:
        given.models, given.batches, given.precisions, size = ["fasternet_t0"], [2], ["fp32"], 64
    settings = list(itertools.product(given.models, given.batches, given.precisions))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = {setting: all_contenders(setting[0], folder / setting[0], setting[2], setting[1], size,
                                         given.torch_python) for setting in settings}
        names = chosen(parser, given.only, list(dict.fromkeys(name for each in found.values() for name in each)))
        images = load_images(given) if "accuracy" in given.parts else None  # before anything is measured
        path = given.out / "inference.json"
        before = json.loads(path.read_text(encoding="utf-8")) if len(given.parts) < 2 and path.exists() else {}
        kept = ("rows", "summary", "macs") if given.parts == ["accuracy"] else ("accuracy",)
        record = Record(given.out, "inference", turns=given.pace["turns"], **{
            key: before[key] for key in kept if key in before})
        if "speed" in given.parts:
            for model in given.models:
                write_files(model, folder / model, size, given.precisions, given.quick)
                for batch, precision in itertools.product(given.batches, given.precisions):
                    here = {name: each for name, each in found[model, batch, precision].items() if name in names}
                    for row in record.add("rows", in_turn(here, **given.pace), model=model, precision=precision,
                                          batch=batch):
                        row["ours"] = row["contender"].startswith("ours")
            record.put(summary=summary(record.content["rows"]), macs={
                name: count_macs(network(name, num_classes=CLASSES)) for name in given.models})
            print(json.dumps(record.content["summary"], indent=1))
            plots.save_figure(given.out / "inference.png", plots.plot_engines, drawn(record.content["rows"]))
        if images:
            record.put(accuracy=accuracy_rows(folder, *images, given.precisions))
    record.finish()


if __name__ == "__main__":
    main()
