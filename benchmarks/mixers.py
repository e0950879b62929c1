"""PConv against other mixers at equal width, in Paddle's layers, in Paddle Inference and in the fastest engine.

    python benchmarks/mixers.py
    python benchmarks/mixers.py --settings 224 --precisions fp32 bf16 --only PConv DWConv

FasterNet-T0 at 32 x 32 pixels, patch_size 2, batch 64, and at 224 x 224, patch_size 4, batch 32. Every mixer has a
process of its own in every engine and precision; all of one setting and precision take turns. Writes
work/results/mixers_speed.json: "rows" of all engines, and "fastest", the fastest engine of each mixer and precision.
"""
import tempfile
from pathlib import Path

from contenders import eager, export_quietly, network, ours, random_images
from turns import Contender, Record, chosen, in_turn, options, prepare

from paddle_fasternet.benchmark import count_macs, count_parameters
from paddle_fasternet.deploy import ENGINES, PRECISIONS, offered

SETTINGS = {"32": dict(size=32, batch=64, num_classes=10, patch_size=2),
            "224": dict(size=224, batch=32, num_classes=1000, patch_size=4)}
MIXERS = {"PConv": "pconv", "DWConv": "dwconv", "grouped": "gconv", "dense": "conv", "identity": "identity"}


def contenders(arguments, label, precision, batch, size, folder=None):
    """{"engine, label": Contender} of one network: Paddle's layers, and every engine.

    Args:
        arguments: of ``contenders.network``.
        label: what it is called.
        precision, batch, size: of the engine and the input.
        folder: of its exported files, which int8 needs.
    """
    shape = dict(batch=batch, size=size)
    source = {"folder": str(folder)} if folder else arguments
    found = {f"{engine}, {label}": ours(engine, precision, **shape, **source)
             for engine in ENGINES if engine != "eager" and precision in offered(engine)}
    if precision == "fp32":
        return {f"eager, {label}": Contender(eager, batch, {**shape, **arguments}), **found}
    return found


def split(row):
    """A row with "engine" and "mixer" instead of their common name."""
    engine, mixer = row["contender"].split(", ")
    return {**row, "engine": engine, "mixer": mixer}


def fastest(rows):
    """The fastest row of each setting, precision and mixer."""
    best = {}
    for row in rows:
        key = row["setting"], row["precision"], row["mixer"]
        if key not in best or row["median"] < best[key]["median"]:
            best[key] = row
    return list(best.values())


def measure(networks, batch, size, pace):
    """Time networks in Paddle's layers, in Paddle Inference and in the fastest engine, in fp32.

    Args:
        networks: {label: arguments of ``contenders.network``, such as {"run": folder of a run}}.
        batch, size: of the input.
        pace: what ``turns.in_turn`` takes.

    Returns:
        {"Paddle eager" | "Paddle Inference" | "fastest engine": rows as ``compare_networks`` has them, and "engine"}.
    """
    shape, panels = dict(batch=batch, size=size), {}
    sizes = {label: {"network": label, "image_size": size, "parameters": count_parameters(model),
                     "macs": count_macs(model, size)}
             for label, model in ((label, network(**arguments)) for label, arguments in networks.items())}
    for title, engine in (("Paddle eager", "eager"), ("Paddle Inference", "paddle"), ("fastest engine", "auto")):
        measured = in_turn({
            label: Contender(eager, batch, {**shape, **arguments}) if engine == "eager" else ours(
                engine, "fp32", **shape, **arguments) for label, arguments in networks.items()}, **pace)
        measured.check()
        panels[title] = [{**sizes[label], "engine": measured.facts.get(label, engine), **timing.to_dict(),
                          "macs_per_second": round(batch * sizes[label]["macs"] / timing.median)}
                         for label, timing in measured.timings.items()]
    return panels


def main():
    parser = options(__doc__)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--only", nargs="+", metavar="MIXER")
    given = prepare(parser, ["openvino", "onnx", "onnxruntime", "nncf"])
    if given.quick:
        given.settings, given.precisions = ["32"], ["fp32"]
        given.only = given.only or ["PConv", "DWConv"]
        SETTINGS["32"]["batch"] = 2
    labels = chosen(parser, given.only, list(MIXERS))
    record = Record(given.out, "mixers_speed", turns=given.pace["turns"],
                    settings={name: SETTINGS[name] for name in given.settings}, networks=[])
    with tempfile.TemporaryDirectory() as temporary:
        for setting in given.settings:
            shape = dict(SETTINGS[setting])
            size, batch = shape.pop("size"), shape.pop("batch")
            for label in labels:
                model = network(mixer=MIXERS[label], **shape)
                record.content["networks"].append({"setting": setting, "mixer": label, "macs": count_macs(model, size),
                                                   "parameters": count_parameters(model)})
                int8 = random_images(64, size, shape["num_classes"]) if "int8" in given.precisions else None
                export_quietly(model, Path(temporary, setting, label), size, shape["num_classes"], calibration=int8,
                               formats=("paddle", "onnx"))
            for precision in given.precisions:
                found = {name: each for label in labels for name, each in contenders(
                    {"mixer": MIXERS[label], **shape}, label, precision, batch, size,
                    Path(temporary, setting, label)).items()}
                record.add("rows", in_turn(found, **given.pace), setting=setting, precision=precision)
    rows = [split(row) for row in record.content["rows"]]
    record.finish(rows=rows, fastest=fastest(rows))
    for row in fastest(rows):
        print(f"{row['setting']:4} {row['precision']} {row['mixer']:9} {row['engine']:12} "
              f"{row['images_per_second']:10.1f} images/s")


if __name__ == "__main__":
    main()
