"""Reading what the machine says about itself. Run: pytest tests/unit/plan/test_hardware.py"""

from pathlib import Path

import pytest

from holdfast.plan.hardware import cgroup_limits, probe, visible_gpus

LISTING = """0, GPU-aaaa1111, NVIDIA H200, 143771, 143000, 580.95
1, GPU-bbbb2222, NVIDIA GeForce RTX 4060, 8188, 7000, 580.95
2, GPU-cccc3333, NVIDIA GB10, [N/A], [N/A], 580.95
"""


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["NVIDIA H200", "NVIDIA GeForce RTX 4060"]),
        ("1,0", ["NVIDIA GeForce RTX 4060", "NVIDIA H200"]),
        ("GPU-bbbb", ["NVIDIA GeForce RTX 4060"]),
        ("", []),
        ("-1", []),
    ],
)
def test_cards_are_those_that_cuda_visible_devices_leaves(visible: str | None, names: list[str]) -> None:
    assert [gpu.name for gpu in visible_gpus(LISTING, visible)] == names


def test_nvidia_smi_counts_in_mib() -> None:
    assert visible_gpus(LISTING, "1")[0].free_bytes == 7000 * 2**20


def test_no_nvidia_smi_means_no_card() -> None:
    assert visible_gpus("", None) == ()


def test_a_cgroup_v2_limit_is_found_on_the_group_and_above_it(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/box/job\n")
    for folder, limit in (("box", "1000"), ("box/job", "max")):
        (root / folder).mkdir(parents=True)
        (root / folder / "memory.max").write_text(limit + "\n")
        (root / folder / "memory.current").write_text("700\n")
        (root / folder / "memory.stat").write_text("anon 300\ninactive_file 250\n")
    assert list(cgroup_limits(proc, root)) == [(1000, 450)]


def test_a_cgroup_v1_without_a_limit_does_not_count(tmp_path: Path) -> None:
    proc, folder = tmp_path / "proc", tmp_path / "cgroup" / "memory" / "job"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("5:cpu:/\n4:memory:/job\n")
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (folder / "memory.usage_in_bytes").write_text("700\n")
    assert list(cgroup_limits(proc, tmp_path / "cgroup")) == []


def test_this_machine_can_be_probed_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    hardware = probe(tmp_path / "not" / "yet")
    assert 0 < hardware.ram_available_bytes <= hardware.ram_total_bytes
    assert hardware.disk_folder == str(tmp_path)
    assert hardware.disk_free_bytes > 0
    assert hardware.cores >= 1
