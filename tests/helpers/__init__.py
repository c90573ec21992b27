"""Modules that several tests share; a test imports them as `helpers.NAME`."""
