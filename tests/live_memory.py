"""Bytes of the tensors that are alive at once while a piece of code runs, on any device."""

from typing import Any

from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Within `with`: `peak` is the most bytes of tensors made there that were alive at the same time.

    What an operator uses inside itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[Any, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {self._key(t) for t in tree_leaves((args, kwargs)) if hasattr(t, "untyped_storage")}
        self.alive = {key: item for key, item in self.alive.items() if not item[0].expired()}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if hasattr(tensor, "untyped_storage") and self._key(tensor) not in given | self.alive.keys():
                storage = tensor.untyped_storage()
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result

    @staticmethod
    def _key(tensor: Any) -> int:
        return int(tensor.untyped_storage()._cdata)
