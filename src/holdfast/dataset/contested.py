"""Which rows ask the same and answer otherwise, among rows that are read once and not kept: 24 bytes a row."""

from array import array

from holdfast.core.digest import canonical_json
from holdfast.core.records import Example
from holdfast.dataset.table import number, prompt_digest
from holdfast.dataset.validate import strict_json

KEPT = 2000


class Contested:
    """Notes rows one by one; `rows` then tells which of them may contradict an earlier one."""

    def __init__(self) -> None:
        self._prompts = array("Q")
        self._answers = array("Q")

    def add(self, example: Example) -> None:
        """Note the next row."""
        digest = prompt_digest(example)
        self._prompts.extend((int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")))
        self._answers.append(_number_of(example.answer))

    def rows(self) -> tuple[set[int], int]:
        """(row numbers from 0, the earlier row of each included; how many rows may contradict an earlier one).

        Of many, the rows of the first KEPT contradictions are given. Answers that differ only in form may be among
        them.
        """
        import numpy as np

        from holdfast.dataset.table import group_starts

        if not self._answers:
            return set(), 0
        prompts = np.frombuffer(self._prompts, dtype=np.uint64).reshape(-1, 2)
        answers = np.frombuffer(self._answers, dtype=np.uint64)
        order = np.lexsort((prompts[:, 1], prompts[:, 0]))
        first = order[group_starts(prompts[order, 0], prompts[order, 1])]
        other = answers[order] != answers[first]
        later, earlier = order[other], first[other]
        some = np.argsort(later, kind="stable")[:KEPT]
        return {*later[some].tolist(), *earlier[some].tolist()}, len(later)


def _number_of(answer: str) -> int:
    try:
        return number(canonical_json(strict_json(answer)).decode("utf-8", "backslashreplace"))
    except ValueError:
        return number(" ".join(answer.split()))
