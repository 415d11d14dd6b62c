# SPDX-License-Identifier: MIT
"""The command serve."""

from __future__ import annotations

from typing import Annotated

import typer

from .console import stderr, stdout
from .options import BUNDLED_MODEL, DeviceOption, FunctionalOption, ModelOption, load_model

_MEGABYTE = 1 << 20
_SERVICE, _LIMITS = "The service", "Limits of a request"


def serve(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. 0.0.0.0 lets other machines in: put a reverse proxy with TLS in front.",
            rich_help_panel=_SERVICE,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.", rich_help_panel=_SERVICE),
    ] = 8000,
    model: ModelOption = BUNDLED_MODEL,
    functional: FunctionalOption = "",
    device: DeviceOption = "cpu",
    threads: Annotated[
        int,
        typer.Option(min=1, help="Number of CPU threads of the model. Reading takes further cores; see --workers."),
    ] = 1,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            show_default="number of cores, at least 2",
            help="Number of processes that read files and find symmetries.",
            rich_help_panel=_SERVICE,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="localhost and addresses in numbers",
            help="Host name that browsers may call the service by, without port. Can be repeated. Behind a "
            "reverse proxy, its public name.",
            rich_help_panel=_SERVICE,
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            show_default="none",
            help="Origin of another site whose pages may use the service, such as https://example.org; may be given "
            "several times.",
            rich_help_panel=_SERVICE,
        ),
    ] = None,
    max_size: Annotated[float, typer.Option(min=0.01, max=1024, help="Size, MiB.", rich_help_panel=_LIMITS)] = 4.0,
    max_atoms: Annotated[
        int, typer.Option(min=1, max=100_000, help="Number of atoms of a crystal.", rich_help_panel=_LIMITS)
    ] = 500,
    max_crystals: Annotated[
        int, typer.Option(min=1, max=100_000, help="Number of crystals.", rich_help_panel=_LIMITS)
    ] = 100,
    max_waiting: Annotated[
        int,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Number of crystals in the service at a time, of all requests; further requests get the status 503.",
            rich_help_panel=_LIMITS,
        ),
    ] = 1000,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Time for a request, s.", rich_help_panel=_LIMITS)
    ] = 30.0,
    reading_timeout: Annotated[
        float,
        typer.Option(min=0.1, max=3600, help="Time to read a file and find its symmetry, s.", rich_help_panel=_LIMITS),
    ] = 5.0,
) -> None:
    """Serve predictions: a web page for files of crystals, and a REST interface for programs.

    The page takes CIF, POSCAR, extxyz and JSON, and shows tensors with error bars and warnings, the tensor as an
    ellipsoid in the crystal, and the labelled crystals that are most alike. /docs describes the REST interface.

    Files are read in processes that hold limited memory and open no file, and are ended when they take too long.
    Nothing of a request is stored. There are no users and no passwords: whoever reaches the port can use it.

    SIGTERM and Ctrl-C stop it, when the requests that have come are answered.

    Needs fastapi and uvicorn: pip install "dtnn-fast[serve]".

    Exit code: 0 it was stopped, 2 it did not start.
    """
    from ..errors import optional_import

    for package, name in (
        ("fastapi", "fastapi"),
        ("uvicorn", "uvicorn"),
        ("httptools", "httptools"),
        ("python_multipart", "python-multipart"),
    ):
        optional_import(package, extra="serve", purpose="serve predictions", distribution=name)
    if max_waiting < max_crystals:
        raise typer.BadParameter(
            f"expected at least the {max_crystals} of --max-crystals, got {max_waiting}", param_hint="--max-waiting"
        )
    predictor = load_model(model, threads, device, "serve", functional)

    from ..serving.server import ServeSettings, default_readers
    from ..serving.server import serve as run
    from ..serving.service_limits import Limits

    limits = Limits(
        max_bytes=int(max_size * _MEGABYTE),
        max_atoms=max_atoms,
        max_crystals=max_crystals,
        max_waiting=max_waiting,
        reading_seconds=reading_timeout,
        request_seconds=timeout,
    )
    settings = ServeSettings(
        host,
        port,
        limits,
        workers or default_readers(),
        tuple(allow_host or ()),
        tuple(allow_origin or ()),
    )

    def announce(url: str) -> None:
        stdout().print(f"serving {model} at {url}   (REST interface: {url}docs; Ctrl-C stops it)")
        if host not in ("127.0.0.1", "::1", "localhost"):
            stderr().print("anybody who reaches this address can use the service", style="yellow")

    run(predictor, model, settings, announce)
    stderr().print("stopped")
