"""The command line: ``paddle-fasternet train | evaluate | predict | explain | export | benchmark | ...``."""
import argparse
import sys

from .. import __version__, doctor
from . import detect, files, images, page, speed, train


def main(arguments=None):
    """Run one command; returns the exit status.

    0; 1 where some of many files could not be read; 2 after an error, which goes to stderr; 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError, MemoryError) as error:
        print(f"paddle-fasternet {options.name}: {str(error) or 'not enough memory'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"paddle-fasternet {options.name}: {str(error) or 'stopped; files written until now stay'}",
              file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="paddle-fasternet", allow_abbrev=False,
        description="FasterNet and its partial convolution for PaddlePaddle: train, evaluate, predict, measure.",
        epilog="Example: paddle-fasternet train --data cifar10 --epochs 20 --out work/t0 && paddle-fasternet predict "
               "cat.png --run work/t0")
    parser.add_argument("--version", action="version", version=f"paddle_fasternet {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def add(name, command, help_text, epilog=None):
        child = commands.add_parser(name, help=help_text, description=help_text, epilog=epilog, allow_abbrev=False)
        child.set_defaults(command=command)
        return child

    for module in (train, images, page, files, speed, detect, doctor):
        module.add_commands(add)
    return parser
