"""moto, made quick: the resources of the integration tests are made once a process, and moto's slow parts are helped.

An empty stack takes 27 ms to make and 2 ms to copy. Serving a call, moto tries every spelling of every member of every
shape, and lists all its methods anew, each time. For each subscription it makes a key of its own, which takes 0.1 s.
"""

import copy
import copyreg
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import moto.backends
import moto.core.models
import moto.core.responses
import moto.sns.models
from cryptography.hazmat.primitives.asymmetric import rsa
from moto import mock_aws
from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.serialize import AttributePickerContext, ResponseSerializer
from moto.core.utils import method_names_from_class
from moto.ssm.models import ParameterDict

copyreg.pickle(ParameterDict, lambda found: (_parameters, (found.account_id, found.region_name, dict(found))))
copyreg.pickle(threading.Condition, lambda _: (threading.Condition, ()))  # a queue's: nobody waits while it is copied


def _parameters(account_id: str, region_name: str, parameters: dict[str, Any]) -> ParameterDict:
    """Make the Parameter Store's parameters anew: they are a dict that cannot say how it is made."""
    found = ParameterDict(account_id, region_name)
    found.update(parameters)
    return found


Copy = dict[str, Any]
"""All that moto holds, by service."""

_made: list[tuple[Copy, dict[str, str]]] = []


@contextmanager
def mock_stack(create: Callable[[], dict[str, str]]) -> Iterator[dict[str, str]]:
    """Serve AWS from moto with what `create` makes there, called once, and nothing else; yield what it returned."""
    with mock_aws():
        if not _made:
            returned = create()
            _made.append((saved(), returned))
        ((made, returned),) = _made
        restore(made)
        yield returned


def saved() -> Copy:
    """Copy all that moto holds."""
    return copy.deepcopy({backend.service_name: dict(backend) for backend in BackendDict._instances})


def restore(made: Copy) -> None:
    """Put what was saved in the place of what moto holds."""
    for service, accounts in copy.deepcopy(made).items():
        backend = moto.backends.get_backend(service)  # type: ignore[call-overload]
        backend.update(accounts)
        assert backend[DEFAULT_ACCOUNT_ID]  # moto resets what was asked for once


# ---- moto's slow parts -----------------------------------------------------------------------------------------------

_get_value = ResponseSerializer.get_value
_urls: Any = BaseBackend.urls.fget  # type: ignore[attr-defined]
_names: dict[Any, set[str]] = {}
_urls_of: dict[type, Any] = {}


def _get_value_if_there(self: Any, value: Any, key: str, shape: Any) -> Any:
    """A member of a result; of a plain dict, no member is looked for under names that it does not have."""
    if type(value) is dict and not self._value_picker.response_transformers:
        service, parent = self.operation_model.service_model, getattr(shape, "parent", None)
        member = (service.service_name, parent and parent.name, shape.name, key)
        if member not in _names:
            context = AttributePickerContext(value, key, shape, self.operation_model, service, "")
            _names[member] = {*self._value_picker.get_possible_keys(context)}
        if _names[member].isdisjoint(value):
            return None
    return _get_value(self, value, key, shape)


def _urls_once(self: Any) -> Any:
    if type(self) not in _urls_of:
        _urls_of[type(self)] = _urls(self)
    return _urls_of[type(self)]


ResponseSerializer.get_value = _get_value_if_there  # type: ignore[method-assign]
BaseBackend.urls = property(_urls_once)  # type: ignore[assignment,method-assign]
moto.core.models.RESPONSES_METHODS.clear()  # a thousand patterns each time, for whoever calls AWS through requests
moto.core.responses.method_names_from_class = cache(method_names_from_class)
_signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
moto.sns.models.Subscription.private_key = lambda _: _signing_key  # type: ignore[method-assign]
