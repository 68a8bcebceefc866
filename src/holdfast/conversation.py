"""A conversation as text and as tokens: what asks, what is trained. The same for training, measuring and parity.

What is trained begins where the served prompt ends and ends with the token that ends an answer (decision 0002).
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any

from holdfast.core.chat_template import has_switch
from holdfast.core.errors import ModelError
from holdfast.core.labels import NOT_TRAINED, TrainingTokens, label_tokens, lies_across
from holdfast.core.records import Message

# A fast tokenizer of transformers with a chat template, as `models.load_tokenizer` returns it.
Tokenizer = Any
THOUGHTS = re.compile(r"</?think>")
MARK = "\u27e6answer\u27e7"
EDIT_TEMPLATE = "change chat_template.jinja in a copy of the model's folder so that it"


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """The text that asks for the next answer: chat template plus generation prompt."""
    return _render(tokenizer, messages, ask=True)


def _render(tokenizer: Tokenizer, messages: Sequence[Message], *, ask: bool) -> str:
    from jinja2 import TemplateError

    plain = [{"role": m.role, "content": m.content} for m in messages]
    try:
        return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=ask))
    except TemplateError as error:  # Gemma's, for example, refuses a system prompt
        roles = ", ".join(m.role for m in messages)
        if any(m.role == "system" for m in messages):
            hint = (
                "without collect.system_prompt and system rows where it knows no system role; else another base model"
            )
        else:
            hint = f"{EDIT_TEMPLATE} takes question and answer without a system turn; else another base model"
        raise ModelError(
            f"the base model's chat template refuses a conversation of {roles}: {error}", hint=hint
        ) from None


def _bos_to_add(tokenizer: Tokenizer, text: str) -> list[int]:
    """The beginning token, when the tokenizer adds one by itself and the template has not written it: never two."""
    bos = tokenizer.bos_token_id
    if bos is None or (tokenizer.bos_token and text.startswith(tokenizer.bos_token)):
        return []
    return [bos] if tokenizer("")["input_ids"][:1] == [bos] else []


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Token ids of `render_prompt`, with exactly one beginning token where the model has one."""
    text = render_prompt(tokenizer, messages)
    return _bos_to_add(tokenizer, text) + list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_example(tokenizer: Tokenizer, messages: Sequence[Message]) -> TrainingTokens:
    """Tokens and labels of a conversation: every assistant answer and the token that ends it are trained.

    Raises ModelError when the chat template rewrites earlier turns or hides the answer.
    """
    return encode_examples(tokenizer, [messages])[0]


def encode_examples(tokenizer: Tokenizer, conversations: Sequence[Sequence[Message]]) -> list[TrainingTokens]:
    """`encode_example` for several conversations at once, which is faster."""
    texts, spans = zip(*(_trained_text(tokenizer, messages) for messages in conversations), strict=True)
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    found = []
    for text, own, ids, places in zip(texts, spans, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        ids, places = _encode_apart(tokenizer, text, [begin for begin, _ in own], ids, places)
        bos = _bos_to_add(tokenizer, text)
        found.append(TrainingTokens(bos + list(ids), [NOT_TRAINED] * len(bos) + label_tokens(ids, places, own)))
    return found


def encode_beginning(tokenizer: Tokenizer, prompt: Sequence[Message], answer: str) -> list[int]:
    """Token ids of a prompt and the beginning of an answer to it, as they stand in `encode_example`; no end token.

    Raises what `encode_example` raises.
    """
    if not answer.strip():
        return encode_prompt(tokenizer, prompt)
    text, spans = _trained_text(tokenizer, [*prompt, Message(role="assistant", content=answer)])
    begin = spans[-1][0]
    shown = answer if answer in text[begin:] else answer.strip()  # some templates trim
    text = text[: text.index(shown, begin) + len(shown)]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    borders = [begin for begin, _ in spans]
    ids, _ = _encode_apart(tokenizer, text, borders, encoded["input_ids"], encoded["offset_mapping"])
    return _bos_to_add(tokenizer, text) + list(ids)


def _encode_apart(
    tokenizer: Tokenizer, text: str, borders: Sequence[int], ids: list[int], places: list[tuple[int, int]]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens and their places with borders that no token lies across, as where a prompt ends and an answer begins; as
    given where none does, or where that is another text.

    SentencePiece puts a space before what is encoded alone; behind a line end, which is then taken off, it does not.
    """
    if not lies_across(places, borders):
        return ids, places
    cut = [0, *borders, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(cut)]
    for lead in ("", "\n"):
        given = [pieces[0], *(lead + piece for piece in pieces[1:])]
        encoded = tokenizer(given, add_special_tokens=False, return_offsets_mapping=True)
        apart: list[tuple[int, int, int]] = []
        for number, begin in enumerate(cut[:-1]):
            skip = len(lead) * (number > 0)
            found = zip(encoded["input_ids"][number], encoded["offset_mapping"][number], strict=True)
            apart += [(token, a + begin - skip, b + begin - skip) for token, (a, b) in found if b > skip or not number]
        if tokenizer.decode([token for token, _, _ in apart]) == tokenizer.decode(ids):
            return [token for token, _, _ in apart], [(a, b) for _, a, b in apart]
    return ids, places


def _trained_text(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
    """The rendered conversation, and where in it the answers with their end tokens are."""
    text = _render(tokenizer, messages, ask=False)
    turns = [at for at, message in enumerate(messages) if message.role == "assistant"]
    prompts = [_render(tokenizer, messages[:at], ask=True) for at in turns]
    if turns == [len(messages) - 1] and not text.startswith(prompts[0]):
        text = _behind_its_prompt(tokenizer, messages, prompts[0], text)
    spans = [
        _answer_span(tokenizer, messages[at].content, prompt, text) for at, prompt in zip(turns, prompts, strict=True)
    ]
    places = [(begin, last) for begin, last, _ in spans]
    if spans and spans[-1][2]:  # the template ends a turn without a token of its own: the end token is appended
        text = text.rstrip() + str(tokenizer.eos_token)
        places[-1] = (places[-1][0], len(text))
    return text, places


def _behind_its_prompt(tokenizer: Tokenizer, messages: Sequence[Message], prompt: str, text: str) -> str:
    """The rendered conversation, its only answer behind the prompt that asks for it; as given where they do not fit.

    Some templates put the system prompt into a user turn as long as that is the last one (Mistral 7B v0.3): with the
    answer there, it is gone from the text. What is served has it, so what is trained must have it.
    """
    content = messages[-1].content
    marked = _render(tokenizer, [*messages[:-1], Message(role="assistant", content=MARK)], ask=False)
    before, found, end = marked.rpartition(MARK)
    shown = next((form for form in (content, content.strip()) if text.endswith(form + end)), None)
    asked = messages[-2].content.strip() if len(messages) > 1 else ""
    between = [side.rpartition(asked)[2].rstrip() if asked else side for side in (prompt, before)]
    if not found or shown is None or between[0] != between[1]:  # between question and answer nothing may differ
        return text
    space = before[len(before.rstrip()) :]
    return prompt.removesuffix(space) + space + shown + end


def _answer_span(tokenizer: Tokenizer, content: str, prompt: str, text: str) -> tuple[int, int, bool]:
    """Character span of one answer with its end token in `text`, and whether that end token is missing."""
    if THOUGHTS.search(content) and has_switch(str(getattr(tokenizer, "chat_template", ""))):
        raise ModelError(
            f"the answer {content[:40]!r} has marks of thoughts, which are off for this base model",
            hint="take <think> and what it encloses out of the answers",
        )
    if not text.startswith(prompt):
        raise ModelError(
            f"the chat template renders what stands before the answer {content[:40]!r} differently once it is there; "
            "what is trained would not be what is served",
            hint="use a template that keeps earlier turns as they are, or rows with one answer each",
        )
    # The prompt ends here; white space that the template puts before the answer is the model's to write (Mistral's).
    begin = text.find(content if content in text[len(prompt) :] else content.strip(), len(prompt))
    if begin < 0 or text[len(prompt) : begin].strip():
        shown = text[len(prompt) :][:40]
        raise ModelError(
            f"the chat template does not show the answer {content[:40]!r} right after its prompt, but {shown!r}",
            hint=f"{EDIT_TEMPLATE} writes nothing between the prompt and the answer (such as a block for "
            "thoughts), or use a base model that does not",
        )
    after = begin + len(content if text.startswith(content, begin) else content.strip())
    rest = text[after:]
    for token in sorted(tokenizer.all_special_tokens + list(tokenizer.added_tokens_encoder), key=len, reverse=True):
        if rest.lstrip().startswith(token):
            return len(prompt), after + len(rest) - len(rest.lstrip()) + len(token), False
    return len(prompt), after, True


def end_token_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of the tokens that end an answer: the tokenizer's end token and the one its template writes."""
    probe = [Message(role="user", content="a"), Message(role="assistant", content="b")]
    trained = [label for label in encode_example(tokenizer, probe).labels if label != NOT_TRAINED]
    return sorted({trained[-1], *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])})
