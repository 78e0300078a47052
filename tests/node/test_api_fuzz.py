"""schemathesis sends what the OpenAPI description allows, and what it forbids, to a node with studies: nothing ends in a 5xx.

A few examples of each operation here; `make api-fuzz` sends hundreds.
"""

import os
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from support.filled import fill
from support.pages import serving

from radnode.settings import Settings
from radnode.web import app

EXAMPLES = int(os.environ.get("RADNODE_FUZZ_EXAMPLES", "4"))
schema = schemathesis.openapi.from_dict(app.create(Settings()).openapi())


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    node = fill(tmp_path_factory.mktemp("node"))
    with serving(node.settings) as made:
        yield made
    node.database.close()


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_no_request_ends_in_a_failure_of_the_server(case: Case, client: httpx.Client) -> None:
    answer = case.call(base_url=str(client.base_url).rstrip("/"), timeout=60)
    assert answer.status_code < 500 or (answer.status_code == 503 and case.path == "/readyz"), case.as_curl_command()
