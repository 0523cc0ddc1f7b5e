"""The embedding model in this process, against its published vectors and a plain computation of the same network."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from client.llm import local_embeddings
from client.llm.embeddings import make_embedder
from client.llm.local_embeddings import WINDOW_TOKENS, LocalEmbedder, check_installed
from errors import SettingsError
from queues.run import run_worker
from tests.conftest import MakeSettings

if TYPE_CHECKING:
    import numpy as np

INSTALLED = all(find_spec(name) for name in (local_embeddings.PACKAGE, "onnx", "onnxruntime", "tokenizers"))
needs_model = pytest.mark.skipif(
    not INSTALLED and not os.environ.get("CI"), reason="what EMBEDDING_MODEL=local needs is not installed: `make local`"
)
TEXTS = ["This is an example sentence", "Each sentence is converted", "How long does the battery last?"]
# The first numbers of the vector of TEXTS[0] on the model's own page at Hugging Face.
PUBLISHED = [6.76569e-02, 6.34959e-02, 4.87131e-02]


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> LocalEmbedder:
    """Build the graph once, for all test processes."""
    base = tmp_path_factory.getbasetemp()
    return LocalEmbedder((base if worker_id == "master" else base.parent) / "models")


@needs_model
def test_vectors_are_the_published_ones(embedder: LocalEmbedder) -> None:
    assert embedder.embed_query(TEXTS[0])[:3] == pytest.approx(PUBLISHED, abs=2e-6)


@needs_model
def test_vectors_equal_a_plain_computation_of_the_network(embedder: LocalEmbedder) -> None:
    import numpy as np

    for text, vector in zip(TEXTS, embedder.embed_documents(TEXTS), strict=True):
        assert float(np.dot(vector, reference(text))) == pytest.approx(1.0, abs=1e-6)
        assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-6)


@needs_model
def test_a_text_longer_than_the_model_reads_is_embedded_to_its_end(embedder: LocalEmbedder) -> None:
    import numpy as np

    filler = "The committee met on Tuesday and adjourned. " * (WINDOW_TOKENS // 4)
    plain, with_end = embedder.embed_documents([filler, filler + "A volcano erupted. " * 20])
    about = embedder.embed_query("volcano eruption")
    assert np.dot(with_end, about) > np.dot(plain, about) + 0.05


@needs_model
def test_a_vector_does_not_depend_on_the_other_texts(embedder: LocalEmbedder) -> None:
    import numpy as np

    together = embedder.embed_documents([TEXTS[2], "word " * 120, TEXTS[0]])
    assert np.dot(together[0], embedder.embed_query(TEXTS[2])) == pytest.approx(1.0, abs=1e-5)
    assert embedder.embed_documents([]) == []
    assert len(embedder.embed_query("")) == 384


@needs_model
def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(local_embeddings.SHA256, "model.safetensors", "0" * 64)
    with pytest.raises(SettingsError, match="SHA-256"):
        LocalEmbedder(tmp_path).embed_query("text")
    assert not list(tmp_path.glob("*.onnx"))


@needs_model
def test_the_local_model_needs_no_provider(make_settings: MakeSettings) -> None:
    assert isinstance(make_embedder(make_settings(embedding_model="local")), LocalEmbedder)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"onnxruntime.*make local"):
        check_installed()


def test_a_worker_does_not_start_without_the_packages(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(embedding_model="local")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"onnxruntime.*make local"):
        run_worker(settings, url="redis://127.0.0.1:1")


def reference(text: str) -> np.ndarray[Any, Any]:
    """Compute the vector of a text with matrix products alone, as the model's paper describes."""
    import numpy as np
    from tokenizers import Tokenizer

    from client.llm.minilm_graph import EPSILON, HEADS, LAYERS, read_safetensors

    weights = {
        name: value.astype(np.float64)
        for name, value in read_safetensors(local_embeddings._verified("model.safetensors"))
    }
    tokenizer = Tokenizer.from_file(str(local_embeddings._verified("tokenizer.json")))
    tokenizer.no_padding()
    ids = tokenizer.encode(text).ids

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: Any, name: str) -> Any:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def gelu(x: Any) -> Any:
        from math import erf, sqrt

        return x * 0.5 * (1 + np.vectorize(erf)(x / sqrt(2)))

    prefix = "embeddings."
    hidden = weights[f"{prefix}word_embeddings.weight"][ids]
    hidden = hidden + weights[f"{prefix}position_embeddings.weight"][: len(ids)]
    hidden = norm(hidden + weights[f"{prefix}token_type_embeddings.weight"][0], f"{prefix}LayerNorm")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            linear(hidden, f"{name}.attention.self.{part}").reshape(len(ids), HEADS, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(len(ids), -1)
        hidden = norm(linear(mixed, f"{name}.attention.output.dense") + hidden, f"{name}.attention.output.LayerNorm")
        wide = gelu(linear(hidden, f"{name}.intermediate.dense"))
        hidden = norm(linear(wide, f"{name}.output.dense") + hidden, f"{name}.output.LayerNorm")
    mean = hidden.mean(0)
    return np.asarray(mean / np.linalg.norm(mean))
