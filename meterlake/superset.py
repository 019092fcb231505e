"""How Superset works with the SQL endpoint; found by it when this package is installed beside it."""

from datetime import datetime
from typing import Any

from sqlalchemy import types
from sqlglot.dialects import Dialects
from superset.db_engine_specs.base import BaseEngineSpec
from superset.db_engine_specs.spark import time_grain_expressions
from superset.sql.parse import SQLGLOT_DIALECTS

# Superset reads and rewrites statements: row limits, tables that are used, whether it is a query at all.
SQLGLOT_DIALECTS["meterlake"] = Dialects.SPARK


class MeterlakeEngineSpec(BaseEngineSpec):  # type: ignore[misc] # Superset has no types
    """Spark's SQL; times are wall-clock times, without a zone."""

    engine = "meterlake"
    engine_name = "Meter lakehouse"
    default_driver = "thrift"
    supports_dynamic_schema = True
    _time_grain_expressions = time_grain_expressions

    @classmethod
    def convert_dttm(cls, target_type: str, dttm: datetime, db_extra: dict[str, Any] | None = None) -> str | None:
        """A time in a filter, as a literal of the column's type: partitions are found by it."""
        kind = cls.get_sqla_column_type(target_type)
        if isinstance(kind, types.Date):
            return f"DATE '{dttm.date().isoformat()}'"
        if isinstance(kind, types.DateTime | types.TIMESTAMP):
            return f"TIMESTAMP '{dttm.isoformat(sep=' ', timespec='microseconds')}'"
        return None

    @classmethod
    def adjust_engine_params(
        cls, uri: Any, connect_args: dict[str, Any], catalog: str | None = None, schema: str | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The schema that is chosen in SQL Lab is that of the session."""
        return (uri.set(database=schema) if schema else uri), connect_args

    @classmethod
    def get_schema_from_engine_params(cls, sqlalchemy_uri: Any, connect_args: dict[str, Any]) -> str | None:
        """The schema of tables that are named without one."""
        return str(sqlalchemy_uri.database) if sqlalchemy_uri.database else None
