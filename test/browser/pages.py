"""A page that trains a bundle in a worker, on a server that has nothing but files."""

import contextlib
import functools
import http.server
import pathlib
import shutil
import threading

__all__ = ["ask", "open_page", "serve", "write_page"]

ROOT = pathlib.Path(__file__).parents[2]
ORT = ROOT / ".venv" / "node" / "node_modules" / "onnxruntime-web" / "dist"

PAGE = """<!doctype html><html lang="en"><title>training</title><script type="module">
import * as gradport from "./gradport/index.js";
window.gradport = gradport;
window.start = async (options) => {
  const worker = new Worker("worker.js", { type: "module" });
  return gradport.connect(worker, "bundle/", options);
};
window.batches = await (await fetch("batches.json")).json();
</script>"""

WORKER = """
const memories = [];
const Memory = WebAssembly.Memory;
WebAssembly.Memory = class extends Memory { constructor(how) { super(how); memories.push(this); } };
const ort = await import("./ort/ort.wasm.min.mjs");
const { serve } = await import("./gradport/index.js");
ort.env.wasm.numThreads = 1;
serve(ort);
addEventListener("message", ({ data }) => {
  if (data === "memory") postMessage({ memory: memories.reduce((sum, one) => sum + one.buffer.byteLength, 0) });
});
"""


def write_page(folder):
    """Writes the page and what it loads into a folder that has a bundle and its batches."""
    (folder / "index.html").write_text(PAGE)
    (folder / "worker.js").write_text(WORKER)
    shutil.copytree(ROOT / "runtime" / "js" / "dist", folder / "gradport")
    (folder / "ort").mkdir()
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        shutil.copy(ORT / name, folder / "ort")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def log_message(self, *what):
        """Says nothing."""


@contextlib.contextmanager
def serve(folder):
    """The address of the page, while it is served."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()


def open_page(driver, address):
    """Opens the page and waits for its batches."""
    driver.get(address)
    wait = "const done = arguments[0]; const wait = () => window.batches ? done(true) : setTimeout(wait, 20); wait()"
    assert driver.execute_async_script(wait)


def ask(driver, body):
    """What an async function of the page gives."""
    script = f"const done = arguments[0]; (async () => {{ {body} }})().then(done, (error) => done(`error: ${{error}}`))"
    return driver.execute_async_script(script)
