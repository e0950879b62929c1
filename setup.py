"""Metadata. PaddlePaddle is an extra: on a GPU machine pip would put the CPU wheel over paddlepaddle-gpu."""
import hashlib
import re
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "paddle_fasternet" / "__init__.py").read_text()).group(1)

NATIVE = Path("paddle_fasternet", "native", "csrc")
# Compiled into the library, so that the package knows one of other sources (native/library.py makes the same checksum).
SOURCES = sorted([*NATIVE.rglob("*.h"), *NATIVE.rglob("*.cpp")])
CHECKSUM = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()

setup(
    name="paddle_fasternet",
    version=VERSION,
    description="FasterNet and its partial convolution (PConv) for PaddlePaddle",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["paddle_fasternet*"]),
    package_data={"paddle_fasternet.weights": ["cifar10/*"]},
    # A plain shared library, which ctypes loads. Optional: where there is no compiler, all the rest is installed.
    ext_modules=[Extension(
        "paddle_fasternet._native", [str(path) for path in SOURCES if path.suffix == ".cpp"], language="c++",
        optional=True, depends=[str(path) for path in SOURCES], define_macros=[("FASTERNET_SOURCES", f'"{CHECKSUM}"')],
        extra_compile_args=["-std=c++17", "-O3", "-fvisibility=hidden", "-pthread"], extra_link_args=["-pthread"])],
    python_requires=">=3.9",
    install_requires=[
        "numpy>=1.22,<2.4",  # Paddle 3.3 turns arrays of one element into numbers, which numpy 2.4 refuses
        "matplotlib>=3.6",
        "tqdm>=4.60",
        "pillow>=10.1",
        "opencv-python-headless>=4.5",
        "scikit-image>=0.19",
        "scikit-learn>=1.0",
    ],
    extras_require={
        "cpu": ["paddlepaddle>=2.6"],
        "notebooks": ["jupyter", "papermill", "ipywidgets"],
        "deploy": ["onnx>=1.14", "onnxruntime>=1.16", "openvino>=2024.0", "nncf>=2.14"],
        "paddlex": ["paddlex[cv]>=3"],
        "visualdl": ["visualdl"],
        "app": ["gradio>=4.44"],
        # what InterpretDL 0.8.0 needs without its dead pins; the package itself goes in with pip's --no-deps
        "interpretdl": ["requests", "ipython"],
        # what PaddleDetection 2.6.0 needs without its dead pins; the package itself goes in with pip's --no-deps
        "detection": ["pycocotools>=2.0.6", "pyyaml", "scipy", "pandas", "requests", "six"],
        "dev": ["pytest>=7", "hypothesis>=6", "ruff>=0.4", "lime>=0.2"],
    },
    entry_points={"console_scripts": ["paddle-fasternet=paddle_fasternet.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
