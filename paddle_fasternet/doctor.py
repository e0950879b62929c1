"""What is installed here and whether it works: ``paddle-fasternet doctor``, for pasting into an issue."""
import importlib.metadata
import platform
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from . import __version__, data, deploy, explain, training
from .benchmark import machine
from .data.known.cifar import find_cifar10
from .native import library

# Distributions, of which the first that is there counts
_NEEDED = (("numpy",), ("matplotlib",), ("pillow",), ("scikit-image",), ("scikit-learn",), ("tqdm",),
           ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"))
_OPTIONAL = {"onnx": "export to ONNX", "onnxruntime": "export to ONNX, engine onnxruntime",
             "openvino": "engine openvino", "nncf": "int8", "paddlex": "opening an export in PaddleX",
             "visualdl": "train --visualdl", "interpretdl": "make interpretdl", "jupyter": "notebooks"}


def describe():
    """Yield lines: versions, device, what is installed, and what is missing for which feature."""
    here = machine()
    yield f"paddle_fasternet {__version__}, Paddle {here['paddle']}, Python {here['python']}, {platform.platform()}"
    yield (f"{here['device']}: {here['name']}, {here['cores']} cores; Paddle computes on {here['threads']} of them "
           "(OMP_NUM_THREADS)")
    if "cuda" in here:
        yield f"  {here['gpus']} of them; Paddle was built for CUDA {here['cuda']} and cuDNN {here['cudnn']}"
    for names in _NEEDED:
        name = next(filter(_version, names), None)
        yield f"  {name} {_version(name)}" if name else f"  {names[0]} is MISSING: pip install {names[0]}"
    for name, use in _OPTIONAL.items():
        yield f"  {name} {_version(name) or 'not installed'} ({use})"
    for name, engine in deploy.ENGINES.items():
        yield f"  engine {name}: {', '.join(engine.offered()) or engine.why_not_here()}"
    yield f"  training kernels: {', '.join(training.native.kinds()) or library.why_not()}"
    try:
        yield f"  CIFAR-10: {find_cifar10(None) or 'not on this machine, would be downloaded'}"
    except FileNotFoundError as error:
        yield f"  CIFAR-10: {error}"


def _version(distribution):
    """Its version, None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def check(folder):
    """Try things on a small scale in ``folder``: yields (what, seconds, the exception it ended with or None)."""
    folder = Path(folder)
    steps = {"train": lambda: _train(folder / "run"),
             "export": lambda: _export(folder / "run", folder / "export"),
             **{f"predict with {name}": lambda name=name: _predict(training.load_run(folder / "run"), name)
                for name, engine in deploy.ENGINES.items()
                if engine.offered() and all(map(_version, engine.writes_with))},
             "explain": lambda: _explain(folder / "export")}
    for what, step in steps.items():
        start, error = time.perf_counter(), None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                step()
        except Exception as raised:  # of any kind: it is what the report is about
            error = raised
        yield what, time.perf_counter() - start, error


def _images():
    """Twenty images of two colours."""
    labels = np.arange(20) % 2
    noise = np.random.default_rng(0).integers(0, 60, (20, 3, 32, 32))
    colours = np.array([[180, 0, 0], [0, 0, 180]])
    images = (noise + colours[labels][:, :, None, None]).astype(np.uint8)
    return data.ImageSet(images, labels, ("red", "blue"), "two colours", "made up")


def _train(run):
    config = training.TrainConfig(epochs=1, batch_size=10, patch_size=4)
    training.fit(config, _images(), _images(), run, progress=False)


def _export(run, out):
    formats = [name for name in deploy.FORMATS if all(map(_version, deploy.packages_of(name)))]
    deploy.export(training.load_run(run), out, formats=formats, progress=False)


def _predict(run, engine):
    images = _images().images.transpose(0, 2, 3, 1)
    answers, expected = (deploy.Predictor(run, name, "fp32")(images) for name in (engine, deploy.EAGER))
    difference = np.abs(answers - expected).max()
    if not difference < 1e-3:
        raise ValueError(f"its answers differ from those of Paddle itself by {difference:.2g}")


def _explain(export):
    predictor = deploy.Predictor(export, deploy.EAGER, "fp32")
    image = _images().images[0].transpose(1, 2, 0)
    explain.LimeExplainer(predictor).explain(image, num_samples=200, progress=False)


def add_commands(add):
    """Describe the command to the parser."""
    add("doctor", _doctor, "Print versions, device and what is installed, then try out a small training, an export, "
                           "every engine and an explanation. Paste what it prints into an issue.")


def _doctor(_):
    for line in describe():
        print(line)
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for what, seconds, error in check(folder):
            print(f"{what}: " + (f"FAILED, {type(error).__name__}: {error}" if error else f"works ({seconds:.1f} s)"))
            failed += [what] if error else []
    if failed:
        raise OSError(f"does not work here: {', '.join(failed)}")
    print("Everything tried works.")
