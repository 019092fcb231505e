"""SQLAlchemy dialect: meterlake://user:password@host:10000/gold?tls=true&certificate=/path/to/certificate.pem"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pyhive.sqlalchemy_hive import HiveDialect, _type_map
from sqlalchemy import exc, text, types

from meterlake import ConnectionLost

if TYPE_CHECKING:  # Superset has SQLAlchemy 1.4, which does not know them all
    from sqlalchemy import URL, Connection, Dialect
    from sqlalchemy.engine.interfaces import ReflectedColumn, ReflectedTableComment

TRUE = {"true": True, "1": True, "false": False, "0": False}


class _String(types.String):
    def literal_processor(self, dialect: Dialect) -> Callable[[str], str]:
        """Spark's form of a string: two quotes in it would be two strings, and a backslash escapes what follows."""
        percent = "%%" if dialect.identifier_preparer._double_percents else "%"

        def literal(value: str) -> str:
            return "'" + value.replace("\\", r"\\").replace("'", r"\'").replace("%", percent) + "'"

        return literal


class MeterlakeDialect(HiveDialect):  # type: ignore[misc] # PyHive has no types
    """PyHive's dialect, with what is there and what it is: tables apart from views, precision, comments."""

    name = "meterlake"
    driver = "thrift"
    supports_comments = True
    supports_statement_cache = False  # PyHive's compiler was not made for it
    colspecs = HiveDialect.colspecs | {types.String: _String}
    # SQLAlchemy 1.4, which Superset has, would decode what is a string already.
    returns_unicode_strings = getattr(types.String, "RETURNS_UNICODE", True)

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        import meterlake

        return meterlake

    @classmethod
    def dbapi(cls) -> ModuleType:  # SQLAlchemy 1.4
        return cls.import_dbapi()

    def is_disconnect(self, e: Exception, connection: Any, cursor: Any) -> bool:
        """Whether a pool is to make new connections. `pool_pre_ping=True` asks before each use."""
        return isinstance(e, ConnectionLost)

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        arguments: dict[str, Any] = {
            "host": url.host,
            "port": url.port or 10000,
            "username": url.username,
            "password": url.password,
            "database": url.database or "default",
        }
        for key, value in url.query.items():
            if key in ("http", "tls"):
                if value not in TRUE:
                    raise exc.ArgumentError(f"{key}={value}: true or false is meant")
                arguments[key] = TRUE[str(value)]
            else:
                arguments[key] = value
        return [], arguments

    def _get_default_schema_name(self, connection: Connection) -> str:
        return str(connection.execute(text("SELECT current_schema()")).scalar())

    def get_table_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        views = self.get_view_names(connection, schema)
        return [name for name in self._names(connection, "TABLES", schema) if name not in views]

    def get_view_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        return self._names(connection, "VIEWS", schema)

    def has_table(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> bool:
        # Spark has no capital letters in names, and lists views among tables.
        return table_name.lower() in self._names(connection, "TABLES", schema)

    def get_columns(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[ReflectedColumn]:
        columns: list[ReflectedColumn] = []
        for name, type_name, comment in self._describe(connection, table_name, schema):
            if not name or name.startswith("#"):  # partition columns stand among the others, and again after this
                break
            columns.append(
                {"name": name, "type": _type(type_name), "nullable": True, "default": None, "comment": comment or None}
            )
        return columns

    def get_table_comment(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> ReflectedTableComment:
        rows = self._describe(connection, table_name, schema, "EXTENDED ")
        return {"text": next((row[1] for row in rows if row[0] == "Comment"), None)}

    def get_indexes(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> list[Any]:
        return []

    def _names(self, connection: Connection, kind: str, schema: str | None) -> list[str]:
        inside = f" IN {self.identifier_preparer.quote_identifier(schema)}" if schema else ""
        return [row[1] for row in connection.execute(text(f"SHOW {kind}{inside}"))]

    def _describe(self, connection: Connection, table: str, schema: str | None, kind: str = "") -> list[Any]:
        if not self.has_table(connection, table, schema):
            raise exc.NoSuchTableError(f"{schema}.{table}" if schema else table)
        name = ".".join(self.identifier_preparer.quote_identifier(part) for part in (schema, table) if part)
        return list(connection.execute(text(f"DESCRIBE {kind}{name}")))


def _type(name: str) -> types.TypeEngine[Any]:
    """SQLAlchemy's type for Spark's name of it; nested types arrive as JSON-like strings."""
    if decimal := re.fullmatch(r"decimal\((\d+),(\d+)\)", name):
        return types.DECIMAL(int(decimal[1]), int(decimal[2]))
    known: dict[str, type[types.TypeEngine[Any]]] = _type_map | {"date": types.Date, "timestamp": types.DateTime}
    return known.get(name, types.String)()
