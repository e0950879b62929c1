"""What the paper reports, to be set beside what a device says: https://arxiv.org/abs/2303.03667, abstract and table 1.

Its devices: GPU, batches of 32 (RTX 2080 Ti); CPU, one image, one thread (Core i9-9900X); ARM, one image, one thread
(Cortex-A72). Its FLOPs are multiply-adds, its FLOPS those over the time.
"""
import paddle

# Ten layers of each operator on maps of channels x size x size.
LAYERS, SIZES = 10, ((96, 56), (192, 28), (384, 14), (768, 7))

# (operator, channels): million multiply-adds; images/s on the GPU; ms on the CPU; ms on ARM.
TABLE = {
    ("conv", 96): (2601, 3010, 35.67, 779.57),
    ("conv", 192): (2601, 4893, 28.41, 619.64),
    ("conv", 384): (2601, 4558, 31.85, 595.09),
    ("conv", 768): (2601, 3159, 61.71, 662.17),
    ("gconv", 96): (163, 2888, 21.90, 166.30),
    ("gconv", 192): (163, 12811, 7.58, 96.22),
    ("gconv", 384): (163, 15534, 4.40, 63.57),
    ("gconv", 768): (163, 16000, 4.28, 65.20),
    ("dwconv", 96): (27.09, 11940, 3.59, 108.70),
    ("dwconv", 192): (13.54, 23358, 1.97, 82.01),
    ("dwconv", 384): (6.77, 46377, 1.06, 94.89),
    ("dwconv", 768): (3.38, 88889, 0.68, 150.89),
    ("pconv", 96): (162, 9215, 5.46, 85.30),
    ("pconv", 192): (162, 14360, 3.09, 66.46),
    ("pconv", 384): (162, 24408, 3.58, 49.98),
    ("pconv", 768): (162, 32866, 5.45, 48.00),
}

# (faster, slower, {device: how many times as fast}, in the abstract's words). 37 % of the time saved is 1 / 0.63 times.
CLAIMS = (
    ("fasternet_t0", "mobilevit_xxs", {"cpu": 3.3, "gpu": 2.8}, "3.3 times as fast on a CPU, 2.8 times on a GPU"),
    ("fasternet_l", "swin_b", {"cpu": 1 / 0.63, "gpu": 1.36},
     "37 % of the compute time saved on a CPU, 36 % more throughput on a GPU"),
)

# (what should win, against what, in what, the statement). The paper does not say the last two: it widens what has the
# depthwise convolution until both are equally accurate, and its table shows the depthwise one faster at equal width.
STATEMENTS = (
    ("pconv", "dwconv", "macs_per_second", "PConv does more multiply-adds a second than the depthwise convolution"),
    ("pconv", "gconv", "macs_per_second", "PConv does more multiply-adds a second than the grouped convolution"),
    ("pconv", "conv", "calls", "PConv takes less time than the regular convolution"),
    ("pconv+pw", "conv", "calls", "PConv and pointwise take less time than the regular convolution"),
    ("pconv+pw", "tconv", "calls", "PConv and pointwise take less time than the T-shaped convolution"),
    ("pconv", "dwconv", "calls", "PConv takes less time than the depthwise convolution of the same width"),
    ("pconv+pw", "dwconv+pw", "calls", "PConv and pointwise take less time than depthwise and pointwise"),
)


def verdicts(rows):
    """What the paper says of its operators, held against ``measure_operators``'s rows.

    Returns:
        For each engine and statement {"engine", "statement", "answer": "yes at 3 of 4 sizes" or the like, "sizes":
        {"96 x 56": "yes", "no" or "undecided", where the quartiles overlap}, "times": [lowest, highest] ratio of
        the medians}.
    """
    found, stacks = [], {}
    for row in rows:
        stacks.setdefault((row["engine"], row["operator"]), {})[f"{row['channels']} x {row['size']}"] = row
    for engine in dict.fromkeys(row["engine"] for row in rows):
        for winner, loser, unit, statement in STATEMENTS:
            a, b = stacks.get((engine, winner), {}), stacks.get((engine, loser), {})
            pairs = {size: (a[size], b[size]) for size in a if size in b}
            if not pairs:
                continue
            sizes, ratios = {}, []
            for size, (a, b) in pairs.items():
                work = a["macs"] / b["macs"] if unit == "macs_per_second" else 1
                low, ratio, high = (work * b[x] / a[y] for x, y in (("low", "high"), ("median", "median"),
                                                                    ("high", "low")))
                sizes[size] = "yes" if low > 1 else "no" if high < 1 else "undecided"
                ratios.append(round(ratio, 2))
            counts = {word: list(sizes.values()).count(word) for word in ("yes", "no", "undecided")}
            answer = ", ".join(f"{word} at {count} of {len(sizes)} sizes" for word, count in counts.items() if count)
            found.append({"engine": engine, "statement": statement, "answer": answer, "sizes": sizes,
                          "times": [min(ratios), max(ratios)]})
    return found


def check_claims(rows):
    """Hold the paper's claims against ``benchmark.compare_networks``'s rows.

    Returns:
        For each claim whose networks were both measured {"claim", "faster", "slower", "paper": times as fast as the
        slower one, "here": the same by the medians, "range": by the opposite quartiles, so that it is rather too wide}.
    """
    device = "gpu" if paddle.get_device().startswith("gpu") else "cpu"
    by_name = {row["network"]: row for row in rows}
    found = []
    for faster, slower, ratios, words in CLAIMS:
        if faster in by_name and slower in by_name:
            a, b = by_name[faster], by_name[slower]
            found.append({"claim": f"{faster} against {slower}: {words}", "faster": faster, "slower": slower,
                          "paper": round(ratios[device], 2), "here": round(b["median"] / a["median"], 2),
                          "range": [round(b["low"] / a["high"], 2), round(b["high"] / a["low"], 2)]})
    return found
