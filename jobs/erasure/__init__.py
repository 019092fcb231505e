"""Erase meterpoints and accounts."""
