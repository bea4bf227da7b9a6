"""`fifo-diffusion studio` and `serve`: options, and what is said while it runs."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from fifo_diffusion.cli.progress import say
from fifo_diffusion.errors import UserError

NEEDED = ("starlette", "uvicorn", "python_multipart")
"""What the extra `[studio]` brings."""
MODELS = ("toybox", "toybox-diagonal")

Folder = Annotated[Path, typer.Option("--runs", metavar="DIR", help="The folder of runs; made where it is not there.")]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0: one that is free.")]
Listen = Annotated[str, typer.Option(metavar="ADDRESS", help="0.0.0.0 lets other machines in, and needs --token.")]
Token = Annotated[
    str | None,
    typer.Option(
        metavar="WORD",
        envvar="FIFO_DIFFUSION_TOKEN",
        show_envvar=False,
        help="What every request must bring, at least 12 signs; better in the variable FIFO_DIFFUSION_TOKEN, where "
        "other users of this machine do not see it.",
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option("--host-name", metavar="NAME", help="A further name of this server, behind a proxy say. Repeatable."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--models",
        metavar="MODEL",
        help="A model that may be asked for: as --model of generate. Repeatable; the first is the usual one. "
        "[dim]Default: toybox, toybox-diagonal.[/dim]",
    ),
]
Loras = Annotated[
    list[str] | None, typer.Option("--lora", metavar="NAME", help="A LoRA that may be asked for. Repeatable.")
]
Work = Annotated[
    bool,
    typer.Option(
        "--work/--no-work", help="Start workers, one for each GPU; else `fifo-diffusion work DIR` makes them."
    ),
]


def command(page: bool) -> Callable[..., None]:
    """The command with a page, or without."""

    def run(
        runs: Folder = Path("runs"),
        port: Port = 8800,
        listen: Listen = "127.0.0.1",
        token: Token = None,
        host_name: Names = None,
        models: Models = None,
        lora: Loras = None,
        work: Work = True,
    ) -> None:
        options = {"names": host_name or (), "models": models or MODELS, "loras": lora or (), "work": work}
        _serve(runs, port, listen, token, page=page, **options)

    name = "studio" if page else "serve"
    about = "A page for making endless videos, in your browser" if page else "Videos over HTTP, without a page"
    run.__doc__ = f"""{about}.

    Runs lie in a folder: nothing is lost when this ends, and others may look at it (`fifo-diffusion runs`). OpenAI's
    client for videos speaks with it as it is: base_url http://127.0.0.1:8800/v1.

    [bold]Examples[/bold]

    fifo-diffusion {name}

    fifo-diffusion {name} --runs /shared/runs --models cerspense/zeroscope_v2_576w --models toybox
    """
    return run


def _serve(root: Path, port: int, listen: str, token: str | None, *, names: Any, page: bool, **options: Any) -> None:
    if any(find_spec(name) is None for name in NEEDED):
        raise UserError("the server needs more packages: pip install starlette uvicorn python-multipart")
    from fifo_diffusion.studio import server
    from fifo_diffusion.studio.guard import Door

    door = Door(listen, token, names)
    sock = server.listening(listen, port)
    with sock:
        studio = server.make_studio(root, door=door, page=page, **options)
        address = server.address_of(sock, door)
        if page:
            say(f"open {address} in a browser (runs are in {root}; Ctrl-C ends)")
        else:
            say(f"{address.partition('?')[0]}v1 answers (runs are in {root}; Ctrl-C ends)")
        server.serve(studio, sock)
