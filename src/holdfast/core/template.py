"""Text with `{name}` in it: what prompts made from facts look like. Names only: no expressions."""

import re
from collections.abc import Collection, Mapping

NAME = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with every `{name}` replaced. A line all of whose names are empty is left out.

    Values are put in as they are: braces in them are not looked at again. A name without a value stays as written.
    """
    lines = []
    for line in template.split("\n"):
        names = NAME.findall(line)
        if names and not any(values.get(name, name).strip() for name in names):
            continue
        lines.append(NAME.sub(lambda found: values.get(found[1], found[0]), line))
    return "\n".join(lines)


def check_names(template: str, known: Collection[str]) -> str:
    """The template, unchanged. Raises ValueError that names an unknown `{name}` and all known ones."""
    unknown = [name for name in NAME.findall(template) if name not in known]
    if unknown:
        raise ValueError(f"unknown name {{{unknown[0]}}}; known here: {', '.join(sorted(known))}")
    if not template.strip():
        raise ValueError("the template is empty")
    return template
