"""The provider's API key, from Secrets Manager."""

from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

from posedrop.errors import AccountRefused

MAX_AGE = 300
"""Seconds. A rotated key is used after this time at the latest, and at once when the old one is refused."""


class ApiKey:
    """The key in one secret. Call it for the value; it is read again when it is older than MAX_AGE."""

    def __init__(self, secret_id: str) -> None:
        self._secret_id = secret_id

    def __call__(self) -> str:
        """The key. Raises AccountRefused if it cannot be read."""
        return self._get(force=False)

    def renew(self) -> bool:
        """Read the key again, after the provider refused it, and say whether it is another one now."""
        return self._get(force=False) != self._get(force=True)

    def _get(self, *, force: bool) -> str:
        try:
            value = parameters.get_secret(self._secret_id, max_age=MAX_AGE, force_fetch=force)
        except GetParameterError as exc:
            raise AccountRefused(f"the API key cannot be read from Secrets Manager: {exc}", 0) from exc
        return str(value).strip()
