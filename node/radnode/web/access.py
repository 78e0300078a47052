"""Who may use which route: the whole table. A route without a line is for administrators only, and a test names it.

need: what a person must be; scope: what a machine's token must hold, None: no token is enough; kind: the audit row of a
request, None: none (the node's own news, pictures of a page that was told of). Changes always get their row.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from starlette.routing import compile_path

from radnode.accounts import Role
from radnode.accounts_tokens import Scope
from radnode.audit import Kind


class Need(StrEnum):
    PUBLIC = "public"
    READER = "reader"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who asks. role: None of a machine. way: session, token, proxy, or machine (nobody had to sign in)."""

    name: str
    role: Role | None
    scopes: frozenset[Scope] = frozenset()
    way: str = "session"

    def may(self, line: "Line") -> bool:
        if line.need is Need.PUBLIC:
            return True
        if self.role is None:
            return line.scope is not None and line.scope in self.scopes
        return self.role is Role.ADMINISTRATOR or line.need is Need.READER


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table: the methods of a path."""

    methods: frozenset[str]
    path: str
    need: Need
    scope: Scope | None = None
    kind: Kind | None = None


def line(methods: str, path: str, need: Need, scope: Scope | None = None, kind: Kind | None = None) -> Line:
    return Line(methods=frozenset(methods.split()), path=path, need=need, scope=scope, kind=kind)


PUBLIC, READER, ADMINISTRATOR = Need.PUBLIC, Need.READER, Need.ADMINISTRATOR
API, FHIR, FHIR_WRITE = Scope.API_READ, Scope.FHIR_READ, Scope.FHIR_WRITE
SEEN, LISTED, CHANGED, SECURITY, RECEIVED, EXPORTED = (
    Kind.SEEN, Kind.LISTED, Kind.CHANGED, Kind.SECURITY, Kind.RECEIVED, Kind.EXPORTED,
)  # fmt: skip
TABLE: tuple[Line, ...] = (
    line("GET", "/static", PUBLIC),
    line("GET", "/healthz", PUBLIC),
    line("GET", "/readyz", PUBLIC),
    line("GET POST", "/login", PUBLIC, kind=Kind.LOG_IN),
    line("GET", "/login/oidc", PUBLIC),
    line("GET", "/login/oidc/back", PUBLIC, kind=Kind.LOG_IN),
    line("GET POST", "/first", PUBLIC, kind=SECURITY),
    line("POST", "/logout", READER, kind=Kind.LOG_OUT),
    line("GET POST", "/account", READER, kind=SECURITY),
    line("GET", "/openapi.json", READER, API),
    line("GET", "/metrics", ADMINISTRATOR, Scope.METRICS_READ),
    line("GET", "/", READER, kind=LISTED),
    line("GET", "/fragments/worklist", READER, kind=LISTED),
    line("GET", "/changes", READER),
    line("GET", "/studies", READER, kind=LISTED),
    line("GET", "/studies/{study_uid}", READER, kind=SEEN),
    line("GET", "/fragments/studies/{study_uid}", READER, kind=SEEN),
    line("GET", "/studies/{study_uid}/patient", READER, kind=SEEN),
    line("GET", "/studies/{study_uid}/retract", READER, kind=SEEN),
    line("GET", "/studies/{study_uid}/findings/{tracking_uid}/slice.png", READER, kind=SEEN),
    line("GET", "/studies/{study_uid}/findings/{tracking_uid}/outline.svg", READER, kind=SEEN),
    line("GET", "/studies/{study_uid}/series/{series_uid}/thumbnail.png", READER, kind=SEEN),
    line("GET", "/results/{uid}/file", READER, kind=EXPORTED),
    line("GET", "/results/{uid}/picture.png", READER, kind=SEEN),
    line("GET", "/results/{uid}/text", READER, kind=SEEN),
    line("GET", "/held/{job_id}/{name}", READER, kind=EXPORTED),
    line("POST", "/studies/{study_uid}/rerun", READER, kind=CHANGED),
    line("POST", "/studies/{study_uid}/retract", READER, kind=CHANGED),
    line("POST", "/studies/{study_uid}/rulings", READER, kind=CHANGED),
    line("POST", "/studies/{study_uid}/remark", READER, kind=CHANGED),
    line("POST", "/studies/{study_uid}/missed", READER, kind=CHANGED),
    line("POST", "/studies/{study_uid}/missed/undo", READER, kind=CHANGED),
    line("POST", "/studies/{study_uid}/text", READER, kind=CHANGED),
    line("POST", "/worklist/{study_uid}/priority", READER, kind=CHANGED),
    line("POST", "/worklist/{study_uid}/priority/undo", READER, kind=CHANGED),
    line("POST", "/worklist/{study_uid}/read", READER, kind=CHANGED),
    line("POST", "/worklist/{study_uid}/read/undo", READER, kind=CHANGED),
    line("GET", "/upload", READER),
    line("POST", "/upload", READER, kind=RECEIVED),
    line("GET", "/triage", READER),
    line("GET", "/triage/simulation", READER),
    line("POST", "/triage/simulation", READER, kind=CHANGED),
    line("GET", "/triage/simulation/{number}", READER),
    line("GET", "/fragments/triage/simulation/{number}", READER),
    line("POST", "/triage/simulation/{number}/cancel", READER, kind=CHANGED),
    line("GET", "/models", READER),
    line("GET", "/models/{name}", READER),
    line("POST", "/deliveries/{delivery_id}/send-again", READER, kind=CHANGED),
    line("GET", "/peers", READER),
    line("POST", "/peers", ADMINISTRATOR, kind=SECURITY),
    line("POST", "/peers/remove", ADMINISTRATOR, kind=SECURITY),
    line("POST", "/peers/test", ADMINISTRATOR, kind=CHANGED),
    line("GET", "/reconcile", READER, kind=LISTED),
    line("POST", "/reconcile", READER, kind=CHANGED),
    line("POST", "/reconcile/fetch", READER, kind=CHANGED),
    line("POST", "/fetch", READER, kind=CHANGED),
    line("GET", "/rules", READER),
    line("GET", "/studies/{study_uid}/rules", READER, kind=SEEN),
    line("POST", "/rules/try", ADMINISTRATOR, kind=CHANGED),
    line("POST", "/rules/replay", ADMINISTRATOR, kind=CHANGED),
    line("POST", "/destinations/probe", ADMINISTRATOR, kind=CHANGED),
    line("POST", "/destinations/send-again", ADMINISTRATOR, kind=CHANGED),
    line("GET", "/users", ADMINISTRATOR),
    line("POST", "/users", ADMINISTRATOR, kind=SECURITY),
    line("POST", "/users/remove", ADMINISTRATOR, kind=SECURITY),
    line("POST", "/users/role", ADMINISTRATOR, kind=SECURITY),
    line("POST", "/users/password", ADMINISTRATOR, kind=SECURITY),
    line("POST", "/tokens", ADMINISTRATOR, kind=SECURITY),
    line("POST", "/tokens/revoke", ADMINISTRATOR, kind=SECURITY),
    line("GET", "/audit", ADMINISTRATOR, kind=Kind.AUDIT),
    line("GET", "/api/worklist", READER, API, LISTED),
    line("GET", "/api/studies", READER, API, LISTED),
    line("GET", "/api/studies/{study_uid}", READER, API, SEEN),
    line("POST", "/dicom-web/studies", READER, Scope.DICOM_WRITE, RECEIVED),
    line("POST", "/dicom-web/studies/{study_uid}", READER, Scope.DICOM_WRITE, RECEIVED),
    line("GET", "/fhir/metadata", PUBLIC),
    line("GET", "/fhir/AuditEvent", ADMINISTRATOR, Scope.AUDIT_READ, Kind.AUDIT),
    line("GET", "/fhir/AuditEvent/{number}", ADMINISTRATOR, Scope.AUDIT_READ, Kind.AUDIT),
    line("POST", "/fhir/{kind}/_search", READER, FHIR, LISTED),  # the audit is not searched so
    line("GET", "/fhir/{kind}", READER, FHIR, LISTED),
    line("GET", "/fhir/{kind}/{resource_id}", READER, FHIR, SEEN),
    line("GET", "/fhir/{kind}/{resource_id}/_history", READER, FHIR, SEEN),
    line("GET", "/fhir/{kind}/{resource_id}/_history/{version}", READER, FHIR, SEEN),
    line("POST", "/fhir", ADMINISTRATOR, FHIR_WRITE, CHANGED),
    line("POST", "/fhir/", ADMINISTRATOR, FHIR_WRITE, CHANGED),
    line("POST PUT", "/fhir/{kind}", ADMINISTRATOR, FHIR_WRITE, CHANGED),
    line("PUT", "/fhir/{kind}/{resource_id}", ADMINISTRATOR, FHIR_WRITE, CHANGED),
    line("GET", "/fhir/{path:path}", READER, FHIR),
    line("POST PUT PATCH DELETE", "/fhir/{path:path}", ADMINISTRATOR, FHIR_WRITE),
)
NO_LINE = line("GET POST PUT PATCH DELETE", "", ADMINISTRATOR, kind=CHANGED)
"""What is in force for a path without a line."""


class Access:
    """Finds the line of a request."""

    def __init__(self, table: tuple[Line, ...] = TABLE) -> None:
        self._lines = [(compiled(one.path), one) for one in table]

    def line(self, method: str, path: str) -> tuple[Line, dict[str, str]]:
        """The line in force, and the values of the places in its path."""
        asked = "GET" if method in ("HEAD", "OPTIONS") else method
        for pattern, one in self._lines:
            found = pattern.match(path) if asked in one.methods else None
            if found:
                return one, found.groupdict()
        return NO_LINE, {}


def compiled(path: str) -> re.Pattern[str]:
    """What the path matches; /static stands for everything below it."""
    return re.compile("^/static/") if path == "/static" else compile_path(path)[0]
