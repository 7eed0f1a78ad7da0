"""Conditions: SQL and expressions against a Python oracle, and pruning against brute force."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from tests.dataset.spaces import make, numbered

NAN = float("nan")
LONG = "common prefix of 16+ "
INTS = [None, 0, 1, -1, 7, 8, (1 << 63) - 1, -(1 << 63), 1 << 53]
FLOATS = [None, NAN, 0.0, -0.0, 1.5, -1.5, 7.0, math.inf, -math.inf, 5e-324]
TEXTS = [
    None,
    "",
    "a",
    "b",
    "é",
    "🙂",
    LONG + "a",
    LONG + "b",
    LONG,
    "\U0010ffff" * 5,
    "a\0",
    "a\0b",
]
BOOLS = [None, True, False]

Row = dict[str, Any]
Oracle = Callable[[Row], bool | None]
Condition = tuple[str, pc.Expression, Oracle]


@pytest.fixture(scope="module")
def sample() -> tuple[vd.Dataset, list[Row]]:
    """Return a dataset whose fragments differ in their bounds, and its visible rows."""
    generator = np.random.default_rng(7)
    schema = vd.Schema().add_scalar_int("i").add_scalar_float("f").add_scalar_bool("b")
    # Text fragments are the smallest: 1,024 rows.
    schema.add_text("s").add_text("t")
    rows: list[Row] = []
    for block in range(12):
        # Each block uses few of the special values, so that some fragments can be excluded.
        pick = [generator.permutation(len(v))[:3] for v in (INTS, FLOATS, BOOLS, TEXTS, TEXTS)]
        for _ in range(1_200):
            i, f, b, s, t = (int(generator.choice(p)) for p in pick)
            rows.append(
                {
                    "_anchor": len(rows) * 2,
                    "i": INTS[i],
                    "f": FLOATS[f],
                    "b": BOOLS[b],
                    "s": TEXTS[s],
                    "t": TEXTS[t],
                }
            )
        if block % 4 == 1:
            rows += [
                {"_anchor": (len(rows) + n) * 2, **dict.fromkeys("ifbst")} for n in range(3_000)
            ]
    ds = make(schema, rows)
    ds.delete([r["_anchor"] for r in rows[::9]])
    for row in rows:
        row["values"] = tuple(repr(row[name]) for name in "ifbst")
    return ds, [r for n, r in enumerate(rows) if n % 9]


def _compare(operator: str, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    verbs: dict[str, Callable[[Any, Any], bool]] = {
        "=": lambda a, b: a == b,
        "<>": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    if isinstance(left, str):
        left, right = left.encode(), right.encode()
    return verbs[operator](left, right)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).upper() if isinstance(value, bool) else repr(value)


_APPLY: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_VALUES: dict[str, list[Any]] = {
    "i": [v for v in INTS if v is not None and abs(v) <= 1 << 53] + [2, 100],
    "f": [v for v in FLOATS if v is not None and math.isfinite(v) and v != 5e-324] + [0.5, 2.0],
    "s": [v for v in TEXTS if v is not None and "\0" not in v] + ["zz", LONG + "aa"],
    "t": [v for v in TEXTS if v is not None and "\0" not in v],
    "b": [True, False],
}


@st.composite
def comparisons(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from("ifsbt"))
    operator = draw(st.sampled_from(list(_APPLY)))
    if name == "b":
        operator = draw(st.sampled_from(["=", "<>"]))
    value = draw(st.sampled_from(_VALUES[name]))
    return (
        f"{name} {operator} {_literal(value)}",
        _APPLY[operator](pc.field(name), pc.scalar(value)),
        lambda row: _compare(operator, row[name], value),
    )


@st.composite
def memberships(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from("ifs"))
    values = draw(st.lists(st.sampled_from(_VALUES[name]), min_size=1, max_size=4))
    listed = ", ".join(map(_literal, values))
    kind = {"i": pa.int64(), "f": pa.float64(), "s": pa.string()}[name]
    zeros = [0.0, -0.0] if name == "f" and 0.0 in values else []
    found = pc.field(name).isin(pa.array([*values, *zeros], kind))
    exact = pc.if_else(pc.field(name).is_valid(), found, pc.scalar(pa.scalar(None, pa.bool_())))
    return (
        f"{name} IN ({listed})",
        exact,
        lambda row: None if row[name] is None else row[name] in values,
    )


@st.composite
def nulls(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from("ifsb"))
    if draw(st.booleans()):
        return f"{name} IS NULL", pc.field(name).is_null(), lambda row: row[name] is None
    return f"{name} IS NOT NULL", pc.field(name).is_valid(), lambda row: row[name] is not None


@st.composite
def ranges(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from("ifs"))
    low, high = (draw(st.sampled_from(_VALUES[name])) for _ in range(2))

    def oracle(row: Row) -> bool | None:
        return _and(_compare(">=", row[name], low), _compare("<=", row[name], high))

    field = pc.field(name)
    text = f"{name} BETWEEN {_literal(low)} AND {_literal(high)}"
    return text, (field >= pc.scalar(low)) & (field <= pc.scalar(high)), oracle


def _and(a: bool | None, b: bool | None) -> bool | None:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def _not(a: bool | None) -> bool | None:
    return None if a is None else not a


def _both(a: Condition, b: Condition) -> Condition:
    return f"({a[0]}) AND ({b[0]})", a[1] & b[1], lambda row: _and(a[2](row), b[2](row))


def _either(a: Condition, b: Condition) -> Condition:
    return (
        f"({a[0]}) OR ({b[0]})",
        a[1] | b[1],
        lambda row: _not(_and(_not(a[2](row)), _not(b[2](row)))),
    )


def _negated(a: Condition) -> Condition:
    return f"NOT ({a[0]})", ~a[1], lambda row: _not(a[2](row))


def _same(a: Condition, b: Condition) -> Condition:
    return f"({a[0]}) = ({b[0]})", a[1] == b[1], lambda row: _compare("=", a[2](row), b[2](row))


conditions = st.recursive(
    comparisons() | memberships() | nulls() | ranges(),
    lambda inner: (
        st.builds(_both, inner, inner)
        | st.builds(_either, inner, inner)
        | st.builds(_negated, inner)
        | st.builds(_same, inner, inner)
    ),
    max_leaves=5,
)


@given(condition=conditions)
def test_sql_and_expressions_against_python(
    sample: tuple[vd.Dataset, list[Row]], condition: Condition
) -> None:
    ds, rows = sample
    text, expression, oracle = condition
    verdicts: dict[tuple[Any, ...], bool] = {}
    want = []
    for row in rows:
        values = row["values"]
        if values not in verdicts:
            verdicts[values] = bool(oracle(row))
        if verdicts[values]:
            want.append(row["_anchor"])
    for where in (text, expression):
        scan = ds.scan([], where=where)
        assert scan.to_arrow()["_anchor"].to_pylist() == want, where
    assert ds.scan(["s"], where=text).count() == len(want)


@given(condition=conditions, seed=st.integers(0, 3))
def test_every_way_to_filter_agrees(
    sample: tuple[vd.Dataset, list[Row]], condition: Condition, seed: int
) -> None:
    ds, _ = sample
    where = condition[1]
    # Brute force: everything is read and Arrow filters it, without any pruning.
    brute = ds.scan().to_arrow().filter(where)
    anchors = brute["_anchor"].to_pylist()
    down = ds.scan(["i"], where=where, order="descending", limit=10).to_arrow()
    assert down["_anchor"].to_pylist() == anchors[::-1][:10]
    assert ds.scan([], where=where, limit=7).to_arrow()["_anchor"].to_pylist() == anchors[:7]
    shuffled = [b["_anchor"].to_pylist() for b in ds.iter_arrow_batches(500, [], seed, where)]
    assert sorted(a for batch in shuffled for a in batch) == anchors
    part = ds.scan([], where=where, start_ns=5_000, end_ns=20_000).to_arrow()
    assert part["_anchor"].to_pylist() == [a for a in anchors if 5_000 <= a < 20_000]


def test_nan_is_found_wherever_bounds_cannot_see_it() -> None:
    ds = make(vd.Schema().add_scalar_float("f").add_scalar_float("g").add_scalar_bool("b"))
    values = np.full(4_000, 5.0)
    values[1_234] = NAN
    ds.append({"f": values, "g": np.zeros(4_000), "b": np.ones(4_000, bool)})
    f, g, b, true = pc.field("f"), pc.field("g"), pc.field("b"), pc.scalar(True)
    table = ds.scan().to_arrow()
    for where in (
        ~(f > 3),
        f != 5.0,
        (f > 3) == False,  # noqa: E712 - an expression
        (f > 3) == (g > 3),
        (g > 3) == (f > 3),
        (f > 3) != b,
        (f > 3) < b,
        pc.xor(f > 3, true),
        pc.and_not(true, f > 3),
        pc.if_else(f > 3, pc.scalar(False), true),
        f.is_null(nan_is_null=True),
        pc.is_nan(f),
        f.isin(pa.array([NAN])),
        pc.not_equal(f, 5.0),
        (f > 3).cast(pa.int64()) == 0,
        pc.coalesce(f < 3, true) | ~(f > 3),
        pc.case_when(pc.make_struct(f > 3), pc.scalar(False), true),
    ):
        assert table.filter(where).num_rows == 1, str(where)
        assert [v != v for v in ds.scan(where=where).to_arrow()["f"].to_pylist()] == [True], str(
            where
        )
        assert ds.scan(where=where).count() == 1, str(where)


def test_sql_has_three_truth_values() -> None:
    ds = make(vd.Schema().add_scalar_int("x").add_scalar_bool("b"))
    ds.append_many([{"x": 1, "b": True}, {"x": None, "b": None}, {"x": 2, "b": False}])
    for text, want in {
        "x NOT IN (1)": [2],
        "NOT (x IN (1) OR x = 7)": [2],
        "x NOT IN (1, NULL)": [],
        "x IN (1, NULL)": [1],
        "x IN (NULL)": [],
        "(x IN (1)) = FALSE": [2],
        "(x IN (1)) IS FALSE": [2],
        "(x IN (1)) IS NOT TRUE": [None, 2],
        "(x IN (1)) IS NULL": [None],
        "x = NULL": [],
        "NOT x = 1": [2],
        "x IS DISTINCT FROM 1": None,
        "b": [1],
        "NOT b": [2],
        "b IS TRUE": [1],
        "b IS NOT TRUE": [None, 2],
        "b IS NULL OR x = 1": [1, None],
        "TRUE": [1, None, 2],
        "FALSE": [],
        "1 = 1": [1, None, 2],
        "-x = -2": [2],
        "x + 1 = 2": [1],
        "x * 2 > 3": [2],
        "x / 2 = 0.5": [1],
        "ABS(x) >= 2": [2],
        "x BETWEEN 2 AND 1": [],
        "x NOT BETWEEN 1 AND 1": [2],
        '"x" = 1 -- a comment': [1],
        "x BETWEEN SYMMETRIC 2 AND 1": None,
        "x % 2 = 0": None,
        "x IN ((1), (2))": [1, 2],
        "x = ANY(1)": None,
        "CAST(x AS INT) = 1": None,
        "x IS NOT DISTINCT FROM NULL": None,
    }.items():
        if want is None:
            with pytest.raises(vd.ExpressionError, match="not supported"):
                ds.scan(where=text)
        else:
            assert ds.scan(where=text).to_arrow()["x"].to_pylist() == want, text


def test_sql_over_texts_and_times() -> None:
    schema = (
        vd.Schema().add_scalar_string("s").add_scalar_timestamp("t").add_scalar_categorical("my-c")
    )
    ds = make(schema)
    day = 86_400 * 10**9
    names = ["apple", "Äpfel", "it's", None]
    ds.append_many([{"s": s, "t": n * day, "my-c": str(n)} for n, s in enumerate(names)])
    for text, want in {
        "s LIKE 'a%'": [0],
        "s LIKE '%pfel'": [1],
        "s LIKE '_pple'": [0],
        "s NOT LIKE 'a%'": [1, 2],
        "NOT s LIKE 'a%'": [1, 2],
        "s NOT LIKE 'a%' AND s NOT LIKE 'i%'": [1],
        "LENGTH(s) = 5": [0, 1],
        "UPPER(s) = 'APPLE'": [0],
        "LOWER(s) = 'äpfel'": [1],
        "s = 'it''s'": [2],
        "s >= 'it' OR s IS NULL": [1, 2, 3],
        "t = '1970-01-02'": [1],
        "t > TIMESTAMP '1970-01-02 00:00:00'": [2, 3],
        "t BETWEEN '1970-01-02' AND '1970-01-03T00:00:00'": [1, 2],
        "t IN ('1970-01-01', '1970-01-04')": [0, 3],
        "t < DATE '1970-01-02'": [0],
        "\"my-c\" = '3'": [3],
        f"_anchor >= {ds[2]['_anchor']}": [2, 3],
    }.items():
        found = ds.scan(["my-c"], where=text).to_arrow()["my-c"].to_pylist()
        assert list(map(int, found)) == want, text


def test_pruning_does_skip() -> None:
    ds = numbered(0)
    ds.append({"x": np.arange(1_000_000)})
    report = ds.scan([], where="x BETWEEN 500000 AND 500010").explain(analyze=True)
    assert "11 returned" in report
    runs = report.split("runs:")[1].replace(",", "").split()
    looked, excluded = int(runs[0]), int(runs[3])
    assert excluded >= looked - 2 > 3
    assert "0 returned" in ds.scan([], where="x > 2000000").explain(analyze=True)


def test_a_pruned_scan_reads_fewer_objects() -> None:
    from dreamdb.store import open_backend
    from dreamdb.testing import CountingBackend

    ds = make(vd.Schema().add_scalar_int("x").add_image("im"))
    for number in range(4):
        ds.append({"x": np.arange(100_000) + number * 100_000})
    counting = CountingBackend(open_backend(ds.backend))
    handle = vd.Dataset.open_ref("main", counting)
    handle.count()
    with counting.measured() as all_of_them:
        assert handle.scan(["x"]).count() == handle.scan(["x"], where="x >= 0").count()
    handle = vd.Dataset.open_ref("main", CountingBackend(counting))
    handle.count()
    with counting.measured() as few:
        assert handle.scan(["x"], where="x >= 399990").to_arrow().num_rows == 10
    assert len(few.opened) < len(all_of_them.opened)
