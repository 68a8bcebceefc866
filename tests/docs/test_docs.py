"""The documents say what is there: files, verbs, options, keys, errors, links; and the rules that can be counted."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from holdfast import decide
from holdfast.core import errors
from holdfast.core.config import RunConfig
from holdfast.core.rundir import STAGE_NAMES
from holdfast.dataset.contract import DatasetContract
from holdfast.pipeline import STAGES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "holdfast"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/format.md", "docs/log.md")
MACHINE_PATHS = tuple("/" + rest for rest in ("work/", "tmp/hv", "root/"))  # split, or this file would hold them
LONGEST_FILE, LONGEST_FUNCTION = 300, 60


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def repository_files() -> list[Path]:
    """Tracked files and new ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return sorted(path for name in names if name and (path := ROOT / name).is_file())


def plain_text(path: Path) -> str | None:
    data = path.read_bytes()
    return None if b"\0" in data else data.decode("utf-8", errors="ignore")


def file_map() -> list[str]:
    """First words of the block below `Where things are` in the README."""
    block = re.search(r"## Where things are\n+```text\n(.*?)```", text_of("README.md"), re.DOTALL)
    assert block, "README.md has no file map"
    return [line.split()[0] for line in block.group(1).splitlines()]


def named_files(text: str) -> set[str]:
    """Words in back quotes and links that look like a file or a folder of the repository."""
    words = re.findall(r"`([\w./-]+)`", text) + re.findall(r"\]\(([\w./-]+)\)", text)
    return {word for word in words if re.search(r"(\.(py|md|toml|yaml|txt)|/)$", word)}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("holdfast_tools_docs", ROOT / "tools" / "docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# --- files


def test_every_file_of_the_readme_map_exists() -> None:
    names = file_map()
    assert len(names) >= 10
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_every_file_that_architecture_names_exists() -> None:
    names = named_files(text_of("ARCHITECTURE.md"))
    assert len(names) >= 60
    assert sorted(n for n in names if not (PACKAGE / n).exists() and not (ROOT / n).exists()) == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md", "docs/log.md", "docs/adr/"])
def test_every_source_path_that_a_page_names_exists(page: str) -> None:
    pages = sorted((ROOT / page).glob("*.md")) if page.endswith("/") else [ROOT / page]
    assert pages
    for path in pages:
        names = re.findall(r"`((?:src|tests|tools|docs|examples|requirements)/[\w./-]+)`", path.read_text("utf-8"))
        assert [name for name in names if not (ROOT / name).exists()] == [], path.name


def test_every_module_or_its_folder_is_in_architecture() -> None:
    text = text_of("ARCHITECTURE.md")
    assert len(MODULES) >= 60
    names = [path.relative_to(PACKAGE) for path in MODULES]
    missing = [str(n) for n in names if f"`{n}`" not in text and (len(n.parts) == 1 or f"`{n.parent}/" not in text)]
    assert missing == [], "give each a line in ARCHITECTURE.md"


def test_architecture_and_format_name_every_stage_folder() -> None:
    for stage in STAGES:
        assert re.search(rf"\b{stage.name}\b", text_of("ARCHITECTURE.md")), stage.name
        assert f"{STAGE_NAMES.index(stage.name) + 1:02d}-{stage.name}/" in text_of("docs/format.md")


def test_every_relative_link_resolves() -> None:
    count = 0
    for path in repository_files():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            if "://" in target or target.startswith("#"):
                continue
            count += 1
            assert (path.parent / target.partition("#")[0]).exists(), f"{path.relative_to(ROOT)}: {target}"
    assert count >= 8


def test_the_licence_is_there() -> None:
    text = text_of("LICENSE")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


# --- generated pages


def test_generated_pages_are_current(tool: ModuleType) -> None:
    assert len(tool.render_all()) == 3
    assert tool.stale_pages() == [], "run: python tools/docs.py"


def test_a_stale_page_is_noticed(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "render_cli", lambda: "other text")
    assert tool.stale_pages() == ["docs/cli.md"]


def test_cli_page_has_every_verb_and_option_and_nothing_else(tool: ModuleType) -> None:
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text_of("docs/cli.md"), re.DOTALL | re.MULTILINE))
    commands = tool.commands()
    assert list(sections) == list(commands)
    assert len(commands) >= 15
    for name, command in commands.items():
        rows = re.findall(r"^\| (`.+?) \|", sections[name], re.MULTILINE)
        found = {word for row in rows for word in re.findall(r"`(-[\w-]+)`", row)}
        assert found == {o for p in command.params if p.param_type_name == "option" for o in p.opts}, name


def test_errors_page_has_every_error_code_and_verdict(tool: ModuleType) -> None:
    text = text_of("docs/errors.md")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)]
    assert len(kinds) >= 11
    for kind in kinds:
        code = getattr(kind, "exit_code", errors.EXIT_INTERRUPTED)
        assert re.search(rf"^\| `(· )*{kind.__name__}` \| {code} \|", text, re.MULTILINE), kind.__name__
    assert f"| {errors.EXIT_BUG} |" in text
    for verdict, code in decide.EXIT_CODES.items():
        assert f"| `{verdict}` | {code} |" in text


def test_readme_and_the_errors_module_list_the_same_codes(tool: ModuleType) -> None:
    table = text_of("README.md").split("## Exit codes")[1].split("\n## ")[0]
    listed = {int(n) for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for n in cell.split(",")}
    known = {kind.exit_code for _, kind in tool.exceptions()} | set(decide.EXIT_CODES.values())
    assert listed == known | {errors.EXIT_BUG, errors.EXIT_INTERRUPTED}


def test_config_page_describes_every_key(tool: ModuleType) -> None:
    text = text_of("docs/config.md")
    keys = [key for path, model in tool.models_below(RunConfig, "") for key in tool.keys_of(model, path)]
    keys += tool.keys_of(DatasetContract, "")
    assert len(keys) >= 60
    for key in keys:
        assert len(key.text) > 10, key.name
        assert f"| `{key.name}` |" in text


def test_readme_output_is_replaced_as_a_whole(tool: ModuleType) -> None:
    changed = tool.with_output(text_of("README.md"), "KEEP: \\1 new\n")
    assert f"{tool.MARKER}\n```text\nKEEP: \\1 new\n```\n" in changed
    assert tool.with_output(changed, "x").count("```") == changed.count("```")


# --- house rules


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    files = repository_files()
    assert len(files) >= 100
    bad = [
        f"{path.relative_to(ROOT)}: {needle}"
        for path in files
        if (text := plain_text(path)) is not None
        for needle in MACHINE_PATHS
        if needle in text
    ]
    assert bad == []


def test_source_files_and_functions_stay_short() -> None:
    files = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES}
    long = {f"{p.relative_to(ROOT)}:{name}": n for p in MODULES for name, n in functions(p) if n > LONGEST_FUNCTION}
    assert {name: n for name, n in files.items() if n > LONGEST_FILE} == {}
    assert long == {}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_title_and_no_trailing_space(page: str) -> None:
    lines = text_of(page).splitlines()
    outside = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL).splitlines()
    assert sum(line.startswith("# ") for line in outside) == 1
    assert [n for n, line in enumerate(lines, 1) if line != line.rstrip()] == []
