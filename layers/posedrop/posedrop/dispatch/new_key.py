"""Find out when the provider's API key was last changed, without reading it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

logger = Logger(child=True)


def key_changed_at(secrets: "SecretsManagerClient", secret_id: str) -> Callable[[], float]:
    """Return a function for the secret's last change (seconds since the epoch). It returns 0 if that is unknown."""

    def changed_at() -> float:
        try:
            return secrets.describe_secret(SecretId=secret_id)["LastChangedDate"].timestamp()
        except (BotoCoreError, ClientError, KeyError) as exc:
            logger.warning("the secret cannot be described", reason=str(exc))
            return 0.0

    return changed_at
