"""What the notebooks need before they import Paddle: run by their first cell, in a process of its own.

    python prepare.py [deploy] [detection]

Installs the library where it is missing, prints the cores that this container may use, or says in one sentence why
nothing can be done. A Paddle that is there stays as it is, and so do the NumPy and OpenCV under it. Written for any
Python 3, so that an old one can say what it lacks.
"""
import importlib.util
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KEPT = ("numpy", "opencv", "paddle")  # beginnings of the packages that stay at their versions


def too_old(version):
    """What to tell somebody with that Python; "" if it will do."""
    if version >= (3, 9):
        return ""
    here = ".".join(map(str, version[:2]))
    return (f"本库需要 Python 3.9 或更新版本，当前为 {here}；在 AI Studio 请选择 Python 3.10 的环境"
            "（BML Codelab，飞桨 2.6 或更新版本）。\n"
            f"This library needs Python 3.9 or newer; this is {here}. On AI Studio choose an environment with Python "
            "3.10 (BML Codelab, Paddle 2.6 or newer).")


def constraints(installed):
    """Lines for pip's ``-c``. installed: {package: version}."""
    return [f"{name}=={version}" for name, version in sorted(installed.items()) if name.startswith(KEPT)]


def wanted(requirements, extras, installed):
    """The requirements to install beside a Paddle that is there: the packages that are missing.

    OpenCV comes under several names, which overwrite each other: one that is there will do.
    """
    found = []
    for requirement in requirements:
        text, _, marker = requirement.partition(";")
        name = text.strip()
        for sign in "<>=!~[ (":
            name = name.split(sign)[0]
        name = name.lower().replace("_", "-")
        if "extra" in marker and not any(extra in marker for extra in extras):
            continue
        there = any(other.startswith("opencv") for other in installed) if name.startswith("opencv") else (
            name in installed)
        if not there:
            found.append(text.strip())
    return found


def list_installed():
    """{package: version}, names in lower case with hyphens."""
    from importlib import metadata
    return {each.metadata["Name"].lower().replace("_", "-"): each.version for each in metadata.distributions()
            if each.metadata["Name"]}


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *arguments], check=True, stdout=sys.stderr)


def install(extras):
    """Install the library with those of its extras."""
    from importlib import metadata
    if not importlib.util.find_spec("paddle"):
        return pip("-e", f"{ROOT}[{','.join(['cpu', *extras])}]")
    pip("--no-deps", "-e", ROOT)
    importlib.invalidate_caches()
    installed = list_installed()
    missing = wanted(metadata.requires("paddle_fasternet") or (), extras, installed)
    if missing:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(constraints(installed)))
            file.flush()
            pip("-c", file.name, *missing)


def main():
    extras = sys.argv[1:]
    problem = too_old(sys.version_info)
    if problem:
        print(problem)
        return 1
    missing = ["paddle_fasternet", "paddle", *(["openvino", "onnxruntime"] if "deploy" in extras else []),
               *(["pycocotools", "yaml", "six"] if "detection" in extras else [])]
    if not all(map(importlib.util.find_spec, missing)):
        install(extras)
    if "detection" in extras and not importlib.util.find_spec("ppdet"):
        pip("--no-deps", "paddledet==2.6.0")  # its pins are of 2022
    code = "from paddle_fasternet.native.cpu import default_threads; print(default_threads())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    print(found.stderr if found.returncode else found.stdout.strip())
    return found.returncode


if __name__ == "__main__":
    sys.exit(main())
