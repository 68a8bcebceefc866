"""What a message proposes can be typed: every `holdfast VERB --option` in the source and the pages exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from holdfast.cli import app

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "holdfast"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {
    verb: {"--help"} | {name for p in command.params if p.param_type_name == "option" for name in p.opts}
    for verb, command in COMMANDS.items()
}
# `holdfast VERB` and what follows, to where another command or a remark begins.
PROPOSAL = re.compile(r"holdfast ([a-z][a-z-]+)((?: (?!holdfast)[^\s;|`]+)*)")
# `--option` that stands alone: the verb is the one that was typed.
ALONE = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OF_OTHER_PROGRAMS = (
    "llama-server",
    "ollama",
    "lm_eval",
    "vllm",
    "swipl",
    "nvidia-smi",
    "ps aux",
    "kubectl",
    "qm ",
    "pvesh",
)
# The verbs that reach a module, the longest beginning first: an option that stands alone must be one of all of them.
REACHED_BY = {
    "core/config.py": ("run", "plan", "preview"),
    "core/validated.py": ("run", "plan", "preview"),
    "core/train_config.py": ("run", "plan"),
    "core/": ("run", "status", "eval", "serve", "demo", "fetch"),
    "evaluate/room.py": ("run", "eval"),
    "evaluate/tasks.py": ("run", "eval"),
    "evaluate/compare.py": ("run", "eval"),
    "models.py": ("run", "eval"),
    "plan/": ("run", "plan"),
    "sources/": ("run", "validate", "eval"),
    "serve/": ("serve",),
    "operations/axolotl.py": ("init",),
    "operations/import_axolotl.py": ("init",),
    "operations/demo.py": ("init",),
    "operations/planning.py": ("plan",),
    "operations/data.py": ("validate",),
    "operations/evidence.py": ("serve",),
    "operations/runs.py": ("eval",),
    "runtime.py": ("serve",),
    "": ("run", "prepare", "train", "evaluate", "export", "verify", "decide"),
}
OF_WHAT_WAS_TYPED = ("asked for by --from", "The same command without --from", "--from begins after --until")
WITHOUT_MESSAGES = (
    "llama_child.py",
    "export/serving.py",
    "dataset/preferences.py",
    "redact/",
    "evaluate/commands.py",
    "plan/constants.py",
    "plan/rates.py",
    "core/environment.py",
    "plan/hardware.py",
    "sources/prolog.py",
    "train/processes.py",
    "cli",
)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string of a module; {} stands for what is put in. Docstrings are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    parts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value


def wrong_proposals(text: str) -> list[str]:
    wrong = []
    for verb, rest in PROPOSAL.findall(text):
        if verb in OPTIONS:
            wrong += [f"holdfast {verb} {word}" for word in ALONE.findall(rest) if word not in OPTIONS[verb]]
    return wrong


def test_a_proposal_with_a_wrong_option_is_seen() -> None:
    assert wrong_proposals("try: holdfast eval RUN --data FILE --set a=b; holdfast run --set a=b") == [
        "holdfast eval --set"
    ]


def test_every_option_that_a_message_proposes_for_a_verb_exists() -> None:
    found = [(path, line, text) for path in sorted(PACKAGE.rglob("*.py")) for line, text in texts(path)]
    proposed = [text for _, _, text in found if PROPOSAL.search(text)]
    assert len(proposed) > 60
    assert [f"{p.name}:{line}: {w}" for p, line, text in found for w in wrong_proposals(text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_that_a_page_shows_for_a_verb_exists(page: Path) -> None:
    assert wrong_proposals(page.read_text(encoding="utf-8")) == []


def test_every_option_that_a_message_names_alone_is_one_of_the_verb_that_was_typed() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(WITHOUT_MESSAGES):
            continue
        verbs = next(verbs for begin, verbs in REACHED_BY.items() if name.startswith(begin))
        known = set.intersection(*(OPTIONS[verb] for verb in verbs))
        for line, text in texts(path):
            alone = PROPOSAL.sub("", text)
            if not any(program in text for program in (*OF_OTHER_PROGRAMS, *OF_WHAT_WAS_TYPED)):
                wrong += [f"{name}:{line}: {word}" for word in ALONE.findall(alone) if word not in known]
    assert wrong == []
