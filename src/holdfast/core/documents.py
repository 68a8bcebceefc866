"""Reading the JSON documents that stages hand to each other."""

import json
from pathlib import Path
from typing import Any

from holdfast.core.errors import IntegrityError


def deployed_quantization(named: str, verified: Path) -> str:
    """The quantisation to deploy: `verify.deploy`, or for `auto` the one that stage verify (its folder) chose.

    Raises IntegrityError when there is no choice yet.
    """
    return str(read_json(verified / "ladder.json")["deploy"]) if named == "auto" else named


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a stage's folder. Raises IntegrityError when it is missing or damaged."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing", hint="holdfast run -c FILE makes it again") from None
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", hint="holdfast run -c FILE makes it again") from None
    if not isinstance(document, dict):
        raise IntegrityError(f"{path} is not a JSON object", hint="holdfast run -c FILE makes it again")
    return document
