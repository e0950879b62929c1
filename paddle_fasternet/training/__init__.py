"""Settings, the training loop, and the folder that a run leaves."""
from ..evaluation import Evaluation, evaluate
from .checkpoint import Run, load_run, read_record
from .config import TrainConfig
from .history import History
from .loop import fit
from .native import use_native_kernels
from .recipes import RECIPES

__all__ = ["RECIPES", "Evaluation", "History", "Run", "TrainConfig", "evaluate", "fit", "load_run",
           "read_record", "use_native_kernels"]
