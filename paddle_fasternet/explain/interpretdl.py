"""InterpretDL 0.8.0 on today's scikit-learn, IPython and Paddle.

Importing this module makes the installed package importable, ``import interpretdl`` included. A few lines of it are
read in a mended form (``_MENDED`` says which, and why); its files stay as they are, and so do the packages it uses.
Install it without its dead pins: ``pip install --no-deps interpretdl==0.8.0``, or ``make interpretdl``.

    from paddle_fasternet.explain.interpretdl import LIMECVInterpreter
    LIMECVInterpreter(model).interpret(x, interpret_class=c, num_samples=n)

What it does stays what it was: it normalises with ImageNet's mean and standard deviation, and a LIMECVInterpreter keeps
the superpixels of its first image. ``LimeExplainer`` does neither.
"""
import importlib
import importlib.machinery
import sys

VERSION = "0.8.0"

# {module: [(what stands there, what is read instead), ...]}
_MENDED = {
    # IPython 9 has display and HTML elsewhere; they are for texts, which need not bring IPython along
    "interpretdl.data_processor.visualizer": [(
        "from IPython.core.display import display, HTML\n",
        "try:\n    from IPython.display import display, HTML\nexcept ImportError:\n    display = HTML = print\n")],
    # Ridge lost this keyword in scikit-learn 1.2; without a penalty it made no difference
    "interpretdl.interpreter._lime_base": [("fit_intercept=True, normalize=True,", "fit_intercept=True,")],
    # Paddle no longer keeps the gradients of maps inside the network unasked, nor needs the training mode for them
    # (in which DropPath would be drawn); and the device may be missing, as in the other interpreters
    "interpretdl.interpreter.gradient_cam": [
        ("            paddle.set_device(self.device)\n", "            self._env_setup()\n"),
        ("            self.model.train()\n", ""),
        ("            def hook(layer, input, output):\n",
         "            def hook(layer, input, output):\n"
         "                output.stop_gradient or output.retain_grads()\n")],
    # numpy 2 makes float64 of float32 times such a number
    "interpretdl.interpreter.integrated_gradients": [
        ("np.linspace(0, 1, steps)", "np.linspace(0, 1, steps).tolist()")],
    # what needs paddle.fluid is left out without a word on the standard output
    "interpretdl.interpreter": [
        ('print("Warning: Paddle should be installed before using some Interpreters.")', "pass")],
}


class _Loader(importlib.machinery.SourceFileLoader):
    """Reads a module in its mended form; the cache of compiled modules is left alone."""

    def get_code(self, name):
        source = self.get_source(name)
        for there, instead in _MENDED[name]:
            if there not in source:
                raise ImportError(f"{self.path} is not that of InterpretDL {VERSION}: it lacks {there.strip()!r}")
            source = source.replace(there, instead)
        return compile(source, self.path, "exec")


class _Finder:
    """Finds the modules to mend, and no others."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name in _MENDED else None
        if spec is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


def _import():
    sys.meta_path.insert(0, _Finder)
    try:
        return importlib.import_module("interpretdl")
    except ModuleNotFoundError as error:
        if error.name != "interpretdl":
            raise
        raise ImportError(f"InterpretDL is not installed: pip install --no-deps interpretdl=={VERSION}") from None
    finally:
        sys.meta_path.remove(_Finder)


_package = _import()
LIMECVInterpreter = _package.LIMECVInterpreter
GradCAMInterpreter = _package.GradCAMInterpreter
SmoothGradInterpreter = _package.SmoothGradInterpreter
IntGradCVInterpreter = _package.IntGradCVInterpreter

__all__ = ["GradCAMInterpreter", "IntGradCVInterpreter", "LIMECVInterpreter", "SmoothGradInterpreter"]
