"""The command line: ``paddle-fasternet train | evaluate | predict | explain | export | benchmark | ...``."""
import argparse
import difflib
import re
import sys

import paddle

from .. import __version__, doctor
from . import detect, files, images, page, speed, train
from .options import add_device

# Arguments of the library that stand under another name on the command line
_OPTIONS = {"out_dir": "--out", "name": "--data"}


def main(arguments=None):
    """Run one command; returns the exit status.

    0; 1 where some of many files could not be read; 2 after an error, which goes to stderr; 130 after Ctrl-C.
    """
    arguments, parser = sys.argv[1:] if arguments is None else list(arguments), _parser()
    if not arguments:
        parser.print_help()
        return 0
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        options.parser.error(_unknown(unknown, options.parser))
    try:
        if options.device is not None:
            _use(options.device)
        return options.command(options) or 0
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError, MemoryError) as error:
        print(f"paddle-fasternet {options.command_name}: "
              f"{_in_options(str(error), options.parser) or 'not enough memory'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"paddle-fasternet {options.command_name}: {str(error) or 'stopped; files written until now stay'}",
              file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="paddle-fasternet", allow_abbrev=False,
        description="FasterNet and its partial convolution for PaddlePaddle: train, evaluate, predict, measure.",
        epilog="Example: paddle-fasternet train --data cifar10 --epochs 20 --out work/t0 && paddle-fasternet predict "
               "cat.png --run work/t0")
    parser.add_argument("--version", action="version", version=f"paddle_fasternet {__version__}")
    commands = parser.add_subparsers(dest="command_name", required=True, metavar="COMMAND")

    def add(name, command, help_text, epilog=None):
        child = commands.add_parser(name, help=help_text, description=help_text, epilog=epilog, allow_abbrev=False)
        add_device(child)
        child.set_defaults(command=command, parser=child)
        return child

    for module in (train, images, page, files, speed, detect, doctor):
        module.add_commands(add)
    return parser


def _use(device):
    """Make it Paddle's current device."""
    try:
        paddle.set_device(device)
    except (ValueError, RuntimeError, OSError) as error:
        raise ValueError(f"device={device!r} is not to be had: {str(error).strip().splitlines()[-1]}; here Paddle has "
                         f"{', '.join(paddle.device.get_available_device())}") from None


def _unknown(arguments, parser):
    """What to say of arguments that a command does not know."""
    found = []
    for argument in arguments:
        near = argument.startswith("-") and difflib.get_close_matches(argument.split("=")[0], _flags(parser), n=1)
        found.append(f"{argument} (did you mean {near[0]}?)" if near else argument)
    return f"unrecognized arguments: {' '.join(found)}"


def _flags(parser):
    """{"--batch-size": "batch_size", ...}: a command's options and their attributes."""
    return {flag: action.dest for action in parser._actions for flag in action.option_strings}


def _in_options(message, parser):
    """An error's text with the arguments' names as they are typed: ``batch_size=0`` is ``--batch-size=0``."""
    flags = {}
    for flag, name in _flags(parser).items():
        flags.setdefault(name, flag)
    flags.update({name: flag for name, flag in _OPTIONS.items() if flag in flags.values()})

    def typed(match):
        flag, value = flags.get(match["name"]), match["value"]
        if flag is None:
            return match[0]
        if value in ("True", "None"):
            return flag
        if value == "False":
            return f"--no-{flag[2:]}"
        return f"{flag}="

    # "pretrained='run' (--pretrained run)" is said once
    message = re.sub(r"(?<![\w./='\"-])[a-z]\w*=(?:[\w.]+|'[^']*') \((--[a-z][^()]*)\)", r"\1", message)
    # what stands in quotation marks or in a path is no argument
    return re.sub(r"(?<![\w./='\"-])(?P<name>[a-z]\w*)=(?P<value>(?:True|False|None)\b)?", typed, message)
