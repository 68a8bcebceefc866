"""What was masked is known again by its keyed digest, however it is written, and by nothing else."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.errors import IntegrityError, KeyFileError
from holdfast.core.redact_config import RedactConfig
from holdfast.core.rundir import RunDir
from holdfast.evaluate import stage as evaluate
from holdfast.evaluate.redacted import find_redacted_values
from holdfast.redact.digests import DIGESTS_FILE, Masked, read_masked
from holdfast.redact.redactor import Redactor
from holdfast.sources.stage import run

TEXT = "Mail Jo.Doe@corp.internal, call +49 30 1234-5678, account no: 12-3456-7890, password=hunter2x, pin: 1234"


def masked_in(folder: Path, text: str) -> Masked | None:
    """What a run would know of the values in `text`."""
    redactor = Redactor(RedactConfig(pseudonym_key_file=str(folder / "key")), remember=True)
    redactor.mask(text)
    assert redactor.memory is not None
    (folder / DIGESTS_FILE).write_bytes(redactor.memory.encode())
    return read_masked(folder / DIGESTS_FILE, folder / "key")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("write to jo.doe@CORP.internal.", True), ("jo.doe%40corp.internal", True), ("Call +49 30 12345678!", True),
        ("account 1234567890", True), ('use "hunter2x"', True), ("HUNTER2X", True), ("hunter2", False),
        ("the pin is 1234", False), ("Mail somebody else", False), ("", False),
    ],
)  # fmt: skip
def test_a_masked_value_is_known_again(tmp_path: Path, answer: str, says: bool) -> None:
    masked = masked_in(tmp_path, TEXT)
    assert masked is not None
    assert bool(find_redacted_values([{"id": "a", "output": answer}], masked)["answers"]) is says


def test_a_line_of_a_private_key_gives_it_away(tmp_path: Path) -> None:
    line = "MIIEpAIBAAKCAQEA7bq2Yx5tPzj0m9Qm1c8KxD3u"
    masked = masked_in(
        tmp_path, f"-----BEGIN RSA PRIVATE KEY-----\n{line}\n{line[::-1]}\n-----END RSA PRIVATE KEY-----"
    )
    assert masked is not None
    assert find_redacted_values([{"id": "a", "output": f"it begins with {line}"}], masked)["ids"] == ["a"]


def test_the_file_holds_no_value_and_is_the_same_in_every_run(tmp_path: Path) -> None:
    masked_in(tmp_path, TEXT)
    first = (tmp_path / DIGESTS_FILE).read_bytes()
    assert not any(word in first for word in (b"hunter2", b"doe", b"corp", b"EMAIL"))
    masked_in(tmp_path, " ".join(reversed(TEXT.split(", "))) + " " + TEXT)
    assert (tmp_path / DIGESTS_FILE).read_bytes() == first


def test_without_a_masked_value_no_key_is_needed(tmp_path: Path) -> None:
    assert masked_in(tmp_path, "the disk is full") is None
    assert not (tmp_path / "key").exists()


def test_without_its_key_the_check_is_refused(tmp_path: Path) -> None:
    masked_in(tmp_path, TEXT)
    with pytest.raises(KeyFileError, match="is gone"):
        read_masked(tmp_path / DIGESTS_FILE, tmp_path / "other")
    (tmp_path / "key").write_text("ab" * 32)
    with pytest.raises(KeyFileError, match="is not the one"):
        read_masked(tmp_path / DIGESTS_FILE, tmp_path / "key")
    (tmp_path / DIGESTS_FILE).write_bytes((tmp_path / DIGESTS_FILE).read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="damaged"):
        read_masked(tmp_path / DIGESTS_FILE, tmp_path / "key")


def test_from_the_source_to_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"instruction": "Classify.", "input": f"token=Zx81kQw{n}TT of a{n}@b.internal", "output": "low"} for n in
            range(3)]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RunConfig.model_validate({
        "name": "t", "collect": {"sources": [{"path": str(tmp_path / "a.jsonl")}]},
        "redact": {"pseudonym_key_file": str(tmp_path / "key")}, "evaluate": {"general_probe": False},
    })  # fmt: skip
    run_dir = RunDir(tmp_path / "run")
    collect, base, out = (run_dir.stage(name) for name in ("collect", "baseline", "evaluate"))
    run(StageContext(config, collect, {}, Console(quiet=True), run_dir))
    answers = ["low", "write to A1@b.internal", "it is Zx81kQw2TT"]

    def sample(n: int, output: str) -> dict[str, Any]:
        return {"id": f"r{n}", "source": f"a.jsonl:{n}", "output": output, "prompt_text": "p", "expected": "low",
                "scores": {"label_accuracy": 0}, "tags": {}}  # fmt: skip

    base.write_jsonl("samples.jsonl", [sample(n, "low") for n in range(3)])
    monkeypatch.setattr(evaluate, "_answer", lambda context, adapter: [sample(n, t) for n, t in enumerate(answers)])
    monkeypatch.setattr(evaluate, "compare_samples", lambda *_: SimpleNamespace(document=dict))
    monkeypatch.setattr(evaluate, "describe", str)
    monkeypatch.setattr(evaluate, "describe_slices", lambda *_: ({}, ""))
    inputs = {"collect": collect.path, "baseline": base.path, "train": tmp_path, "prepare": tmp_path}
    (tmp_path / "repeats.json").write_text("{}")
    evaluate.run_tuned(StageContext(config, out, inputs, Console(quiet=True), run_dir))
    document = json.loads((out.path / "redacted.json").read_text())
    assert (document["answers"], document["ids"], document["baseline_answers"]) == (2, ["r1", "r2"], 0)
    assert "b.internal" not in (out.path / "redacted.json").read_text()
