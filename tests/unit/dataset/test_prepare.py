"""prepare on files, with a word-by-word tokenizer in place of a model's. pytest tests/unit/dataset"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

import holdfast
from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.errors import ContractError
from holdfast.core.records import SPLITS, Example, Message, Split, examples_bytes, read_examples
from holdfast.core.rundir import RunDir
from holdfast.dataset.stage import run

CONTRACT = """\
task: triage
instruction: Classify.
label_field: priority
labels: [high, low]
required_fields: [priority]
"""
END = "</s>"


class Words:
    """One token for each word; `</s>` ends a turn."""

    def __init__(self) -> None:
        self.vocabulary = {END: 0}

    def encode(self, text: str) -> list[int]:
        return [self.vocabulary.setdefault(word, len(self.vocabulary)) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        words = {number: word for word, number in self.vocabulary.items()}
        return " ".join(words[number] for number in ids)


class Tokens(NamedTuple):
    input_ids: list[int]
    labels: list[int]


def encode_example(tokenizer: Words, messages: Sequence[Message]) -> Tokens:
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        turn = tokenizer.encode(f"{message.content} {END}")
        ids += turn
        labels += turn if message.role == "assistant" else [-100] * len(turn)
    return Tokens(ids, labels)


@pytest.fixture(autouse=True)
def words_instead_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = ModuleType("holdfast.models")
    fake.find_base_model = Path
    fake.load_tokenizer = lambda folder: Words()
    fake.encode_prompt = lambda tokenizer, messages: encode_example(tokenizer, messages).input_ids
    fake.encode_example = encode_example
    fake.encode_examples = lambda tokenizer, rows: [encode_example(tokenizer, messages) for messages in rows]
    fake.end_token_ids = lambda tokenizer: [0]
    monkeypatch.setitem(sys.modules, "holdfast.models", fake)
    monkeypatch.setattr(holdfast, "models", fake, raising=False)


def rows(count: int, split: Split | None = None, words: str = "") -> list[Example]:
    subjects = ["router", "printer", "ledger", "backup", "badge", "mailbox", "sensor"]
    made = []
    for n in range(count):
        text = f"Classify.\n\n{subjects[n % 7]} {n * 7919 + 13} {hex(n * 104729 + 9)} {split} {words}"
        turns = (
            Message(role="user", content=text),
            Message(role="assistant", content=json.dumps({"priority": ("high", "low")[n % 2]})),
        )
        made.append(Example(messages=turns, source=f"{split}.jsonl:{n + 1}", split=split))
    return made


def prepare_augmented(folder: Path, rules: str) -> Path:
    (folder / "augment.yaml").write_text(rules)
    return prepare(folder, rows(200), augment={"rules": str(folder / "augment.yaml"), "max_synthetic_share": 0.25})


def prepare(
    folder: Path, examples: list[Example], contract_text: str = CONTRACT, augment: Any = None, **options: Any
) -> Path:
    (folder / "collect").mkdir()
    (folder / "collect" / "examples.jsonl").write_bytes(examples_bytes(examples))
    (folder / "contract.yaml").write_text(contract_text)
    section = {"contract": str(folder / "contract.yaml"), **options}
    config = RunConfig.model_validate(
        {
            "name": "t",
            "sequence_len": 64,
            "collect": {"sources": [{"path": "x"}]},
            "prepare": section,
            "augment": augment or {},
        }
    )
    run_dir = RunDir(folder / "run")
    out = run_dir.stage("prepare")
    run(StageContext(config, out, {"collect": folder / "collect"}, Console(), run_dir))
    return out.path


def test_prepare_writes_splits_task_lengths_and_a_report(tmp_path: Path) -> None:
    out = prepare(tmp_path, rows(200))
    counts = {name: len(read_examples(out / f"{name}.jsonl")) for name in SPLITS}
    assert counts == {"train": 140, "valid": 20, "test": 40}
    task = json.loads((out / "task.json").read_text())
    assert (task["label_field"], task["labels"]) == ("priority", ["high", "low"])
    lengths = json.loads((out / "lengths.json").read_text())
    assert (lengths["train"]["rows"], lengths["valid"]["rows"], lengths["sequence_len"]) == (140, 20, 64)
    assert lengths["test_prompt_max"] == 6
    report = json.loads((out / "report.json").read_text())
    assert report["violations"] == []
    assert report["split_proof"]["largest"]["similarity"] < report["split_proof"]["threshold"]
    assert report["split_proof"]["labels"]["test"] == {"high": 20, "low": 20}
    audit = report["token_audit"]
    assert audit["rows"] == audit["rows_with_trained_eos"] == 160
    assert (audit["zero_label_rows"], audit["truncated_rows"]) == (0, 0)
    assert audit["example"]["trained_text"].endswith(END)
    assert audit["example"]["trained_text"].startswith('{"priority":')


def test_violations_stop_the_stage_and_nothing_is_written(tmp_path: Path) -> None:
    broken = rows(30)
    broken[4] = replace(broken[4], messages=(broken[4].messages[0], broken[5].messages[0]))
    with pytest.raises(ContractError, match=r"None\.jsonl:5: json:"):
        prepare(tmp_path, broken)
    assert not (tmp_path / "run").exists()


def test_long_rows_are_dropped_and_counted_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = [*rows(30, "train"), *rows(1, "train", "long " * 70)[:1], *rows(25, "valid"), *rows(25, "test")]
    examples[30] = replace(examples[30], source="long.jsonl:1")
    out = prepare(tmp_path, examples, on_too_long="drop")
    report = json.loads((out / "report.json").read_text())
    assert report["token_audit"]["dropped_too_long"] == ["long.jsonl:1"]
    assert report["rows"] == {"read": 81, "train": 30, "valid": 25, "test": 25}
    assert json.loads((out / "lengths.json").read_text())["train"]["rows"] == 30
    assert "1 rows longer than sequence_len 64 were dropped" in capsys.readouterr().err


def test_long_rows_are_an_error_by_default(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"1 of 1 rows are longer than sequence_len 64 \(longest"):
        prepare(tmp_path, [*rows(1, "train", "long " * 70), *rows(25, "test")])


def test_small_splits_are_warned_of_and_empty_ones_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = prepare(tmp_path, [*rows(30, "train"), *rows(3, "valid"), *rows(25, "test")])
    assert json.loads((out / "report.json").read_text())["warnings"] == [
        "only 3 rows in valid; below 20 a score says little"
    ]
    assert "only 3 rows in valid" in capsys.readouterr().err
    (tmp_path / "second").mkdir()
    with pytest.raises(ContractError, match="no row is left for test"):
        prepare(tmp_path / "second", rows(30, "train"))


def test_it_is_said_that_rejected_answers_are_not_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = [replace(example, rejected='{"priority": "none"}') for example in rows(30, "train")]
    out = prepare(tmp_path, [*train, *rows(20, "valid"), *rows(25, "test")])
    (warning,) = json.loads((out / "report.json").read_text())["warnings"]
    assert warning.startswith("30 preference rows: only the chosen answer is trained")
    assert warning in capsys.readouterr().err
    assert read_examples(out / "train.jsonl")[0].rejected == '{"priority": "none"}'


def test_a_long_answer_of_a_test_row_that_train_holds_is_warned_of(tmp_path: Path) -> None:
    long = Message(role="assistant", content=json.dumps({"priority": "low", "reason": "as in the runbook " * 6}))
    train, test = rows(25, "train"), rows(25, "test")
    train[3], test[7], test[9] = (replace(e, messages=(e.messages[0], long)) for e in (train[3], test[7], test[9]))
    out = prepare(tmp_path, [*train, *rows(20, "valid"), *test], CONTRACT + "allow_other_fields: true\n")
    (warning,) = json.loads((out / "report.json").read_text())["warnings"]
    assert warning.startswith("2 of 25 test rows have a long answer that stands word for word in train")
    assert f"{test[7].source} and {train[3].source}" in warning


def test_rows_that_are_all_alike_are_refused_with_the_reason(tmp_path: Path) -> None:
    asked = [Message(role="user", content=f"Classify.\n\nThe node is down, what is to be done? {n}") for n in range(30)]
    alike = [replace(e, messages=(turn, e.messages[1])) for turn, e in zip(asked, rows(30), strict=True)]
    with pytest.raises(ContractError, match=r"no row is left for test .*; 30 of the rows are one group") as caught:
        prepare(tmp_path, alike)
    assert "near_duplicate_threshold" in caught.value.hint


RULES = """\
slots: {site: [north, south, east, west, harbour, old town], who: [desk, guard, office]}
paraphrases: [{name: said, text: "The {who} of {site} says: {input}"}]
grammars: [{name: none, text: "{instruction}\\n\\n{site} {who}", answer: '{"priority":"low"}', rows: 5}]
preferences: {breaks: [wrong_label]}
"""


def test_synthetic_rows_are_in_train_only_and_counted(tmp_path: Path) -> None:
    out = prepare_augmented(tmp_path, RULES)
    report = json.loads((out / "report.json").read_text())
    found = {name: read_examples(out / f"{name}.jsonl") for name in SPLITS}
    synthetic = {name: sum(bool(e.tags.get("synthetic")) for e in examples) for name, examples in found.items()}
    assert synthetic == {"train": report["augmentation"]["synthetic"], "valid": 0, "test": 0}
    assert 0 < synthetic["train"] <= 0.25 * len(found["train"])
    assert report["rows"]["train"] == len(found["train"]) == report["token_audit"]["splits"]["train"]["rows"]
    pairs = [json.loads(line) for line in (out / "preferences.jsonl").read_text().splitlines()]
    assert len(pairs) == report["augmentation"]["preferences"]["pairs"] == len(found["train"]) - synthetic["train"]
    page = (out / "report.html").read_text()
    assert "made by said" in page
    assert f"{synthetic['train']:,}" in page


def test_a_rule_that_breaks_the_contract_stops_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"bad:1: label: 'priority' must be one of high, low; found urgent"):
        prepare_augmented(
            tmp_path,
            """\
slots: {n: [one, two]}
grammars: [{name: bad, text: "{instruction}\\n\\n{n} quite new ticket", answer: '{"priority":"urgent"}', rows: 1}]
""",
        )
    assert not (tmp_path / "run" / "02-prepare" / "train.jsonl").exists()


def test_a_rule_that_fits_no_row_is_warned_of(tmp_path: Path) -> None:
    out = prepare_augmented(tmp_path, "paraphrases: [{name: never, text: 'x {input}', when: {label: [urgent]}}]")
    warnings = json.loads((out / "report.json").read_text())["warnings"]
    assert "the rule 'never' of augment made no row" in warnings


def test_without_rules_nothing_is_made(tmp_path: Path) -> None:
    out = prepare(tmp_path, rows(60))
    assert json.loads((out / "report.json").read_text())["augmentation"] is None
    assert not (out / "preferences.jsonl").exists()
    assert "Synthetic rows" not in (out / "report.html").read_text()


def chat(number: int, exchanges: int, words: str = "word ") -> Example:
    turns = []
    for n in range(exchanges):
        turns.append(Message(role="user", content=f"Classify.\n\nquestion {number} {number * 7919} {n} {words * 8}"))
        turns.append(Message(role="assistant", content=json.dumps({"priority": "high"})))
    return Example(messages=tuple(turns), source=f"chat.jsonl:{number}", split="train")


def test_long_conversations_are_split_at_turn_borders_and_counted(tmp_path: Path) -> None:
    contract = CONTRACT + "single_turn: false\n"
    examples = [*rows(30, "train"), chat(1, 12), chat(2, 2), *rows(25, "valid"), *rows(25, "test")]
    out = prepare(tmp_path, examples, contract_text=contract, on_too_long="split")
    report = json.loads((out / "report.json").read_text())
    assert (report["fit"]["split_conversations"], report["fit"]["dropped"]) == (1, 0)
    assert report["fit"]["parts"] == len([e for e in read_examples(out / "train.jsonl") if "part" in e.tags]) > 1
    assert report["token_audit"]["longest"] <= 64
    written = [m for e in read_examples(out / "train.jsonl") if e.source == "chat.jsonl:1" for m in e.messages]
    assert written == list(chat(1, 12).messages)


def test_an_exchange_that_alone_is_too_long_is_an_error_or_dropped(tmp_path: Path) -> None:
    contract = CONTRACT + "single_turn: false\n"
    examples = [*rows(30, "train"), chat(1, 2, "long " * 9), *rows(25, "valid"), *rows(25, "test")]
    with pytest.raises(ContractError, match="longer than sequence_len 64") as caught:
        prepare(tmp_path, examples, contract_text=contract, on_too_long="split")
    assert "split_or_drop" in caught.value.hint
    (tmp_path / "second").mkdir()
    out = prepare(tmp_path / "second", examples, contract_text=contract, on_too_long="split_or_drop")
    report = json.loads((out / "report.json").read_text())
    assert (report["fit"]["dropped"], report["rows"]["train"]) == (2, 30)


def test_sampling_copies_are_tagged_and_counted(tmp_path: Path) -> None:
    small = [replace(e, tags={"domain": "rare"}, source=f"r:{n}") for n, e in enumerate(rows(200)[190:])]
    big = [replace(e, tags={"domain": "common"}) for e in rows(190)]
    out = prepare(tmp_path, [*big, *small], sampling_temperature=3, test_set_size=20, val_set_size=20)
    train = read_examples(out / "train.jsonl")
    report = json.loads((out / "report.json").read_text())
    counts = {entry["domain"]: entry for entry in report["sampling"]["domains"]}
    assert counts["rare"]["trained_rows"] == sum(e.tags["domain"] == "rare" for e in train) > counts["rare"]["rows"]
    assert counts["rare"]["copies"] == sum("copy" in e.tags for e in train) > 0
    assert "copy" not in {tag for e in read_examples(out / "test.jsonl") for tag in e.tags}
    assert report["split_proof"]["domains"]["test"]["rare"] >= 1


def test_an_earlier_lock_keeps_rows_in_their_splits(tmp_path: Path) -> None:
    first = prepare(tmp_path, rows(100))
    before = {e.id: name for name in SPLITS for e in read_examples(first / f"{name}.jsonl")}
    (tmp_path / "second").mkdir()
    second = prepare(tmp_path / "second", rows(150)[::-1], split_lock=str(first / "split.lock"))
    after = {e.id: name for name in SPLITS for e in read_examples(second / f"{name}.jsonl")}
    assert before.items() <= after.items() and len(after) == 150
    digests = [json.loads((out / "report.json").read_text())["split_proof"]["digest"] for out in (first, second)]
    assert digests[0] != digests[1]


def test_a_tag_that_no_row_has_cannot_split(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="split_by is 'incident', but none of 30 rows"):
        prepare(tmp_path, rows(30), split_by="incident")


def test_test_items_that_repeat_each_other_are_named(tmp_path: Path) -> None:
    def item(words: str, label: str, n: int) -> Example:
        turns = (Message(role="user", content=f"Classify.\n\n{words}"),
                 Message(role="assistant", content=json.dumps({"priority": label})))  # fmt: skip
        return Example(messages=turns, source=f"test.jsonl:{n}", split="test")

    long = "The storage of the second rack answers slowly since the update of this morning and nobody knows why"
    test = [item(long, "high", 1), item(long + " now", "high", 2), item(long + " too", "high", 3),
            item("Nobody in the branch can print anything at all", "low", 4)]  # fmt: skip
    out = prepare(tmp_path, rows(60, "train") + test)
    assert json.loads((out / "repeats.json").read_text()) == {test[1].id: test[0].id, test[2].id: test[0].id}
    warnings = json.loads((out / "report.json").read_text())["warnings"]
    assert any("2 of 4 test items repeat another one" in text for text in warnings)
