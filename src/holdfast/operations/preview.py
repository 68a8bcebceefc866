"""Look at what will be trained: `preview` shows rows token by token with their loss mask, and all lengths."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from holdfast import models
from holdfast.core.config import load_config
from holdfast.core.console import Console
from holdfast.core.documents import read_json
from holdfast.core.errors import UsageError
from holdfast.core.records import SPLITS, Example, read_examples
from holdfast.core.rundir import RunDir
from holdfast.core.visible import show_hidden
from holdfast.pipeline import run_pipeline

OPEN, CLOSE, END = "⟦", "⟧", "■"
LEGEND = (
    "legend: ⟦…⟧ green and underlined = trained · dim = read, not trained\n"
    "        ■ = the token before it ends an answer · ↵ = line break · ‹U+…› = a hidden character"
)
PLAIN = {OPEN: "[[", CLOSE: "]]", END: "<END>", "↵": "\\n", "…": "...", "·": "|", "‹": "<", "›": ">"}
UNREADABLE = "\ufffd"  # what half a character decodes to


class Run(NamedTuple):
    """Neighbouring tokens with the same mask. `ends`: the last of them ends an answer."""

    text: str
    trained: bool
    ends: bool


def preview(
    config_file: Path, run_dir: Path | None, overrides: list[str], console: Console, count: int, split: str,
    longest: bool,
) -> int:  # fmt: skip
    """Show `count` rows of a split, the first or the longest, token by token; `prepare` runs first when it must."""
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r}", hint=f"splits: {', '.join(SPLITS)}")
    config = load_config(config_file, overrides)
    folder = run_dir or Path("runs") / config.name
    run_pipeline(config, RunDir(folder), console, until="prepare")
    prepared = RunDir(folder).stage("prepare").path
    tokenizer = models.load_tokenizer(models.find_base_model(config.base_model))
    ends = set(models.end_token_ids(tokenizer))
    examples = read_examples(prepared / f"{split}.jsonl")
    chosen = examples if longest else examples[:count]
    encoded = [(example, models.encode_example(tokenizer, example.messages)) for example in chosen]
    if longest:
        encoded.sort(key=lambda row: -len(row[1].input_ids))
    rows: list[dict[str, Any]] = []
    if not console.as_json:
        _print(console, Text(LEGEND, style="italic"))
    for example, tokens in encoded[:count]:
        trained = [label != models.NOT_TRAINED for label in tokens.labels]
        pieces = decode_pieces(tokenizer, tokens.input_ids)
        rows.append({"source": example.source, "tokens": pieces, "trained": trained})
        if not console.as_json:
            _print(console, header(example, trained))
            _print(console, mark_tokens(runs_of(pieces, trained, [token in ends for token in tokens.input_ids])))
    audit = read_json(prepared / "report.json")["token_audit"]
    counts = ", ".join(f"{sum(row['trained'])} of {len(row['tokens'])}" for row in rows)
    table = f"trained tokens per row: {counts}\n\n{length_table(audit, config.sequence_len)}"
    console.result({"split": split, "rows": rows, "token_audit": audit}, table)
    return 0


def decode_pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text of each token. A character that several tokens share stands with the last of them.

    Each is decoded behind the ones before: SentencePiece's first token of a text loses its space.
    """
    pieces: list[str] = []
    waiting: list[int] = []
    before: list[int] = []
    for token in ids:
        waiting.append(int(token))
        text = _behind(tokenizer, before, waiting)
        if text.endswith(UNREADABLE) and len(waiting) < 4:
            pieces.append("")
            continue
        pieces.append(text)
        before, waiting = waiting, []
    if waiting:
        pieces[-1] = _behind(tokenizer, before, waiting)
    return pieces


def _behind(tokenizer: Any, before: Sequence[int], ids: Sequence[int]) -> str:
    """What `ids` add to the text of `before`."""
    first = str(tokenizer.decode(list(before))) if before else ""
    whole = str(tokenizer.decode([*before, *ids]))
    return whole.removeprefix(first) if whole.startswith(first) else str(tokenizer.decode(list(ids)))


def runs_of(pieces: Sequence[str], trained: Sequence[bool], ends: Sequence[bool]) -> list[Run]:
    """Join neighbours with the same mask; a trained end token closes its run."""
    runs: list[Run] = []
    for piece, learns, end in zip(pieces, trained, ends, strict=True):
        if runs and runs[-1].trained == learns and not runs[-1].ends:
            runs[-1] = Run(runs[-1].text + piece, learns, learns and end)
        else:
            runs.append(Run(piece, learns, learns and end))
    return runs


def mark_tokens(runs: Sequence[Run]) -> Text:
    """Trained text green, underlined and in brackets, the rest dim; readable without colour."""
    text = Text()
    for run in runs:
        shown = show_hidden(run.text).replace("\n", "↵\n")
        if run.trained:
            text.append(OPEN, style="bold green")
            text.append(shown, style="green underline")
            text.append((END if run.ends else "") + CLOSE, style="bold green")
        else:
            text.append(shown, style="dim")
    return text


def length_table(audit: dict[str, Any], sequence_len: int) -> str:
    """Lengths, trained share and end tokens of each split, as text. Lengths are tokens."""
    heads = ("", "rows", "p50", "p90", "p99", "max", "tokens", "trained", "EOS trained", "truncated")
    lines = ["".join(head.rjust(12 if i > 5 else 8) for i, head in enumerate(heads))]
    for name, found in audit["splits"].items():
        row = [name, found["rows"], found.get("p50", "?"), found.get("p90", "?"), found.get("p99", "?")]
        row += [found["longest"], f"{found['tokens']:,}", f"{100 * found['trained_share']:.1f} %"]
        row += [f"{found['rows_with_trained_eos']}/{found['rows']}", found["truncated_rows"]]
        lines.append("".join(str(cell).rjust(12 if i > 5 else 8) for i, cell in enumerate(row)))
    dropped = len(audit["dropped_too_long"])
    lines.append(f"sequence_len {sequence_len}; {dropped} rows dropped because they are longer; nothing is ever cut")
    return "\n".join(lines)


def header(example: Example, trained: Sequence[bool]) -> Text:
    """What stands above a row: its source, how much of it is trained, who made it, and what of it is not used."""
    made = f", made by {example.tags.get('augmentation')}" if example.tags.get("synthetic") else ""
    unused = "; its rejected answer is not used" if example.rejected is not None else ""
    counts = f"{sum(trained)} of {len(trained)} tokens are trained{made}{unused}"
    return Text(f"\n{show_hidden(example.source)}: {counts}", style="bold")


def _print(console: Console, text: Text) -> None:
    """Print for this terminal: signs that its encoding cannot show are spelled out."""
    try:
        text.plain.encode(console.rich.encoding)
        console.rich.print(text)
    except UnicodeEncodeError:
        plain = text.plain
        for sign, words in PLAIN.items():
            plain = plain.replace(sign, words)
        console.rich.print(Text(plain.encode(console.rich.encoding, "backslashreplace").decode(console.rich.encoding)))
