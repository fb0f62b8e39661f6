"""A fast moto: the resources of the integration tests are created once per process, and moto's slow parts are patched.

An empty stack takes 27 ms to create and 2 ms to copy. For each call moto tries every spelling of every member of every
shape, and lists all its methods again. For each subscription it generates a key, which takes 0.1 s. It parses each
DynamoDB expression twice, and visits the tree ten times for a write. For messages that do not come it waits as long as
asked, although no other process can send one.

Most calls go to DynamoDB and SQS. `serve_directly` passes them to moto after botocore has checked and encoded them.
This skips the signed HTTP request between the two, and the response's way back.
"""

# mypy: disable-error-code="assignment, method-assign, attr-defined"
# moto's functions are replaced by functions of other types, and some of its modules have no types.

import copy
import copyreg
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import botocore.session
import moto.backend_index
import moto.backends
import moto.core.models
import moto.core.responses
import moto.dynamodb.parsing.validators
import moto.sns.models
import moto.sqs.models
from botocore.auth import AUTH_TYPE_MAPS
from cryptography.hazmat.primitives.asymmetric import rsa
from moto import mock_aws
from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.exceptions import ServiceException
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionResult, BaseResponse
from moto.core.serialize import AttributePickerContext, ResponseSerializer
from moto.core.utils import camelcase_to_underscores, method_names_from_class
from moto.dynamodb.comparisons import ConditionExpressionParser
from moto.dynamodb.parsing.ast_nodes import DepthFirstTraverser, Expression, Node, UpdateExpressionFunction
from moto.dynamodb.parsing.expressions import UpdateExpressionParser
from moto.dynamodb.parsing.validators import ActionCountValidator, OverlappingPathsValidator
from moto.dynamodb.responses import DynamoHandler
from moto.sqs.models import SQSBackend
from moto.sqs.responses import SQSResponse
from moto.ssm.models import ParameterDict
from werkzeug.exceptions import HTTPException

copyreg.pickle(ParameterDict, lambda found: (_parameters, (found.account_id, found.region_name, dict(found))))
copyreg.pickle(threading.Condition, lambda _: (threading.Condition, ()))  # of a queue; nobody waits while it is copied


def _parameters(account_id: str, region_name: str, parameters: dict[str, Any]) -> ParameterDict:
    """Create the Parameter Store's parameters again: their class is a dict that cannot be pickled."""
    found = ParameterDict(account_id, region_name)
    found.update(parameters)
    return found


Copy = dict[str, Any]
"""All of moto's state, by service."""

_made: list[tuple[Copy, dict[str, str]]] = []


@contextmanager
def mock_stack(create: Callable[[], dict[str, str]]) -> Iterator[dict[str, str]]:
    """Serve AWS from moto with only the resources that `create` makes, called once; yield the result of `create`."""
    with mock_aws():
        if not _made:
            returned = create()
            _made.append((saved(), returned))
        ((made, returned),) = _made
        restore(made)
        yield returned


def saved() -> Copy:
    """Return a copy of all of moto's state."""
    return copy.deepcopy({backend.service_name: dict(backend) for backend in BackendDict._instances})  # type: ignore[misc]


def restore(made: Copy) -> None:
    """Replace moto's state by a saved copy."""
    for service, accounts in copy.deepcopy(made).items():
        backend = moto.backends.get_backend(service)  # type: ignore[call-overload]
        backend.update(accounts)
        assert backend[DEFAULT_ACCOUNT_ID]  # moto resets only the backends that were used


# ---- without HTTP between botocore and moto --------------------------------------------------------------------------

DIRECT: dict[str, tuple[type[BaseResponse], set[str]]] = {
    "dynamodb": (
        DynamoHandler,
        {"GetItem", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan"},
    ),
    "sqs": (SQSResponse, {"GetQueueUrl", "SendMessage", "SendMessageBatch", "ReceiveMessage", "DeleteMessage"}),
}
"""The functions that serve these calls. Their arguments and results are JSON, the same in Python as in HTTP."""


def serve_directly(client: Any) -> None:
    """Let moto serve a client's calls of DynamoDB and SQS, after all other hooks of tests. Both must be mocked."""
    service = client.meta.service_model.service_name
    if service not in DIRECT:
        return
    responder, operations = DIRECT[service]
    parser = client._response_parser
    client._resolve_endpoint_ruleset = _resolve_once(client._resolve_endpoint_ruleset, operations)

    def serve(model: Any, params: dict[str, Any], **_: Any) -> Any:
        handler: Any = responder()
        handler.region, handler.current_account = client.meta.region_name, DEFAULT_ACCOUNT_ID
        handler.params = handler.body = json.loads(params["body"])
        handler.uri_match, handler.querystring, handler.response_headers = {}, {}, {}
        handler.headers, handler.uri = params["headers"], params["url"]
        try:
            result = getattr(handler, _underscored(model.name))().result
        except (ServiceException, HTTPException) as error:
            if isinstance(error, ServiceException):
                status, headers, body = handler.serialized(ActionResult(error))
            else:
                status, headers, body = error.code or 400, {}, error.description or ""
            response = {"status_code": status, "headers": headers, "body": body.encode()}
            parsed = parser.parse(response, model.output_shape)
            client._endpoint._add_modeled_error_fields(response, parsed, model, parser)
            return SimpleNamespace(status_code=status), parsed
        return SimpleNamespace(status_code=200), {**_plain(result or {}), "ResponseMetadata": {"HTTPStatusCode": 200}}

    for operation in operations:
        client.meta.events.register_last(f"before-call.{service}.{operation}", serve)


def _resolve_once(resolve: Callable[..., Any], operations: set[str]) -> Callable[..., Any]:
    """Return a function that resolves the endpoint of these operations once: their arguments do not change it."""
    found: dict[str, Any] = {}

    def resolved(operation: Any, *arguments: Any, **options: Any) -> Any:
        if operation.name not in operations:
            return resolve(operation, *arguments, **options)
        if operation.name not in found:
            found[operation.name] = resolve(operation, *arguments, **options)
        return found[operation.name]

    return resolved


def _plain(value: Any) -> Any:
    """Return a copy of a result as if it had been sent, without moto's objects and without members that are None."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


# ---- moto's slow parts -----------------------------------------------------------------------------------------------

_get_value = ResponseSerializer.get_value
_urls: Any = BaseBackend.urls.fget
_names: dict[Any, set[str]] = {}
_urls_of: dict[type, Any] = {}


def _get_value_if_there(self: Any, value: Any, key: str, shape: Any) -> Any:
    """Return a member of a result. In a plain dict, do not search for names that it does not have."""
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


_make_tree = UpdateExpressionParser.make.__func__
_lex_one_node = ConditionExpressionParser._lex_one_node


@cache
def _tree_once(parser: Any, expression: str) -> Any:
    """Return the tree of an update expression. moto changes only copies of it."""
    return _make_tree(parser, expression)


@cache
def _lex_one_node_once(remaining: str) -> Any:
    return _lex_one_node(ConditionExpressionParser(None, None, None), remaining)


def _copy_tree(node: Any, parent: Any = None) -> Any:
    """Return a copy of a parsed tree; its leaves are texts."""
    copied = object.__new__(type(node))
    copied.__dict__.update(node.__dict__, parent=parent)
    if node.children is not None:
        copied.children = [_copy_tree(child, copied) if _is_a(type(child), Node) else child for child in node.children]
    return copied


_is_a: Any = cache(issubclass)
"""A cached issubclass: that of moto's abstract classes is slow."""


def _traverse(self: Any, node: Any, child_id: int = -1) -> Any:
    """Process a tree, children first, as moto does; look the processor of each class up only once."""
    if "classes" not in self.__dict__:
        self.classes = self.nodes_to_be_processed()
    for number, child in enumerate(node.children or ()):
        self.pre_processing_of_child(node, number)
        if _is_a(type(child), Node):
            _traverse(self, child, number)
    if _is_a(type(node), self.classes):
        parent = node.parent
        node = self.process(node)
        node.parent = parent
        if parent:
            parent.children[child_id] = node
    return node


def _check_root(self: Any, node: Any) -> Any:
    """Check a whole expression. moto checks each part of it again, and finds nothing else."""
    (check,) = self._processing_map().values()
    return check(node)


def _find_clauses(self: Any, clause_types: list[type]) -> list[Any]:
    found: list[Any] = []
    for child in self.children or ():
        if type(child) in clause_types:
            found.append(child)
        elif _is_a(type(child), (Expression, UpdateExpressionFunction)):
            found += _find_clauses(child, clause_types)
    return found


def _signed_cheaply(auth: Any) -> Any:
    """Return a class that adds the header that moto reads the region from, with a signature that it does not read.

    A body in chunks, whose other headers moto reads too, is signed as it is by botocore; so are links.
    """

    class CheapAuth(auth):
        def add_auth(self, request: Any) -> None:
            if request.headers.get("Content-Encoding") == "aws-chunked":
                super().add_auth(request)
                return
            scope = f"{self.credentials.access_key}/20260101/{self._region_name}/{self._service_name}/aws4_request"
            del request.headers["Authorization"]  # of an earlier try
            request.headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"

    return CheapAuth


_receive_message = SQSBackend.receive_message


def _receive_at_once(self: Any, queue_name: str, count: int, wait_seconds: int, *others: Any) -> Any:
    """Return the messages that are there."""
    return _receive_message(self, queue_name, count, 0, *others)


UpdateExpressionParser.make = classmethod(_tree_once)  # type: ignore[arg-type]
ConditionExpressionParser._lex_one_node = lambda _, remaining: _lex_one_node_once(remaining)
DepthFirstTraverser.traverse_node_recursively = _traverse
Node.find_clauses = _find_clauses
ActionCountValidator.traverse = OverlappingPathsValidator.traverse = _check_root
moto.dynamodb.parsing.validators.deepcopy = _copy_tree
ResponseSerializer.get_value = _get_value_if_there
BaseBackend.urls = property(_urls_once)
moto.backend_index.backend_url_patterns.sort(key=lambda pattern: pattern[0] != "s3")  # they are tried in turn
moto.core.models.RESPONSES_METHODS.clear()  # a thousand patterns for each call with `requests`
moto.core.responses.method_names_from_class = cache(method_names_from_class)
botocore.session.create_loader = cache(botocore.session.create_loader)  # moto ends boto3's session, which reads 10 MB
SQSBackend.receive_message = _receive_at_once
_underscored = cache(camelcase_to_underscores)
moto.sqs.models.camelcase_to_underscores = _underscored
AUTH_TYPE_MAPS.update({_name: _signed_cheaply(AUTH_TYPE_MAPS[_name]) for _name in ("v4", "s3v4")})
_signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
moto.sns.models.Subscription.private_key = lambda _: _signing_key
