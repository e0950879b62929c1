"""What our commands print of Paddle, in processes of their own."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REMARKS = ("ccache", "OMP_NUM_THREADS", "WISELY", "out tensor")


def run(arguments, folder, **environment):
    given = {key: value for key, value in os.environ.items() if key != "GLOG_minloglevel"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=folder,
                          env={**given, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", **environment})


def test_module_prints_help_alone(tmp_path):
    for arguments in ([], ["--help"]):
        result = run(["-m", "paddle_fasternet", *arguments], tmp_path)
        assert result.returncode == 0 and result.stderr == "", result.stderr
        assert result.stdout.startswith("usage: paddle-fasternet ")


# A command that traces a network, whose import of Paddle warns and prints
COMMAND = """
import sys
sys.argv[0] = {program!r}
import warnings
warnings.warn_explicit("No ccache found. Please be aware", UserWarning, "paddle", 1)
import paddle_fasternet
warnings.warn_explicit("No ccache found. Please be aware", UserWarning, "paddle", 2)
warnings.warn("a real warning")
import paddle
paddle.jit.save(paddle_fasternet.FasterNet(embed_dim=8, depths=(1, 1), merge_sizes=(2,)), "net",
                input_spec=[paddle.static.InputSpec([None, 3, 32, 32])])
"""


def test_remarks_are_left_out_of_the_command_alone(tmp_path):
    result = run(["-c", COMMAND.format(program="/usr/bin/paddle-fasternet")], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "a real warning" in result.stderr
    lines = result.stderr.splitlines()
    after = lines[next(i for i, line in enumerate(lines) if "paddle:1:" in line) + 1:]  # raised before the import
    assert not [line for line in after if any(remark in line for remark in REMARKS)]
    result = run(["-c", COMMAND.format(program="/usr/bin/program")], tmp_path)
    assert all(remark in result.stderr for remark in REMARKS[:3]), result.stderr


def test_what_else_the_import_prints_is_shown(tmp_path):
    (tmp_path / "paddle.py").write_text("import sys\nprint('a real warning', file=sys.stderr)\n"
                                        "print('PLEASE USE OMP_NUM_THREADS WISELY.', file=sys.stderr)\n"
                                        "raise ImportError('libgomp.so.1 is missing')")
    result = run(["-m", "paddle_fasternet"], tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert result.returncode != 0 and "WISELY" not in result.stderr
    assert result.stderr.startswith("a real warning\n") and result.stderr.strip().endswith("libgomp.so.1 is missing")
