"""How fast the operators are on this device, and how fast they could be: the paper's table 1, measured."""
import numpy as np
import paddle
from paddle import nn

from .._check import check_choice, check_number
from ..benchmark import eager_call, machine, time_in_turn
from ..deploy import EAGER, ENGINES, Predictor
from .costs import OPERATORS, build_operator, cost
from .paper import LAYERS, SIZES, TABLE

ENGINES_OF_ANY_LAYER = tuple(name for name, engine in ENGINES.items() if engine.takes_any_layer)

_BYTES = 4  # of a float32


def make_call(network, x, engine=EAGER):
    """A function without arguments that runs a network once, in float32.

    Args:
        network: a Layer in evaluation mode, to [N, K] for all engines but "eager".
        x: float32 [N, C, S, S].
        engine: "eager", or one of ``Predictor``'s, which gets as many threads as Paddle has; it also takes ``x`` from
            the host and brings the answer back.
    """
    if engine == EAGER:
        return eager_call(network, x)
    channels = x.shape[1]
    predictor = Predictor(network, engine=engine, precision="fp32", threads=machine()["threads"],
                          image_size=x.shape[2], mean=[0.0] * channels, std=[1.0] * channels)
    return lambda: predictor.logits(x)


def measure_operators(sizes=SIZES, operators=tuple(OPERATORS), layers=LAYERS, batch_size=1, engines=(EAGER,), k=3,
                      n_div=4, groups=16, repeats=20, warmup=3):
    """Time stacks of each operator, all of one size and engine in turn.

    Args:
        sizes: pairs (channels, side of the map).
        operators: names out of ``OPERATORS``.
        layers: layers of one operator on top of each other; a single one would be lost in the overhead of a call.
        batch_size: maps in a call.
        engines: of ``ENGINES_OF_ANY_LAYER``; the others do not take every operator.
        k, n_div, groups: see ``cost``.
        repeats, warmup: timed and untimed calls of each.

    Returns:
        A dict for each size, operator and engine: "macs" and "bytes" (by ``cost``) of one call, the ``Timing``'s values
        of the call, "macs_per_second", "bytes_per_second", and "paper" where the paper has that stack.
    """
    batch_size = check_number("batch_size", batch_size, low=1, integer=True)
    layers = check_number("layers", layers, low=1, integer=True)
    for engine in engines:
        check_choice("engines", engine, ENGINES_OF_ANY_LAYER)
    rows = []
    for channels, size in sizes:
        costs = {name: cost(name, size, size, channels, k, n_div, groups) for name in operators}
        x = np.random.default_rng(0).standard_normal((batch_size, channels, size, size)).astype(np.float32)
        stacks = {}
        for name in operators:
            stacks[name] = nn.Sequential(*[build_operator(name, channels, k, n_div, groups) for _ in range(layers)])
            stacks[name].eval()
        for engine in engines:  # not in turn with each other: each has threads of its own, which spin on for a while
            calls = {}
            for name, stack in stacks.items():
                # engines want [N, K]: they also take the mean over the pixels
                whole = stack if engine == EAGER else nn.Sequential(stack, nn.AdaptiveAvgPool2D(1), nn.Flatten())
                calls[name] = make_call(whole, x, engine)
            for name, timing in time_in_turn(calls, batch_size, repeats, warmup).items():
                macs = layers * batch_size * costs[name].macs
                moved = layers * _BYTES * costs[name].memory(batch_size)
                rows.append({
                    "operator": name, "engine": engine, "channels": channels, "size": size, "layers": layers,
                    "macs": macs, "parameters": layers * costs[name].parameters, "bytes": moved, **timing.to_dict(),
                    "macs_per_second": round(macs / timing.median), "bytes_per_second": round(moved / timing.median)})
                known = TABLE.get((name, channels)) if (channels, size) in SIZES else None
                if known and (layers, k, n_div, groups) == (LAYERS, 3, 4, 16):
                    keys = ("million_macs", "gpu_images_per_second", "cpu_ms", "arm_ms")
                    rows[-1]["paper"] = dict(zip(keys, known))
    return rows


def measure_peak(repeats=20, side=2048, megabytes=256):
    """What this device reaches at best in float32, eager: the roof over ``measure_operators``'s figures.

    Args:
        repeats: timed calls of each.
        side: of the square matrices that are multiplied.
        megabytes: of the matrix that is multiplied by a vector, which reads it once; more than the caches hold.

    Returns:
        {"macs_per_second", "bytes_per_second": of the fastest call; "quartiles": {the same names: [low, high]}}.
    """
    long = int((megabytes * 2**20 / _BYTES) ** 0.5)
    a, b = paddle.rand([side, side]), paddle.rand([long, long])
    amounts = {"macs_per_second": side**3, "bytes_per_second": _BYTES * long**2}
    calls = {"macs_per_second": lambda: paddle.matmul(a, a), "bytes_per_second": lambda: paddle.matmul(b, b[0])}
    time_in_turn(calls, 1, repeats=2)  # to warm up
    seconds = [time_in_turn(calls, 1, repeats=1, warmup=0) for _ in range(repeats)]
    rates = {name: np.array([amount / turn[name].median for turn in seconds]) for name, amount in amounts.items()}
    return {**{name: round(values.max()) for name, values in rates.items()},
            "quartiles": {name: np.percentile(values, (25, 75)).round().tolist() for name, values in rates.items()}}


def operator_table(rows):
    """The rows of ``measure_operators`` as lines of text, beside the paper's CPU."""
    lines = [f"{'operator':26}{'map':>10}{'engine':>12}{'M MACs':>10}{'ms':>9}  {'(quartiles)':18}{'G MAC/s':>7}"
             f"{'GB/s':>7}   paper's CPU"]
    for previous, row in zip([None, *rows], rows):
        if previous and (previous["channels"], previous["engine"]) != (row["channels"], row["engine"]):
            lines.append("")
        paper = row.get("paper")
        beside = f"   {paper['cpu_ms']} ms, {paper['million_macs'] / paper['cpu_ms']:.1f} G/s" if paper else ""
        low, median, high = (1e3 * row[key] for key in ("low", "median", "high"))
        where, spread = f"{row['channels']} x {row['size']}²", f"({low:.2f} to {high:.2f})"
        lines.append(f"{OPERATORS[row['operator']]:26}{where:>10}{row['engine']:>12}{row['macs'] / 1e6:10,.2f}"
                     f"{median:9.2f}  {spread:18}{row['macs_per_second'] / 1e9:7.1f}"
                     f"{row['bytes_per_second'] / 1e9:7.1f}{beside}")
    return "\n".join(lines)
