"""``paddle-fasternet benchmark | operators``."""
import functools
from pathlib import Path

import numpy as np
import paddle

from .. import plots
from .._check import check_choice, check_number
from .._files import make_folder, write_json
from ..baselines import create_baseline, list_baselines
from ..benchmark import compare_networks, count_macs, count_parameters, machine, measure_speed, network_table
from ..data import Augment
from ..deploy import EAGER, ENGINES
from ..model import create_model, list_models, plain_name
from ..operators import (
    ENGINES_OF_ANY_LAYER,
    OPERATORS,
    check_claims,
    make_call,
    measure_operators,
    measure_peak,
    operator_table,
    verdicts,
)
from ..training import load_run


def add_commands(add):
    """Describe the commands of this module to the parser."""
    bench = add("benchmark", _benchmark, "Measure latency and throughput, of the network alone and of the whole way "
                                         "from images to classes: median and quartiles, warmed up, synchronised.")
    bench.add_argument("--run", default=None, help="folder of a trained network; default: a new --model")
    bench.add_argument("--model", default=None, help=f"one of {', '.join(list_models())}; default: fasternet_t0")
    bench.add_argument("--num-classes", type=int, default=1000, help="outputs of the new model (default: %(default)s)")
    bench.add_argument("--image-size", type=int, default=None, help="default: the run's own; 224 for a new model")
    bench.add_argument("--batch-size", type=int, default=None, help="images in a batch; default: 32; with --against "
                                                                    "the paper's, 1 on a CPU, 32 on a GPU")
    bench.add_argument("--repeats", type=int, default=20, help="timed calls of each (default: %(default)s)")
    bench.add_argument("--json", default=None, help="also write the figures to this file")
    bench.add_argument("--against", default=None, metavar="NAMES",
                       help=f"instead, time the model in turn with other networks: {', '.join(list_baselines())}, or "
                            "another FasterNet, joined by commas, each at the size the paper measures it with")
    bench.add_argument("--engine", default=None, help=f"with --against, what runs the networks: {', '.join(ENGINES)} "
                                                      f"(default: {EAGER})")
    bench.add_argument("--out", default=None, help="with --against, folder of the table and the picture (default: "
                                                   "work/benchmark)")

    operators = add("operators", _operators, "Measure the convolution operators of the paper on this device: ten "
                                             "layers of each, beside the paper's figures and under the device's roof.")
    operators.add_argument("--engines", default=",".join(ENGINES_OF_ANY_LAYER), metavar="NAMES",
                           help="what runs them, joined by commas (default: %(default)s)")
    operators.add_argument("--operators", default=",".join(OPERATORS), metavar="NAMES",
                           help="which to measure (default: %(default)s)")
    operators.add_argument("--n-div", type=int, default=4, help="PConv convolves one in this many channels "
                                                                "(default: %(default)s)")
    operators.add_argument("--batch-size", type=int, default=None, help="maps in a call; default: the paper's, 1 on a "
                                                                        "CPU, 32 on a GPU")
    operators.add_argument("--repeats", type=int, default=20, help="timed calls of each (default: %(default)s)")
    operators.add_argument("--out", default="work/operators", help="folder of the table and the picture (default: "
                                                                   "%(default)s)")


def _benchmark(options):
    if options.run and options.model:
        raise ValueError(f"model={options.model!r} goes with a new model, run={options.run!r} has its own: give one")
    if options.model is not None:
        options.model = plain_name(options.model)
        check_choice("model", options.model, list_models())
    if options.json:
        make_folder("json", Path(options.json).parent)
    if options.against is not None:
        return _benchmark_against(options)
    for argument in ("engine", "out"):
        if getattr(options, argument) is not None:
            raise ValueError(f"{argument}={getattr(options, argument)!r} goes with --against NAMES")
    options.batch_size = 32 if options.batch_size is None else options.batch_size
    if options.run:
        run = load_run(options.run)
        model, name, size, preprocess = run.model, run.config.model, run.config.image_size, run.preprocess
    else:
        name, size, preprocess = options.model or "fasternet_t0", 224, Augment("none", mean=[127.5] * 3, std=[64.0] * 3)
        model = create_model(name, num_classes=options.num_classes)
    size = size if options.image_size is None else options.image_size
    result = measure(model, preprocess, size, options.batch_size, options.repeats)
    print_speed(name, size, result)
    if options.json:
        network = f"--run {options.run}" if options.run else f"--model {name} --num-classes {options.num_classes}"
        command = (f"paddle-fasternet benchmark {network} --image-size {size} --batch-size {options.batch_size} "
                   f"--repeats {options.repeats}")
        write_json(options.json, {"command": command, "model": name, "image_size": size, "batchnorm_folded": False,
                                  "machine": machine(),
                                  **{key: value if isinstance(value, int) else value.to_dict()
                                     for key, value in result.items()}})


def _benchmark_against(options):
    if options.run:
        raise ValueError(f"against={options.against!r} goes with a new model, not with run={options.run!r}")
    engine, folder = options.engine or EAGER, make_folder("out", options.out or "work/benchmark")
    check_choice("engine", engine, ENGINES)
    names = _names("against", f"{options.model or 'fasternet_t0'},{options.against}", list_models() + list_baselines())
    networks = {}
    for name in names:
        model, size = (create_model(name, num_classes=options.num_classes), 224) if name in list_models() else (
            create_baseline(name, options.num_classes))
        networks[name] = model, size if options.image_size is None else check_number(
            "image_size", options.image_size, low=1, integer=True)
    rows = compare_networks(networks, _paper_batch(options.batch_size), options.repeats,
                            make_call=functools.partial(make_call, engine=engine))
    claims = check_claims(rows)
    print(f"{_where()}, engine {engine}, batches of {rows[0]['images']}")
    print(network_table(rows))
    for claim in claims:
        print(f"{claim['faster']} against {claim['slower']}: {claim['paper']} times as fast in the paper, "
              f"{claim['here']} times here ({claim['range'][0]} to {claim['range'][1]})")
    same_size = "" if options.image_size is None else f" --image-size {options.image_size}"
    content = {"command": f"paddle-fasternet benchmark --model {names[0]} --against {','.join(names[1:])} --engine "
                          f"{engine} --batch-size {rows[0]['images']} --repeats {options.repeats} --num-classes "
                          f"{options.num_classes}{same_size}", "engine": engine,
               "batchnorm_folded": engine != EAGER, "machine": machine(), "rows": rows, "claims": claims}
    for path in [folder / "benchmark.json", *([options.json] if options.json else [])]:
        write_json(path, content)
    plots.save_figure(folder / "benchmark.png", plots.plot_speed, rows)
    print(f"written: {folder / 'benchmark.json'}, {folder / 'benchmark.png'}")


def _operators(options):
    engines = _names("engines", options.engines, ENGINES_OF_ANY_LAYER)
    names, folder = _names("operators", options.operators, OPERATORS), make_folder("out", options.out)
    rows = measure_operators(operators=names, batch_size=_paper_batch(options.batch_size), engines=engines,
                             n_div=options.n_div, repeats=options.repeats)
    peak = measure_peak()
    print(f"{_where()}; ten layers of each, batches of {rows[0]['images']}")
    print(operator_table(rows))
    for verdict in verdicts(rows):
        print(f"{verdict['engine']}: {verdict['statement']}: {verdict['answer']}, {verdict['times'][0]} to "
              f"{verdict['times'][1]} times")
    print(f"this device at best: {peak['macs_per_second'] / 1e9:,.1f} G multiply-adds/s in a matrix product, "
          f"{peak['bytes_per_second'] / 1e9:,.1f} GB/s read")
    write_json(folder / "operators.json", {
        "command": f"paddle-fasternet operators --engines {','.join(engines)} --operators {','.join(names)} --n-div "
                   f"{options.n_div} --batch-size {rows[0]['images']} --repeats {options.repeats}",
        "machine": machine(), "peak": peak, "rows": rows, "verdicts": verdicts(rows)})
    plots.save_figure(folder / "operators.png", plots.plot_roofline, rows, peak)
    print(f"written: {folder / 'operators.json'}, {folder / 'operators.png'}")


def _names(argument, text, choices):
    """Names that stand in ``text``, joined by commas, each once."""
    names = list(dict.fromkeys(plain_name(name.strip()) for name in text.split(",")))
    for name in names:
        check_choice(argument, name, choices)
    return names


def _paper_batch(batch_size):
    """The batch size given, or that of the paper's measurements on this kind of device."""
    return batch_size if batch_size is not None else 32 if paddle.get_device().startswith("gpu") else 1


def _where():
    on = machine()
    return f"{on['name']}, {on['cores']} cores, {on['device']}, {on['threads']} threads, Paddle {on['paddle']}"


def measure(model, preprocess, size, batch_size, repeats=20):
    size = check_number("image_size", size, low=1, integer=True)
    batch_size = check_number("batch_size", batch_size, low=1, integer=True)
    channels = len(preprocess.mean)
    images = np.random.RandomState(0).randint(0, 256, (batch_size, channels, size, size), np.uint8)
    preprocess = Augment("none", size, preprocess.mean, preprocess.std)
    return {"parameters": count_parameters(model), "macs": count_macs(model, size, channels),
            **measure_speed(model, preprocess, images, repeats)}


def print_speed(name, size, result):
    print(f"{name} at {size} x {size}: {result['parameters']:,} parameters, {result['macs'] / 1e9:.3f} G "
          f"multiply-adds; {_where()}")
    print(f"one image:          {result['latency']}")
    print(f"network alone:      {result['throughput']}")
    print(f"images to classes:  {result['pipeline']}")
