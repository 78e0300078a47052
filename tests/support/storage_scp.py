"""A storage SCP of a test's own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, evt

from radnode.settings import Destination


@contextmanager
def storage_scp(
    classes: Sequence[str], on_store: Callable[[Any], int] = lambda _: 0, *, only_as: str = ""
) -> Iterator[Destination]:
    """A running SCP, as a destination. classes: the SOP classes that it takes; on_store: the status of each object.

    only_as: the one AE title by which it lets itself be called.
    """
    ae = AE(only_as or "THERE")
    ae.require_called_aet = bool(only_as)
    for uid in classes:
        ae.add_supported_context(uid)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    assert server is not None
    try:
        yield Destination(name="there", kind="dimse", host="127.0.0.1", port=server.server_address[1])
    finally:
        server.shutdown()
