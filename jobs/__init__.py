"""Half-hourly smart-meter readings as a lakehouse: load, validate, publish, query."""

__version__ = "0.1.0"
