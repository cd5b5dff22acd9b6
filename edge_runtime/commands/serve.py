"""``sonoedge serve``: the point-of-care page and API on this device."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path

from sonoedge.edge_runtime.bundle.contract import MANIFEST
from sonoedge.edge_runtime.commands.options import add_bundle, add_choice_of_model
from sonoedge.edge_runtime.device.profile import choice
from sonoedge.edge_runtime.errors import BundleError, UsageError
from sonoedge.edge_runtime.words import INTENDED_USE

VENDOR = Path(__file__).parents[1] / "serve" / "vendor"
"""The folder into which scripts/fetch_litert_js.sh puts LiteRT.js."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_bundle(parser)
    add_choice_of_model(parser, threads="of each worker")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s; 0 picks a free one")
    parser.add_argument("--token", help=(
        "what clients must present; on other addresses than 127.0.0.1 one is made where none is given "
        "(or in the environment as SONOEDGE_TOKEN)"
    ))  # fmt: skip
    parser.add_argument("--public-url", metavar="URL", help=(
        "the address, such as https://station.example, under which a reverse proxy offers this server; clients "
        "need a token"
    ))  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="frames computed at once (default: %(default)s)")
    parser.add_argument("--max-upload-mib", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help=(
        "serve HTTPS: browsers give a page from another machine no camera without it"
    ))  # fmt: skip
    parser.add_argument("--key", type=Path, metavar="PEM", help="private key of the certificate")
    parser.epilog = (
        "examples:\n"
        "  sonoedge serve --bundle bundle                        then open http://127.0.0.1:8000\n"
        "  sonoedge serve --bundle bundle --host 0.0.0.0 --certificate cert.pem --key key.pem"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; frames that are being computed are finished. Exit code 0."""
    if not 0 <= args.port <= 65535 or args.workers < 1 or not 1 <= args.max_upload_mib <= 512:
        raise UsageError("--port is 0 to 65535, --workers at least 1, --max-upload-mib 1 to 512.")
    if (args.certificate is None) != (args.key is None):
        raise UsageError("--certificate and --key belong together.")
    if not (args.bundle / MANIFEST).is_file():
        raise BundleError(f"{args.bundle} is not a bundle: it holds no {MANIFEST}.")
    artifact, threads = choice(Path(args.bundle), args.artifact, args.threads, args.profile)
    import uvicorn

    from sonoedge.edge_runtime.serve.access import is_loopback
    from sonoedge.edge_runtime.serve.app import Settings, create_app
    from sonoedge.edge_runtime.serve.live import MAX_FRAME
    from sonoedge.edge_runtime.serve.station import Station

    token = args.token or os.environ.get("SONOEDGE_TOKEN")
    reachable = not is_loopback(args.host)
    if token is None and (reachable or args.public_url):
        token = secrets.token_urlsafe(18)
    if token is not None and len(token) < 8:
        raise UsageError("A token has at least 8 characters.")
    problems: list[BaseException] = []

    def failed(error: BaseException) -> None:
        problems.append(error)
        server.should_exit = True

    settings = Settings(
        token=token,
        public_url=args.public_url,
        max_upload=args.max_upload_mib * 2**20,
        litert_js=VENDOR if (VENDOR / "index.js").is_file() else None,
    )
    station = Station(args.bundle, artifact, workers=args.workers, threads=threads)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(station, settings, failed=failed),
            host=args.host,
            port=args.port,
            # Nothing about a request is logged: not its path, not its client.
            access_log=False,
            # Warnings go to standard error by themselves; a configuration would close the handlers of others.
            log_config=None,
            log_level="warning",
            server_header=False,
            ws="websockets-sansio",
            ws_max_size=MAX_FRAME + 1024,
            ws_per_message_deflate=False,
            limit_concurrency=1024,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=15,
            ssl_certfile=args.certificate,
            ssl_keyfile=args.key,
        )
    )
    scheme = "https" if args.certificate else "http"
    socket = server.config.bind_socket() if args.port == 0 else None
    port = socket.getsockname()[1] if socket else args.port
    address = args.public_url or f"{scheme}://{_shown(args.host)}:{port}/"
    print(f"{INTENDED_USE}\nopen {address}", file=sys.stderr)
    if reachable and not args.certificate:
        print(
            "warning: without --certificate and --key pictures and the token cross the network unencrypted, and "
            "browsers on other machines give the page no camera.",
            file=sys.stderr,
        )
    if token is not None:
        print(f"token: {token}", file=sys.stderr)
    # The time that a thread with a frame may wait for a thread that writes an answer. The default, 5 ms, is as long
    # as a small model takes.
    sys.setswitchinterval(0.0005)
    try:
        server.run(sockets=[socket] if socket else None)
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
    except SystemExit as error:
        # uvicorn has printed why (the address is in use) and exits with its own code.
        raise UsageError(f"Cannot serve on {args.host}:{args.port}: the address is in use or not ours.") from error
    if problems:
        raise problems[0]
    return 0


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
