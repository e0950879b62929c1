"""The paper's claims on this device, eager and through Paddle Inference: operators, networks, PConv in ResNet18.

    python benchmarks/operators.py [--name operators] [--turns 20] [--out work/results]
    python benchmarks/operators.py --compare work/results/a.json work/results/b.json

Writes NAME.json (all figures, the paper's beside them, the verdicts), NAME_roofline.png, and NAME_networks.png. With
--compare it measures nothing, and writes which conclusions stand in all of the records to operators_compare.json. About
six minutes on two cores.

Each engine has a process of its own; in it, operators of one size take turns, and networks: they share one engine's
threads, so that none slows down another.
"""
import functools
import itertools
import json
from pathlib import Path

import paddle
from turns import Record, alone, chosen, options, prepare

from paddle_fasternet import create_model, list_models, plots, replace_conv
from paddle_fasternet._files import write_json
from paddle_fasternet.baselines import create_baseline, list_baselines
from paddle_fasternet.benchmark import compare_networks, network_table
from paddle_fasternet.operators import (
    check_claims,
    make_call,
    measure_operators,
    measure_peak,
    operator_table,
    verdicts,
)
from paddle_fasternet.operators.measure import SIZES

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


def run_operators(**options):
    """For ``alone``: a function that measures operators, all of one engine in one process."""
    return lambda: measure_operators(**options)


def run_peak(**options):
    return lambda: measure_peak(**options)


def run_networks(names, engine, batch_size, repeats):
    """The same for networks; "resnet18 with PConv" is what ``replace_conv`` makes of that."""
    networks = {}
    for name in names:
        if name in list_models():
            networks[name] = create_model(name, num_classes=1000), 224
        elif name in list_baselines():
            networks[name] = create_baseline(name)
        else:
            resnet = paddle.vision.models.resnet18()
            networks[name] = resnet if name == "resnet18" else replace_conv(resnet).model, 224
    make = functools.partial(make_call, engine=engine)
    return lambda: compare_networks(networks, batch_size, repeats, make_call=make)


def main():
    parser = options(__doc__, turns=20)
    parser.add_argument("--name", default="operators")
    parser.add_argument("--batch-size", type=int, default=None, help="default: the paper's, 1 on a CPU, 32 on a GPU")
    parser.add_argument("--only", nargs="+", metavar="NETWORK")
    parser.add_argument("--compare", nargs="+", type=Path)
    given = prepare(parser)
    if given.compare:
        for path in given.compare:
            if not path.is_file():
                parser.error(f"--compare {path}: there is no such file")
        return compare(given.compare, given.out)
    batch = given.batch_size or (32 if paddle.get_device().startswith("gpu") else 1)
    repeats, sizes, pair = given.pace["turns"], SIZES, ("resnet18", "resnet18 with PConv")
    if given.quick:
        given.only = given.only or ["fasternet_t0", "mobilevit_xxs"]
        sizes = SIZES[:1]
    names = chosen(parser, given.only, list_models() + list_baselines())
    record = Record(given.out, given.name, batch_size=batch, repeats=repeats,
                    batchnorm_folded={engine: engine != "eager" for engine in ENGINES})
    record.put(peak=alone(run_peak, repeats=repeats), operators=[])
    for size, engine in itertools.product(sizes, ENGINES):
        rows = alone(run_operators, sizes=[size], batch_size=batch, engines=[engine], repeats=repeats)
        record.put(operators=record.content["operators"] + rows)
    rows = record.content["operators"]
    print(operator_table(rows))
    record.put(verdicts=verdicts(rows), networks={}, claims={}, replaced={})
    for engine, (key, some) in itertools.product(ENGINES, (("networks", names), ("replaced", pair))):
        measured = alone(run_networks, names=list(some), engine=engine, batch_size=batch, repeats=repeats)
        record.put(**{key: {**record.content[key], engine: measured}})
        print(f"{engine}:\n{network_table(measured)}")
    record.put(claims={engine: check_claims(measured) for engine, measured in record.content["networks"].items()})
    for statement, (_, found) in conclusions(record.content).items():
        print(f"{statement}: {found}")
    plots.save_figure(given.out / f"{given.name}_roofline.png", plots.plot_roofline, rows, record.content["peak"])
    plots.save_figure(given.out / f"{given.name}_networks.png", plots.plot_speed,
                      record.content["networks"][ENGINES[-1]])
    record.finish()


if __name__ == "__main__":
    main()
