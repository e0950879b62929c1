import math

import pytest

from paddle_fasternet import benchmark
from paddle_fasternet.native import cpu


@pytest.fixture
def container(monkeypatch, tmp_path):
    """Write the container's files, {name: text}, and let the process have 64 cores."""
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


VERSION1 = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.mark.parametrize("files, cores", [
    ({}, 64), ({"cpu.max": "max 100000\n"}, 64), ({"cpu.max": "200000 100000\n"}, 2), ({"cpu.max": "150000 100000"}, 2),
    ({"cpu.max": "1000 100000"}, 1), ({"cpu.max": "9900000 100000"}, 64), ({"cpu.max": "broken"}, 64),
    ({VERSION1[0]: "-1\n", VERSION1[1]: "100000\n"}, 64), ({VERSION1[0]: "300000\n", VERSION1[1]: "100000\n"}, 3),
    ({VERSION1[0]: "300000\n"}, 64), ({VERSION1[0]: "300000\n", VERSION1[1]: "0\n"}, 64)])
def test_a_container_has_the_cores_of_its_quota(container, files, cores):
    container(files)
    assert cpu.cores() == cpu.default_threads() == cores
    assert benchmark.machine()["cores"] == cores


def test_without_affinity_all_cores_count(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    monkeypatch.delattr(cpu.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: None)
    assert cpu.cores() == 1
    assert cpu._quota() == math.inf


@pytest.mark.parametrize("value, threads", [(None, 1), ("4", 4), ("4,2", 4)])
def test_paddle_computes_with_one_thread_unless_told(monkeypatch, value, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert cpu.paddle_threads() == threads
