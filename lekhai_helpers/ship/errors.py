"""What can go wrong on the way out."""


class ExportError(RuntimeError):
    """Something cannot be exported or sent; the text says what, where, and what to do."""
