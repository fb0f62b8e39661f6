"""The provider's API key, from Secrets Manager."""

import re

from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

from posedrop.aws.errors import is_transient
from posedrop.contract.errors import AccountRefused, TransientFault

_SENDABLE = re.compile(r"[!-~]+")
MAX_AGE = 300
"""Seconds. A rotated key is used after this time at the latest, and at once when the old one is refused."""


class ApiKey:
    """The key in one secret. Call it for the value; it is read again when it is older than MAX_AGE."""

    def __init__(self, secret_id: str) -> None:
        self._secret_id = secret_id
        self._given = ""

    def __call__(self) -> str:
        """The key. Raises AccountRefused if it cannot be read or sent, TransientFault if it can be read later."""
        self._given = self._get(force=False)
        return self._given

    def renew(self) -> bool:
        """Read the key again, after the provider refused it, and say whether it is another one now."""
        try:
            return self._get(force=True) != self._given
        except (AccountRefused, TransientFault):
            return False

    def _get(self, *, force: bool) -> str:
        try:
            value = parameters.get_secret(self._secret_id, max_age=MAX_AGE, force_fetch=force)
        except GetParameterError as exc:
            if exc.__context__ and is_transient(exc.__context__):
                raise TransientFault(f"the API key cannot be read just now: {exc}") from exc
            raise AccountRefused(f"the API key cannot be read from Secrets Manager: {exc}", 0) from exc
        key = str(value).strip()
        if not _SENDABLE.fullmatch(key):
            raise AccountRefused(
                "the API key in Secrets Manager is empty or has characters that no header can carry", 0
            )
        return key
