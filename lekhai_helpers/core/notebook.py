"""Whether somebody is looking: widgets and live plots are for people, plain lines for headless runs."""

import os
import sys


def is_interactive() -> bool:
    """Say whether this runs in a notebook that a person has open (not under papermill, not in a script)."""
    return "ipykernel" in sys.modules and not os.environ.get("LEKHAI_HEADLESS")
