"""What must hold before the page is served: nobody far away may come in unasked; the first administrator can be made."""

import time

from radnode import accounts_tokens
from radnode.database import Database
from radnode.errors import SettingsError
from radnode.settings import Settings
from radnode.settings_access import LOOPBACK


def refuse_unsafe(settings: Settings) -> None:
    """Raises SettingsError for settings by which strangers would come in unasked."""
    web = settings.web
    if web.login == "off" and not web.behind_proxy:
        raise SettingsError(
            "login-off",
            'login = "off" lets everybody in who reaches the page.',
            'Set `behind_proxy` where a proxy asks who is there, or login = "auto".',
        )


def must_sign_in(settings: Settings) -> bool:
    """Whether somebody has to sign in even before there is an account."""
    web = settings.web
    return web.login != "off" and (web.login == "required" or web.behind_proxy or web.host not in LOOPBACK)


def first_words(settings: Settings) -> str:
    """What `radnode serve` prints once: how to make the first administrator; "" where there is one, or none is needed."""
    if not must_sign_in(settings):
        return ""
    database = Database(settings.url)
    try:
        token = accounts_tokens.first_run(database, time.time())
    finally:
        database.close()
    if not token:
        return ""
    hours = accounts_tokens.FIRST_RUN_S / 3600
    return f"Nobody has an account yet. Make the first administrator on the page /first with this token, which works once and for {hours:.0f} hours:\n{token}"
