"""llama.cpp's HTTP server as a process of its own: ``python -m lekhai_helpers.ship.llama_process '{...}'``.

A crash in C code then ends this process and not the notebook, and its memory can be measured by itself.
Started by `ship.llama_server.LlamaServer`; ends when its standard input is closed.
"""

import json
import sys


def main() -> None:
    import xllamacpp

    settings = json.loads(sys.argv[1])
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.n_ctx = settings["context"]
    params.n_parallel = settings["slots"]
    params.cpuparams.n_threads = settings["threads"]
    params.port = settings["port"]
    # llama.cpp keeps what it computed for prompts of the past, up to 8 GB of it, in case one comes again. Hardly any
    # does, and a laptop has not that much: a service would grow with every request (8 MB each, at 270M).
    params.cache_ram_mib = 0
    server = xllamacpp.Server(params)
    sys.stdin.read()  # until the parent goes away
    del server


if __name__ == "__main__":
    main()
