"""The settings of the systems beside the node. A part of `settings`; what makes a peer stands in `peer`."""

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from radnode.peers import peer
from radnode.settings_access import Section

AeTitle = Annotated[
    str,
    Field(min_length=1, max_length=16, pattern=r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?$"),
]
Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


DicomKind = Literal["sr", "seg", "key-image", "parametric-map", "pdf", "kos", "rtstruct", "status"]


PATTERNS = {
    "name": "it has 1 to 64 letters, digits and . _ -, and begins with a letter or digit",
    "ae_title": "it has 1 to 16 letters, digits and signs, without a backslash and without blanks at its ends",
}


def what_is_wrong(error: ValidationError) -> str:
    """Why fields make no peer, in one sentence, for the page and the command."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        return f"This is no peer: {first['ctx']['error']}."
    field = str(first["loc"][0] if first["loc"] else "ae_title")
    words = PATTERNS.get(field, first["msg"]) if first["type"].startswith("string_") else first["msg"]
    return f"The {'AE title' if field == 'ae_title' else field.replace('_', ' ')} is wrong: {words}."


class Peer(Section):
    name: Name
    ae_title: str = ""
    address: str = ""  # from where it may call: an IP address or a network
    host: str = ""  # where it is called, a name or an IP address; left out: at `address`
    port: Port | None = None
    quiet_s: float | None = Field(default=None, ge=0)
    may: tuple[Literal["send", "query", "retrieve", "commit", "worklist", "results"], ...] = ("send",)
    profile: tuple[DicomKind, ...] = ()  # of results, where it may get "results"; empty: what it takes
    way: Literal["move", "get", "wado", "orthanc"] = "move"  # how studies are fetched from it
    url: str = ""  # of its DICOMweb (wado) or of Orthanc
    user: str = Field(default="", max_length=128)  # ... with this user and password, or this token
    password: str = ""  # "file:PATH" or "env:NAME"
    token: str = ""  # "file:PATH" or "env:NAME"
    tls: bool = False  # both ways: called with the certificates of [tls], and refused in the clear
    certificate_name: str = Field(default="", max_length=255)  # which of the authority's certificates it must come with

    @model_validator(mode="after")
    def is_a_peer(self) -> "Peer":
        peer.Peer(**self.model_dump())
        return self
