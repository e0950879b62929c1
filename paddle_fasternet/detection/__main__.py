"""``python -m paddle_fasternet.detection tools/train.py -c CONFIG``: a script of PaddleDetection knows FasterNet."""
import runpy
import sys
from pathlib import Path


def main(arguments):
    """Run the Python script that stands first in ``arguments``, with the others as its own."""
    if not arguments or not Path(arguments[0]).is_file():
        sys.exit("usage: python -m paddle_fasternet.detection SCRIPT [ARGUMENTS], where SCRIPT is one of "
                 "PaddleDetection's, such as tools/train.py")
    script = Path(arguments[0])
    sys.path.insert(0, str(script.parent))  # as Python does for a script of its own
    sys.argv = list(arguments)
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
