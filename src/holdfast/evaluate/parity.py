"""Token-for-token parity: what the server feeds the model must be what training fed it.

The training side is `models.encode_prompt` (Hugging Face template and tokenizer of the base model); the serving side is
the server's own template and tokenizer, as its chat endpoint uses them. A real row that differs is an IntegrityError.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeVar

from holdfast import models
from holdfast.core.errors import IntegrityError, ModelError, ServerError
from holdfast.core.records import Example, Message
from holdfast.evaluate.awkward import awkward_rows
from holdfast.runtime import LlamaServer

CONTEXT_TOKENS = 6
SHOWN = 3
FORCING_BIAS = 1000.0  # added to a logit: no model outweighs it
Result = TypeVar("Result")
NORMALISATION = "the text is not NFC-normalised; the tokenizer normalises it, llama.cpp does not"
# llama.cpp takes some of these for special tokens by their look, also where the tokenizer does not.
MARKS = re.compile(r"<\|[^<>|\s]{1,40}\|>|</?\w{1,40}>|\[/?[A-Z_]{1,40}\]")


class Difference(NamedTuple):
    """One row whose token ids differ from `position` on. `reason` is empty when it is not known; `special`: the texts
    in the row that are the reason."""

    row: str
    position: int
    trained_ids: list[int]
    served_ids: list[int]
    trained_text: str
    served_text: str
    reason: str
    special: tuple[str, ...] = ()


class Sides(NamedTuple):
    """The two programs that turn a conversation into tokens."""

    tokenizer: Any
    server: LlamaServer

    def trained(self, messages: Sequence[Message]) -> list[int]:
        """Token ids as in training."""
        return models.encode_prompt(self.tokenizer, list(messages))

    def served(self, messages: Sequence[Message]) -> list[int]:
        """Token ids as in the server's chat endpoint: it parses special tokens and adds the model's BOS."""
        return self.server.tokenize(self.server.render(messages), parse_special=True, add_special=True)

    def compare(self, name: str, messages: Sequence[Message], may_differ: str = "") -> Difference | None:
        """None when both sides give the same ids. Raises what the sides raise when they refuse the conversation."""
        trained, served = self.trained(messages), self.served(messages)
        if trained == served:
            return None
        pairs = zip(trained, served, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(trained), len(served)))
        window = slice(max(0, at - CONTEXT_TOKENS), at + CONTEXT_TOKENS)
        reason = NORMALISATION if self._only_normalisation(messages) else may_differ
        special = () if reason else self._special_texts(messages)
        if special:
            reason = f"the row's text holds {_quoted(special)}, which is a special token of the model or of llama.cpp"
        return Difference(
            name, at, trained[window], served[window],
            self.tokenizer.decode(trained[window]), self.tokenizer.decode(served[window]), reason, special,
        )  # fmt: skip

    def _only_normalisation(self, messages: Sequence[Message]) -> bool:
        """True when the difference goes away with NFC text: then normalisation is proven to be the reason."""
        normal = [Message(role=m.role, content=unicodedata.normalize("NFC", m.content)) for m in messages]
        return normal != list(messages) and self.trained(normal) == self.served(normal)

    def _special_texts(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """Special tokens written in the text without which the difference goes away: each proven to make one. Empty
        when they are not the reason."""
        text = "\n".join(m.content for m in messages)
        own = (*self.tokenizer.all_special_tokens, *self.tokenizer.added_tokens_encoder)
        found = {mark for mark in (*own, *MARKS.findall(text)) if mark.strip() and mark in text}
        if not found or self._differs(messages, found):
            return ()
        return tuple(sorted(mark for mark in found if self._differs(messages, found - {mark})))

    def _differs(self, messages: Sequence[Message], hidden: Collection[str]) -> bool:
        """Whether the sides differ with some texts replaced by a letter, the longest first."""
        shown = "|".join(re.escape(mark) for mark in sorted(hidden, key=len, reverse=True)) or "(?!)"
        plain = [Message(role=m.role, content=re.sub(shown, "x", m.content)) for m in messages]
        return self.trained(plain) != self.served(plain)


class Parity(NamedTuple):
    """The document of parity.json, and the errors that forbid to go on (none = passed)."""

    document: dict[str, Any]
    errors: tuple[IntegrityError, ...]

    @property
    def passed(self) -> bool:
        """Whether the server may be measured and served."""
        return not self.errors


def check_parity(tokenizer: Any, server: LlamaServer, examples: Sequence[Example]) -> dict[str, Any]:
    """The document of parity.json. Raises IntegrityError as `require_parity`."""
    parity = measure_parity(tokenizer, server, examples)
    require_parity(parity)
    return parity.document


def require_parity(parity: Parity) -> None:
    """Raise IntegrityError when a real row differs, an awkward row differs for no known reason, the BOS token is
    doubled, or the end token of training does not stop the server."""
    if parity.errors:
        raise parity.errors[0]


def measure_parity(tokenizer: Any, server: LlamaServer, examples: Sequence[Example]) -> Parity:
    """Compare both sides for real examples (at least one) and for the awkward rows, to the last difference."""
    sides = Sides(tokenizer, server)
    errors: list[IntegrityError] = []
    compared = [sides.compare(example.source, example.prompt) for example in examples]
    differences = [difference for difference in compared if difference is not None]
    if differences:
        errors.append(_differ(differences, f"{len(differences)} of {len(examples)} rows"))
    rows = awkward_rows(tokenizer.all_special_tokens)
    known: list[Difference] = []
    unknown: list[Difference] = []
    refused: list[dict[str, str]] = []
    for row in rows:
        try:
            difference = sides.compare(row.name, row.messages, row.may_differ)
        except (ModelError, ServerError, _template_error()) as error:
            refused.append({"row": row.name, "error": str(error)})
            continue
        if difference is not None:
            # A special token found in a row explains a user's row; an awkward row that may differ says so beforehand.
            (known if difference.reason and not difference.special else unknown).append(difference)
    errors += [_differ([difference], f"the awkward row {difference.row!r}") for difference in unknown[:1]]
    bos, bos_error = _or_error(lambda: check_bos(sides, examples))
    ends, stop_error = _or_error(lambda: check_stop(sides, examples[0].prompt))
    errors += [error for error in (bos_error, stop_error) if error is not None]
    document = {
        "rows": len(examples),
        "identical": len(examples) - len(differences),
        "bos_ok": bos_error is None,
        "stop_ok": stop_error is None,
        "differences": [difference._asdict() for difference in (*differences, *unknown)],
        "bos": bos or "",
        "end_tokens": ends or [],
        "awkward": {
            "rows": len(rows),
            "identical": len(rows) - len(known) - len(unknown) - len(refused),
            "known_differences": [difference._asdict() for difference in known],
            "refused_by_the_template": refused,
        },
        "errors": [error.message for error in errors],
    }
    return Parity(document, tuple(errors))


def _or_error(check: Callable[[], Result]) -> tuple[Result | None, IntegrityError | None]:
    try:
        return check(), None
    except IntegrityError as error:
        return None, error
    except ModelError as error:  # the base model's own template is unusable
        return None, IntegrityError(error.message, error.hint)


def check_bos(sides: Sides, examples: Sequence[Example]) -> str:
    """The beginning-of-sequence token that every prompt begins with exactly once; "" when the model uses none.

    Raises IntegrityError when the server puts it twice (template and tokenizer both add it) or only sometimes.
    """
    bos = sides.tokenizer.bos_token_id
    counts = {_leading(sides.served(example.prompt), bos) for example in examples}
    if bos is None or counts == {0}:
        return ""
    if counts != {1}:
        raise IntegrityError(
            f"prompts in the server begin with {sorted(counts)} BOS tokens {sides.tokenizer.bos_token!r}, expected 1",
            hint="check add_bos_token and the chat template of the base model, then holdfast export -c FILE",
        )
    return str(sides.tokenizer.bos_token)


def check_stop(sides: Sides, prompt: Sequence[Message]) -> list[str]:
    """The tokens that end an answer in training and evaluation, each proven to end generation in the server.

    Each is forced by a logit bias. Raises IntegrityError when the server goes on after it, or shows it as text.
    """
    names = []
    for end in models.end_token_ids(sides.tokenizer):
        names.append(str(sides.tokenizer.convert_ids_to_tokens(end)))
        reply = sides.server.chat(prompt, 4, logit_bias={end: FORCING_BIAS})
        if not reply.stopped or reply.text:
            raise IntegrityError(
                f"the end token of training, {names[-1]!r} (id {end}), does not end generation in the server: "
                f"it gave {reply.tokens} tokens {reply.text!r}",
                hint="make the token that ends answers in the chat template the base model's eos_token",
            )
    return names


def _leading(ids: Sequence[int], token: int | None) -> int:
    return next((i for i, id_ in enumerate(ids) if id_ != token), len(ids))


def _template_error() -> type[Exception]:
    """A chat template that refuses a conversation (for example a system prompt) raises this."""
    from jinja2 import TemplateError

    return TemplateError


def _differ(differences: Sequence[Difference], what: str) -> IntegrityError:
    lines = "".join(
        f"\n  {d.row}: from token {d.position} on: trained {d.trained_ids} {d.trained_text!r}, "
        f"served {d.served_ids} {d.served_text!r}{f' ({d.reason})' if d.reason else ''}"
        for d in differences[:SHOWN]
    )
    more = f"\n  … and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    special = sorted({text for d in differences for text in d.special})
    hint = "the GGUF's tokenizer or chat template is not the base model's: holdfast export -c FILE"
    if any(d.reason == NORMALISATION for d in differences):
        hint = "write the rows' text in NFC (unicodedata.normalize) in the source file, then repeat the command"
    elif special:
        hint = (
            f"take {_quoted(special)} out of the rows' text in the source file, or write it otherwise (with a space in "
            "it, for example), then repeat the command"
        )
    return IntegrityError(
        f"the server does not see what training saw: {what} differ{'' if what[0].isdigit() else 's'}:{lines}{more}",
        hint=hint,
    )


def _quoted(texts: Sequence[str]) -> str:
    return " and ".join(map(repr, texts))
