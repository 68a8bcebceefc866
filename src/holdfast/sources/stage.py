"""collect: read every source into examples that know where they came from."""

from collections import Counter
from pathlib import Path
from typing import Any

from holdfast.core.config import Source
from holdfast.core.context import StageContext
from holdfast.core.knowledge import KNOWLEDGE_FILE, Knowledge, merge_knowledge
from holdfast.core.records import Example, Message
from holdfast.sources.knowledge import read_knowledge_source
from holdfast.sources.readers import Defect, Reading, defects_error, read_file


def run(context: StageContext) -> None:
    """Write `examples.jsonl`, `collect.json` and the facts of knowledge bases, `knowledge.json`.

    Raises ContractError with the defects of all sources at once.
    """
    config = context.config.collect
    names = display_names([source.path for source in config.sources])
    examples: list[Example] = []
    defects: list[Defect] = []
    entries: list[dict[str, Any]] = []
    facts: list[tuple[str, Knowledge]] = []
    read = 0
    for source, name in zip(config.sources, names, strict=True):
        if source.format in ("prolog", "knowledge"):
            found = read_knowledge_source(source, name)
            facts.append((name, found.facts))
            reading = Reading(found.examples, [], source.format, {})
        else:
            reading = read_source(source, name)
        _announce(context, source, name, reading)
        examples += (with_system_prompt(example, config.system_prompt) for example in reading.examples)
        defects += reading.defects
        read += len(reading.examples) + len({defect.source for defect in reading.defects})
        entries.append(
            {
                "path": source.path,
                "name": name,
                "format": reading.format,
                "detected": source.format == "auto",
                "split": source.split,
                "rows": len(reading.examples),
                "ignored_keys": reading.ignored,
            }
        )
    if defects:
        raise defects_error(defects, read)
    context.out.write_examples("examples.jsonl", examples)
    if knowledge := merge_knowledge(facts):
        context.out.write_json(KNOWLEDGE_FILE, knowledge.model_dump(mode="json"))
    context.out.write_json("collect.json", {"rows": len(examples), "sources": entries})


def read_source(source: Source, name: str) -> Reading:
    """Read one entry of `collect.sources`; `name` is how its rows are called."""
    form = source.format if source.format in ("messages", "instruction") else "auto"
    return read_file(Path(source.path), name, form, None if source.split == "auto" else source.split)


def with_system_prompt(example: Example, prompt: str) -> Example:
    """The example with `prompt` as its first turn, unless it has a system turn or `prompt` is empty."""
    if not prompt or example.messages[0].role == "system":
        return example
    return example.model_copy(update={"messages": (Message(role="system", content=prompt), *example.messages)})


def display_names(paths: list[str]) -> list[str]:
    """File names; with as many parent folders before them as it takes to tell two sources apart."""
    parts = [Path(path).parts for path in paths]
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        count = next((n for n in range(1, len(own)) if all(own[-n:] != other[-n:] for other in others)), len(own))
        names.append(Path(*own[-count:]).as_posix())
    return names


def _announce(context: StageContext, source: Source, name: str, reading: Reading) -> None:
    rows = len(reading.examples) + len({defect.source for defect in reading.defects})
    how = "detected" if source.format == "auto" else "as configured"
    roles = Counter(len(example.messages) for example in reading.examples)
    turns = f", up to {max(roles)} turns" if reading.format == "messages" and roles else ""
    context.console.say(f"  {name}: {rows} rows, format {reading.format} ({how}){turns}, split {source.split}")
    for key, count in reading.ignored.items():
        context.console.warn(f"{name}: `{key}` holds no plain value in {count} rows and is not kept")
