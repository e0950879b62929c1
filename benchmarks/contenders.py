"""Engines as contenders: each function makes a call that runs a network once, at the best settings of its engine.

They run in processes of their own (``turns.py``). A network is named by the arguments of ``create_model`` or by the
folder of a run; "plain" is the network as it is, with BatchNorm, written by nothing but the exporter.
"""
import itertools
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from turns import THREADS, TORCH, Contender, in_turn

from paddle_fasternet import create_model, load_run
from paddle_fasternet.data import ImageSet
from paddle_fasternet.deploy import Predictor, export, offered, to_onnx


def network(model="fasternet_t0", run=None, **arguments):
    """The network of a run, or one with weights of He's initialisation.

    Speed does not depend on what was learnt, but the authors' small weights lead to denormal numbers, which cost.
    """
    if run:
        found = load_run(run, "final").model
    else:
        paddle.seed(0)
        found = create_model(model, **arguments)
        for layer in found.sublayers():
            if isinstance(layer, (nn.Conv2D, nn.Linear)):
                nn.initializer.KaimingNormal()(layer.weight)
    found.eval()
    return found


def noise(batch, size):
    """The input of every contender, float32 [N, 3, S, S]."""
    return np.random.RandomState(0).rand(batch, 3, size, size).astype(np.float32)


def random_images(count, size=224, classes=1000):
    rng = np.random.RandomState(0)
    return ImageSet(rng.randint(0, 256, (count, 3, size, size), np.uint8), np.zeros(count, int),
                    tuple(map(str, range(classes))), "noise", "numpy")


def eager(batch, size, **arguments):
    """Paddle's layers, as a script calls them: evaluation mode, no gradients, the input on Paddle's device."""
    model, x = network(**arguments), paddle.to_tensor(noise(batch, size))

    def call():
        with paddle.no_grad():
            model(x).numpy()

    return call


class Ours:
    """``Predictor`` on an exported folder, on a run's folder or on a network; it tells which engine it took."""

    def __init__(self, engine, precision, batch, size, folder=None, **arguments):
        run = arguments.get("run")
        if folder or run:
            self.predictor = Predictor(folder or load_run(run, "final"), engine, precision, THREADS)
        else:
            self.predictor = Predictor(network(**arguments), engine, precision, THREADS, image_size=size)
        self.x = noise(batch, size)

    def __call__(self):
        self.predictor.logits(self.x)

    def facts(self):
        return self.predictor.engine


def ours(engine, precision, batch, size, **source):
    """The same as a contender; ``source`` is a folder, or the arguments of ``network``."""
    return Contender(Ours, batch, dict(engine=engine, precision=precision, batch=batch, size=size, **source))


def run_eager(folder, batch, whole):
    """A run's network in Paddle's layers, on its input alone or on the whole way from images to classes."""
    run = load_run(folder, "final")
    images = random_images(batch, run.config.image_size, len(run.class_names)).images
    x = paddle.to_tensor(run.preprocess(images, None, None)[0])
    run.model.eval()

    def call():
        with paddle.no_grad():
            logits = run.model(paddle.to_tensor(run.preprocess(images, None, None)[0]) if whole else x)
            logits.argmax(1).numpy()

    return call


def run_predictor(folder, batch):
    """A run through ``Predictor``, from images to probabilities."""
    run = load_run(folder, "final")
    predictor = Predictor(run)
    images = random_images(batch, run.config.image_size, len(run.class_names)).images.transpose(0, 2, 3, 1)
    return lambda: predictor(images)


def measure_run(folder, batch, pace):
    """{"latency", "throughput", "pipeline", "Predictor": Timing} of a run, what ``measure_speed`` measures and more.

    pace: what ``turns.in_turn`` takes.
    """
    folder = str(folder)
    measured = in_turn({
        "latency": Contender(run_eager, 1, dict(folder=folder, batch=1, whole=False)),
        "throughput": Contender(run_eager, batch, dict(folder=folder, batch=batch, whole=False)),
        "pipeline": Contender(run_eager, batch, dict(folder=folder, batch=batch, whole=True)),
        "Predictor": Contender(run_predictor, batch, dict(folder=folder, batch=batch))}, **pace)
    measured.check()
    return measured.timings


def openvino(path, hint, precision, batch, size, requests=1):
    """OpenVINO as its documentation advises: the latency hint, or the throughput hint with requests in flight.

    ``precision`` is that of the layers that are not int8; OpenVINO's own choice is bf16 where the processor has it.
    """
    import openvino
    core, x = openvino.Core(), noise(batch, size)
    model = core.read_model(path)
    model.reshape(list(x.shape))
    compiled = core.compile_model(model, "CPU", {
        "PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"})
    if hint == "LATENCY":
        request = compiled.create_infer_request()
        return lambda: request.infer({0: x}, share_inputs=True)
    queue = openvino.AsyncInferQueue(compiled)

    def call():
        for _ in range(requests):
            queue.start_async({0: x}, share_inputs=True)
        queue.wait_all()

    return call


def onnxruntime(path, batch, size):
    """ONNX Runtime with all its graph optimisations, which are its default."""
    import onnxruntime
    options, x = onnxruntime.SessionOptions(), noise(batch, size)
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options)
    return lambda: session.run(None, {"x": x})


def paddle_inference(prefix, precision, batch, size):
    """Paddle Inference on a network saved as it is, with oneDNN."""
    from paddle import inference
    x = noise(batch, size)
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


def write_plain(model, folder, size, int8):
    """Write a network for the engines of others: ``plain.onnx``, ``plain.pdiparams``, and with ``int8`` its int8."""
    (folder / "plain.onnx").write_bytes(to_onnx(model, (3, size, size)).SerializeToString())
    spec = paddle.static.InputSpec([None, 3, size, size], "float32", "x")
    paddle.jit.save(model, str(folder / "plain"), input_spec=[spec])
    if int8:
        _plain_int8(folder, size)


def _plain_int8(folder, size, count=64):
    """int8 as OpenVINO's and ONNX Runtime's documentation make it: NNCF on OpenVINO's graph; QDQ, per channel."""
    import nncf
    import openvino
    from onnxruntime import quantization
    batches = [((image[None] - np.float32(127.5)) / np.float32(64)).astype(np.float32)
               for image in random_images(count, size).images]
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


def peers(folder, precision, batch, size):
    """What engines other than this library's make of the files of ``write_plain``: {name: Contender}."""
    found, shape = {}, dict(batch=batch, size=size)
    if precision in offered("paddle"):
        found["Paddle Inference, plain"] = Contender(
            paddle_inference, batch, dict(prefix=str(folder / "plain"), precision=precision, **shape))
    if precision in offered("openvino"):
        path = str(folder / ("plain_int8.xml" if precision == "int8" else "plain.onnx"))
        notes = {precision: ""}  # {precision of the layers that are not int8: what to call it}
        if precision == "int8":
            notes = {other: f", {other} beside int8" for other in offered("openvino") if other != "int8"}
        hints = {"LATENCY": 1} if batch == 1 else {"LATENCY": 1, "THROUGHPUT": 4}
        for (other, note), (hint, requests) in itertools.product(notes.items(), hints.items()):
            found[f"OpenVINO, {hint.lower()} hint{note}, plain"] = Contender(
                openvino, requests * batch, dict(path=path, hint=hint, precision=other, requests=requests, **shape))
    if precision in offered("onnxruntime"):
        path = str(folder / ("plain_int8.onnx" if precision == "int8" else "plain.onnx"))
        found["ONNX Runtime, plain"] = Contender(onnxruntime, batch, dict(path=path, **shape))
    return found


def torch_inference(python, model, precision, batch, size):
    """PyTorch compiled, channels last, with its constants folded, as its documentation advises on CPUs."""
    arguments = dict(name=model, size=size, batch=batch, precision=precision, threads=THREADS)
    return Contender(f"{TORCH}:infer", batch, arguments, python, {"TORCHINDUCTOR_FREEZING": "1"})


def export_quietly(model, folder, size, classes=1000, **options):
    export(model, folder, size, class_names=map(str, range(classes)), progress=False, **options)
