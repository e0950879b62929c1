import ast
import subprocess
import sys
from pathlib import Path

import pytest

import paddle_fasternet

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "paddle_fasternet"


def python(code, **environment):
    import os
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, **environment})


def test_public_names():
    for name in paddle_fasternet.__all__:
        assert getattr(paddle_fasternet, name).__doc__, name


def test_import_prints_nothing_and_stays_light():
    code = ("import sys, paddle; before = paddle.get_device(), set(sys.modules); import paddle_fasternet; "
            "assert paddle.get_device() == before[0]; heavy = {'matplotlib', 'sklearn', 'skimage', 'cv2', 'PIL'}; "
            "print(sorted(heavy & (set(sys.modules) - before[1])), end='')")
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout in ("[]", "['cv2']")


def test_compressed_files_can_be_read_beside_paddle():
    result = python("import paddle_fasternet, gzip; print(gzip.decompress(gzip.compress(b'whole')))")
    assert result.returncode == 0 and result.stdout == "b'whole'\n", result.stderr


def test_without_paddle_the_import_says_what_to_install(tmp_path):
    result = python("import sys; sys.modules['paddle'] = None; import paddle_fasternet")
    assert result.returncode != 0
    assert "pip install paddlepaddle; with an NVIDIA GPU: https://www.paddle" in result.stderr
    # a Paddle that is there and does not load (a system library is missing, say) speaks for itself
    (tmp_path / "paddle.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    result = python("import paddle_fasternet", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert result.returncode != 0 and result.stderr.strip().endswith("libgomp.so.1: cannot open shared object file")


def test_no_module_is_longer_than_400_lines():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


FLOORS = [{"__main__", "cli", "doctor", "app"}, {"detection"}, {"training"}, {"evaluation"},
          {"model", "deploy", "operators", "explain"},
          {"bundle", "layers", "losses", "mixers", "weights", "data", "benchmark", "baselines", "plots", "safe_pickle",
           "_files", "_modes", "_pickling", "_plain"},
          {"native", "_check", "_remarks"}]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_down_the_floors(path):
    """A module imports only from its own floor and those below; imports within a function count too."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        return
    floor = next(i for i, names in enumerate(FLOORS) if parts[0] in names)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == len(parts):  # relative to the package
            targets = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            for target in targets:
                below = [i for i, names in enumerate(FLOORS) if target in names]
                assert not below or below[0] >= floor, f"{path} imports {target} from a floor above"


def test_both_readmes_show_the_two_commands():
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "make demo" in text[:2500] and "make test" in text[:2500], name


def test_every_figure_of_the_readmes_is_on_record(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import report
    for name, table in report.tables().items():
        assert report.between((ROOT / name).read_text(encoding="utf-8")) == table, name
