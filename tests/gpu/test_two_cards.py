"""Two cards train what one trains, with the fast path, whole and in parts. Run: pytest tests/gpu/test_two_cards.py"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA cards"),
]
ROOT = Path(__file__).parents[2]


def test_two_cards_have_the_losses_of_one_and_parts_of_the_weights_train_too() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "train_two.py", "--smoke"],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loss_difference"] < 0.01, "16-bit products are summed in another order"
    assert "error" not in found["fsdp"]["two"], found["fsdp"]["two"]
