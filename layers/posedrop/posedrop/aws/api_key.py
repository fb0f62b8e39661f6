"""The provider's API key, from Secrets Manager."""

import re

from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

from posedrop.aws.errors import is_transient
from posedrop.contract.errors import AccountRefused, TransientFault

_SENDABLE = re.compile(r"[!-~]+")
MAX_AGE = 300
"""Seconds. A rotated key is used after this time at the latest, or as soon as the provider refuses the old one."""


class ApiKey:
    """The key in one secret. Call the object to get the key. The key is read again when it is older than MAX_AGE."""

    def __init__(self, secret_id: str) -> None:
        self._secret_id = secret_id
        self._given = ""

    def __call__(self) -> str:
        """Return the key. Raises AccountRefused if it is not usable, TransientFault if a later read may succeed."""
        self._given = self._get(force=False)
        return self._given

    def renew(self) -> bool:
        """Read the key again after the provider refused it. Return whether it has changed."""
        try:
            return self._get(force=True) != self._given
        except (AccountRefused, TransientFault):
            return False

    def _get(self, *, force: bool) -> str:
        try:
            value = parameters.get_secret(self._secret_id, max_age=MAX_AGE, force_fetch=force)
        except GetParameterError as exc:
            if exc.__context__ and is_transient(exc.__context__):
                raise TransientFault(f"the API key cannot be read for now: {exc}") from exc
            raise AccountRefused(f"the API key cannot be read from Secrets Manager: {exc}", 0) from exc
        key = str(value).strip()
        if not _SENDABLE.fullmatch(key):
            raise AccountRefused(
                "the API key in Secrets Manager is empty or has characters that are not allowed in a header", 0
            )
        return key
