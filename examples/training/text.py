"""Mixed text pre-training: three sources in proportion, a real tokenizer, batches by token budget.

The documents ship with Python: its language reference stands for the web, docstrings for an
encyclopaedia, and functions of the standard library for code.  A byte-pair tokenizer is trained on
them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from resuming import Program, main
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import dreamdb as vd
from dreamdb import Stream, col
from dreamdb.training import (
    BatchBudget,
    BatchStream,
    BucketKey,
    DataParallel,
    DropPartial,
    List,
    Pad,
    PadMask,
    RuntimeParam,
    ShardAwareShuffle,
    ShiftedLabels,
    StratifiedByStream,
    Tokenize,
    WindowedBucket,
)

VOCABULARY = 1_000
MODULES = [
    "argparse",
    "ast",
    "collections",
    "csv",
    "datetime",
    "decimal",
    "difflib",
    "email.message",
    "fractions",
    "functools",
    "heapq",
    "http.client",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "random",
    "shutil",
    "statistics",
    "string",
    "subprocess",
    "tarfile",
    "textwrap",
    "threading",
    "typing",
    "unittest",
    "urllib.parse",
    "uuid",
    "zipfile",
]


def documents() -> Iterator[tuple[str, str, str]]:
    """Yield source, where it is from, and text."""
    for topic, text in sorted(topics.items()):
        for i, part in enumerate(re.split(r"\n\n\n+|\n(?=\S[^\n]*\n[=*\-~]{4,})", text)):
            if len(part.split()) > 20:
                yield "fineweb", f"python:topics/{topic}#{i}", part.strip()
    for name in MODULES:
        source = inspect.getsource(importlib.import_module(name))
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            where = f"python:{name}/{node.name}:{node.lineno}"
            described = ast.get_docstring(node)
            if described and len(described.split()) > 10:
                yield "wikipedia", where, described
            code = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            if len(code) > 200:
                yield "code", where, code[:4_000]


def prepare(backend: str) -> None:
    schema = (
        vd.Schema()
        .add_scalar_string("sample_id", required=True)
        .add_text("text")
        .add_scalar_categorical("lang")
        .add_scalar_float("quality_score")
        .add_scalar_int("token_count_estimate")
        .add_scalar_string("source_uri")
        .add_scalar_categorical("storage_shard")
    )
    found: dict[str, list[dict[str, Any]]] = {"fineweb": [], "wikipedia": [], "code": []}
    for source, where, text in documents():
        rows = found[source]
        luck = hashlib.sha256(where.encode()).digest()
        rows.append(
            {
                "sample_id": f"{source}-{len(rows):05d}",
                "text": text,
                "lang": "en" if luck[0] else "de",
                "quality_score": 0.7 + luck[1] / 255 * 0.3,
                "token_count_estimate": len(text) // 4,
                "source_uri": where,
                "storage_shard": f"shard-{len(rows) // 100}",
            }
        )
    for source, rows in found.items():
        name = f"text.{source}_documents"
        vd.Dataset.create(name, schema, backend=backend, key="sample_id").append_many(rows)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((row["text"] for rows in found.values() for row in rows), trainer)
    tokenizer.save(tokenizer_path(backend))
    print({name: len(rows) for name, rows in found.items()}, "documents;", end=" ")
    print(len(json.loads(Path(tokenizer_path(backend)).read_text())["model"]["vocab"]), "tokens")


def tokenizer_path(backend: str) -> str:
    return f"{backend.rstrip('/')}-tokenizer.json"


def stream(backend: str) -> BatchStream:
    def table(name: str) -> vd.Dataset:
        return vd.Dataset.open_ref(name, backend=backend)

    docs = vd.mix(
        [
            Stream("fineweb", table("text.fineweb_documents"), proportion=0.70),
            Stream("wikipedia", table("text.wikipedia_documents"), proportion=0.10),
            Stream("code", table("text.code_documents"), proportion=0.20),
        ],
        epoch_size=300,
    )
    return (
        docs.filter((col("lang") == "en") & (col("quality_score") >= 0.80))
        .project(
            "sample_id",
            "stream_id",
            "text",
            "token_count_estimate",
            "source_uri",
            "storage_shard",
        )
        .sample(
            identity="sample_id",
            order=ShardAwareShuffle(
                seed=9176,
                shard_key=["stream_id", "storage_shard"],
                shuffle_block_size=4_000_000,
                sampling_granularity="row_group",
            ),
            epoch=RuntimeParam("epoch"),
            assignment=DataParallel(
                rank=RuntimeParam("data_parallel_rank"),
                world_size=RuntimeParam("data_parallel_world_size"),
            ),
        )
        .map(Tokenize("text", tokenizer=tokenizer_path(backend), max_length=512) >> "tokens")
        .collate(
            batch_size=None,
            formation=WindowedBucket(
                window_size=128,
                keys=[BucketKey("len(tokens)")],
                budget=BatchBudget(max_tokens=2_048),
            ),
            composition=StratifiedByStream("stream_id"),
            last=DropPartial,
            fields={
                "input_ids": Pad("tokens", pad_to_multiple_of=128),
                "attention_mask": PadMask("tokens", pad_to_multiple_of=128),
                "labels": ShiftedLabels("tokens", ignore_index=-100),
                "sample_id": List("sample_id"),
                "stream_id": List("stream_id"),
            },
        )
    )


class Language(torch.nn.Module):
    """Guesses the next token from the few before it."""

    def __init__(self, width: int = 24, reach: int = 4) -> None:
        super().__init__()
        self.reach = reach
        self.embedding = torch.nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.memory = torch.nn.Conv1d(width, width, reach)
        self.head = torch.nn.Linear(width, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        before = torch.nn.functional.pad(self.embedding(tokens).mT, (self.reach - 1, 0))
        return self.head(torch.relu(self.memory(before)).mT)


def loss(network: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    tokens, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    assert tokens.numel() <= 2_048
    assert tokens.shape[1] % 128 == 0
    assert tokens.shape == mask.shape == labels.shape
    assert int(mask.sum()) == int((labels != -100).sum()) + len(tokens)
    logits = network(tokens)
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100)


if __name__ == "__main__":
    main(Program(__file__, prepare, stream, Language, loss))
