"""Enrolment string: round trip, detection of damage, secrecy of the key."""

import random
import re

import pytest
import zmq
from zmq.utils import z85

from ztrace.enrolment import PREFIX, Enrolment, check_service
from ztrace.errors import SettingsError

ENROLMENT = Enrolment("billing", b"\x01" * 32, b"\xfe" * 32, bytes(range(32)))


@pytest.mark.parametrize("service", ["billing", "b", "shop front", "café.ü/1", "店" * 256])
def test_what_is_written_can_be_read(service: str) -> None:
    """An enrolment survives a round trip for any service name, with or without the whitespace of a file
    around it.
    """
    enrolment = Enrolment(service, bytes(32), b"\xff" * 32, bytes(range(32)))
    assert Enrolment.parse(enrolment.format()) == enrolment
    assert Enrolment.parse(f" {enrolment.format()}\n") == enrolment


def test_it_is_one_word_that_shells_and_unit_files_leave_alone() -> None:
    """The string consists of letters, digits, underscores, hyphens and dots only."""
    assert re.fullmatch(r"ztrace1(\.[\w-]+){5}", ENROLMENT.format(), re.ASCII)


def test_any_mistyped_character_is_told() -> None:
    """A changed or missing character at any position raises an error with a remedy and without the secret."""
    text = ENROLMENT.format()
    rng = random.Random(1)
    for position in range(len(text)):
        other = rng.choice([char for char in "aZ0-_." if char != text[position]])
        for damaged in (
            text[:position] + other + text[position + 1 :],
            text[:position] + text[position + 1 :],
            text[:position],
        ):
            with pytest.raises(SettingsError, match="ztrace keys add SERVICE") as caught:
                Enrolment.parse(damaged)
            assert text.split(".")[4][:6] not in str(caught.value)


@pytest.mark.parametrize(
    "enrolment",
    [
        Enrolment("", bytes(32), bytes(32), bytes(32)),
        Enrolment("a\nb", bytes(32), bytes(32), bytes(32)),
        Enrolment("billing", bytes(31), bytes(32), bytes(32)),
        Enrolment("billing", bytes(32), bytes(32), bytes(33)),
    ],
)
def test_what_is_wrong_in_itself_is_refused(enrolment: Enrolment) -> None:
    """A valid checksum does not make keys of the wrong length or an invalid service name acceptable."""
    with pytest.raises(SettingsError, match="damaged"):
        Enrolment.parse(enrolment.format())


@pytest.mark.parametrize(
    "text", ["", "x", f"{PREFIX}.", "ztrace2.a.b.c.d.e", "\ud800", f"{PREFIX}.\u00e9.b.c.d.e"]
)
def test_text_that_is_no_key_is_refused(text: str) -> None:
    """Text that is no enrolment raises a settings error."""
    with pytest.raises(SettingsError):
        Enrolment.parse(text)


def test_the_secret_is_not_shown() -> None:
    """The representation of an enrolment contains no secret."""
    assert repr(ENROLMENT.secret) not in repr(ENROLMENT)
    assert "secret" not in repr(ENROLMENT)


def test_zeromq_takes_the_keys_as_they_are() -> None:
    """The three key attributes can be assigned to pyzmq's socket options."""
    public, secret = zmq.curve_keypair()
    raw = Enrolment("billing", *(bytes(z85.decode(key)) for key in (public, public, secret)))
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.curve_serverkey = raw.server_public
        dealer.curve_publickey = raw.public
        dealer.curve_secretkey = raw.secret
        assert dealer.get(zmq.MECHANISM) == zmq.CURVE


@pytest.mark.parametrize("name", ["", " a", "a\t", "a\x1b[1m", "x" * 257, "\ud800"])
def test_names_that_no_service_can_have(name: str) -> None:
    """A service name that is empty, too long, unprintable or unencodable is rejected."""
    with pytest.raises(SettingsError, match="cannot be a service's name"):
        check_service(name)
