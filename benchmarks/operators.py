"""The paper's claims on this device, eager and through Paddle Inference: operators, networks, PConv in ResNet18.

    OMP_NUM_THREADS=2 python benchmarks/operators.py [--name operators] [--repeats 20] [--out work/results]
    python benchmarks/operators.py --compare work/results/a.json work/results/b.json

Writes NAME.json (all figures, the paper's beside them, the verdicts), NAME_roofline.png, and NAME_networks.png. With
--compare it measures nothing, and writes which conclusions stand in all of the records to operators_compare.json. About
five minutes on two cores.
"""
import argparse
import functools
import json
from pathlib import Path

import paddle

from paddle_fasternet import create_model, list_models, plots, replace_conv
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.baselines import create_baseline, list_baselines
from paddle_fasternet.benchmark import compare_networks, machine, network_table
from paddle_fasternet.operators import (
    check_claims,
    make_call,
    measure_operators,
    measure_peak,
    operator_table,
    verdicts,
)

ENGINES = ("eager", "paddle")


def conclusions(record):
    """{what is claimed: (what must be equal for the conclusion to stand, the answer in words)} of a record."""
    found = {f"{verdict['engine']}: {verdict['statement']}": (verdict["sizes"], "{}, {} to {} times".format(
        verdict["answer"], *verdict["times"])) for verdict in record["verdicts"]}
    for engine, claims in record["claims"].items():
        for claim in claims:
            low, high = claim["range"]
            answer = "yes" if low >= claim["paper"] else "no" if high < claim["paper"] else "within the spread"
            found[f"{engine}: {claim['faster']} is {claim['paper']} times as fast as {claim['slower']}"] = (
                answer, f"{answer}, {claim['here']} times ({low} to {high})")
    return found


def compare(paths, folder):
    """Print, and write as operators_compare.json, which conclusions stand in all of the records."""
    records = {path: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    found = {path: conclusions(record) for path, record in records.items()}
    rows = []
    for statement in next(iter(found.values())):
        answers = [answers.get(statement, ("", "not measured")) for answers in found.values()]
        rows.append({"statement": statement, "stands": all(key == answers[0][0] for key, _ in answers),
                     "answers": [answer for _, answer in answers]})
        print(f"{'stands ' if rows[-1]['stands'] else 'differs'}  {statement}")
        for (path, record), answer in zip(records.items(), rows[-1]["answers"]):
            print(f"             {path}, {record['machine']['name']}: {answer}")
    write_json(folder / "operators_compare.json", {
        "command": f"python benchmarks/operators.py --compare {' '.join(map(str, paths))}",
        "machines": [record["machine"] for record in records.values()], "conclusions": rows})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="operators")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=None, help="default: the paper's, 1 on a CPU, 32 on a GPU")
    parser.add_argument("--models", nargs="+", default=list_models() + list_baselines())
    parser.add_argument("--out", default="work/results")
    parser.add_argument("--compare", nargs="+", type=Path)
    options = parser.parse_args()
    folder = make_folder("out", options.out)
    if options.compare:
        return compare(options.compare, folder)
    batch = options.batch_size or (32 if paddle.get_device().startswith("gpu") else 1)
    threads = machine()["threads"]

    rows, peak = measure_operators(batch_size=batch, engines=ENGINES, repeats=options.repeats), measure_peak()
    print(operator_table(rows))
    networks = {name: (create_model(name, num_classes=1000), 224) if name in list_models() else create_baseline(name)
                for name in options.models}
    resnet = paddle.vision.models.resnet18()
    swapped = {"resnet18": (resnet, 224), "resnet18 with PConv": (replace_conv(resnet).model, 224)}
    record = {
        "command": f"OMP_NUM_THREADS={threads} python benchmarks/operators.py --name {options.name}",
        "machine": machine(), "batch_size": batch, "repeats": options.repeats,
        "batchnorm_folded": {engine: engine != "eager" for engine in ENGINES},
        "peak": peak, "operators": rows, "verdicts": verdicts(rows), "networks": {}, "claims": {}, "replaced": {}}
    for engine in ENGINES:
        call = functools.partial(make_call, engine=engine)
        for key, contenders in (("networks", networks), ("replaced", swapped)):
            record[key][engine] = compare_networks(contenders, batch, options.repeats, make_call=call)
            print(f"{engine}:\n{network_table(record[key][engine])}")
        record["claims"][engine] = check_claims(record["networks"][engine])
    for statement, (_, answer) in conclusions(record).items():
        print(f"{statement}: {answer}")
    write_json(folder / f"{options.name}.json", record)
    plots.save_figure(folder / f"{options.name}_roofline.png", plots.plot_roofline, rows, peak)
    plots.save_figure(folder / f"{options.name}_networks.png", plots.plot_speed, record["networks"][ENGINES[-1]])
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
