"""The masker that stages use: policy, placeholders, counts and the scan afterwards in one object."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from holdfast.core.config import RedactConfig
from holdfast.core.errors import ConfigError, ContractError
from holdfast.core.records import Example, Message
from holdfast.redact.digests import Memory
from holdfast.redact.placeholders import PLACEHOLDER, Placeholders
from holdfast.redact.policy import Policy
from holdfast.redact.spans import RANKS, Span, merge
from holdfast.redact.texts import SHORTEST_NUMBER, example_texts, name_texts, source_file, with_texts

ROUNDS = 8
SHOWN = 50
CLEAN_TEXTS, CLEAN_CHARACTERS = 2000, 4000  # texts without a find that are remembered, and how long they may be
OTHER_RANK = 90  # of a type that only a user's own name finder knows


class Redactor:
    """Masks texts and examples. One object a run, so that a value has one placeholder everywhere in it."""

    def __init__(self, config: RedactConfig, forbidden: Path | None = None, *, remember: bool = False) -> None:
        """forbidden: a folder that the key of the pseudonyms must not lie in (the run). remember: keep keyed digests of
        what is masked (`memory`), for the leak check of answers.

        Raises ConfigError when `keep`, `deny` or `types` cannot be understood.
        """
        # The recognisers compile some two hundred expressions: not before there is something to mask.
        from holdfast.redact.engine import find_spans

        self._find_spans = find_spans
        self.config = config
        key_file = config.pseudonym_key_file
        if key_file and forbidden is not None and Path(key_file).resolve().is_relative_to(forbidden.resolve()):
            raise ConfigError(f"redact.pseudonym_key_file: {key_file} lies in the run folder that it protects")
        self.policy = Policy(config)
        place = Path(key_file) if key_file else None
        self.memory = Memory(place) if remember else None
        self.placeholders = Placeholders(place, self.memory.note if self.memory else None)
        self.by_type: Counter[str] = Counter()
        self.by_source: dict[str, Counter[str]] = {}
        self.rows = self.changed = 0
        self.clean: set[str] = set()
        self._extra = (self.policy.find_denied,) if self.policy.denies else ()

    def mask(self, text: str, counts: Counter[str] | None = None) -> str:
        """`text` with placeholders for everything found. Masking the answer again changes nothing."""
        if text in self.clean:
            return text
        if "<" in text:
            self.placeholders.reserve(text)
        for number in range(ROUNDS):
            spans = self.find(text)
            if not spans:
                if not number:
                    self.note_clean(text)
                break
            text = self._replace(text, spans, counts)
        return text

    def note_clean(self, text: str) -> None:
        """System prompts, labels and other tags come again and again: they are looked at once."""
        if len(self.clean) >= CLEAN_TEXTS:
            self.clean.clear()
        if len(text) <= CLEAN_CHARACTERS:
            self.clean.add(text)

    def find(self, text: str) -> list[Span]:
        """What would be masked in `text`: sorted, without overlaps."""
        taken: list[tuple[int, int]] = []
        plain = text
        if "<" in text:
            taken = [match.span() for match in PLACEHOLDER.finditer(text)]
            if taken:  # a placeholder is neither a value nor a word that tells what stands beside it
                plain = PLACEHOLDER.sub(_blank, text)
        spans = self._find_spans(plain, self._extra)
        if not spans:
            return spans
        hides = self.policy.hides
        spans = [span for span in spans if hides(span.type, text[span.start : span.end])]
        return merge(self._beside(taken, plain, spans) if taken else spans)

    def _beside(self, taken: list[tuple[int, int]], plain: str, spans: list[Span]) -> list[Span]:
        """Without the spans that hold nothing but placeholders and a sign or two; the others swallow theirs whole."""
        kept = []
        for span in spans:
            inside = [(start, end) for start, end in taken if start < span.end and span.start < end]
            if not inside:
                kept.append(span)
            elif sum(character.isalnum() for character in plain[span.start : span.end]) > 3:
                kept.append(span._replace(start=min(span.start, inside[0][0]), end=max(span.end, inside[-1][1])))
        return kept

    def _replace(self, text: str, spans: Sequence[Span], counts: Counter[str] | None) -> str:
        parts: list[str] = []
        done = 0
        for span in spans:
            parts += (text[done : span.start], self.placeholders.make(span.type, text[span.start : span.end]))
            done = span.end
            self.by_type[span.type] += 1
            if counts is not None:
                counts[span.type] += 1
        parts.append(text[done:])
        return "".join(parts)

    def mask_example(self, example: Example) -> Example:
        """The example with its turns, its unwanted answer and its tag values masked; itself when nothing was found."""
        counts: Counter[str] = Counter()
        changes: dict[str, Any] = {}
        messages = tuple(self._mask_message(message, counts) for message in example.messages)
        if counts:
            changes["messages"] = messages
        rejected = example.rejected
        if rejected is not None and (masked := self.mask(rejected, counts)) != rejected:
            changes["rejected"] = masked
        tags = {name: self._mask_tag(value, counts) for name, value in example.tags.items()}
        if tags != example.tags:
            changes["tags"] = tags
        self.rows += 1
        if not changes:
            return example
        self.changed += 1
        self.by_source.setdefault(source_file(example), Counter()).update(counts)
        return msgspec.structs.replace(example, **changes)

    def mask_document(self, document: Any) -> Any:
        """A JSON document with every text in it masked, keys too (but for names of people and places): the same
        placeholders as in the rows."""
        if not self.config.enabled:
            return document
        if isinstance(document, str):
            return self._mask_text(document)
        if isinstance(document, dict):
            return {self.mask(name): self.mask_document(value) for name, value in document.items()}
        if isinstance(document, list):
            return [self.mask_document(value) for value in document]
        return document

    def _mask_text(self, text: str) -> str:
        masked = [self.mask(text)]
        if self.config.ner is not None:
            self._mask_names_in([masked], [Counter()], self.config.ner)
        return masked[0]

    def _mask_message(self, message: Message, counts: Counter[str]) -> Message:
        masked = self.mask(message.content, counts)
        return message if masked == message.content else Message(role=message.role, content=masked)

    def _mask_tag(self, value: str | int | float | bool, counts: Counter[str]) -> str | int | float | bool:
        if isinstance(value, str):
            return self.mask(value, counts)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= SHORTEST_NUMBER:
            masked = self.mask(str(value), counts)
            return value if masked == str(value) else masked
        return value

    def count_example(self, example: Example) -> None:
        """Count what would be masked; no placeholder is made and no key is needed."""
        counts: Counter[str] = Counter()
        for text in example_texts(example):
            counts.update(span.type for span in self.find(text))
        self.rows += 1
        if counts:
            self.changed += 1
            self.by_type.update(counts)
            self.by_source.setdefault(source_file(example), Counter()).update(counts)

    def describe(self, would: bool = False) -> str:
        """One line for people: how much was masked (or would be), by type."""
        if not self.config.enabled:
            return "redaction is off: rows are written as they are"
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.by_type.items()))
        verb = "would mask" if would else "masked"
        return f"redaction {verb} {sum(self.by_type.values())} values in {self.changed} of {self.rows} rows" + (
            f": {kinds}" if kinds else ""
        )

    def mask_examples(self, examples: Sequence[Example]) -> list[Example]:
        """Mask a batch, with names when `redact.ner` asks for them, and scan what comes out.

        Raises ContractError naming file, line and rule (never the value) when the scanner still finds something.
        """
        if not self.config.enabled:
            return list(examples)
        before = self.changed
        masked = [self.mask_example(example) for example in examples]
        if self.config.ner is not None:
            masked = self._mask_names(masked, self.config.ner)
            self.changed = before + sum(new is not old for new, old in zip(masked, examples, strict=True))
        if self.config.scanner:
            from holdfast.redact.scanner import scan_examples

            findings = scan_examples(masked, self.policy)
            if findings:
                raise findings_error(findings)
        return masked

    def _mask_names(self, examples: list[Example], model: str) -> list[Example]:
        """The examples without names in any of their texts.

        A mask changes what stands around it, so that what is left may read as another name or number: texts that
        changed are looked at again until nothing is found. Each round hides a letter, so there are no more rounds than
        letters; in practice there are two.
        """
        texts = [name_texts(example) for example in examples]
        counts = [Counter[str]() for _ in examples]
        self._mask_names_in(texts, counts, model)
        masked = []
        for example, own, count in zip(examples, texts, counts, strict=True):
            masked.append(with_texts(example, own) if count else example)
            if count:
                self.by_source.setdefault(source_file(example), Counter()).update(count)
        return masked

    def _mask_names_in(self, texts: Sequence[list[str]], counts: Sequence[Counter[str]], model: str) -> None:
        """Mask the names in lists of texts, in place; `counts` has one entry for each list."""
        from holdfast.redact import names

        pending = [(row, place) for row, own in enumerate(texts) for place in range(len(own))]
        while pending:
            found = names.find_names([texts[row][place] for row, place in pending], model)
            changed = []
            for (row, place), spans in zip(pending, found, strict=True):
                text = texts[row][place]
                if hidden := self.hidden_names(text, spans):
                    texts[row][place] = self.mask(self._replace(text, hidden, counts[row]), counts[row])
                    changed.append((row, place))
            pending = changed

    def hidden_names(self, text: str, spans: Sequence[Span]) -> list[Span]:
        """Of the names that were found, those to be masked: wanted by the policy, with a letter, in no placeholder."""
        if not spans:
            return []
        taken = [match.span() for match in PLACEHOLDER.finditer(text)] if "<" in text else []
        return merge([
            Span(s.start, s.end, s.type, RANKS.get(s.type, OTHER_RANK))
            for s in spans
            if self.policy.hides(s.type, text[s.start : s.end])
            and any(character.isalpha() for character in text[s.start : s.end])
            and not any(a < s.end and s.start < b for a, b in taken)
        ])  # fmt: skip

    def report(self) -> dict[str, Any]:
        """`redaction.json`: how many values of which type were masked, in all and by file. Never a value."""
        return {
            "enabled": self.config.enabled,
            "rows": self.rows,
            "rows_changed": self.changed,
            "masked": sum(self.by_type.values()),
            "by_type": dict(sorted(self.by_type.items())),
            "by_source": {name: dict(sorted(counts.items())) for name, counts in sorted(self.by_source.items())},
            "names": self.config.ner,
            "scanner": self.config.scanner,
        }


def _blank(match: re.Match[str]) -> str:
    return "\0" * len(match.group())


def findings_error(findings: Iterable[tuple[str, str]]) -> ContractError:
    """One error for all that the scanner found: (place, rule) pairs; up to 50 shown, all counted."""
    listed = list(findings)
    lines = [f"{place}: {rule}" for place, rule in listed[:SHOWN]]
    if len(listed) > SHOWN:
        lines.append(f"… and {len(listed) - SHOWN} more")
    return ContractError(
        f"after redaction the scanner still finds {len(listed)} secrets (values are not shown):\n  "
        + "\n  ".join(lines),
        hint="remove them from the source, or add a rule to redact.deny; what is no secret goes into redact.keep",
    )
