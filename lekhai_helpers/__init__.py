"""LekhAI: from a spreadsheet of Bengali ad scripts to a copywriter model on your own machine."""

__version__ = "0.1.0"
