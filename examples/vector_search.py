"""Nearest vectors in versioned data: handwritten digits, and the standard library's documentation.

    python examples/vector_search.py [--backend PATH] [--docs N]

Two kinds of real vectors, made here and now: the 64 pixels of scikit-learn's digits, and text
embeddings (TF-IDF and SVD) of the docstrings of Python's own standard library.  Needs
``pip install 'dreamdb[demo]'``; with the extra ``vectors`` the compiled kernels are used.
"""

from __future__ import annotations

import argparse
import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import dreamdb as vd

DIM = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="memory://vector-search", help="a path or a URL")
    parser.add_argument("--docs", type=int, default=6_000, help="how many docstrings")
    options = parser.parse_args()
    search_digits(options.backend)
    search_documentation(options.backend, options.docs)


def search_digits(backend: str) -> None:
    """Digits: exact search, because comparing 1,797 vectors takes no time."""
    pixels, labels = load_digits(return_X_y=True)
    schema = vd.Schema().add_embedding("pixels", dim=64, algorithm="dreamdb.flat-l2")
    schema.add_scalar_int("label")
    ds = vd.Dataset.create("digits", schema, backend=backend)
    ds.append({"pixels": pixels.astype(np.float32), "label": labels})
    found = ds.search("pixels", pixels[:200], k=6, fields=["label"])
    own = np.repeat(labels[:200], 6)
    same = np.mean(np.array(found["label"].to_pylist()) == own)
    print(f"digits: {same:.1%} of the 6 nearest have the same label")


def search_documentation(backend: str, count: int) -> None:
    """Documentation: an index that follows appends, conditions, snapshots, codes."""
    names, texts = zip(*docstrings(count), strict=True)
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english")
    svd = TruncatedSVD(DIM, random_state=0)
    vectors = svd.fit_transform(vectorizer.fit_transform(texts)).astype(np.float32)

    spatial_index = vd.train_and_publish_ivf_centroids(
        backend, vectors, DIM, k=64, iterations=6, seed=1
    )
    compressor = vd.publish_rabitq_compressor(backend, DIM, seed=1, bits_per_dim=4)
    schema = (
        vd.Schema()
        .add_scalar_string("name")
        .add_scalar_categorical("module")
        .add_embedding(
            "text",
            dim=DIM,
            algorithm="dreamdb.ivf-cosine",
            spatial_index=spatial_index,
            compressor=compressor,
            rerank=True,
        )
    )
    ds = vd.Dataset.create("documentation", schema, backend=backend)
    half = len(names) // 2
    for part in (slice(None, half), slice(half, None)):
        modules = [name.partition(".")[0] for name in names[part]]
        ds.append({"name": list(names[part]), "module": modules, "text": vectors[part]})
        info = ds.index.info("text")[0]
        print(f"documentation: {info.indexed:,} indexed, {info.unindexed:,} compared exactly")
        if part.start is None:
            snapshot = ds.snapshot("half")

    def embed(question: str) -> np.ndarray:
        return svd.transform(vectorizer.transform([question])).astype(np.float32)[0]

    for question in ("parse command line arguments", "read and write compressed zip archives"):
        found = ds.search("text", embed(question), k=3, fields=["name"], exact=False)
        print(f"  {question!r}: {', '.join(found['name'].to_pylist())}")
    asked = embed("open a connection to a server")
    found = ds.search("text", asked, k=3, where="module = 'asyncio'", fields=["name"])
    print(f"  in asyncio: {', '.join(found['name'].to_pylist())}")
    old = vd.Dataset.open_at(snapshot, backend=backend)
    print(f"  the snapshot still has {old.count():,} of {ds.count():,} records")

    print(f"  {ds.index.evaluate(vectors[:: max(1, len(vectors) // 200)], k=10)}")
    small = ds.branch("codes")
    small.reencode("text", "rabitq-4")
    before, after = ds.stats()[2].nbytes, small.stats()[2].nbytes
    print(f"  as codes: {before:,} bytes become {after:,}; {small.schema['text'].type}")
    print(f"  {small.index.evaluate(vectors[:: max(1, len(vectors) // 200)], k=10)}")


def docstrings(count: int) -> Iterator[tuple[str, str]]:
    """Yield names and docstrings of the standard library, read from its sources."""
    root = Path(sysconfig.get_path("stdlib"))
    found = 0
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if {"test", "tests", "site-packages", "idlelib"} & set(relative.parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if len(text) > 60:
                    yield f"{module}.{getattr(node, 'name', '')}".strip("."), text
                    found += 1
                    if found == count:
                        return


if __name__ == "__main__":
    main()
