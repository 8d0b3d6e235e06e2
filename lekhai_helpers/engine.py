"""How papermill runs one of our notebooks: with the Python that runs LekhAI, and telling which cell it is at.

Registers the papermill engine "lekhai" when imported; only `pipeline.py` does, inside the function that runs a lesson.
Papermill's own engine would take whatever kernel calls itself python3 on the user's machine, often another Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import zmq
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.log import logger
from traitlets import default

NAME = "lekhai"


class ThisPython(KernelSpecManager):
    """Knows a single kernel, whatever its name: the Python interpreter that runs this very process."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


class ThisPythonManager(AsyncKernelManager):
    """Starts kernels of this interpreter."""

    @default("kernel_spec_manager")
    def _this_python(self) -> KernelSpecManager:
        return ThisPython(parent=self)

    @default("transport_encryption")
    def _encrypted_where_possible(self) -> str:
        # Without it every kernel prints that other users of this machine could listen.
        return "auto" if zmq.has("curve") else "disabled"


class LessonEngine(Engine):
    """Runs a notebook cell by cell; `on_cell` is called with each cell before it starts."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        on_cell: Callable[[Any], None],
        env: dict[str, str],
        start_timeout: int = 60,
        **_: Any,
    ) -> Any:
        """Execute the notebook that `nb_man` holds in a kernel with the environment `env`."""
        client = PapermillNotebookClient(
            nb_man,
            kernel_name=kernel_name,
            kernel_manager_class=ThisPythonManager,
            startup_timeout=start_timeout,
            timeout=None,
            log=logger,
            on_cell_start=lambda cell, cell_index: on_cell(cell),
        )
        return client.execute(env=env)


papermill_engines.register(NAME, LessonEngine)
