"""Paddle's layers beside our kernels: does either lose speed to the other? Writes work/results/side_effect.json.

    python benchmarks/side_effect.py

Every contender is a process of its own, which stands still during the turns of others, and makes rounds of Paddle's
layers, of steps in our training kernels, or of both in turn. "layers" holds a row for each workload and contender with
the ratio of the speed to that in a process without kernels; "steps" the same for the kernels' step, with the ratio to
steps in a process that runs nothing else.
"""
import time

import numpy as np
from turns import THREADS, Contender, Process, Record, options, prepare

LAYERS = {  # what Paddle's layers compute
    "T0, 32 px, batch 64": dict(size=32, batch=64, patch_size=2),
    "T0, 224 px, batch 32": dict(size=224, batch=32, patch_size=4),
    "training step, 32 px, batch 256": dict(size=32, batch=256, patch_size=2, train=True),
}
QUICK = {"T0, 32 px, batch 4": dict(size=32, batch=4, patch_size=4)}
FRESH, ALONE = "without kernels", "steps alone"
CONTENDERS = {  # the parts of a round: kernels switched on, steps before the first round, threads of the kernels
    FRESH: dict(parts=["layers"]),
    "before steps": dict(parts=["layers"], kernels=True),
    "after steps": dict(parts=["layers"], kernels=True, first=3),
    "between steps": dict(parts=["step", "layers"], kernels=True, first=3),
    "between predictions of the native engine": dict(parts=["predict", "layers"]),
    ALONE: dict(parts=["step"], kernels=True, first=3),
    "own threads, between steps": dict(parts=["step", "layers"], kernels=True, first=3, threads="own"),
    "own threads and no waiting, between steps": dict(parts=["step", "layers"], kernels=True, first=3,
                                                      threads="own, blocktime 0"),
}


class Rounds:
    """A call makes ``rounds`` rounds and returns {part: seconds of each}.

    ``threads``: "shared", as the package does it: the kernels run on the OpenMP threads of Paddle's layers. Others show
    what was tried before: "own", threads of the kernels beside them; "own, blocktime 0", OpenMP's threads sleep at once
    where they have nothing to do, which the package did until 2026-11.
    """

    def __init__(self, workload, parts, rounds, kernels=False, first=0, threads="shared"):
        import ctypes
        from pathlib import Path

        import paddle

        from paddle_fasternet import fasternet_t0, fuse_conv_bn
        from paddle_fasternet.deploy.native_form import native_settings
        from paddle_fasternet.native.inference import NativeNetwork
        from paddle_fasternet.training import native
        if threads != "shared":
            native._share_threads = lambda library: None
        if threads == "own, blocktime 0":
            ctypes.CDLL(str(Path(paddle.__file__).parent / "libs" / "libiomp5.so")).kmp_set_blocktime(0)
        size, batch, self.train = workload["size"], workload["batch"], workload.get("train", False)
        paddle.seed(0)
        self.layers_of, self.trained = (fasternet_t0(patch_size=workload["patch_size"]) for _ in range(2))
        self.x = paddle.to_tensor(np.random.RandomState(0).rand(batch, 3, size, size).astype(np.float32))
        self.layers_of.train() if self.train else self.layers_of.eval()
        if kernels:
            native.use_native_kernels(self.trained, threads=THREADS)
        if "predict" in parts:
            folded = fuse_conv_bn(self.layers_of)
            arrays = {name: value.numpy() for name, value in folded.state_dict().items()}
            self.engine = NativeNetwork(arrays, **native_settings(folded), threads=THREADS)
        self.parts, self.rounds = parts, rounds
        for _ in range(first):
            self.step()

    def layers(self):
        import paddle
        if self.train:
            return self._learn(self.layers_of)
        with paddle.no_grad():
            return self.layers_of(self.x).numpy()

    def step(self):
        return self._learn(self.trained)

    def predict(self):
        return self.engine.logits(self.x.numpy())

    def _learn(self, model):
        loss = model(self.x).square().mean()
        loss.backward()
        model.clear_gradients()
        return float(loss)

    def __call__(self):
        found = {part: [] for part in self.parts}
        for _ in range(self.rounds):
            for part in self.parts:
                start = time.perf_counter()
                getattr(self, part)()
                found[part].append(time.perf_counter() - start)
        return found


def measure(workload, names, turns, rounds):
    """{(name, part): seconds}, contenders in turn; the first turn of each does not count."""
    processes, found = {}, {}
    try:
        for name in names:
            arguments = {"workload": workload, "rounds": rounds, **CONTENDERS[name]}
            processes[name] = Process(Contender(Rounds, workload["batch"], arguments))
        for turn in range(-1, turns):
            for name, process in processes.items():
                for part, values in process.ask("result").items():
                    found.setdefault((name, part), []).extend(values if turn >= 0 else [])
    finally:
        for process in processes.values():
            process.close()
    return found


def rows(label, found, part, reference):
    """A row for each contender of a part: median and quartiles, and the speed beside the reference's."""
    base = np.median(found[reference, part])
    for (name, of), values in found.items():
        if of == part:
            low, median, high = np.percentile(values, (25, 50, 75)).tolist()
            yield {"workload": label, "contender": name, "median": median, "low": low, "high": high,
                   "repeats": len(values), "ratio": base / median}


def main():
    given = prepare(options(__doc__, turns=7))
    record = Record(given.out, "side_effect", layers=[], steps=[])
    for label, workload in (QUICK if given.quick else LAYERS).items():
        found = measure(workload, list(CONTENDERS), given.turns, 1 if given.quick else 5)
        for key, part, reference in (("layers", "layers", FRESH), ("steps", "step", ALONE)):
            for row in rows(label, found, part, reference):
                record.content[key].append(row)
                print(f"{key} {label:32} {row['contender']:42} {1e3 * row['median']:8.1f} ms, ratio {row['ratio']:.2f}",
                      flush=True)
        record.put()
    record.finish()


if __name__ == "__main__":
    main()
