"""Wrong input of every kind to all that is public, damaged files to all that reads, and what is held on to.

    OMP_NUM_THREADS=2 python tests/soak/faults.py

Every parameter of every public name, and every option of every command, gets a list of wrong values in turn while the
others stay sound. A call may work; otherwise it must raise, from this library's own code, an error that names the
argument or its value. All else is a finding, and the script fails: an exception out of Paddle or NumPy, a bare
KeyError, 30 seconds without an answer. What there is to call is asked of the package, so that a new name that has no
sound call below is an error too. Writes work/results/faults.json; tests/test_faults.py runs it with --quick.
"""
import argparse
import contextlib
import functools
import inspect
import io
import json
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import paddle
from PIL import Image

import paddle_fasternet as pf
from paddle_fasternet import app, cli
from paddle_fasternet._files import write_json
from paddle_fasternet.benchmark import machine
from paddle_fasternet.data import datasets, read_cifar10, read_image
from paddle_fasternet.data.known.cifar import CIFAR10
from paddle_fasternet.model import VARIANTS
from paddle_fasternet.training.checkpoint import CHECKPOINTS, Checkpoints
from paddle_fasternet.weights import read_weights

PACKAGE = str(Path(pf.__file__).parent)
SMALL = dict(embed_dim=8, depths=(1, 1, 1, 1), feature_dim=16)
NAN = float("nan")
WRONG = [None, "no-such", -1, NAN, np.zeros((2, 2)),  # these for --quick
         True, "", b"bytes", [], {}, (), [None], object(), float("inf"), 0, 0.5, 2**70, -2**70, 1e300, 1j,
         np.int64(-3), np.float32("nan"), np.zeros(0), np.array("text"), int, "/proc/no-such/file", "/proc/1/mem"]
MOST_GROWTH = 2e6  # bytes over the second half of the explanations
CLEAR = (TypeError, ValueError, OSError, ImportError, FloatingPointError)
# Any truth value will do for these, and of these only that there is a figure
UNCHECKED = {"progress", "figure", "training", "ylabel"}
INTERNAL = {"History.add_steps", "History.add_epoch"}  # called by the training loop alone, at every step
# Paddle's methods with Paddle's errors; what sets of images are to the loader; what load_folder makes
INTERNAL |= {"FasterNet.load_dict", "FasterNet.set_dict", "FasterNet.set_state_dict", "ImageSet.pixels",
             "ImageFolder", "ImageFolder.pixels", "ImageFolder.record"}
TEXTS = ["no-such", "-1", "nan",  # these for --quick
         "", "0", "inf", "1.5", "x" * 300, "/proc/1/mem", "/proc/no-such/folder", "9" * 20]


class TooLong(BaseException):
    pass


@contextlib.contextmanager
def at_most(seconds):
    def end(*_):
        raise TooLong
    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def show(value):
    if isinstance(value, (str, bytes)):
        return ascii(value[:12])
    return f"{type(value).__name__} {value if np.isscalar(value) else getattr(value, 'shape', '')}"


def judge(call, words):
    """("accepted" | "clear error" | "finding", what was said)."""
    try:
        with at_most(30), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), \
                contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            call()
    except TooLong:
        return "finding", "30 seconds without an answer"
    except CLEAR as error:
        text, where = str(error), traceback.extract_tb(error.__traceback__)[-1].filename
        named = any(word.lower() in text.lower() for word in words)
        ours = where.startswith(PACKAGE) or where == __file__  # where a signature does not fit
        if not ours and not (named and isinstance(error, OSError)):
            return "finding", f"{type(error).__name__} out of {Path(where).name}: {text[:200]}"
        if not named:
            return "finding", f"{type(error).__name__} names neither argument nor value: {text[:200]}"
        return "clear error", text
    except Exception as error:
        return "finding", f"{type(error).__name__}: {str(error)[:200]}"
    return "accepted", ""


def plain_mixer(dim):
    return pf.PConv(dim)


class Sound:
    """Sound calls: {name: (callable, arguments)}. Files are made anew for each that writes."""

    def __init__(self, root):
        self.root, self.number = Path(root), 0
        self.images = datasets.load_dataset("digits")[0][:16]
        self.config = pf.TrainConfig(epochs=1, batch_size=8, patch_size=4, kernels="paddle", warmup_epochs=0.0)
        pf.fit(self.config, self.images, self.images, self.root / "run", progress=False)
        self.run = pf.load_run(self.root / "run")
        pf.export(self.run, self.root / "export", formats=("paddle",), progress=False)
        self.predictor = pf.Predictor(self.root / "export", "eager", "fp32")
        self.explainer = pf.LimeExplainer(self.predictor)
        self.picture = self.images.images[0].transpose(1, 2, 0)
        self.explanation = self.explainer.explain(self.picture, num_samples=80, progress=False)
        pf.save_weights(self.run.model, self.root / "weights.pdparams")
        for name in ("a", "b"):
            (self.root / "pictures" / name).mkdir(parents=True)
            Image.fromarray(self.picture).save(self.root / "pictures" / name / "0.png")

    def new(self):
        """A path where nothing is."""
        self.number += 1
        return self.root / f"new{self.number}"

    def calls(self):
        model = self.run.model
        x, history = paddle.zeros([2, 8, 4, 4]), self.run.history
        variant = dict(pretrained=False, num_classes=3)
        block = pf.FasterNetBlock(8)
        loss = pf.LabelSmoothingCrossEntropy()
        calls = {
            "PConv": (pf.PConv, dict(dim=8, kernel_size=3, n_div=4, forward="slicing")),
            "PConv.forward": (pf.PConv(8).forward, dict(x=x)),
            "DWConv": (pf.DWConv, dict(dim=8, kernel_size=3)),
            "DWConv.forward": (pf.DWConv(8).forward, dict(x=x)),
            "DropPath": (pf.DropPath, dict(drop_prob=0.1)),
            "DropPath.forward": (pf.DropPath(0.5).forward, dict(x=x)),
            "drop_path": (pf.drop_path, dict(x=x, drop_prob=0.5, training=True)),
            "LabelSmoothingCrossEntropy": (pf.LabelSmoothingCrossEntropy, dict(smoothing=0.1)),
            "LabelSmoothingCrossEntropy.forward": (loss.forward, dict(logits=paddle.zeros([2, 4]),
                                                                      labels=paddle.zeros([2], "int64"))),
            "FasterNetBlock": (pf.FasterNetBlock, dict(dim=8)),
            "FasterNetBlock.forward": (block.forward, dict(x=x)),
            "FasterNet": (pf.FasterNet, dict(SMALL)),
            "FasterNet.forward": (model.forward, dict(x=paddle.zeros([1, 3, 32, 32]))),
            "FasterNet.forward_features": (model.forward_features, dict(x=paddle.zeros([1, 3, 32, 32]))),
            "create_model": (pf.create_model, dict(name="fasternet_t0", **variant)),
            "list_models": (pf.list_models, {}),
            "load_weights": (pf.load_weights, dict(model=model, path=self.root / "weights.pdparams", strict=True)),
            "save_weights": (pf.save_weights, dict(model=model, path=self.new().with_suffix(".pth"))),
            "load_dataset": (pf.load_dataset, dict(name="digits", data_file=None)),
            "get_cifar10_labels": (pf.get_cifar10_labels, dict(labels=[1, 2])),
            "fit": (pf.fit, dict(config=self.config, train=self.images, val=self.images, out_dir=self.new,
                                 overwrite=False, progress=False, resume=False, checkpoint_seconds=60, visualdl=False)),
            "load_run": (pf.load_run, dict(folder=self.root / "run", which="best")),
            "evaluate": (pf.evaluate, dict(model=model, images=self.images, preprocess=self.run.preprocess,
                                           batch_size=8, flips=False)),
            "TrainConfig": (pf.TrainConfig, {}),
            "TrainConfig.from_dict": (pf.TrainConfig.from_dict, dict(values={"epochs": 3})),
            "TrainConfig.recipe": (pf.TrainConfig.recipe, dict(name=next(iter(pf.training.RECIPES)))),
            "TrainConfig.help_texts": (pf.TrainConfig.help_texts, {}),
            "TrainConfig.to_dict": (self.config.to_dict, {}),
            "TrainConfig.build_model": (self.config.build_model, dict(num_classes=3, in_channels=3)),
            "History": (pf.History, {}),
            "History.save": (history.save, dict(path=self.new())),
            "History.load": (pf.History.load, dict(path=self.root / "run" / "history.json")),
            "History.from_dict": (pf.History.from_dict, dict(content={"record": history.record, "epochs": []})),
            "plot_learning_curve": (pf.plot_learning_curve, dict(record=history, title="loss", ylabel="CE Loss")),
            "show_images": (pf.show_images, dict(imgs=self.images.images[:2], num_rows=1, num_cols=2, pred=["a", "b"],
                                                 gt=["a", "a"], scale=1.5)),
            "LimeExplainer": (pf.LimeExplainer, dict(model_or_predict_fn=self.predictor, regressor="ridge")),
            "LimeExplainer.explain": (self.explainer.explain, dict(image=self.picture, num_samples=80, progress=False)),
            "Classifier": (pf.Classifier, dict(model=model, image_size=32, mean=(120.0,) * 3, std=(60.0,) * 3,
                                               class_names=self.run.class_names)),
            "Classifier.of": (pf.Classifier.of, dict(source=self.run)),
            "Classifier.count_outputs": (self.run.classifier.count_outputs, {}),
            "ImageSet": (pf.ImageSet, dict(images=self.images.images, labels=self.images.labels,
                                           class_names=self.images.class_names)),
            "ImageSet.from_dataset": (pf.ImageSet.from_dataset, dict(dataset=[(self.picture, 0), (self.picture, 1)],
                                                                     class_names=("a", "b"))),
            "list_datasets": (pf.list_datasets, {}),
            "load_folder": (pf.load_folder, dict(folder=self.root / "pictures", cache_mb=64, progress=False)),
            "register_mixer": (pf.register_mixer, dict(name="plain", build=plain_mixer)),
            "Predictor.classify": (self.predictor.classify, dict(images=self.picture, k=2)),
            "fuse_conv_bn": (pf.fuse_conv_bn, dict(model=model)),
            "replace_conv": (pf.replace_conv, dict(model=paddle.nn.Sequential(paddle.nn.Conv2D(8, 8, 3, padding=1)),
                                                   n_div=4)),
            "export": (pf.export, dict(model=self.run, out_dir=self.new, formats=("paddle",), progress=False)),
            "Predictor": (pf.Predictor, dict(source=self.root / "export", engine="eager", precision="fp32")),
            "Predictor.__call__": (self.predictor.__call__, dict(images=self.images.images[:2].transpose(0, 2, 3, 1))),
            "Predictor.logits": (self.predictor.logits, dict(x=np.zeros((1, 3, 32, 32), np.float32))),
        }
        for name in pf.list_models():
            small = dict(variant, embed_dim=8, depths=(1, 1, 1, 1), feature_dim=16)
            calls[name] = getattr(pf, name), small
        return calls


def public_calls():
    """Names of all that can be called: ``__all__``, and the methods that its classes define themselves."""
    names = set()
    for name in pf.__all__:
        thing = getattr(pf, name)
        names.add(name)
        if inspect.isclass(thing):
            names |= {f"{name}.{method}" for method, value in vars(thing).items()
                      if (not method.startswith("_") or method == "__call__") and method != "extra_repr"
                      and (inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod)))}
    return names


def sweep_calls(sound, values):
    """Yield (name, argument, value, outcome, text)."""
    calls = sound.calls()
    missing = (public_calls() - INTERNAL) ^ set(calls)
    if missing:
        raise AssertionError(f"no sound call is known for, or nothing public is: {sorted(missing)}")
    for name, (function, arguments) in calls.items():
        outcome, text = judge(lambda f=function, a=arguments: f(**made(a)), [])
        if outcome != "accepted":
            raise AssertionError(f"the sound call of {name} fails: {text}")
        for argument in parameters(function, arguments):
            for wrong in values:
                given = {**made(arguments), argument: wrong}
                outcome, text = judge(lambda f=function, g=given: f(**g), [argument, *words(wrong),
                                                                  *SYNONYMS.get(argument, ())])
                yield name, argument, show(wrong), outcome, text
        if any(p.kind == p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()):
            outcome, text = judge(lambda f=function, a=arguments: f(**made(a), no_such_thing=1), ["no_such_thing"])
            yield name, "no_such_thing", "1", outcome if outcome != "accepted" else "finding", text


# What an error may call an argument
SYNONYMS = {
    "x": ("input",), "drop_path": ("drop_prob",), "name": ("recipe",), "values": ("config field",),
    "title": ("record",), "labels": ("label ",), "imgs": ("an image",), "images": ("image=",), "data": ("name=",),
    "run": ("folder=",), "model": ("neither a network",),
    "weight_decay": ("loss is nan",), "source": ("neither a network", "exported", "src="), "target": ("dst=",),
}


def made(arguments):
    return {name: value() if inspect.ismethod(value) else value for name, value in arguments.items()}


def words(value):
    if isinstance(value, str) and len(value) > 1:
        return [value, str(Path(value).parent / ".")[:-1]] if value.startswith("/") else [value]
    return []


def parameters(function, arguments):
    named = [name for name, parameter in inspect.signature(function).parameters.items()
             if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)]
    return [name for name in dict.fromkeys([*named, *arguments]) if name not in UNCHECKED]


def commands():
    """{name: parser} of the command line."""
    return next(action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)).choices


def sweep_options(sound, texts):
    """Yield (command, option, value, outcome, text)."""
    root = sound.root
    picture, out = str(root / "image.png"), str(root / "cli")
    run = ["--run", str(root / "run")]
    sound = {
        "train": ["--data", "digits", "--epochs", "1", "--out", out, "--overwrite", "--warmup-epochs", "0",
                  "--batch-size", "8", "--patch-size", "4", "--kernels", "paddle"],
        "evaluate": [*run, "--data", "digits", "--engine", "eager", "--out", out],
        "demo": ["--data", "digits", "--out", out],
        "predict": [picture, *run, "--engine", "eager"],
        "explain": [picture, *run, "--samples", "80", "--out", str(root / "cli" / "explanation.png")],
        "export": [*run, "--out", out + "export", "--formats", "paddle", "--overwrite"],
        "convert": [str(root / "weights.pdparams"), str(root / "cli" / "weights.pth")],
        "benchmark": ["--model", "fasternet_t0", "--image-size", "32", "--repeats", "1", "--batch-size", "2"],
        "operators": ["--engines", "eager", "--repeats", "1", "--operators", "pconv", "--batch-size", "1",
                      "--out", out],
        "doctor": [],
        "app": run,
    }
    app.serve = lambda *_: None  # it would serve until it is interrupted
    # the commands of detect are below it, and need PaddleDetection
    known = {name: parser for name, parser in commands().items() if name != "detect"}
    if set(sound) != set(known):
        raise AssertionError(f"no sound command line is known for {set(sound) ^ set(known)}")
    for command, parser in known.items():
        for action in parser._actions:
            if action.nargs == 0 or isinstance(action, argparse._HelpAction):
                continue
            for text in texts:
                if action.dest == "out" and "/" not in text:
                    continue  # a good name for a folder
                if action.option_strings:
                    given = [*sound[command], action.option_strings[0] + "=" + text]
                else:
                    given = [text if word == sound[command][0] else word for word in sound[command]]
                yield command, action.dest, text[:20], *judge_command([command, *given], action.dest, text)
        given = [command, *sound[command], "--no-such-option"]
        yield command, "no-such-option", "", *judge_command(given, "no-such-option", "")


def judge_command(arguments, name, value):
    errors = io.StringIO()
    try:
        with at_most(30), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), \
                contextlib.redirect_stderr(errors):
            warnings.simplefilter("ignore")
            status = cli.main(arguments)
    except SystemExit as end:
        status = end.code
    except TooLong:
        return "finding", "30 seconds without an answer"
    except Exception as error:
        return "finding", f"{type(error).__name__}: {str(error)[:200]}"
    said = errors.getvalue().strip().splitlines()[-1:] or [""]
    if status == 0:
        return "accepted", ""
    named = {name, name.replace("_", "-"), name.replace("-", "_"), f"{value!r}", f" {value}: ", *words(value),
             *SYNONYMS.get(name, ())}
    expected = (1, 2) if arguments[0] == "predict" else (2,)  # 1: a file among others could not be read
    if status not in expected or not any(word in said[0] for word in named):
        return "finding", f"status {status}: {said[0][:200]}"
    return "clear error", said[0]


def broken(content, rng):
    """A copy of a JSON value with one thing in it replaced, removed or added."""
    copy = json.loads(json.dumps(content))
    places = []

    def walk(value):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], (dict, list)) and value[key]:
                walk(value[key])

    walk(copy)
    holder, key = places[rng.randint(len(places))]
    wrong = [None, True, "", "no-such", [], {}, -1, 0, 0.5, 2**70, [[]], {"a": 1}, "9" * 50, -0.0]
    change = rng.randint(len(wrong) + 2)
    if change < len(wrong):
        holder[key] = wrong[change]
    elif change == len(wrong):
        del holder[key]
    elif isinstance(holder, dict):
        holder["no_such_thing"] = 1
    else:
        holder.append(holder[key])
    return copy


def fuzz(root, explanation, count):
    """Yield (reader, Counter of outcomes, findings)."""
    tests = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(tests), str(tests / "weights")]
    from test_weights_fuzz import cut_out, exchange, flip, flip_bit, insert, truncate
    damages = (flip, flip_bit, truncate, cut_out, insert, exchange)
    pixels = np.random.RandomState(0).randint(0, 256, (40, 50, 3), np.uint8)
    readers = {}
    for kind in ("png", "jpeg", "gif", "webp", "tiff", "bmp"):
        Image.fromarray(pixels).save(root / f"image.{kind}")
        readers[f"image.{kind}"] = read_image
    write_archive(root / "archive.tar.gz")
    readers["archive.tar.gz"] = read_cifar10
    state = Checkpoints(make(root / "states"))
    state.save({"a": np.arange(60.0), "b": np.ones((3, 4), np.float32)}, {"steps": 3})
    readers["states/" + CHECKPOINTS[0]] = lambda path: Checkpoints(path.parent).load()
    readers["weights.pdparams"] = read_weights
    readers["explanation.npz"] = type(explanation).load
    explanation.save(root / "explanation.npz")
    for name in ("config.json", "history.json", "best_model.pdparams"):
        readers[f"run/{name}"] = lambda path: pf.load_run(path.parent)
    for path in sorted((root / "export").iterdir()):
        readers[f"export/{path.name}"] = lambda path: pf.Predictor(path.parent, "paddle", "fp32")
    rng = np.random.RandomState(0)
    for name, read in readers.items():
        path = root / name
        whole, outcomes, findings = path.read_bytes(), Counter(), []
        # Paddle takes half a second for a network
        for number in range(count if not name.startswith(("export", "run")) else -(-count // 4)):
            if name.endswith(".json") and number % 2:
                path.write_text(json.dumps(broken(json.loads(whole), rng)))
            else:
                path.write_bytes(damages[number % len(damages)](whole, rng))
            outcome, text = judge(lambda r=read, p=path: r(p), [name.split("/")[-1], name.split("/")[0],
                                                                 str(path.parent)])
            outcomes[outcome] += 1
            if outcome == "finding":
                findings.append(text)
        path.write_bytes(whole)
        yield name, outcomes, findings


def make(folder):
    folder.mkdir(exist_ok=True)
    return folder


def write_archive(path):
    """CIFAR-10 in little, in the official layout."""
    import pickle
    import tarfile
    with tarfile.open(path, "w:gz") as tar:
        for name in [*CIFAR10.train, CIFAR10.test]:
            content = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def prepare(root):
    """Small networks and few images behind the commands, and nothing of this machine's own data."""
    for name in VARIANTS:
        VARIANTS[name] = SMALL
    whole = functools.lru_cache(None)(datasets.load_dataset)
    for module in (cli.train, cli.options):
        module.load_dataset = lambda *given: tuple(part[:16] for part in whole(*given))
    datasets.DATASETS["digits"].demo["epochs"] = 1
    os.environ.pop("PADDLE_FASTERNET_DATA", None)
    os.environ["HOME"] = os.environ["XDG_CACHE_HOME"] = str(root)
    import matplotlib
    matplotlib.use("Agg")


def explanations(count):
    """Memory, threads and files over so many explanations."""
    from long_run import held, resident
    model = pf.FasterNet(**SMALL)
    memory, before = [], None
    for number in range(count):
        explainer = pf.LimeExplainer(model, mean=(127,) * 3, std=(60,) * 3, engine="eager", seed=number)
        colours = np.random.RandomState(number).randint(0, 256, (4, 4, 3), np.uint8)
        picture = colours.repeat(8, 0).repeat(8, 1)
        explainer.explain(picture, num_samples=300, progress=False)
        if number == count // 10:
            before = held()
        if number % 10 == 9:
            memory.append(resident())
    half = len(memory) // 2
    growth = float(np.median(memory[-half // 2:]) - np.median(memory[half:half + half // 2 + 1]))
    return {"explanations": count, "bytes_every_10": memory, "growth_in_second_half": growth, "held_before": before,
            "held_after": held()}


def count_up(rows):
    """{name: counts}, the findings, and what was accepted."""
    counts, findings, accepted = {}, [], []
    for name, argument, value, outcome, text in rows:
        counts.setdefault(name, Counter())[outcome] += 1
        if outcome == "finding":
            findings.append(f"{name}({argument}={value}): {text}")
            print("finding:", findings[-1], flush=True)
        if outcome == "accepted":
            accepted.append(f"{name}({argument}={value})")
    return {name: dict(tried=sum(c.values()), **c) for name, c in counts.items()}, findings, accepted


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fuzz", type=int, default=400, help="damaged copies of each file (networks: a quarter of it)")
    parser.add_argument("--explanations", type=int, default=200)
    parser.add_argument("--parts", default="calls,options,fuzz,long", help="the others stay on record")
    parser.add_argument("--quick", action="store_true", help="a few wrong values and copies, and no explanations")
    parser.add_argument("--out", default="work/results")
    options = parser.parse_args()
    parts, out = options.parts.split(","), Path(options.out).resolve()
    before = json.loads((out / "faults.json").read_text()) if (out / "faults.json").exists() else {}
    record = {**before, "command": "python tests/soak/faults.py", "machine": machine()}
    findings = []
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        prepare(root)
        os.chdir(root)
        sound = Sound(root)
        Image.fromarray(sound.picture).save(root / "image.png")
        sweeps = {"calls": lambda: sweep_calls(sound, WRONG[:5] if options.quick else WRONG),
                  "options": lambda: sweep_options(sound, TEXTS[:3] if options.quick else TEXTS)}
        for part in [part for part in sweeps if part in parts]:
            record[part], found, accepted = count_up(sweeps[part]())
            findings += found
            print(f"{part}, accepted:", *accepted, sep="\n  ")
        if "fuzz" in parts:
            record["fuzz"] = {}
            for name, outcomes, found in fuzz(root, sound.explanation, 16 if options.quick else options.fuzz):
                record["fuzz"][name] = {"tried": sum(outcomes.values()), **outcomes}
                findings += [f"{name}: {text}" for text in found]
        if "long" in parts and not options.quick:
            record["long"] = held = explanations(options.explanations)
            if held["growth_in_second_half"] > MOST_GROWTH or held["held_before"] != held["held_after"]:
                findings.append(f"something is held on to: {held}")
        os.chdir("/")
    print(json.dumps(record, indent=1))
    write_json(out / "faults.json", record)
    if findings:
        sys.exit("\n  ".join(["findings:", *findings]))


if __name__ == "__main__":
    main()
