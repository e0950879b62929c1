"""PConv against other mixers at equal width, in Paddle's layers, in Paddle Inference and in the fastest engine.

    python benchmarks/mixers.py
    python benchmarks/mixers.py --settings 224 --precisions fp32 bf16 --only PConv DWConv

FasterNet-T0 at 32 x 32 pixels, patch_size 2, batch 64, and at 224 x 224, patch_size 4, batch 32. Every mixer has a
process of its own in every engine and precision; all of one setting and precision take turns. Writes
work/results/mixers_speed.json: "rows" of all engines, and "fastest", the fastest engine of each mixer and precision.
"""
import tempfile
from pathlib import Path

from contenders import eager, export_quietly, network, ours_contender, random_images
from turns import Contender, Record, chosen, in_turn, options, prepare

from paddle_fasternet.benchmark import count_macs, count_parameters
from paddle_fasternet.deploy import ENGINES, PRECISIONS, offered

SETTINGS = {"32": dict(size=32, batch=64, num_classes=10, patch_size=2),
            "224": dict(size=224, batch=32, num_classes=1000, patch_size=4)}
MIXERS = {"PConv": "pconv", "DWConv": "dwconv", "grouped": "gconv", "dense": "conv", "identity": "identity"}


def contenders(arguments, folder, label, precision, batch, size):
    """{"engine, mixer": Contender} of one network: Paddle's layers, and every engine on its exported folder."""
    found = {}
    for engine in ENGINES:
        if engine == "eager" and precision == "fp32":
            found[f"eager, {label}"] = Contender(eager, batch, dict(batch=batch, size=size, **arguments))
        elif engine != "eager" and precision in offered(engine):
            found[f"{engine}, {label}"] = ours_contender(folder, engine, precision, batch, size)
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


def measure(networks, batch, size, pace, folder):
    """Time networks in Paddle's layers, Paddle Inference and the fastest engine, in fp32.

    Args:
        networks: {label: arguments of ``contenders.network``, such as {"run": folder of a run}}.
        batch, size: of the input.
        pace: what ``turns.in_turn`` takes.
        folder: for the exported files; a new one for each size.

    Returns:
        {"Paddle eager" | "Paddle Inference" | "fastest engine": rows, with "network" and "engine"}.
    """
    found = {}
    for number, (label, arguments) in enumerate(networks.items()):
        model, files = network(**arguments), Path(folder, str(number))
        if not files.exists():
            export_quietly(model, files, size, model.head.weight.shape[1])
        found.update({name: (each, label, count_parameters(model), count_macs(model, size))
                      for name, each in contenders(arguments, files, label, "fp32", batch, size).items()})
    measured = in_turn({name: each for name, (each, *_) in found.items()}, **pace)
    rows = []
    for row in measured.rows(setting=f"{size}", precision="fp32"):
        _, label, parameters, macs = found[row["contender"]]
        rows.append({**row, "network": label, "mixer": label, "engine": row["contender"].split(", ")[0],
                     "parameters": parameters, "macs": macs})
    return {"Paddle eager": [row for row in rows if row["engine"] == "eager"],
            "Paddle Inference": [row for row in rows if row["engine"] == "paddle"], "fastest engine": fastest(rows)}


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
                    {"mixer": MIXERS[label], **shape}, Path(temporary, setting, label), label, precision, batch,
                    size).items()}
                record.add("rows", in_turn(found, **given.pace), setting=setting, precision=precision)
    rows = [split(row) for row in record.content["rows"]]
    record.finish(rows=rows, fastest=fastest(rows))
    for row in fastest(rows):
        print(f"{row['setting']:4} {row['precision']} {row['mixer']:9} {row['engine']:12} "
              f"{row['images_per_second']:10.1f} images/s")


if __name__ == "__main__":
    main()
