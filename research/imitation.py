"""Can cheap operators do what trained 3 x 3 convolutions do? A network with dense mixers is trained, then imitated.

    OMP_NUM_THREADS=2 python research/imitation.py [--data-file CIFAR10.tar.gz] [--run FOLDER]

Writes imitation.json and imitation.png: where the weight of the trained 3 x 3 filters lies, stage by stage, and the
test error of each operator that imitates the last 3 x 3 convolution of a stage on the maps that it sees, over seeds,
beside its cost; "conv" shows what the training of the imitations leaves undone. The last stage is left out: on its
2 x 2 maps most of a 3 x 3 filter meets padding alone.

With --run the trained network (mixer "conv") is taken from there, and the longer it was trained the better; otherwise
it is trained first, for a few minutes.
"""
import argparse
import math
import statistics
import tempfile

import numpy as np
import paddle

from paddle_fasternet import TrainConfig, fit, load_dataset, load_run, plots
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import machine
from paddle_fasternet.model import Stage
from paddle_fasternet.operators import filter_positions, imitate, layer_inputs

OPERATORS = ("pconv+pw", "dwconv+pw", "gconv+pw", "tconv", "conv")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-file", default=None)
    parser.add_argument("--run", default=None, help="a run of mixer conv; default: train one")
    parser.add_argument("--images", type=int, default=20_000, help="to train on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500, help="of each imitation")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    folder = make_folder("out", options.out)
    train, test = load_dataset("auto", options.data_file)
    with tempfile.TemporaryDirectory() as temporary:
        if options.run is None:
            config = TrainConfig(mixer="conv", patch_size=2, batch_size=128, epochs=options.epochs)
            fit(config, train[:options.images], test, temporary)
        run = load_run(options.run or temporary, "final")
    if run.config.mixer != "conv":
        parser.error(f"--run {options.run} has mixer {run.config.mixer}; the trained mixer must be conv")

    stages = [stage for stage in run.model.stages if isinstance(stage, Stage)][:-1]
    positions = {f"stage {number}": filter_positions(stage) for number, stage in enumerate(stages, 1)}
    positions["all"] = filter_positions(paddle.nn.LayerList(stages))
    for name, found in positions.items():
        print(f"{name}: {found['filters']} filters, share of the middle {found['share'][1][1]:.1%}, the largest at "
              f"{found['largest'][1][1] / found['filters']:.1%}")
    maps = [[run.preprocess(images.images[start:start + 256], None, None)[0] for start in range(0, count, 256)]
            for images, count in ((train, 2048), (test, 1024))]
    rows = []
    for number, stage in enumerate(stages, 1):
        mixer = stage.blocks[-1].spatial_mixing
        seen, unseen = (layer_inputs(run.model, mixer, [paddle.to_tensor(x) for x in part]) for part in maps)
        channels, size = seen.shape[1:3]
        trials = [imitate(mixer.conv, seen, unseen, OPERATORS, options.steps, groups=math.gcd(channels, 16), seed=seed)
                  for seed in range(options.seeds)]
        for trial in zip(*trials):
            errors = [row["error"] for row in trial]
            rows.append({**trial[0], "layer": f"stage {number}: {channels} x {size} x {size}", "errors": errors,
                         "error": statistics.mean(errors), "stdev": float(np.std(errors, ddof=1)) if len(errors) > 1
                         else None})
            print(f"{rows[-1]['layer']:24}{rows[-1]['operator']:12}{rows[-1]['macs'] / 1e6:8.3f} M MACs   test error "
                  f"{rows[-1]['error']:.4f} of the variance ({min(errors):.4f} to {max(errors):.4f})")
    trained = f"--run {options.run}" if options.run else f"--images {options.images} --epochs {options.epochs}"
    write_json(folder / "imitation.json", {
        "command": f"python research/imitation.py {trained} --steps {options.steps} --seeds {options.seeds}",
        "machine": machine(), "data": run.data, "config": run.config.to_dict(),
        "accuracy": run.history.epochs[-1]["val_acc"], "train_seconds": run.history.epochs[-1]["seconds"],
        "groups": "the largest common divisor of the channels and 16", "positions": positions, "rows": rows})
    plots.save_figure(folder / "imitation.png", plots.plot_imitation, rows, positions["all"])
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
