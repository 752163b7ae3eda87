"""Several servers behind one name: each call goes to the server that is expected to answer first.

One idea: a server's own queue is out of the client's sight, so the client keeps two figures: the calls that
are open at each server, and what each of them has added to the wait of late. Their product is the expected
wait. A call that no connected server can take waits here, and has certainly not run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ztrace.rpc import wire
from ztrace.rpc.core.calling import Call, ClientCore
from ztrace.rpc.errors import DeadlineExceeded, RpcError
from ztrace.rpc.failures import CLOSING, Refused

#: Shortest duration that counts, so that servers not heard yet are tried in turn.
_SHORTEST_S: Final = 1e-6


@dataclass(slots=True)
class Request:
    """Request of a call, in the form that is sent once a server is chosen.

    Attributes:
        name: of the event: the method's, or that of a call with keywords.
        args: of the event.
        own: what to add to ztrace's part of the header.
        context: trace context: ids and flags in 25 bytes, and the W3C state.
        route: the only server to ask; None for any.
        avoid: servers that are not asked while there is another.
    """

    name: str
    args: Sequence[Any]
    own: Mapping[str, Any] | None = None
    context: tuple[bytes, str] | None = None
    route: "Route | None" = None
    avoid: "Sequence[Route] | None" = None


class Route:
    """One server of a pool.

    Attributes:
        endpoint: address of the server.
        core: its calls.
        attributes: of the spans of its calls.
        up: the connection is open, and the server takes calls.
        problem: why the server refuses the connection; "" if it does not.
    """

    __slots__ = ("attributes", "core", "endpoint", "problem", "up")

    def __init__(self, endpoint: str, core: ClientCore) -> None:
        self.endpoint = endpoint
        self.core = core
        self.attributes = describe_endpoint(endpoint)
        self.up = False
        self.problem = ""

    def expected_s(self) -> float:
        """Return the expected wait of one more call."""
        return (len(self.core.calls) + 1) * (self.core.share_s or _SHORTEST_S)


class Pool:
    """Routes of a client, and the calls that wait for one.

    Args:
        routes: to the servers.

    Attributes:
        pending: calls that no connected server can take yet, and their requests.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        self.pending: dict[Call, Request] = {}

    @property
    def routes(self) -> Sequence[Route]:
        """Routes to the servers."""
        return self._routes

    @routes.setter
    def routes(self, routes: Sequence[Route]) -> None:
        self._routes = list(routes)
        self._only = self._routes[0] if len(self._routes) == 1 else None

    def open(self, call: Call, request: Request, now_s: float) -> None:
        """Send a request to the best server, or keep it until there is one.

        Raises:
            TypeError: the arguments cannot be sent.
        """
        only = self._only
        route = only if only is not None and only.up else self._choose(request)
        if route is None:
            self.pending[call] = request
        else:
            send(route, call, request, now_s)

    def open_again(self, call: Call, request: Request, now_s: float) -> bool:
        """Send the request of a call that was refused, to another server or once there is one.

        Returns:
            Whether the call is open again; if not, its error stands.
        """
        refused = call.error
        if not isinstance(refused, Refused):
            return False
        if refused.reason == CLOSING:
            call.route.up = False
        else:
            request.avoid = avoid = [*(request.avoid or ()), call.route]
            if request.route is not None or all(each in avoid for each in self.routes if each.up):
                return False
        call.done, call.error = False, None
        self.open(call, request, now_s)
        return True

    def _choose(self, request: Request) -> Route | None:
        """Return the server for a request, None if none is connected."""
        routes = self.routes if request.route is None else (request.route,)
        if len(routes) == 1:
            return routes[0] if routes[0].up else None
        up = [each for each in routes if each.up]
        if request.avoid:
            up = [each for each in up if each not in request.avoid] or up
        return min(up, key=Route.expected_s, default=None)

    def came_up(self, route: Route, now_s: float) -> None:
        """Note an open connection, and send what has waited."""
        route.up = True
        waiting, self.pending = self.pending, {}
        for call, request in waiting.items():
            try:
                self.open(call, request, now_s)
            except TypeError as error:
                call.done, call.error = True, error
                call.wake()

    def went_down(self, route: Route, reason: str) -> None:
        """Note a lost connection, and fail the calls of the server."""
        route.up = False
        route.core.lose(reason)

    def cancel(self, call: Call, error: BaseException | None = None) -> None:
        """End a call that the caller no longer waits for, sent or not."""
        if self.pending.pop(call, None) is not None:
            call.done, call.error = True, error
        elif call.route is not None:
            call.route.core.cancel(call, error)

    def beat(self, now_s: float) -> None:
        """Send due heartbeats, and fail calls whose deadline has passed or whose server is silent."""
        for call in [
            each for each in self.pending if each.deadline_s is not None and now_s >= each.deadline_s
        ]:
            self.expire(call)
        for route in self.routes:
            route.core.beat(now_s)

    def expire(self, call: Call) -> None:
        """End a call whose deadline has passed."""
        self.cancel(call, DeadlineExceeded(self._explain_timeout(call)))
        call.wake()

    def due_before(self, until_s: float) -> list[Call]:
        """Return the calls whose deadline is near."""
        found = list(self.pending)
        for route in self.routes:
            found += route.core.calls.values()
        return [call for call in found if call.deadline_s is not None and call.deadline_s < until_s]

    def _explain_timeout(self, call: Call) -> str:
        """Return the message for a call that has had no answer in time."""
        if call in self.pending:
            places = ", ".join(
                f"{route.endpoint} ({route.problem})" if route.problem else route.endpoint
                for route in self.routes
            )
            return f"{call.name}: no connection to {places}"
        return f"{call.name}: no answer in time"


def describe_endpoint(endpoint: str) -> dict[str, Any]:
    """Return the attributes of the spans of a server's calls."""
    attributes: dict[str, Any] = {"rpc.system.name": "ztrace"}
    transport, _, address = endpoint.partition("://")
    host, _, port = address.rpartition(":")
    if transport == "tcp" and port.isdigit():
        attributes["server.address"], attributes["server.port"] = host, int(port)
    elif address:
        attributes["server.address"] = address
    return attributes


def send(route: Route, call: Call, request: Request, now_s: float) -> None:
    """Send a request to a certain server.

    Raises:
        TypeError: the arguments cannot be sent.
    """
    call.route = route
    route.core.open(
        call,
        request.args,
        now_s,
        own=request.own,
        context=request.context,
        name=request.name,
    )


def bind_keywords(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], peer: int, described: object
) -> tuple[str, list[Any]]:
    """Return the event of a call with keyword arguments.

    Args:
        name: of the method.
        args: positional arguments.
        kwargs: keyword arguments.
        peer: version of the server's additions.
        described: answer of the server to ``_zerorpc_inspect``; none if the server cannot tell.

    Raises:
        RpcError: the server has no keyword arguments, and they cannot be made positional.
    """
    if peer >= wire.VERSION:
        return wire.CALL, [name, list(args), dict(kwargs)]
    methods = described.get("methods") if isinstance(described, dict) else None
    method = methods.get(name) if isinstance(methods, dict) else None
    parameters = method.get("args") if isinstance(method, dict) else None
    if not isinstance(parameters, list):
        raise RpcError(f"the server takes no keyword arguments, and does not tell the names of {name}'s")
    # zerorpc tells a bound method's own `self` as well.
    if parameters and isinstance(parameters[0], dict) and parameters[0].get("name") in ("self", "cls"):
        parameters = parameters[1:]
    bound, left = list(args), dict(kwargs)
    for parameter in parameters[len(args) :]:
        key = parameter.get("name") if isinstance(parameter, dict) else None
        if key in left:
            bound.append(left.pop(key))
        elif not left:
            break
        elif isinstance(parameter, dict) and "default" in parameter:
            bound.append(parameter["default"])
        else:
            raise RpcError(f"the server takes no keyword arguments, and {name} needs its argument {key}")
    if left:
        raise RpcError(f"{name} has no argument {next(iter(left))}")
    return name, bound
