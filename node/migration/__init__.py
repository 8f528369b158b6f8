"""Containers and volumes between servers, over websockets (spec/migration.md)."""
