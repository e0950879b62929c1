"""Wrong input and damaged files; tests/soak/faults.py has the whole of it."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.slow
def test_every_public_name_option_and_reader(tmp_path):
    """In a process of its own: a crash is a failure, too. A name without a sound call in faults.py is one as well."""
    command = [sys.executable, str(TESTS / "faults.py"), "--quick", "--out", "."]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path,
                            env={**os.environ, "PYTHONPATH": str(TESTS.parents[1])})
    assert result.returncode == 0, result.stderr[-3000:]
