"""The provider as `submit` and `deliver` use it: its API, and its request history."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from posedrop.segmind.client import Segmind
from posedrop.segmind.history import History
from posedrop.segmind.model import ModelSpec
from posedrop.segmind.rescue import Rescue


class Key(Protocol):
    """The API key."""

    def __call__(self) -> str:
        """Return the key."""

    def renew(self) -> bool:
        """Read the key again after the provider refused it. Return whether it has changed."""


@dataclass(frozen=True)
class Provider:
    """The provider. `history` is None if it is turned off; then `rescue` finds nothing."""

    api: Segmind
    history: History | None
    rescue: Rescue

    @classmethod
    def of(cls, base_url: str, history_url: str, key: Key, model: ModelSpec, clock: Callable[[], float]) -> Self:
        """Return the provider at these URLs. Without a `history_url` the history is turned off."""
        history = History(history_url, key, model=model) if history_url else None
        api = Segmind(base_url, key, clock=clock, model=model, renew_key=key.renew)
        return cls(api, history, Rescue(history, clock))
