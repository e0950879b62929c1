"""The engines that run a network. ``ENGINES`` holds one object each, which answers for itself: see ``base.Engine``."""
from ..._check import check_choice
from .base import PRECISIONS, Engine, check_processor, is_installed, on_cpu, to_device
from .eager import Eager
from .native import Native
from .onnxruntime import OnnxRuntime
from .openvino import OpenVINO
from .paddle_inference import PaddleInference

ENGINES = {engine.name: engine for engine in (Eager(), PaddleInference(), OpenVINO(), OnnxRuntime(), Native())}
EAGER = next(name for name, engine in ENGINES.items() if engine.runs_layers)

__all__ = ["EAGER", "ENGINES", "PRECISIONS", "Engine", "by_speed", "check_offered", "check_processor", "is_installed",
           "offered", "on_cpu", "to_device"]


def by_speed():
    """The names of all engines, as a rule the fastest first."""
    return sorted(ENGINES, key=lambda name: ENGINES[name].order)


def offered(engine):
    """Precisions that an engine has on this machine, () where it is not installed."""
    return ENGINES[engine].offered()


def check_offered(engine, precision):
    """Raise what a user needs to hear where ``engine`` does not run here, or not at that precision.

    Raises:
        ImportError: the engine is not installed.
        ValueError: the engine or the precision is not known, or the precision is not offered on this machine.
    """
    check_choice("engine", engine, ENGINES)
    check_choice("precision", precision, PRECISIONS)
    ENGINES[engine].check(precision)
