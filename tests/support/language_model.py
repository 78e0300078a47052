"""A small OpenAI-compatible server on a real socket, whose answers a test decides."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], "str | int | Raw"]
"""From what was asked (the findings and past cases of the prompt) to the text of the answer, to an HTTP status, or to a whole answer."""


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A whole answer: its body (a dict as JSON), status and headers."""

    body: dict[str, Any] | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class LanguageModel:
    """answer: may be replaced at any time. asked: the body of each request; keys: its Authorization. hang: set to end a hang."""

    url: str
    answer: Answer
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    hang: threading.Event = field(default_factory=threading.Event)


def honest(given: dict[str, Any]) -> str:
    """Each finding in words of its own: the same sense as the template, in another order of words."""
    return texts({f["label"]: reworded(f) for f in given["findings"]})


def reworded(finding: dict[str, Any]) -> str:
    name, values = finding["name"].lower(), finding["values"]
    if finding["absent"]:
        return f"No {name} is seen."
    where = f" within the {finding['side']} {finding['site'].lower()}" if finding["site"] else ""
    told = " and ".join(f"{v['name'].lower()} {v['value']} {v['unit']}".strip() for v in values)
    return f"There is a {name}{where}, with {told}."


def texts(said: dict[str, str]) -> str:
    return json.dumps({"statements": [{"finding": k, "text": v} for k, v in said.items()]})


@contextmanager
def language_model(answer: Answer = honest) -> Iterator[LanguageModel]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server calls
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            made.asked.append(body)
            made.keys.append(self.headers.get("authorization", ""))
            said = made.answer(json.loads(body["messages"][-1]["content"]))
            if said == 0:  # never answers
                made.hang.wait(600)
                self.close_connection = True
                return
            if not isinstance(said, Raw):
                message = {"role": "assistant", "content": said}
                said = Raw(body={"choices": [{"message": message}]}, status=said if isinstance(said, int) else 200)
            content = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            self.send_response(said.status)
            self.send_header("content-type", "application/json")
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = LanguageModel(url=f"http://127.0.0.1:{server.server_address[1]}/v1", answer=answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        made.hang.set()
        server.shutdown()
        thread.join(60)
        server.server_close()
