"""The table of data sets that ``load_dataset`` knows by name.

A module of this package is one entry or several: it defines ``DATASETS``, {name: ``Dataset``}. To add a data set, add
a module.
"""
import dataclasses
import importlib
import pkgutil
from typing import Callable


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One entry of the table.

    Attributes:
        load: called with ``data_file`` (None: find or download it); gives ``(train, test)``.
        mirror: whether a mirror image means the same, so that "flip" is a sensible augmentation.
        demo: settings of ``TrainConfig`` for a first look of about two minutes on two cores; "recipe" names the recipe
            that they change.
    """

    load: Callable
    mirror: bool
    demo: dict


def table():
    """{name: ``Dataset``} of all modules of this package."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {name: entry for module in modules for name, entry in module.DATASETS.items()}
