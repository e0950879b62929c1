"""The device that is no CPU: what needs one holds there. ``make test-device`` runs all the tests on it."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_on_a_device_that_is_no_cpu():
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.device.plugin",
         "tests/device/cases.py"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
    assert found.returncode == 0, found.stdout[-4000:]
