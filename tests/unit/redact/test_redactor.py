"""The redactor as stages use it: policy, placeholders, keys, counts, the scan, and the bundled example untouched."""

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.config import RunConfig
from holdfast.core.console import Console
from holdfast.core.context import StageContext
from holdfast.core.errors import ConfigError, ContractError, KeyFileError
from holdfast.core.records import Example, Message
from holdfast.core.redact_config import DenyRule, RedactConfig
from holdfast.core.rundir import RunDir
from holdfast.redact import engine
from holdfast.redact.placeholders import PLACEHOLDER, read_key
from holdfast.redact.redactor import Redactor
from holdfast.redact.scanner import scan
from holdfast.redact.shadow import make_shadow
from holdfast.redact.spans import Span, merge
from holdfast.sources.stage import run

TRIAGE = Path(__file__).parents[3] / "examples" / "triage"
SECRET = "ghp_" + "aB3" * 12


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "pseudonym.key"


def redactor(key_file: Path, **settings: Any) -> Redactor:
    return Redactor(RedactConfig(pseudonym_key_file=str(key_file), **settings))


def example(*contents: str, **more: Any) -> Example:
    roles = ("user", "assistant")
    messages = tuple(Message(role=roles[n % 2], content=text) for n, text in enumerate(contents))  # type: ignore[arg-type]
    return Example(messages=messages, source="a.jsonl:7", **more)


def test_the_same_value_gets_the_same_placeholder_everywhere(key_file: Path) -> None:
    r = redactor(key_file)
    assert r.mask("a@b.internal and 10.0.0.7") == "<EMAIL_1> and <IP_1>"
    assert r.mask("c@b.internal, A@B.internal, a%40b.internal") == "<EMAIL_2>, <EMAIL_1>, <EMAIL_1>"


def test_a_placeholder_of_the_source_stays_and_its_number_is_not_given_out_again(key_file: Path) -> None:
    assert redactor(key_file).mask("<HOST_3> calls db1.prod.internal") == "<HOST_3> calls <HOST_4>"


def test_a_placeholder_is_no_context(key_file: Path) -> None:
    assert redactor(key_file).mask("<CARD_1> 4111111111111112 <ACCOUNT_gggggggggggggggg> 12345678").count("<") == 2


def test_a_secret_cannot_hide_behind_a_placeholder(key_file: Path) -> None:
    masked = redactor(key_file).mask("password=hunter<HOST_1>2secret")
    assert "hunter" not in masked
    assert "secret" not in masked


def test_account_numbers_get_keyed_pseudonyms(key_file: Path, tmp_path: Path) -> None:
    r = redactor(key_file)
    one, two = r.mask("account no: 12-3456-7890"), r.mask("account 1234567890")
    assert one.split("<")[1] == two.split("<")[1]
    assert PLACEHOLDER.search(one)
    assert redactor(key_file).mask("account 1234567890") == two  # another run, the same key
    assert redactor(tmp_path / "other.key").mask("account 1234567890") != two
    assert r.mask(two) == two


def test_the_key_is_made_once_and_for_its_owner_alone(key_file: Path) -> None:
    key = read_key(key_file)
    assert len(key) == 32
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert read_key(key_file) == key


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [("ab" * 32, 0o644, "read by others"), ("ab" * 8, 0o600, "8 bytes"), ("no key", 0o600, "no key")],
)
def test_an_unfit_key_file_is_refused(key_file: Path, text: str, mode: int, says: str) -> None:
    key_file.parent.mkdir()
    key_file.write_text(text)
    key_file.chmod(mode)
    with pytest.raises(KeyFileError, match=says):
        redactor(key_file).mask("account 1234567890")


def test_no_key_is_made_when_no_account_is_found(key_file: Path) -> None:
    redactor(key_file).mask("card 4111111111111111")
    assert not key_file.exists()


def test_the_key_must_not_lie_in_the_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run folder"):
        Redactor(RedactConfig(pseudonym_key_file=str(tmp_path / "run" / "key")), forbidden=tmp_path / "run")


def test_what_the_operator_keeps_is_kept(key_file: Path) -> None:
    r = redactor(key_file, keep=("10.40.0.0/24", "*.lab.lan", "ops@corp.internal", r"/\+49 30 \d+/"))
    kept = "10.40.0.9 db1.lab.lan ops@corp.internal +49 30 1234567"
    assert r.mask(kept) == kept
    assert r.mask("10.41.0.9 db1.lab.com") == "<IP_1> <HOST_1>"


def test_types_can_be_switched_off(key_file: Path) -> None:
    assert redactor(key_file, types={"IP": False}).mask("10.0.0.7 a@b.internal") == "10.0.0.7 <EMAIL_1>"
    with pytest.raises(ConfigError, match="did you mean PHONE"):
        redactor(key_file, types={"PHON": False})


def test_the_operators_own_words_are_masked(key_file: Path) -> None:
    rules = (DenyRule(type="CUSTOMER", words=("Acme Corp",)), DenyRule(type="HOST", pattern=r"pve\d+"))
    assert (
        redactor(key_file, deny=rules).mask("ACME corp on pve7, pve14 and pve7")
        == "<CUSTOMER_1> on <HOST_1>, <HOST_2> and <HOST_1>"
    )
    with pytest.raises(ConfigError, match="regular expression"):
        redactor(key_file, deny=(DenyRule(pattern="("),))


def test_every_text_of_an_example_is_masked(key_file: Path) -> None:
    tags = {"who": "c@d.internal", "card": 4111111111111111, "n": 3}
    row = example("mail a@b.internal", "call +49 30 1234567", rejected=f"use {SECRET}", tags=tags)
    r = redactor(key_file)
    masked = r.mask_example(row)
    text = json.dumps([[m.content for m in masked.messages], masked.rejected, masked.tags])
    assert not any(secret in text for secret in ("b.internal", "1234567", SECRET, "d.internal", "4111"))
    assert (masked.source, masked.tags["n"]) == ("a.jsonl:7", 3)
    report = r.report()
    assert report["by_type"] == {"CARD": 1, "EMAIL": 2, "GITHUB_TOKEN": 1, "PHONE": 1}
    assert report["by_source"] == {"a.jsonl": report["by_type"]}
    assert not any(secret in json.dumps(report) for secret in ("b.internal", "1234567", SECRET))


def test_an_example_without_secrets_is_the_very_same(key_file: Path) -> None:
    row = example("disk is full", "clean it", tags={"label": "high"})
    assert redactor(key_file).mask_example(row) is row


def test_masking_can_be_switched_off(key_file: Path) -> None:
    row = example(f"use {SECRET}", "ok")
    assert redactor(key_file, enabled=False).mask_examples([row]) == [row]


def test_what_the_engine_misses_the_scanner_reports_without_the_value(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "find_spans", lambda text, extra=(): [])
    with pytest.raises(ContractError, match=r"a\.jsonl:7: github-token") as caught:
        redactor(key_file).mask_examples([example(f"use {SECRET}", "ok")])
    assert caught.value.exit_code == 20
    assert SECRET not in str(caught.value)
    assert redactor(key_file, scanner=False).mask_examples([example(f"use {SECRET}", "ok")])


@pytest.mark.parametrize(("text", "rule"), [
    (SECRET, "github-token"), ("AKIAABCDEFGHIJKLMNOP", "aws-access-key"), ("4111 1111 1111 1111", "card-number"),
    ("DE89 3704 0044 0532 0130 00", "iban"), ("https://a:b12345@h/x", "password-in-url"), ("jo@corp.internal",
    "e-mail"),
    ("-----BEGIN RSA PRIVATE KEY-----", "private-key"), ("078-05-1120",
    "us-ssn"), ("gh\u200b" + SECRET[2:], "github-token"),
])  # fmt: skip
def test_the_scanner_knows_secrets_by_rules_of_its_own(text: str, rule: str) -> None:
    assert rule in scan(f"see {text} there")


def test_the_scanner_leaves_placeholders_and_prose_alone() -> None:
    assert (
        scan('password = "<PASSWORD_1>" at https://u:<PASSWORD_2>@<HOST_1>/ for <EMAIL_1>, card 4111 1111 1111 1112')
        == []
    )


def test_the_scanner_imports_nothing_of_the_engine() -> None:
    code = (
        "import sys; import holdfast.redact.scanner as s; "
        "print(*[n for n in sys.modules if n.startswith('holdfast.redact.')])"
    )
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"holdfast.redact.scanner", "holdfast.redact.policy"} <= set(names)
    assert not {"holdfast.redact." + n for n in ("engine", "tokens", "numbers", "shadow", "checks")} & set(names)


def test_importing_the_redactor_compiles_no_recogniser() -> None:
    code = "import sys; import holdfast.redact.redactor; print('holdfast.redact.engine' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_overlaps_become_their_union_under_the_first_rank() -> None:
    assert merge([Span(5, 9, "HOST", 9), Span(0, 6, "EMAIL", 2), Span(10, 12, "IP", 3)]) == [
        Span(0, 9, "EMAIL", 2), Span(10, 12, "IP", 3)]  # fmt: skip


def test_the_copy_points_back_to_the_original() -> None:
    text = "x\u200by ａb%40c &#64; é"
    shadow = make_shadow(text)
    assert shadow.text == "xy ab@c @ é"
    assert [text[slice(*shadow.locate(i, i + 1))] for i in (0, 1, 3, 5, 8, 10)] == ["x", "y", "ａ", "%40", "&#64;", "é"]


def test_default_redaction_changes_nothing_in_the_triage_example(key_file: Path) -> None:
    r = redactor(key_file)
    rows = [json.loads(line) for path in sorted(TRIAGE.glob("*.jsonl")) for line in path.read_text().splitlines()]
    texts = [
        t
        for row in rows
        for t in ([m["content"] for m in row["messages"]] if "messages" in row else [str(v) for v in row.values()])
    ]
    assert len(texts) > 2000
    assert [text for text in texts if r.mask(text) != text] == []
    assert [text for text in texts if scan(text)] == []


def test_collect_writes_masked_rows_and_counts_only(tmp_path: Path, key_file: Path) -> None:
    source = tmp_path / "a.jsonl"
    row = {
        "instruction": "Classify.",
        "input": f"token {SECRET} of a@b.internal",
        "output": "low",
        "host": "db1.corp.internal",
    }
    source.write_text(json.dumps(row) + "\n")
    config = RunConfig.model_validate({
        "name": "t", "collect": {"sources": [{"path": str(source)}]}, "redact": {"pseudonym_key_file": str(key_file)},
    })  # fmt: skip
    run_dir = RunDir(tmp_path / "run")
    run(StageContext(config, run_dir.stage("collect"), {}, Console(), run_dir))
    written = {path.name: path.read_text(errors="replace") for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert not any(secret in text for text in written.values() for secret in (SECRET, "b.internal", "db1.corp"))
    report = json.loads(written["redaction.json"])
    assert report["by_source"] == {"a.jsonl": {"EMAIL": 1, "GITHUB_TOKEN": 1, "HOST": 1}}
    assert json.loads(written["collect.json"])["redaction"] == {"rows_changed": 1, "masked": 3}
