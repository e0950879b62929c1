"""PaddleDetection, imported once for all modules of this folder."""
import contextlib
import io
import warnings

try:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # it tells of every tracker that it cannot load, in warnings and on stdout
        import ppdet
        import pycocotools  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"paddle_fasternet.detection needs PaddleDetection and pycocotools ({error}). Install them with: pip install "
        "--no-deps paddledet==2.6.0, then pip install 'paddle_fasternet[detection]'; or put a clone of PaddleDetection "
        "on PYTHONPATH instead of the first") from error

__all__ = ["ppdet"]
