"""Serves this folder on localhost, so that the browser may use threads.

    python examples/web/serve.py --port=8000 --artifact=exported/text

Any static web server does. Only one that sends the two headers below lets
WebAssembly use several threads; without them the page uses one.
"""

import argparse
import functools
import http.server
import pathlib

_ROOT = pathlib.Path(__file__).resolve().parent


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, artifact, *arguments, **options):
        self._artifact = artifact
        super().__init__(*arguments, **options)

    def translate_path(self, path):
        translated = pathlib.Path(super().translate_path(path))
        try:
            below = translated.relative_to(_ROOT / "artifact")
        except ValueError:
            return str(translated)
        return str(self._artifact / below)

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *arguments):
        del arguments


def main():
    """Serves until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--artifact", type=pathlib.Path)
    options = parser.parse_args()
    artifact = options.artifact or _ROOT / "artifact"
    if not (artifact / "model.tflite").is_file():
        raise SystemExit(f"error: {artifact} holds no model.tflite")
    port = options.port
    handler = functools.partial(_Handler, artifact, directory=_ROOT)
    try:
        server = http.server.ThreadingHTTPServer(("localhost", port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SystemExit(f"error: port {port}: {reason}") from error
    print(
        f"Open http://localhost:{server.server_port} (Ctrl-C stops)", flush=True
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
