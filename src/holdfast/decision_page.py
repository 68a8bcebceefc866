"""decision.md: the decision as a page that can be pasted into a review."""

from collections.abc import Mapping
from typing import Any

from holdfast.core.measures import TITLES, main_scores
from holdfast.gates import amount

PAGE_TITLES = {**TITLES, "label_accuracy": "label accuracy"}


def render_page(
    name: str, document: Mapping[str, Any], tuned: Mapping[str, Any], deploy: str, proof: Mapping[str, Any] | None
) -> str:
    """Markdown: verdict, scores, gates, reasons, confusion table of the tuned model (when there are labels).

    document: decision.json. deploy: the rung to be served. proof: `split_proof` of prepare's report.json.
    """
    blocks = [
        f"# {name}: {document['verdict']}",
        _scores(document, deploy),
        "## Gates",
        _table(["gate", "measured", "limit", "passed"], [
            [gate["name"], *(amount(gate, gate[key]) for key in ("measured", "limit")),
             "yes" if gate["passed"] else "**no**"]
            for gate in document["gates"]
        ]),
        "## Reasons",
        "\n".join(f"- {reason}" for reason in document["reasons"]),
    ]  # fmt: skip
    if shown := _power(document):
        blocks += ["## What these items can show", shown]
    if tuned["confusion"]:
        blocks += ["## Tuned model: expected label (rows) against given label", _confusion(tuned["confusion"])]
    if proof and proof.get("largest"):
        limit = proof["threshold"]
        blocks.append(
            f"The {document['items']} items are held out: the largest similarity across splits is "
            f"{proof['largest']['similarity']:.2f} ({proof['method']}; "
            f"{'no limit was set' if limit is None else f'the limit is {limit:g}'})."
        )
    return "\n\n".join(blocks) + "\n"


def _power(document: Mapping[str, Any]) -> str:
    """The power analysis in words; empty for a decision of an older run."""
    found = document.get("sensitivity")
    if not found:
        return ""
    own, power = document.get("independent", document["items"]), _percent(found["power"])
    smallest, more = found["minimum_detectable_effect"], found["more_items"]
    lines = []
    if smallest is not None:
        lines.append(
            f"{own} independent items find a difference of {100 * smallest:.1f} points or more with {power} power, if "
            "as many of them as here tell the two models apart."
        )
    if more:
        lines.append(
            f"To find a difference as large as the one seen with {power} power, {found['items_needed']} are needed: "
            f"{more} more."
        )
    elif more == 0:
        lines.append(f"They are enough for the difference seen ({found['items_needed']} would do).")
    return " ".join(lines) or "Too few of them tell the two models apart to say more."


def _scores(document: Mapping[str, Any], deploy: str) -> str:
    lines = [("baseline", document["baseline"]), ("tuned", document["tuned"])]
    lines += [(f"{rung}{', deployed' if rung == deploy else ''}", got) for rung, got in document["deployed"].items()]
    names = main_scores(document["tuned"])
    rows = [[who, *(_percent(got[name]) for name in names), str(got["n"])] for who, got in lines]
    return _table(["model", *(PAGE_TITLES.get(name, name) for name in names), "items"], rows)


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> str:
    # Rows and columns are in the order of the contract; a run of before has no column of zeros in a row.
    given = list(dict.fromkeys([*(label for row in confusion.values() for label in row), *confusion]))
    rows = [[expected, *(str(row.get(label, 0)) for label in given)] for expected, row in confusion.items()]
    return _table(["", *given], rows)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def _percent(share: float) -> str:
    return f"{100 * share:z.1f} %"
