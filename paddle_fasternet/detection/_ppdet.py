"""PaddleDetection, imported once for all modules of this folder."""
import contextlib
import io
import sys
import warnings

import paddle
from PIL import ImageFile

_TRUNCATED = ImageFile.LOAD_TRUNCATED_IMAGES
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
finally:  # PaddleDetection lets Pillow read cut pictures without a word, in the whole process
    ImageFile.LOAD_TRUNCATED_IMAGES = _TRUNCATED

__all__ = ["ppdet"]


class _Paddle:
    """Paddle as paddledet 2.6.0 knew it: x[0] of a vector was a vector of one, which ``concat`` took."""

    def __getattr__(self, name):
        return getattr(paddle, name)

    @staticmethod
    def concat(x, axis=0, name=None):
        return paddle.concat([each.reshape([1]) if each.ndim == 0 else each for each in x], axis, name)


# Without it Mask R-CNN neither trains nor predicts; newer versions of PaddleDetection do not need it.
for _module in ("proposal_generator.rpn_head", "proposal_generator.target", "post_process"):
    sys.modules[f"ppdet.modeling.{_module}"].paddle = _Paddle()
