"""Some thousand mutated files through every reader; the long run: tests/fuzz_readers.py. pytest tests/unit/sources"""

import pytest

from fuzz_readers import fuzz
from holdfast.sources import readers


def test_mutated_files_end_in_examples_defects_or_errors() -> None:
    account = fuzz(3000, seed=7)
    assert account["failures"] == []
    assert account["inputs"] == 3000
    assert min(account["outcomes"][kind] for kind in ("examples", "defects", "refused")) > 100


def test_the_fuzzer_sees_a_reader_that_crashes_or_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    def crash(row: dict[str, object]) -> None:
        raise KeyError(str(row))

    monkeypatch.setitem(readers.READERS, "instruction", crash)
    assert any("KeyError" in failure for failure in fuzz(500, seed=1)["failures"])

    def write(row: dict[str, object]) -> None:
        open(f"{tmp_path}/trace", "w").close()  # noqa: PTH123, SIM115

    monkeypatch.setitem(readers.READERS, "instruction", write)
    assert any("open" in failure for failure in fuzz(500, seed=1)["failures"])
