"""From images to probabilities through the fastest engine of this machine."""
import collections
import contextlib
import functools
import hashlib
import itertools
import json
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import paddle

from .._check import check_choice, check_number
from .._files import write_json
from .._modes import dynamic
from .._plain import oddities
from ..benchmark import machine, time_in_turn
from ..data import Augment
from ..data.images import as_pixels, central_square, check_pixels, fit_channels, is_image, is_tensor
from ..data.imageset import Images
from ..native.cpu import default_threads
from .engines import ENGINES, PRECISIONS, by_speed, check_offered, check_processor, offered, on_cpu
from .files import NetworkFiles, open_files

# Images in memory at a time, and again as many being prepared on each of two threads
_BATCH, _BATCH_ON_GPU = 32, 128
_WORKERS = 2
_PAUSE = 0.25  # seconds after which the threads of one engine have gone to sleep and the next can be timed
# bf16 and int8 are chosen by themselves only where an export's record shows that they lose at most so much of the
# accuracy, and give at least so many of the answers of fp32.
_ACCEPTED_LOSS, _ACCEPTED_SAME = 0.003, 0.99
# By how much of the largest logit an engine's logits may differ from the network's.
_TOLERANCE = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}
_TOLERANCE_ON_GPU = 2e-2  # TF32 tensor cores keep 10 mantissa bits


class Predictor:
    """Classify images. A network that is trained or changed later is followed: the next call uses it as it is then.

    For that, each call compares the network's values with a copy, 1 ms for a T0; an exported folder needs none of it.
    Whatever the engine, it computes what the network computes: at its start it is held against the network itself on a
    random batch. A predictor can be used by several threads and in forked children, pickled and copied.

    Args:
        source: the folder that ``export`` left, what ``load_run`` returned, a ``Classifier``, or a network.
        engine: "eager", "paddle" (Paddle Inference), "openvino", "onnxruntime", "native" (this library's own kernels),
            or "auto": the fastest of those that are installed, measured on this machine once and then remembered in
            ``~/.cache/paddle_fasternet/engines.json``. Where Paddle's current device is a GPU, "auto" leaves out the
            last three, which compute on the CPU.
        precision: "fp32", "bf16", "fp16" (on a GPU), "int8", or "auto": the fastest of fp32 and those that, by the
            export's record, cost at most 0.3 points of accuracy and change at most one answer in a hundred.
        threads: of the engine; None takes all cores of this process. "eager" has Paddle's (``OMP_NUM_THREADS``).
        image_size, mean, std, class_names: for a network, which does not know them unless it is pretrained: side of
            the input, statistics of each channel in 0..255 (None: ImageNet's), names of the outputs (None: numbers).

    Attributes: ``engine`` and ``precision`` chosen, ``threads``, ``image_size``, ``mean``, ``std``, ``class_names``,
    ``classifier`` (None where the source was a folder).

    Raises:
        FileNotFoundError, ValueError: the folder is no export, or damaged; the engine lacks a file or the precision, or
            does not compute what the network computes.
        ImportError: the engine is not installed.
    """

    @dynamic
    def __init__(self, source, engine="auto", precision="auto", threads=None, *, image_size=None, mean=None, std=None,
                 class_names=None):
        check_choice("engine", engine, ("auto", *ENGINES))
        check_choice("precision", precision, ("auto", *PRECISIONS))
        self.threads = default_threads() if threads is None else check_number("threads", threads, low=1, integer=True)
        self._files = open_files(source, image_size=image_size, mean=mean, std=std, class_names=class_names)
        self.image_size, self.class_names = self._files.image_size, self._files.class_names
        self.mean, self.std = self._files.mean, self._files.std
        self._prepare = Augment("none", self.image_size, self.mean, self.std)
        self._asked = engine, precision
        self._locks = {}
        self._choose()

    def _choose(self):
        """Choose engine and precision, and start it in this process."""
        candidates = self._candidates(*self._asked)
        if len(candidates) == 1:
            (self.engine, self.precision), self._run = candidates[0], self._start(*candidates[0])
        else:
            (self.engine, self.precision), self._run = self._fastest(candidates)
        self._takes_uint8 = hasattr(self._run, "run_uint8")
        self._process = os.getpid()
        self._files.started()

    @property
    def classifier(self):
        return self._files.classifier

    def __getstate__(self):
        """Without what belongs to this process: the engine, which starts again when it is needed, and locks."""
        return {name: value for name, value in vars(self).items() if name not in ("_run", "_process", "_locks")}

    def __setstate__(self, state):
        vars(self).update(state, _run=None, _process=None, _locks={})

    def __repr__(self):
        return (f"Predictor(engine={self.engine!r}, precision={self.precision!r}, threads={self.threads}, "
                f"image_size={self.image_size}, classes={len(self.class_names)})")

    def __call__(self, images, progress=False, on_error="raise"):
        """Probabilities float32 [N, K] in the order of the images, of any number of them in bounded memory.

        Args:
            images: uint8 [N, H, W, C], [H, W, C] or [H, W] as array or tensor, a path, bytes, an open file, a PIL
                image, or any iterable of these single ones; or a set of images. The central square is taken and
                resized to ``image_size``. A grey network sees colour pictures in grey, and any other one grey
                pictures in colour; transparent ones lie on white.
            progress: show a bar.
            on_error: of an image among several that cannot be read: "raise"; "skip" gives it a row of NaN and warns; a
                function is called with its number and the error, and it gets a row of NaN.

        Raises:
            FileNotFoundError, ValueError, TypeError: an image is missing, damaged, or no image.
        """
        from tqdm.auto import tqdm
        self._follow()
        if not callable(on_error):
            check_choice("on_error", on_error, ("raise", "skip"))
        on_error = {"raise": _raise, "skip": _warn}.get(on_error, on_error)
        chunks, count = _chunks(images, self.image_size)
        parts = [np.zeros((0, len(self.class_names)), np.float32)]
        with ThreadPoolExecutor(_WORKERS, "predictor") as pool, tqdm(total=count, unit="img", disable=not progress,
                                                                     leave=False) as bar:
            ahead = collections.deque()
            try:
                while True:
                    for chunk in itertools.islice(chunks, _WORKERS + 1 - len(ahead)):
                        ahead.append(pool.submit(self._ready, chunk))
                    if not ahead:
                        return np.concatenate(parts)
                    batch, failed = ahead.popleft().result()
                    for place, error in failed.items():
                        on_error(sum(map(len, parts)) + place, error)
                    rows = softmax(self._logits(batch)) if len(batch) else parts[0]
                    for place in failed:  # in their order
                        rows = np.insert(rows, place, np.nan, axis=0)
                    parts.append(rows)
                    bar.update(len(rows))
            finally:
                for future in ahead:
                    future.cancel()

    def classify(self, images, k=5, progress=False, on_error="raise"):
        """The k likeliest classes of each image, likeliest first: a list of lists of (name, probability).

        Args:
            images, progress, on_error: as for the predictor itself; an image that cannot be read has no classes, [].
            k: how many classes; fewer where the network has fewer.
        """
        k = check_number("k", k, low=1, integer=True)
        return [[(self.class_names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:k]]
                if row[0] == row[0] else [] for row in self(images, progress, on_error)]

    def logits(self, x):
        """Logits float32 [N, K] of a normalised batch, float32 [N, C, S, S] as array or tensor."""
        if isinstance(x, paddle.Tensor):
            x = x.numpy()
        shape = ["N", len(self.mean), self.image_size, self.image_size]
        if not isinstance(x, np.ndarray) or x.dtype != np.float32 or list(x.shape[1:]) != shape[1:]:
            raise ValueError(f"x of shape {list(np.shape(x))} and type {getattr(x, 'dtype', type(x).__name__)} must be "
                             f"float32 {shape}; images that are not normalised go to the predictor itself")
        self._follow()
        batch = _batch()
        parts = [self._logits(np.ascontiguousarray(x[start:start + batch])) for start in range(0, len(x), batch)]
        return np.concatenate([np.zeros((0, len(self.class_names)), np.float32), *parts])

    def _lock(self):
        """An engine holds its buffers: one batch at a time. Each process has a lock, because a forked child may inherit
        one that a thread of its parent holds.
        """
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _follow(self):
        """Choose and start anew where the network has changed."""
        with self._lock():
            if self._files.refresh():
                self._choose()

    def _logits(self, batch):
        with self._lock():
            if self._process != os.getpid():  # unpickled, or forked: an engine's threads are not inherited
                self._run, self._process = self._start(self.engine, self.precision), os.getpid()
            return (self._run.run_uint8 if batch.dtype == np.uint8 and self._takes_uint8 else self._run)(batch)

    def _ready(self, chunk):
        """(what the engine takes of some images, {place: error} of those that cannot be read).

        It takes uint8 [n, S, S, C] where it can and nothing is to be resized, float32 [n, C, S, S] otherwise.
        """
        channels, failed = len(self.mean), {}
        if callable(chunk):  # of a set
            groups = [_square(chunk().transpose(0, 2, 3, 1))]
            if groups[0].shape[3] != channels:
                raise ValueError(f"images of {groups[0].shape[3]} channels do not fit the network, which has "
                                 f"{channels}")
        elif isinstance(chunk, np.ndarray):
            groups = [fit_channels(_square(chunk), channels)]
        else:
            groups = []
            for place, image in enumerate(chunk):
                try:
                    groups.append(_square(as_pixels(image, channels)[None]))
                except (OSError, ValueError) as error:
                    failed[place] = error
            if not groups:
                return groups, failed
        if self._takes_uint8 and all(group.shape[1] == self.image_size for group in groups):
            return np.ascontiguousarray(np.concatenate(groups) if len(groups) > 1 else groups[0]), failed
        return np.concatenate([self._prepare(group.transpose(0, 3, 1, 2), None, None)[0] for group in groups]), failed

    def _candidates(self, engine, precision):
        """Pairs (engine, precision) to choose from; raises what there is to say where there is none."""
        precisions = [precision] if precision != "auto" else [
            "fp32", *filter(self._accepted, (name for name in PRECISIONS if name != "fp32"))]
        if engine != "auto":
            pairs = [(engine, name) for name in precisions
                     if precision != "auto" or (name in offered(engine) and ENGINES[engine].has(self._files, name))]
            pairs = pairs or [(engine, "fp32")]  # which then says why there is none
            check_offered(engine, pairs[0][1])
            return pairs
        names = [name for name in by_speed() if on_cpu() or ENGINES[name].follows_device]
        pairs = [(name, choice) for name in names for choice in precisions
                 if choice in offered(name) and ENGINES[name].has(self._files, choice)]
        if not pairs and not on_cpu():
            raise ValueError(f"precision={precision!r} is not to be had on this GPU; take precision='fp32', or name an "
                             "engine that computes on the CPU, such as engine='native'")
        if not pairs:
            check_processor(precision)
            able = [name for name in names if precision in offered(name)]
            if able:
                self._start(able[0], precision)  # says what is missing
            raise ImportError(f"no engine for precision={precision!r} is installed: pip install "
                              "'paddle_fasternet[deploy]'")
        return pairs

    def _accepted(self, precision):
        fp32, own = (self._files.accuracy.get(name) for name in ("fp32", precision))
        return bool(fp32 and own and own["top1"] >= fp32["top1"] - _ACCEPTED_LOSS and
                    own["same_as_fp32"] >= _ACCEPTED_SAME)

    def _start(self, engine, precision):
        """The engine, started, and held against the network itself where that is in memory."""
        run = ENGINES[engine].start(self._files, precision, self.threads)
        if self._files.classifier is not None and not ENGINES[engine].runs_layers:
            x, expected = self._files.expected()
            limit = max(_TOLERANCE[precision], _TOLERANCE_ON_GPU * (paddle.get_device() != "cpu"))
            worst = np.abs(run(x) - expected).max() / max(np.abs(expected).max(), 1e-12)
            if not worst <= limit:
                model = self._files.classifier.model
                odd = "; ".join(f"{name or 'the network'} {why}" for name, why in oddities(model))
                raise ValueError(f"engine={engine!r} does not compute what the network computes: its logits differ by "
                                 f"{worst:.1e} of the largest{f' ({odd})' if odd else ''}; engine='eager' runs the "
                                 "network itself")
        return run

    def _fastest(self, candidates):
        """The pair that is known, or measured now, to be the fastest, and its engine, started."""
        memory, key = _memory(), self._key(candidates)
        known = _read(memory).get(key)
        if known and tuple(known["choice"]) in candidates:
            with contextlib.suppress(Exception):  # another one may do
                return tuple(known["choice"]), self._start(*known["choice"])
        x = np.random.RandomState(0).rand(16, len(self.mean), self.image_size, self.image_size).astype(np.float32)
        engines, seconds, refusals = {}, {}, {}
        for pair in candidates:
            try:
                run = self._start(*pair)
                timing = time_in_turn({pair: lambda run=run: run(x)}, len(x), repeats=1, warmup=1, pause=_PAUSE)
            except Exception as error:  # of any kind: another engine may do
                refusals[pair[0]] = error
            else:
                engines[pair], seconds[pair] = run, timing[pair].median
        if not engines:
            raise ValueError(f"no engine runs this network: {refusals}")
        near = [pair for pair in engines if seconds[pair] < 2 * min(seconds.values())]
        timings = time_in_turn({pair: lambda run=engines[pair]: run(x) for pair in near}, len(x), repeats=3, warmup=0,
                               pause=_PAUSE)
        choice = min(timings, key=lambda pair: timings[pair].median)
        seconds.update({pair: timing.median for pair, timing in timings.items()})
        speeds = {" ".join(pair): round(len(x) / value, 1) for pair, value in seconds.items()}
        try:
            write_json(memory, {**_read(memory), key: {"choice": choice, "images_per_second": speeds}})
        except OSError:
            pass  # a home that cannot be written: the next predictor measures again
        return choice, engines[choice]

    def _key(self, candidates):
        """What the speed depends on: this machine, the network's shape, and what there is to choose from."""
        facts = [machine(), self.threads, self.image_size, self._files.signature(), candidates,
                 {engine.package: _version(engine.package) for engine in ENGINES.values() if engine.package}]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def start_fastest(classifier, threads=None):
    """A ``Predictor`` at fp32 with the engine that as a rule is the fastest for this network; None: Paddle's layers.

    For where measuring would take longer than it gains. An engine that fails has a bug, of which a warning tells once;
    the next one is tried.
    """
    if paddle.get_device() != "cpu":
        return None
    files = NetworkFiles(classifier)
    for engine in by_speed():
        if ENGINES[engine].starts_quickly and "fp32" in offered(engine) and ENGINES[engine].has(files, "fp32"):
            try:
                return Predictor(classifier, engine, "fp32", threads)
            except Exception as error:  # of any kind: the next one computes the same
                _say_once(f"engine {engine} failed and is not used: {type(error).__name__}: {error}")
    return None


@functools.lru_cache(None)
def _say_once(text):
    warnings.warn(text, stacklevel=4)


def softmax(logits):
    """Probabilities float32 [N, K]."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def _chunks(images, size):
    """(iterator of arrays [n, H, W, C], calls for [n, C, H, W], or lists of single images; their number or None)."""
    batch = _batch()
    if isinstance(images, Images):
        return (functools.partial(images.pixels, slice(start, start + batch), size)
                for start in range(0, len(images), batch)), len(images)
    if is_tensor(images):
        images = images.numpy()
    if isinstance(images, np.ndarray) and images.ndim == 4:
        check_pixels(images)
        return (images[start:start + batch] for start in range(0, len(images), batch)), len(images)
    if is_image(images):
        images = [images]
    try:
        count, images = len(images) if hasattr(images, "__len__") else None, iter(images)
    except TypeError:
        raise TypeError(f"images of type {type(images).__name__} must be uint8 [N, H, W, C], paths or PIL images"
                        ) from None
    return iter(lambda: list(itertools.islice(images, batch)), []), count


def _batch():
    return _BATCH if on_cpu() else _BATCH_ON_GPU


def _raise(number, error):
    raise error


def _warn(number, error):
    warnings.warn(f"image {number} is left out: {error}", stacklevel=4)


def _square(images):
    """The central squares of [N, H, W, C]."""
    return central_square(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)


def _memory():
    """File of the measured choices."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "paddle_fasternet" / "engines.json"


def _read(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): value for key, value in content.items() if {"choice"} <= set(value)}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _version(package):
    from importlib import metadata
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
