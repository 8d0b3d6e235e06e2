"""What can go wrong on the way out."""


class ExportError(RuntimeError):
    """Something cannot be exported or sent; the text says what, where, and what to do."""


class QuantizeError(RuntimeError):
    """A GGUF file could not be made or is not the same model; the text names the cause."""
