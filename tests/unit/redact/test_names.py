"""Names by the bundled pipeline: it is the recorded one, its spans are exact, odd text does no harm."""

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.errors import ConfigError, IntegrityError
from holdfast.redact import names
from holdfast.redact.spans import Span

MIB = 2**20


def found(text: str, model: str = "bundled") -> list[tuple[str, str]]:
    """Type and words of every name."""
    (spans,) = names.find_names([text], model)
    return [(span.type, text[span.start : span.end]) for span in spans]


def test_importing_the_module_loads_no_library() -> None:
    code = "import sys, holdfast.redact.names; print([m for m in ('spacy', 'thinc', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bundled_files_are_those_of_the_record_and_small() -> None:
    names.check_bundled()
    files = [path for path in names.BUNDLED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4 * MIB
    pickles = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
    assert not [path for path in files if path.read_bytes().startswith(pickles)]


def test_a_changed_bundled_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(names.BUNDLED, tmp_path / "copy")
    monkeypatch.setattr(names, "BUNDLED", folder)
    names.check_bundled()
    with (folder / "ner" / "model").open("ab") as file:
        file.write(b"x")
    (folder / "extra").write_text("x")
    with pytest.raises(IntegrityError, match=r"extra, ner/model differs.*2 files"):
        names.check_bundled()


def test_the_record_states_every_figure_of_the_card() -> None:
    record = json.loads((names.BUNDLED / names.RECORD).read_text(encoding="utf-8"))
    card = (names.BUNDLED / "README.md").read_text(encoding="utf-8")
    assert record["sets"]["hand-written, test"]["n"] >= 150
    for name, figures in record["sets"].items():
        row = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
        assert f"{figures['f']:.3f}" in row
    assert str(record["false_masks"]["per_1000_words"]) in card


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Approved by Maria Schneider on Monday.", [("PERSON", "Maria Schneider")]),
        ("Customer: Northgate Logistics GmbH", [("ORG", "Northgate Logistics GmbH")]),
        ("The link between Madrid and Lyon is down.", [("PLACE", "Madrid"), ("PLACE", "Lyon")]),
        ("assignee=Peter Novak priority=high", [("PERSON", "Peter Novak")]),
        ("Restart Kafka and Redis on db-12, then check Grafana.", []),
        ("FIRING: KubePodCrashLooping on node-7", []),
        ("kubectl get pods -n kube-system", []),
        ("Contact <PERSON_1> at <ORG_2> about <HOST_3>.", []),
    ],
)
def test_known_sentences(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t", "\0", "<", "\ud800", "😀" * 50, "़ा", "\u200b\u200e", "İ" * 9, "a" * 5000]
)
def test_odd_texts_do_no_harm(text: str) -> None:
    assert list(names.find_names([text, "Approved by Maria Schneider."], "bundled"))[1] == [Span(12, 27, "PERSON", 34)]


def test_places_are_right_behind_odd_characters() -> None:
    text = "😀\ud800\u200b ÅŁ: Approved by Maria Schneider."
    assert ("PERSON", "Maria Schneider") in found(text)


def test_a_long_text_is_searched_to_its_end() -> None:
    line = "Restart the queue and check the disk again.\n"
    text = line * 200 + "Approved by Maria Schneider.\n" + "x" * 3000 + "\nApproved by Maria Schneider.\n"
    places = [text.index("Maria"), text.rindex("Maria")]
    (spans,) = names.find_names([text], "bundled")
    assert [(s.start, text[s.start : s.end]) for s in spans if s.type == "PERSON"] == [
        (place, "Maria Schneider") for place in places
    ]


def test_answers_do_not_depend_on_the_company_of_other_texts() -> None:
    texts = [f"Ticket {n} was approved by Maria Schneider at Northgate Logistics." for n in range(600)]
    together = list(names.find_names(texts, "bundled"))
    assert len(together) == 600
    assert [next(names.find_names([text], "bundled")) for text in texts[:5]] == together[:5]


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\n. <>")), max_size=3 * names.CHUNK))
@settings(max_examples=200, deadline=None)
def test_pieces_are_the_text(text: str) -> None:
    parts = names.pieces(text)
    assert "".join(part for _, part in parts) == text
    assert all(text[start:].startswith(part) and len(part) <= names.CHUNK for start, part in parts)


@given(st.lists(st.text(alphabet=st.characters(), max_size=60), max_size=5))
@settings(max_examples=100, deadline=None)
def test_spans_lie_in_their_text_in_order_and_apart(texts: list[str]) -> None:
    answers = list(names.find_names(texts, "bundled"))
    assert len(answers) == len(texts)
    for text, spans in zip(texts, answers, strict=True):
        borders = [place for span in spans for place in span[:2]]
        assert borders == sorted(borders)
        assert all(0 <= s.start < s.end <= len(text) and any(c.isalpha() for c in text[s.start : s.end]) for s in spans)


def test_clean_takes_marks_off_and_leaves_placeholders() -> None:
    text = '"Maria", <PERSON_1>, ... J. R.'
    spans = [Span(0, 7, "PERSON"), Span(9, 19, "PERSON"), Span(21, 24, "ORG"), Span(25, 30, "PERSON")]
    assert [text[s.start : s.end] for s in names.clean(text, spans)] == ["Maria", "J. R."]


def test_a_folder_without_a_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.cfg does not exist"):
        list(names.find_names(["x"], str(tmp_path)))


def test_a_damaged_pipeline_is_an_error_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "config.cfg").write_text("[nlp]\nlang = 'en'\npipeline = ['nosuch']\n")
    with pytest.raises(ConfigError, match="cannot load the pipeline"):
        list(names.find_names(["x"], str(tmp_path)))


def test_a_pipeline_without_names_is_refused(tmp_path: Path) -> None:
    import spacy

    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(ConfigError, match="finds no names"):
        list(names.find_names(["x"], str(tmp_path / "blank")))


def test_another_pipeline_is_given_by_its_folder(tmp_path: Path) -> None:
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "GPE", "pattern": "Springfield"}])  # type: ignore[attr-defined]
    nlp.to_disk(tmp_path / "rules")
    assert found("Rain in Springfield.", str(tmp_path / "rules")) == [("PLACE", "Springfield")]


@pytest.mark.skipif(importlib.util.find_spec("presidio_analyzer") is not None, reason="Presidio is installed")
def test_without_presidio_the_install_line_is_the_hint() -> None:
    with pytest.raises(ConfigError, match="not installed") as caught:
        list(names.find_names(["x"], "presidio"))
    assert caught.value.hint == names.PRESIDIO_INSTALL


@pytest.mark.skipif(importlib.util.find_spec("presidio_analyzer") is None, reason="Presidio is not installed")
def test_presidio_finds_names_and_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    text = "Approved by Maria Schneider, mail her: maria@example.internal"
    assert ("PERSON", "Maria Schneider") in found(text, "presidio")
