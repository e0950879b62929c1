"""FasterNet's inference beside other engines', in turn within one run; writes work/results/inference.json and .png.

    OMP_NUM_THREADS=2 python benchmarks/inference.py --torch-python PYTHON_THAT_HAS_TORCH

Batch 1 is latency: one image, nothing else in flight. Batch 32 is throughput. Every peer runs at the setting that its
own documentation advises: OpenVINO with the latency hint for one image, and for batches with both hints, the throughput
hint with requests in flight; ONNX Runtime with all graph optimisations; PyTorch compiled, channels last, autocast for
bf16. "plain" is the network as it is, with BatchNorm, written by nothing but the exporter.
"""
import argparse
import itertools
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from turns import THREADS, Torch, in_turn

from paddle_fasternet import create_model, evaluate, load_dataset, load_run, plots
from paddle_fasternet._files import make_folder, write_json
from paddle_fasternet.benchmark import count_macs, machine
from paddle_fasternet.data import ImageSet
from paddle_fasternet.deploy import Predictor, export, offered, to_onnx
from paddle_fasternet.deploy.files import sha256
from paddle_fasternet.weights import CIFAR10_RUN


def network(name, mixer="pconv"):
    """A variant with weights of He's initialisation: speed does not depend on what was learnt, but denormals cost."""
    paddle.seed(0)
    model = create_model(name, num_classes=1000, mixer=mixer)
    for layer in model.sublayers():
        if isinstance(layer, (nn.Conv2D, nn.Linear)):
            nn.initializer.KaimingNormal()(layer.weight)
    model.eval()
    return model


def random_images(count, size=224):
    rng = np.random.RandomState(0)
    return ImageSet(rng.randint(0, 256, (count, 3, size, size), np.uint8), np.zeros(count, int),
                    tuple(map(str, range(1000))), "noise", "numpy")


def openvino_calls(path, x, precision):
    """OpenVINO as its documentation advises it: {setting: (call, images)}.

    ``precision`` is that of the layers that are not int8; OpenVINO's own choice is bf16 where the processor has it.
    """
    import openvino
    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape(list(x.shape))
    calls = {}
    for hint in ("LATENCY",) if len(x) == 1 else ("LATENCY", "THROUGHPUT"):
        compiled = core.compile_model(model, "CPU", {
            "PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": THREADS,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"})
        if hint == "LATENCY":
            request = compiled.create_infer_request()
            calls["OpenVINO, latency hint"] = (lambda request=request: request.infer({0: x}, share_inputs=True), len(x))
        else:
            queue = openvino.AsyncInferQueue(compiled)

            def in_flight(queue=queue):
                for _ in range(4):
                    queue.start_async({0: x}, share_inputs=True)
                queue.wait_all()

            calls["OpenVINO, throughput hint"] = in_flight, 4 * len(x)
    return calls


def onnxruntime_call(path, x):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(path), options)
    return lambda: session.run(None, {"x": x})


def paddle_call(prefix, x, precision):
    """Paddle Inference on a network saved as it is, with oneDNN."""
    from paddle import inference
    program = next(path for path in (Path(f"{prefix}.json"), Path(f"{prefix}.pdmodel")) if path.exists())
    config = inference.Config(str(program), f"{prefix}.pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn()
    config.set_cpu_math_library_num_threads(THREADS)
    if precision == "bf16":
        config.enable_mkldnn_bfloat16()
    predictor = inference.create_predictor(config)
    give = predictor.get_input_handle(predictor.get_input_names()[0])
    take = predictor.get_output_handle(predictor.get_output_names()[0])

    def call():
        give.copy_from_cpu(x)
        predictor.run()
        take.copy_to_cpu()

    return call


def speed_rows(name, folder, batches, repeats, torch_python):
    """Every precision and batch size of one variant: [{model, precision, batch, contender, ours, ...}]."""
    model, rows = network(name), []
    export(model, folder / "ours", 224, class_names=map(str, range(1000)), calibration=random_images(64),
           progress=False)
    (folder / "plain.onnx").write_bytes(to_onnx(model, (3, 224, 224)).SerializeToString())
    spec = paddle.static.InputSpec([None, 3, 224, 224], "float32", "x")
    paddle.jit.save(model, str(folder / "plain"), input_spec=[spec])
    plain_int8(folder)
    for batch, precision in itertools.product(batches, ("fp32", "bf16", "int8")):
        x = np.random.RandomState(0).rand(batch, 3, 224, 224).astype(np.float32)
        contenders = {}
        for engine in ("native", "openvino", "paddle", "onnxruntime"):
            if precision in offered(engine):
                ours = Predictor(folder / "ours", engine, precision, THREADS)
                contenders[f"ours: {engine}"] = (lambda ours=ours, x=x: ours.logits(x)), batch
        if precision == "fp32":
            contenders["Paddle eager"] = (lambda x=x: model(paddle.to_tensor(x)).numpy()), batch
        if precision in offered("paddle"):
            contenders["Paddle Inference, plain"] = paddle_call(folder / "plain", x, precision), batch
        if precision in offered("openvino"):
            path = folder / ("plain_int8.xml" if precision == "int8" else "plain.onnx")
            notes = {precision: ""}  # {precision of the layers that are not int8: what to call it}
            if precision == "int8":
                notes = {other: f", {other} beside int8" for other in offered("openvino") if other != "int8"}
            for other, note in notes.items():
                contenders.update({f"{key}{note}, plain": value
                                   for key, value in openvino_calls(path, x, other).items()})
        if precision in offered("onnxruntime"):
            path = folder / ("plain_int8.onnx" if precision == "int8" else "plain.onnx")
            contenders["ONNX Runtime, plain"] = onnxruntime_call(path, x), batch
        if torch_python and precision != "int8":
            contenders["PyTorch, compiled"] = Torch(torch_python, "infer", name, 224, batch, precision), batch
        with paddle.no_grad():
            timings = in_turn(contenders, repeats)
        for call, _ in contenders.values():
            if isinstance(call, Torch):
                call.close()
        rows += [{"model": name, "precision": precision, "batch": batch, "contender": contender,
                  "ours": contender.startswith("ours"), **timing.to_dict()} for contender, timing in timings.items()]
        for row in rows[-len(timings):]:
            print(f"{name} {precision} batch {batch:2d} {row['contender']:32s} {row['images_per_second']:8.1f}",
                  flush=True)
    return rows


def plain_int8(folder):
    """int8 as OpenVINO's and ONNX Runtime's documentation make it: NNCF on OpenVINO's graph; QDQ, per channel."""
    import nncf
    import openvino
    from onnxruntime import quantization
    images = random_images(64).images
    batches = [((image[None] - np.float32(127.5)) / np.float32(64)).astype(np.float32) for image in images]
    model = openvino.Core().read_model(str(folder / "plain.onnx"))
    openvino.save_model(nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches)),
                        str(folder / "plain_int8.xml"))

    class Reader(quantization.CalibrationDataReader):
        left = iter(batches)

        def get_next(self):
            batch = next(self.left, None)
            return None if batch is None else {"x": batch}

    quantization.quant_pre_process(str(folder / "plain.onnx"), str(folder / "prepared.onnx"), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(folder / "prepared.onnx"), str(folder / "plain_int8.onnx"), Reader(), quantization.QuantFormat.QDQ,
        per_channel=True, activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)


def mixer_rows(folder, names, repeats):
    """PConv against the depthwise convolution and no mixer at all: same engine, same width, batch 32, exported."""
    rows, x = [], np.random.RandomState(0).rand(32, 3, 224, 224).astype(np.float32)
    for name in names:
        for mixer in ("pconv", "dwconv", "identity"):
            export(network(name, mixer), folder / f"{name}-{mixer}", 224, formats=("paddle", "onnx"), progress=False)
        for engine, precision in itertools.product(("native", "openvino", "onnxruntime", "paddle"), ("fp32", "bf16")):
            if precision not in offered(engine):
                continue
            contenders = {}
            for mixer in ("pconv", "dwconv", "identity"):
                if engine != "native" or mixer != "dwconv":
                    ours = Predictor(folder / f"{name}-{mixer}", engine, precision, THREADS)
                    contenders[mixer] = (lambda ours=ours: ours.logits(x)), 32
            rows += [{"model": name, "engine": engine, "precision": precision, "mixer": mixer, **timing.to_dict()}
                     for mixer, timing in in_turn(contenders, repeats).items()]
            print(name, engine, precision, {row["mixer"]: row["images_per_second"] for row in rows[-len(contenders):]},
                  flush=True)
    return rows


def accuracy_rows(folder, data_file):
    """The shipped network on all CIFAR-10 test images: every engine and precision against the eager network."""
    run = load_run(CIFAR10_RUN, "final")
    train, test = load_dataset("cifar10", data_file)
    expected = evaluate(run.model, test, run.preprocess)
    export(run, folder / "cifar10", calibration=train, progress=False)
    images, rows = test.images.transpose(0, 2, 3, 1), []
    for engine in ("eager", "paddle", "openvino", "onnxruntime", "native"):
        for precision in offered(engine):
            predicted = Predictor(folder / "cifar10", engine, precision, THREADS)(images)
            top1 = float((predicted.argmax(1) == test.labels).mean())
            rows.append({"engine": engine, "precision": precision, "images": len(test), "top1": round(top1, 5),
                         "points_lost": round(100 * (expected.accuracy - top1), 3),
                         "other_answers": int((predicted.argmax(1) != expected.predicted).sum()),
                         "largest_difference": float(np.abs(predicted - expected.probabilities).max())})
            print(rows[-1], flush=True)
    return {"weights": sha256(CIFAR10_RUN / "final_model.pdparams"), "eager_top1": expected.accuracy, "rows": rows}


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
        ours, peer = sides["ours"], sides["peer"]
        entry = {"model": model, "precision": precision, "batch": batch, "ours": ours["contender"],
                 "ours_images_per_second": ours["images_per_second"], "peer": peer["contender"],
                 "peer_images_per_second": peer["images_per_second"],
                 "ratio": round(ours["images_per_second"] / peer["images_per_second"], 3)}
        if precision == "int8" and (model, "bf16", batch) in best:
            entry["over_our_bf16"] = round(
                ours["images_per_second"] / best[model, "bf16", batch]["ours"]["images_per_second"], 3)
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["fasternet_t0", "fasternet_t2", "fasternet_s"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--repeats", type=int, default=5, help="turns of each contender, see turns.py")
    parser.add_argument("--torch-python", default=None)
    parser.add_argument("--data-file", default=None)
    parser.add_argument("--accuracy", action="store_true", help="only the part about accuracy; the rest of the record "
                                                                "stays")
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    out = make_folder("out", options.out)
    if options.accuracy:
        content = json.loads((out / "inference.json").read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            content["accuracy"] = accuracy_rows(Path(folder), options.data_file)
        return write_json(out / "inference.json", content)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rows = []
        for name in options.models:
            (folder / name).mkdir()
            rows += speed_rows(name, folder / name, options.batches, options.repeats, options.torch_python)
        mixers = mixer_rows(folder, options.models[:2], options.repeats)
        accuracy = accuracy_rows(folder, options.data_file)
    macs = {name: count_macs(network(name)) for name in options.models}
    content = {"command": f"OMP_NUM_THREADS={machine()['threads']} python benchmarks/inference.py --models "
                          f"{' '.join(options.models)} --batches {' '.join(map(str, options.batches))} --repeats "
                          f"{options.repeats}{' --torch-python PYTHON' if options.torch_python else ''}",
               "machine": machine(), "macs": macs, "repeats": options.repeats, "summary": summary(rows), "rows": rows,
               "mixers": mixers, "accuracy": accuracy}
    write_json(out / "inference.json", content)
    print(json.dumps(content["summary"], indent=1))
    plots.save_figure(out / "inference.png", plots.plot_engines, drawn(rows))


if __name__ == "__main__":
    main()
