"""Sources: where the rows of a recipe come from. One verb, a file in, rows out. Taught in notebook 03."""

from lekhai_helpers.prepare.sources.base import DatasetError, Row, Source, get_brief_source, get_source

__all__ = ["DatasetError", "Row", "Source", "get_brief_source", "get_source"]
