"""Clients of the services: one function for each library, which calls a method by its name."""

import functools
import json
import threading
from multiprocessing.managers import BaseManager
from typing import Any
from xmlrpc.client import ServerProxy

import rpyc
import zmq
from Pyro5.api import Proxy

import ztrace
from tests.plans.working import Clients

#: Key of the managers.
KEY = b"plans"


class Refused(Exception):
    """A reply of raw ZeroMQ reports an error."""


class Manager(BaseManager):
    """Manager whose server has one object."""


Manager.register("worker")


def call_zerorpc(address: str, name: str, argument: str) -> None:
    """Call a zerorpc service; a thread has a hub of gevent's own for as long as the call takes."""
    import gevent
    import zerorpc

    client = zerorpc.Client(address)
    try:
        client(name, argument)
    finally:
        client.close()
        if threading.current_thread() is not threading.main_thread():
            gevent.get_hub().destroy()


def call_zmq(address: str, name: str, argument: str) -> None:
    """Send a request of raw ZeroMQ, and raise the error that the reply reports."""
    socket: Any = zmq.Context.instance().socket(zmq.REQ)
    with socket:
        ztrace.carry(socket, name=lambda frames: json.loads(frames[0])["name"])
        socket.connect(address)
        socket.send_json({"name": name, "argument": argument})
        error = socket.recv_string()
    if error:
        raise Refused(error)


def call_rpyc(address: str, name: str, argument: str) -> None:
    """Call a service of rpyc."""
    host, _, port = address.rpartition(":")
    with rpyc.connect(host, int(port)) as connection:
        getattr(connection.root, name)(argument)


def call_xmlrpc(address: str, name: str, argument: str) -> None:
    """Call a service of xmlrpc."""
    with ServerProxy(address, allow_none=True) as proxy:
        getattr(proxy, name)(argument)


def call_pyro5(address: str, name: str, argument: str) -> None:
    """Call an object of Pyro5."""
    with Proxy(address) as proxy:
        getattr(proxy, name)(argument)


def call_managers(address: str, name: str, argument: str) -> None:
    """Call the object of a manager."""
    host, _, port = address.rpartition(":")
    manager: Any = Manager((host, int(port)), KEY)
    manager.connect()
    getattr(manager.worker(), f"{name}")(argument)


_CALLS = {
    "zerorpc": call_zerorpc,
    "zmq": call_zmq,
    "rpyc": call_rpyc,
    "xmlrpc": call_xmlrpc,
    "pyro5": call_pyro5,
    "managers": call_managers,
}


def make_clients(addresses: dict[str, str]) -> Clients:
    """Return the clients of the services at these addresses."""
    return {service: functools.partial(_CALLS[service], address) for service, address in addresses.items()}
