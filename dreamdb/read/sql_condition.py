"""SQL conditions as Arrow expressions.

Source: design/0004 section 6.  sqlglot parses; what has an exact Arrow counterpart is translated,
anything else is refused.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dreamdb.errors import ExpressionError, FieldNotFoundError, nearest_hint
from dreamdb.types import FieldType

__all__ = ["parse_condition"]

_SUPPORTED = (
    "comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, IS [NOT] NULL, + - * /, "
    "LENGTH, LOWER, UPPER, ABS"
)
_TIMES = ("timestamp", "timestampntz", "timestamptz", "date")
# Parts of a syntax node that the translation looks at, or that do not matter to it.
_UNDERSTOOD = frozenset(
    {
        "this",
        "expression",
        "expressions",
        "low",
        "high",
        "to",
        "is_string",
        "table",
        "db",
        "catalog",
        "typed",
        "safe",
        "negate",
    }
)


def parse_condition(text: str, types: Mapping[str, FieldType]) -> pc.Expression:
    """Translate a SQL condition.

    Parameters
    ----------
    text : str
        What would stand behind WHERE.
    types : mapping of str to FieldType
        The fields it may name.

    Raises
    ------
    ExpressionError
        When it cannot be parsed or uses something without a counterpart.
    FieldNotFoundError
        When it names an unknown field.
    """
    import sqlglot
    from sqlglot import errors

    if not text.strip():
        raise ExpressionError("the predicate is empty")
    try:
        tree = sqlglot.parse_one(f"SELECT 1 WHERE {text}", dialect="duckdb")
    except RecursionError:
        raise ExpressionError("the predicate is nested too deeply") from None
    except errors.SqlglotError as error:
        first = str(error).splitlines()[0]
        raise ExpressionError(f"the predicate {text!r} is not SQL: {first}") from None
    where = tree.args.get("where")
    others = {k for k, v in tree.args.items() if v} - {"expressions", "where", "kind", "hint"}
    if where is None or others:
        raise ExpressionError(f"{text!r} is more than a condition")
    try:
        return _Translator(text, types).translate(where.this)
    except RecursionError:
        raise ExpressionError("the predicate is nested too deeply") from None
    except (pa.ArrowException, OverflowError) as error:
        raise ExpressionError(f"the predicate {text!r} is not usable: {error}") from None


def _keeps_only_true(node: Any) -> bool:
    """Whether false and unknown make no difference: nothing but AND and OR stands above."""
    from sqlglot import exp

    above = node.parent
    while isinstance(above, (exp.And, exp.Or, exp.Paren)):
        above = above.parent
    return isinstance(above, exp.Where)


class _Translator:
    def __init__(self, text: str, types: Mapping[str, FieldType]) -> None:
        self._text = text
        self._types = types

    def _refuse(self, node: Any) -> ExpressionError:
        return ExpressionError(
            f"the predicate {self._text!r} uses {node.sql()!r}, which is not supported",
            hint=f"supported: {_SUPPORTED}",
        )

    def translate(self, node: Any) -> pc.Expression:
        """Return the expression of a syntax node."""
        from sqlglot import exp

        if any(value and name not in _UNDERSTOOD for name, value in node.args.items()):
            # An option that changes the meaning, such as BETWEEN SYMMETRIC.
            raise self._refuse(node)
        if isinstance(node, exp.Paren):
            return self.translate(node.this)
        if isinstance(node, exp.Column):
            return self._column(node)
        if isinstance(node, exp.Neg) and not isinstance(node.this, exp.Literal):
            return pc.negate(self.translate(node.this))
        if isinstance(node, (exp.Literal, exp.Boolean, exp.Null, exp.Neg, exp.Cast)):
            return self._literal(node)
        if isinstance(node, exp.Not):
            return ~self.translate(node.this)
        if isinstance(node, exp.In):
            return self._in(node)
        if isinstance(node, exp.Between):
            value = self.translate(node.this)
            low = self._operand(node.args["low"], node.this)
            high = self._operand(node.args["high"], node.this)
            return (value >= low) & (value <= high)
        if isinstance(node, exp.Is):
            return self._is(node)
        if isinstance(node, exp.Like):
            if not isinstance(node.expression, exp.Literal):
                raise self._refuse(node)
            found = pc.match_like(self.translate(node.this), node.expression.this)
            return ~found if node.args.get("negate") else found
        if isinstance(node, exp.Binary):
            return self._binary(node)
        if isinstance(node, exp.Func):
            return self._function(node)
        raise self._refuse(node)

    def _column(self, node: Any) -> pc.Expression:
        name = ".".join(part.name for part in node.parts)
        if name not in self._types:
            raise FieldNotFoundError(
                f"the predicate names the field {name!r}, which does not exist",
                hint=nearest_hint(name, self._types, "fields")
                or 'quote names with special characters: "my-field"',
                field=name,
            )
        return pc.field(name)

    def _value(self, node: Any) -> Any:
        """Return the Python value of a literal."""
        from sqlglot import exp

        if isinstance(node, exp.Null):
            return None
        if isinstance(node, exp.Boolean):
            return bool(node.this)
        if isinstance(node, exp.Neg):
            return -self._value(node.this)
        if isinstance(node, exp.Paren):
            return self._value(node.this)
        if isinstance(node, exp.Cast) and node.to.is_type(*_TIMES):
            return self._time(self._value(node.this))
        if isinstance(node, exp.Literal):
            if node.is_string:
                return str(node.this)
            try:
                return int(node.this)
            except ValueError:
                return float(node.this)
        raise self._refuse(node)

    def _time(self, text: object) -> datetime.datetime:
        try:
            return datetime.datetime.fromisoformat(str(text))
        except ValueError:
            raise ExpressionError(f"{text!r} is not a time", hint="use ISO 8601") from None

    def _literal(self, node: Any) -> pc.Expression:
        return pc.scalar(self._value(node))

    def _operand(self, node: Any, other: Any) -> pc.Expression:
        """Translate an operand; texts beside a timestamp field are times."""
        from sqlglot import exp

        if isinstance(other, exp.Column) and isinstance(node, (exp.Literal, exp.Cast)):
            ftype = self._types.get(other.name)
            if ftype is not None and ftype.kind == "timestamp":
                value = self._value(node)
                if isinstance(value, str):
                    value = self._time(value)
                return pc.scalar(pa.scalar(value, pa.timestamp("ns")))
        return self.translate(node)

    def _binary(self, node: Any) -> pc.Expression:
        from sqlglot import exp

        if isinstance(node, exp.And):
            return self.translate(node.left) & self.translate(node.right)
        if isinstance(node, exp.Or):
            return self.translate(node.left) | self.translate(node.right)
        verbs: dict[type, Callable[[Any, Any], Any]] = {
            exp.EQ: lambda a, b: a == b,
            exp.NEQ: lambda a, b: a != b,
            exp.GT: lambda a, b: a > b,
            exp.GTE: lambda a, b: a >= b,
            exp.LT: lambda a, b: a < b,
            exp.LTE: lambda a, b: a <= b,
            exp.Add: lambda a, b: a + b,
            exp.Sub: lambda a, b: a - b,
            exp.Mul: lambda a, b: a * b,
            exp.Div: lambda a, b: a.cast(pa.float64()) / b.cast(pa.float64()),
        }
        verb = verbs.get(type(node))
        if verb is None:
            raise self._refuse(node)
        left = self._operand(node.left, node.right)
        right = self._operand(node.right, node.left)
        out: pc.Expression = verb(left, right)
        return out

    def _in(self, node: Any) -> pc.Expression:
        values = [self._value(item) for item in node.expressions]
        if not values or node.args.get("query") is not None:
            raise self._refuse(node)
        from sqlglot import exp

        if isinstance(node.this, exp.Column):
            ftype = self._types.get(node.this.name)
            if ftype is not None and ftype.kind == "timestamp":
                values = [self._time(v) if isinstance(v, str) else v for v in values]
        column = self.translate(node.this)
        present = [v for v in values if v is not None]
        if any(isinstance(v, float) or v == 0 for v in present) and self._is_float(node.this):
            # Arrow looks values up by their bits: zero has two forms.
            present = [float(v) for v in present]
            present += [-0.0, 0.0] if 0.0 in present else []
        found = column.isin(present)
        if _keeps_only_true(node):
            return found
        # SQL: null IN (...) is unknown, and so is x IN (..., NULL) for an x that is not found.
        unknown = pc.scalar(pa.scalar(None, pa.bool_()))
        if len(present) < len(values):
            return pc.if_else(found, pc.scalar(True), unknown)
        return pc.if_else(column.is_valid(), found, unknown)

    def _is_float(self, node: Any) -> bool:
        ftype = self._types.get(node.name)
        return ftype is not None and ftype.kind == "float"

    def _is(self, node: Any) -> pc.Expression:
        from sqlglot import exp

        target = self.translate(node.this)
        if isinstance(node.expression, exp.Null):
            return target.is_null()
        if isinstance(node.expression, exp.Boolean):
            wanted = target if node.expression.this else ~target
            return pc.coalesce(wanted, pc.scalar(False))
        raise self._refuse(node)

    def _function(self, node: Any) -> pc.Expression:
        from sqlglot import exp

        table: dict[type, Callable[[Any], Any]] = {
            exp.Length: pc.utf8_length,
            exp.Lower: pc.utf8_lower,
            exp.Upper: pc.utf8_upper,
            exp.Abs: pc.abs,
        }
        verb = table.get(type(node))
        if verb is None:
            raise self._refuse(node)
        out: pc.Expression = verb(self.translate(node.this))
        return out
