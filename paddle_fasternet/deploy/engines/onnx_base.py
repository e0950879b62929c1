"""What engines have in common that read ONNX."""
from ..formats import ONNX, write_onnx
from .base import Engine, is_installed


class OnnxEngine(Engine):
    """Reads ``model.onnx``, and for int8 a file of its own.

    Attributes:
        int8_file: its name.
        int8_needs: what had to be there when it was written, for the error where it is missing.
    """

    writes_with = ("onnx",)
    reads = "onnx"
    int8_file = int8_needs = ""

    def files(self, precision):
        return [(self.int8_file if precision == "int8" else ONNX,)]

    def find(self, files, precision):
        """The path of the file; Engine.start has the errors."""
        if precision == "int8":
            missing = f"{self.int8_file}; export with formats=('onnx',) and calibration=images{self.int8_needs}"
            return files.find(self.files(precision), None, missing)[0]
        if files.classifier is not None and not is_installed("onnx"):
            raise ImportError("ONNX files need the package onnx: pip install onnx (or pip install "
                              "'paddle_fasternet[deploy]')")
        try:
            return files.find(self.files(precision), write_onnx, f"{ONNX}; export with formats=('onnx',)")[0]
        except ValueError as error:
            if files.classifier is None:
                raise
            raise ValueError(f"engine={self.name!r}: {error}; engine='eager' runs any network") from error
