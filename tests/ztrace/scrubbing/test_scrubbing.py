"""Scrubbing of secrets at every place in a span, without changing innocent text."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import msgpack
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.benchmarks.scrubbing import HOSTILE
from tests.ztrace.recording import make_record
from ztrace import diagnostics
from ztrace.enrolment import Enrolment
from ztrace.errors import SettingsError
from ztrace.exceptions.locals import describe
from ztrace.exceptions.messages import MAX_MESSAGE
from ztrace.publishing.encoding import encode
from ztrace.publishing.values import MAX_ITEMS, MAX_NAME, MAX_TEXT
from ztrace.records import MAX_CODE, RAISED, WRAPPED, ExceptionRecord, FrameRecord, Span
from ztrace.scrubbing import rules as scrubbing_rules
from ztrace.scrubbing.names import STEMS, Names
from ztrace.scrubbing.rules import DEFAULT_RULES, MAX_BYTES, REASON, Rules, make_rules

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA75\nhunter2\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"


@pytest.fixture(autouse=True)
def _counted(counts: dict[str, int]) -> None:
    """Check that no count is left over from or for another test."""


def sent(record: Span, rules: Rules | None = DEFAULT_RULES) -> Span:
    """Return a span as unpacked from a batch, after checking that its neighbours are unchanged."""
    before = make_record(1, attributes={"rpc.method": "charge", "size": 12})
    ((_, body),) = encode([before, record, before], rules)
    first, middle, last = msgpack.unpackb(body, strict_map_key=False)
    assert Span(*first) == Span(*last) == before
    return Span(*middle)


def failed(message: str = "no", code: str = "x = 1", causes: Sequence[Any] = ()) -> ExceptionRecord:
    """Return the record of an exception with one frame."""
    frames = [list(FrameRecord("/srv/pay.py", 7, "charge", "pay", code, True))]
    ids = (b"t" * 16, b"s" * 8)
    return ExceptionRecord("ValueError", message, frames, list(causes), RAISED, *ids, notes=[], members=[])


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


SECRET_NAMES = words("""
password passwd pwd db_password DB_PASSWORD dbPassword passWord password2 PGPASSWORD smtp_pass secret
client_secret api_key apikey api-key API_KEY apiKey APIKey X-Api-Key x.api.key api_keys auth authToken
x-auth AUTH_HEADER authorization http.request.header.authorization credential credentials aws_credentials
token tokens access_token refreshtoken csrfmiddlewaretoken session session_id sessionid sessionId
PHPSESSID private_key privateKey cookie Set-Cookie csrf X-XSRF-TOKEN access_key AWS_SECRET_ACCESS_KEY jwt
bearer AccountKey sig X-Amz-Signature secrets
""")

OTHER_NAMES = words("""
author authored_by authority authentication key keyboard monkey public_key cache_key partition_key
keyspace token_count tokens_used tokenizer input_tokens gen_ai.usage.output_tokens max_tokens
session_count active_sessions session_duration_ms password_length password_expired auth_method token_type
token_url passenger compass bypass secretary passwordless assigned design signature card amount customer
rpc.system server.address cookiecutter
""")


@pytest.mark.parametrize("name", SECRET_NAMES)
@pytest.mark.parametrize("value", ["visa", 1234, 0.5, b"visa", ["visa", 5], {"visa": 1}, 1 << 70])
def test_what_a_secrets_name_names_stays_here(name: str, value: object) -> None:
    """A value of any type under a secret's name is replaced."""
    span = sent(make_record(2, attributes={"card": "visa", name: value}))
    assert span.attributes == {"card": "visa", name: "[scrubbed]"}
    assert diagnostics.counts[REASON] == 1


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_other_names_are_left_alone(name: str) -> None:
    """Names are compared by whole words, and a name that only describes a secret is left alone."""
    assert sent(make_record(2, attributes={name: "visa"})).attributes == {name: "visa"}
    assert diagnostics.counts == {}


@pytest.mark.parametrize("value", [None, True, False])
def test_whether_there_is_a_secret_may_be_known(value: object) -> None:
    """None and booleans under a secret's name are sent, since they reveal no secret."""
    assert sent(make_record(2, attributes={"password": value})).attributes == {"password": value}


def test_every_name_of_a_secret_has_a_stem() -> None:
    """Every secret's name contains a stem, by which texts are searched first."""
    names = Names()
    assert all(names.are_secret(name) for name in SECRET_NAMES)
    spellings = [name.lower().replace("_", "") for name in SECRET_NAMES]
    assert all(any(stem in name for stem in STEMS) for name in spellings)


#: Text with a secret, and the text sent in its place.
TEXTS = [
    ("password=hunter2", "password=[scrubbed]"),
    ("login(user='bob', password='hunter2')", "login(user='bob', password='[scrubbed]')"),
    ("{'password': 'hunter2', 'amount': 12}", "{'password': '[scrubbed]', 'amount': 12}"),
    (r'{"token": "hun\"ter2", "b": 2}', '{"token": "[scrubbed]", "b": 2}'),
    (r'"{\"token\": \"hunter2\", \"b\": 2}"', r'"{\"token\": \"[scrubbed]\", \"b\": 2}"'),
    ("{b'token': b'hunter2'}", "{b'token': b'[scrubbed]'}"),
    ("User(name='bob', token=hunter2)", "User(name='bob', token=[scrubbed])"),
    ("secrets=['hunter2', 'hunter3'], x=1", "secrets=[scrubbed], x=1"),
    ("password=SecretStr('hunter2') next", "password=[scrubbed] next"),
    ("{'credentials': {'user': 'bob', 'pin': 'hunter2'}, 'x': 1}", "{'credentials': [scrubbed], 'x': 1}"),
    ("the API key: hunter2", "the API key: [scrubbed]"),
    ("secret access key => hunter2", "secret access key => [scrubbed]"),
    ("AWS_SECRET_ACCESS_KEY=hunter2\nHOME=/root", "AWS_SECRET_ACCESS_KEY=[scrubbed]\nHOME=/root"),
    ("Server=db;Password=hunter2;User Id=bob", "Server=db;Password=[scrubbed];User Id=bob"),
    ("a=1,password=hunter2,b=2", "a=1,password=[scrubbed],b=2"),
    ("GET /x?token=hunter2&user=bob", "GET /x?token=[scrubbed]&user=bob"),
    ("Authorization: Bearer hunter2", "Authorization: [scrubbed]"),
    ("Bearer abcdefghijklmnop", "Bearer [scrubbed]"),
    ("got bearer hunterhunter from bob", "got bearer [scrubbed] from bob"),
    ("Authorization is Bearer%20hunterhunter", "Authorization is Bearer%20[scrubbed]"),
    ("sent Bearer hunter2hunter2 to bob", "sent Bearer [scrubbed] to bob"),
    ("proxy got Basic aHVudGVyMjpodW50ZXIy", "proxy got Basic [scrubbed]"),
    ("Cookie: a=hunter2; b=hunter3\nHost: x", "Cookie: [scrubbed]\nHost: x"),
    ("mysql --password hunter2 --user bob", "mysql --password [scrubbed] --user bob"),
    ("<password>hunter2</password>", "<password>[scrubbed]</password>"),
    ("<password>\n  hunter2\n</password>", "<password>[scrubbed]</password>"),
    ('<w:Password Type="x">hunter2</w:Password>', '<w:Password Type="x">[scrubbed]</w:Password>'),
    ("<password><![CDATA[hunter2]]></password>", "<password>[scrubbed]</password>"),
    ("<credentials><pin>hunter2</pin></credentials>", "<credentials>[scrubbed]</credentials>"),
    ("<token>hunter2", "<token>[scrubbed]"),
    ('<user name="bob" password="hunter 2"/>', '<user name="bob" password="[scrubbed]"/>'),
    ('<add key="password" value="hunter2"/>', '<add key="password" value="[scrubbed]"/>'),
    ('<input name="password" id="a" value="hunter2">', '<input name="password" id="a" value="[scrubbed]">'),
    ('{"name": "api_key", "value": "hunter2"}', '{"name": "api_key", "value": "[scrubbed]"}'),
    ("- name: DB_PASSWORD\n  value: hunter2\n", "- name: DB_PASSWORD\n  value: [scrubbed]\n"),
    (
        'Authorization: Digest username="hunter2", realm="a b", response=hunter2, uri="/"\r\nHost: x',
        "Authorization: [scrubbed]\r\nHost: x",
    ),
    (
        'Authorization: Digest username="b",\r\n\tnonce="hunter2"\nHost: x',
        "Authorization: [scrubbed]\nHost: x",
    ),
    ("curl -H 'Authorization: Digest a=\"hunter2\"' url", "curl -H 'Authorization: [scrubbed]' url"),
    ('"Authorization: Digest a=\\"hunter2\\"" next', '"Authorization: [scrubbed]" next'),
    ("password:\n  hunter2\nuser: bob", "password:\n  [scrubbed]\nuser: bob"),
    ("password=\r\nhunter2\r\n", "password=\r\n[scrubbed]\r\n"),
    ('"token":\n   "hunter 2",\n "b": 1', '"token":\n   "[scrubbed]",\n "b": 1'),
    (
        "a:\n  key: x\n  secret: |\n    hunter2\n    hunter3\n  b: 1",
        "a:\n  key: x\n  secret: |\n    [scrubbed]\n  b: 1",
    ),
    ("token: >-\n  hunter2\n", "token: >-\n  [scrubbed]\n"),
    ('password="hunter 2 three" next', 'password="[scrubbed]" next'),
    ("--password 'hunter 2' --user bob", "--password '[scrubbed]' --user bob"),
    ("getenv('PASSWORD', 'hunter2') failed", "getenv('PASSWORD', '[scrubbed]') failed"),
    ("[('user', 'bob'), ('password', 'Hunter2')]", "[('user', 'bob'), ('password', '[scrubbed]')]"),
    ("q=%22password%22%3A%22hunter2%22", "q=%22password%22%3A%22[scrubbed]%22"),
    ("wrong password 'hunter2' for bob", "wrong password '[scrubbed]' for bob"),
    ("CREATE USER bob IDENTIFIED BY 'hunter2'", "CREATE USER bob IDENTIFIED BY '[scrubbed]'"),
    ("amqp://bob:hunter2@mq:5672/x", "amqp://bob:[scrubbed]@mq:5672/x"),
    ("redis://:hunter2@cache", "redis://:[scrubbed]@cache"),
    ("amqp://bob:hun/ter@2@mq:5672/x?a=b", "amqp://bob:[scrubbed]@mq:5672/x?a=b"),
    ("https://0123456789abcdef0123@sentry.io/1", "https://[scrubbed]@sentry.io/1"),
    (f"got {JWT}, expired", "got [scrubbed], expired"),
    (
        f"key {PEM} end",
        "key -----BEGIN RSA PRIVATE KEY-----[scrubbed]-----END RSA PRIVATE KEY----- end",
    ),
    ("AKIAIOSFODNN7EXAMPLE is unknown", "[scrubbed] is unknown"),
    ("ghp_" + "a1" * 18, "[scrubbed]"),
    ("AIza" + "Sy" * 18, "[scrubbed]"),
    ("xoxb-123456789-abcdef", "[scrubbed]"),
    ("glpat-" + "a1" * 10, "[scrubbed]"),
    (Enrolment("shop", b"s" * 32, b"p" * 32, b"x" * 32).format(), "[scrubbed]"),
    ("ZTRACE_KEY=hunter2", "ZTRACE_KEY=[scrubbed]"),
    ("sk_live_" + "a1" * 12, "[scrubbed]"),
    ("sk-ant-api03-" + "a1" * 12, "[scrubbed]"),
]


@pytest.mark.parametrize(("text", "clean"), TEXTS)
def test_only_the_secret_in_a_text_is_replaced(text: str, clean: str) -> None:
    """Only the secret in a text is replaced, and scrubbing again changes nothing."""
    assert sent(make_record(2, attributes={"text": text})).attributes == {"text": clean}
    assert diagnostics.counts == {REASON: 1}
    assert DEFAULT_RULES.scrub(clean) == clean


@pytest.mark.parametrize(("text", "clean"), TEXTS)
def test_a_text_is_scrubbed_wherever_it_stands(text: str, clean: str) -> None:
    """Secrets are replaced in names, keys, bytes, lists, and messages of exceptions and their causes."""
    cause = list(failed(f"cause: {text}")._replace(how=WRAPPED, origin_trace_id=None, origin_span_id=None))
    attributes = {text: 1, "bytes": text.encode(), "list": ["a", text, [text]]}
    span = sent(make_record(2, name=text, attributes=attributes, exception=failed(text, causes=[cause])))
    assert span.name == clean
    assert span.attributes is not None
    assert list(span.attributes) == [clean, "bytes", "list"]
    assert list(span.attributes.values())[1:] == [clean.encode(), ["a", clean, [clean]]]
    assert span.exception is not None
    assert span.exception[1] == clean
    assert span.exception[3][0][1] == f"cause: {clean}"


@pytest.mark.parametrize(
    "text",
    [
        "tcp://127.0.0.1:4242",
        "tcp://[::1]:4242",
        "http://shop:8080/users/@bob",
        "http://shop/a@b",
        "ssh://git@example.org/x",
        "bob@example.org",
        "Basic authentication failed",
        "the bearer of bad news",
        "Bearer token missing, expected Bearer authentication",
        "no bearer credentials",
        "the author: bob",
        "key: value, keyboard: azerty",
        "KeyError: 'user'",
        "Token: None",
        "token_count=12",
        "jwt.exceptions.InvalidTokenError: Signature has expired",
        "session::open at 12:30:11",
        "region: ASIA",
        "sk-learn-something-long-and-plain",
        "risk-assessment-of-the-year-2024-x",
        "keyJson.parsedDocumentIdentifier",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
        "password is too short",
        "token expired, session closed",
        "passwords do not match",
        "password:\nuser: bob",
        "Invalid token:\n  File 'shop.py', line 3",
        "Enter your password:\nthe login was refused",
        "Password:\n\n",
        "fields ('password', 'email') are missing",
        "choose one of ['token', 'session', 'Key']",
        "getenv('HOME', '/root')",
        "Field('password', 'Your password')",
        "Column('token', 'VARCHAR') of table",
        "<password/><user>bob</user>",
        "<user name='bob'>Bob</user>",
        "<a href='/token'>the token</a>",
        "<key>shop</key>",
        "if a > b: pass",
        "<Cookie %s for %s> of a test",
        "a <Session session> in\n<Module shop>",
        "if not token:\n    pass",
        "def get_auth(self) -> Session:\n    'Return the session.'",
        "{'APPEND': ('AUTH', 'SELECTED')}",
        "either ('Session', 'Module')",
        "name: token count\nvalue: 12",
        '{"name": "user", "value": "bob", "x": "token"}',
        "digest authentication failed for bob",
        "the session of today is over: see below\n  and above",
        "auth method: digest\n",
        "",
    ],
)
def test_innocent_texts_are_sent_as_they_are(text: str) -> None:
    """Texts that resemble secrets are sent unchanged."""
    record = make_record(
        2,
        name=text,
        attributes={"text": text, "bytes": text.encode(), "list": [text]},
        exception=failed(text, text[:MAX_CODE]),
    )
    assert sent(record) == record._replace(exception=list(failed(text, text[:MAX_CODE])))
    assert diagnostics.counts == {}


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ('password = "hunter2"', 'password = "[scrubbed]"'),
        ('password: str = "hunter2"', 'password: str = "[scrubbed]"'),
        ("connect(user, password='hunter2')", "connect(user, password='[scrubbed]')"),
        ('if token == "hunter2":', 'if token == "[scrubbed]":'),
        ('os.environ["SECRET"] = "hunter2"', 'os.environ["SECRET"] = "[scrubbed]"'),
        ('auth=("bob", "hunter2")', 'auth=("[scrubbed]", "[scrubbed]")'),
        ("otp = 123456", "otp = [scrubbed]"),
        ('raise E("login failed: password=hunter2")', 'raise E("login failed: password=[scrubbed]")'),
        ('raise KeyError(f"token: hunter2")', 'raise KeyError(f"token: [scrubbed]")'),
        ('connect("host=db user=bob password=hunter2")', 'connect("host=db user=bob password=[scrubbed]")'),
        ("run(['mysql', '--password=hunter2', 'a'])", "run(['mysql', '--password=[scrubbed]', 'a'])"),
        ('sql("""ALTER USER bob PASSWORD \'hunter2\'', 'sql("""ALTER USER bob PASSWORD \'[scrubbed]\''),
        ('x = b"Cookie: a=hunter2; b=hunter3", 5', 'x = b"Cookie: [scrubbed]", 5'),
        (
            "log('it', \"don't use password hunter2: token=hunter2\")",
            "log('it', \"don't use password hunter2: token=[scrubbed]\")",
        ),
        ("connect(url)  # password: hunter2", "connect(url)  # password: [scrubbed]"),
        ('get("x", h={"Authorization": "Bearer hunter"})', 'get("x", h={"Authorization": "[scrubbed]"})'),
        ('f"amqp://{user}:hunter2@{host}"', 'f"amqp://{user}:[scrubbed]@{host}"'),
        ('"amqp://%s:hunter2@mq?password=%s" % user', '"amqp://%s:[scrubbed]@mq?password=%s" % user'),
        ('f"amqp://{user}:{password}@{host}"', 'f"amqp://{user}:{password}@{host}"'),
        ('raise KeyError(f"bad token: {token!r}")', 'raise KeyError(f"bad token: {token!r}")'),
        (
            'raise E("token: %s, secret=%(a)r, otp: {}")',
            'raise E("token: %s, secret=%(a)r, otp: {}")',
        ),
        ("f\"Bearer {token}, password '{password}'\"", "f\"Bearer {token}, password '{password}'\""),
        ('f"DSN=x;PWD={{hunter2}}"', 'f"DSN=x;PWD=[scrubbed]"'),
        ('connect("amqp://bob:hunter2@mq")', 'connect("amqp://bob:[scrubbed]@mq")'),
        ('os.getenv("PASSWORD", "hunter2")', 'os.getenv("PASSWORD", "[scrubbed]")'),
        ('password = os.getenv("PASSWORD", "hunter2")', 'password = os.getenv("PASSWORD", "[scrubbed]")'),
        (
            'p = environ.get("DB_PASSWORD", default="hunter2")',
            'p = environ.get("DB_PASSWORD", default="[scrubbed]")',
        ),
        ('p = environ.get("PASSWORD") or "hunter2"', 'p = environ.get("PASSWORD") or "[scrubbed]"'),
        ('os.environ["PASSWORD"] or "hunter2"', 'os.environ["PASSWORD"] or "[scrubbed]"'),
        ('password = get("P") or "hunter2"', 'password = get("P") or "[scrubbed]"'),
        (
            'os.environ.setdefault("DB_PASSWORD", "hunter2")',
            'os.environ.setdefault("DB_PASSWORD", "[scrubbed]")',
        ),
        ('env.str("SECRET_KEY", "hunter2")', 'env.str("SECRET_KEY", "[scrubbed]")'),
        ('setattr(self, "password", "hunter2")', 'setattr(self, "password", "[scrubbed]")'),
        ('add_argument("--password", default="hunter2")', 'add_argument("--password", default="[scrubbed]")'),
        ('getenv("OTP", 123456)', 'getenv("OTP", [scrubbed])'),
        ('password = "hunter2" + "hunter3"', 'password = "[scrubbed]" + "[scrubbed]"'),
        ('password = given or "hunter2"', 'password = given or "[scrubbed]"'),
        ('password = "hunter2" if x else "hunter3"', 'password = "[scrubbed]" if x else "[scrubbed]"'),
        ('password = """hunter2"""; b = "x"', 'password = """[scrubbed]"""; b = "x"'),
        ('def login(password="hunter2", user="bob"):', 'def login(password="[scrubbed]", user="bob"):'),
        (
            'add_argument("--password", help="The password")',
            'add_argument("--password", help="The password")',
        ),
        (
            'option("--password", "-p", help="The password")',
            'option("--password", "-p", help="The password")',
        ),
        ('fields = ("password", "email")', 'fields = ("password", "email")'),
        ('Column("password", "varchar")', 'Column("password", "varchar")'),
        ('raise ValueError("password", "bad")', 'raise ValueError("password", "bad")'),
        ('password = kwargs.pop("password", None)', 'password = kwargs.pop("password", None)'),
        ('assert "password" in data, "no password"', 'assert "password" in data, "no password"'),
        ('add_header("Authorization", f"Bearer {token}")', 'add_header("Authorization", f"Bearer {token}")'),
        ('h = {"Authorization": "Basic " + made}', 'h = {"Authorization": "Basic " + made}'),
        ('x = name in ("SIG_DFL", "SIG_IGN")', 'x = name in ("SIG_DFL", "SIG_IGN")'),
        ("token = get_token(user)", "token = get_token(user)"),
        ("self.session = session", "self.session = session"),
        ('token = request.headers["X-Token"]', 'token = request.headers["X-Token"]'),
        ("def login(user, password=None):", "def login(user, password=None):"),
    ],
)
def test_source_lines_lose_their_literals_only(line: str, clean: str) -> None:
    """A line of source loses literals assigned to secret names, and keeps names and calls."""
    span = sent(make_record(2, exception=failed(code=line)))
    assert span.exception is not None
    assert span.exception[2][0] == ["/srv/pay.py", 7, "charge", "pay", clean, True, 0, 0, None]


def test_blanks_that_do_not_break_are_blanks() -> None:
    """A blank of a web page or a document separates a name from its value."""
    assert DEFAULT_RULES.scrub("password\u00a0=\u00a0hunter2") == "password\u00a0=\u00a0[scrubbed]"


def test_lists_of_arguments_and_of_headers() -> None:
    """Secrets are replaced after a ``--password`` argument and in name-value pairs."""
    attributes = {
        "argv": ["mysql", "--password", "hunter2", "--user", "bob"],
        "headers": [["Authorization", "hunter2"], [b"cookie", b"hunter2"], ["Host", "shop"]],
        "fields": ["password", "email"],
    }
    assert sent(make_record(2, attributes=attributes)).attributes == {
        "argv": ["mysql", "--password", "[scrubbed]", "--user", "bob"],
        "headers": [["Authorization", "[scrubbed]"], [b"cookie", "[scrubbed]"], ["Host", "shop"]],
        "fields": ["password", "email"],
    }
    assert diagnostics.counts == {REASON: 3}


#: Texts that contain a secret at {}.
FORMS = st.sampled_from(
    [
        "password={}",
        "{{'password': '{}'}}",
        '{{"api_key": "{}"}}',
        "failed for bob: token: {}",
        "amqp://bob:{}@mq/x",
        "Bearer 7{}",
        "eyJhbGciOiJIUzI1NiJ9.{}.{}",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        "ghp_0123456789abcdef{}",
        "--secret {} --user bob",
    ]
)
SECRETS = st.text("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", min_size=8, max_size=40)
AROUND = st.text(st.characters(codec="utf-8"), max_size=20).map(lambda text: f"{text} ")


def in_name(text: str) -> Span:
    """Return a span with the text as its name."""
    return make_record(2, name=text)


def in_attribute(text: str) -> Span:
    """Return a span with the text in an attribute."""
    return make_record(2, attributes={"a": "b", "text": text})


def in_key(text: str) -> Span:
    """Return a span with the text as an attribute's key."""
    return make_record(2, attributes={text: "b"})


def in_list(text: str) -> Span:
    """Return a span with the text in nested lists."""
    return make_record(2, attributes={"list": ["a", text, ("b", text)]})


def in_bytes(text: str) -> Span:
    """Return a span with the text as bytes."""
    return make_record(2, attributes={"bytes": text.encode(), "array": bytearray(text.encode())})


def in_message(text: str) -> Span:
    """Return a span with the text as an exception's message."""
    return make_record(2, exception=failed(text))


def in_cause(text: str) -> Span:
    """Return a span with the text as the message of a cause."""
    return make_record(2, exception=failed(causes=[list(failed(causes=[list(failed(text))]))]))


def in_code(text: str) -> Span:
    """Return a span with the text as a quoted literal in a line of source."""
    return make_record(2, exception=failed(code=f"password={text!r}"))


def in_text_of_code(text: str) -> Span:
    """Return a span whose source line has the text as an argument."""
    return make_record(2, exception=failed(code=f"raise ValueError('it', {text!r})"))


def in_comment_of_code(text: str) -> Span:
    """Return a span whose source line has the text as its comment."""
    return make_record(2, exception=failed(code=f"work('x', 'y')  # {text}"))


def in_note(text: str) -> Span:
    """Return a span with the text in a note of an exception."""
    return make_record(2, exception=failed()._replace(notes=["a note", text]))


def in_member(text: str) -> Span:
    """Return a span with the text in the messages and notes of a group's members and of their causes."""
    member = failed(text, causes=[failed(text)])._replace(notes=[text])
    return make_record(2, exception=failed()._replace(members=[failed()._replace(members=[member])]))


def in_local(text: str) -> Span:
    """Return a span with the text in a local variable."""
    frame = FrameRecord("/srv/pay.py", 7, "charge", "pay", "x = 1", True, 0, 0, {"text": text})
    return make_record(2, exception=failed()._replace(frames=[frame]))


PLACES = [
    in_name,
    in_attribute,
    in_key,
    in_list,
    in_bytes,
    in_message,
    in_cause,
    in_code,
    in_text_of_code,
    in_comment_of_code,
    in_note,
    in_member,
    in_local,
]


def test_local_variables_go_by_their_names() -> None:
    """Local variables and items of containers are scrubbed by name."""
    values = {
        "password": "hunter2",
        "card": "visa",
        "headers": {"token": "hunter2"},
        "line": "login failed: password=hunter2",
        "header": ["Bearer hunterhunter"],
        "code": "<shop.Code>",
    }
    shown = {name: describe(value) if name != "code" else value for name, value in values.items()}
    frame = FrameRecord("/srv/pay.py", 7, "charge", "pay", "x = 1", True, 0, 0, dict(shown))  # type: ignore[arg-type]
    span = sent(make_record(2, exception=failed()._replace(frames=[frame])))
    assert span.exception is not None
    assert span.exception[2][0][8] == {
        "password": "[scrubbed]",
        "card": "'visa'",
        "headers": "{'token': '[scrubbed]'}",
        "line": "'login failed: password=[scrubbed]'",
        "header": "['Bearer [scrubbed]']",
        "code": "<shop.Code>",
    }


@pytest.mark.parametrize("place", PLACES, ids=lambda place: str(place.__name__))
@settings(max_examples=settings().max_examples // 2)
@given(AROUND, FORMS, SECRETS, AROUND)
def test_no_secret_leaves_from_any_place(
    place: Callable[[str], Span], before: str, form: str, secret: str, after: str
) -> None:
    """No secret leaves the process from any place, whatever the secret and the text around it."""
    assume(secret not in f"{before}{form}{after}[scrubbed]")
    record = place(before + form.format(secret, secret) + after)
    bodies = b"".join(body for _, body in encode([make_record(1), record]))
    assert secret.encode() not in bodies


@given(SECRETS, st.sampled_from(SECRET_NAMES), st.integers(0, 400))
def test_no_secret_leaves_by_its_name(secret: str, name: str, length: int) -> None:
    """No secret leaves the process under a secret's name, among any number of other attributes."""
    assume(secret not in f"{name} charge [scrubbed]")
    attributes = {f"a{number}": number for number in range(length % 100)} | {name: secret}
    (body,) = (body for _, body in encode([make_record(2, attributes=attributes)]))
    assert secret.encode() not in body


@pytest.mark.parametrize(
    "form",
    [
        "amqp://bob:{}@mq/x",
        "password='{}'",
        "password={}",
        "eyJhbGciOiJIUzI1NiJ9.{}",
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
        "ghp_{}",
        "glpat-{}",
        "sk-1{}",
        "Bearer 7{}",
    ],
)
@pytest.mark.parametrize("kept", [5, 9, 15])
def test_a_secret_that_is_cut_is_scrubbed(form: str, kept: int) -> None:
    """A secret truncated by a limit on texts, names, bytes, messages or source lines is still scrubbed."""
    secret = "hunter2B" * 3
    start, _ = form.split("{}")
    text = form.format(secret) + " x" * MAX_MESSAGE

    def cut_at(limit: int) -> str:
        return " " * (limit - len(start) - kept) + text

    message = cut_at(MAX_MESSAGE)[:MAX_MESSAGE] + "…"
    record = make_record(
        2,
        name=cut_at(MAX_NAME),
        attributes={
            "text": cut_at(MAX_TEXT),
            "bytes": cut_at(MAX_TEXT).encode(),
            "list": [cut_at(MAX_TEXT)] * (MAX_ITEMS + 1),
        },
        exception=failed(message, cut_at(MAX_CODE)[:MAX_CODE] if start[-1] != "=" else ""),
    )
    for _, body in encode([record]):
        assert b"hunt" not in body


class Hostile(str):
    """Text whose methods all raise."""

    def __len__(self) -> NoReturn:
        raise RuntimeError

    __str__ = __getitem__ = __iter__ = __eq__ = lower = __contains__ = encode = __len__  # type: ignore[assignment]
    __hash__ = str.__hash__


def test_no_code_of_the_program_runs() -> None:
    """Scrubbing reads only the base of a str subclass, and runs none of the program's code."""
    text = Hostile("password=hunter2")
    attributes = {Hostile("text"): text, "list": [text], Hostile("token"): text}
    span = sent(make_record(2, name=text, attributes=attributes, exception=failed(text, Hostile("x = 1"))))
    clean = "password=[scrubbed]"
    assert span.name == clean
    assert span.attributes == {"text": clean, "list": [clean], "token": "[scrubbed]"}
    assert span.exception is not None
    assert span.exception[1] == clean
    assert "scrubbing" not in diagnostics.counts


def test_a_failure_costs_the_attributes_and_not_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes and messages that fail to be scrubbed are replaced whole, and the span is kept."""

    def fail(*_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(scrubbing_rules, "scrub_pairs", fail)
    record = make_record(
        2, attributes={"text": "password=hunter2", "card": "visa"}, exception=failed("token=hunter2")
    )
    span = sent(record)
    assert (span.name, span.attributes) == ("[scrubbed]", {"ztrace.scrubbed": "[scrubbed]"})
    assert span.exception == ["ValueError", "[scrubbed]", [], [], RAISED, b"t" * 16, b"s" * 8, [], []]
    assert diagnostics.counts == {"scrubbing": 1}


def test_further_names_and_expressions() -> None:
    """Added names, in any spelling, and added expressions are scrubbed."""
    rules = make_rules(["customer_number", "IBAN"], [r"\bC-\d{6}\b"])
    attributes = {
        "customerNumber": 5,
        "old-iban": "DE1",
        "note": "for C-123456, customer number: 7",
        "number": 1,
    }
    assert sent(make_record(2, attributes=attributes), rules).attributes == {
        "customerNumber": "[scrubbed]",
        "old-iban": "[scrubbed]",
        "note": "for [scrubbed], customer number: [scrubbed]",
        "number": 1,
    }


def test_switched_off_nothing_is_scrubbed() -> None:
    """Disabled scrubbing sends everything unchanged."""
    assert make_rules(["a"], ["b"], enabled=False) is None
    record = make_record(2, attributes={"password": "hunter2"}, exception=failed("token=hunter2"))
    assert sent(record, None) == record._replace(exception=list(failed("token=hunter2")))


@pytest.mark.parametrize("value", ["(", "a{9999999999}", "x*", ""])
def test_an_expression_that_cannot_be_used_is_refused(value: str) -> None:
    """An invalid expression raises a one-line error with a hint."""
    with pytest.raises(SettingsError, match="cannot scrub by") as caught:
        make_rules(values=[value])
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_bytes_are_cut_where_scrubbing_thinks() -> None:
    """Bytes have the same limit as texts, which the scrubbing of truncated secrets assumes."""
    assert MAX_BYTES == MAX_TEXT


def test_what_is_remembered_is_bounded() -> None:
    """Caches of names and texts stay within their limits."""
    rules = Rules()
    for number in range(20_000):
        rules.find_names([f"name {number}"])
        rules.scrub(f"text {number}")
        rules.scrub_code(f"line {number}")
        rules.find_texts([f"other {number}"])
    for memory in (rules._known, rules._known_code, rules._names._decisions):
        assert len(memory) <= 4096


def cost_of(text: str) -> float:
    """Return the least processor time of scrubbing a text, out of two."""
    costs = []
    for _ in range(2):
        rules = Rules()  # Without what the rules remember.
        began_s = time.thread_time()
        rules.scrub(text)
        rules.scrub_code(text)
        costs.append(time.thread_time() - began_s)
    return min(costs)


@pytest.mark.parametrize("atom", HOSTILE)
def test_time_grows_with_the_length_and_no_faster(atom: str) -> None:
    """Scrubbing a text four times as long takes about four times as long, for any repeated pattern.

    Quadratic growth would be sixteen times as much, in each of the attempts that a busy machine may spoil.
    """

    def is_linear() -> bool:
        short, long = (cost_of("token=:@ " + atom * (times * MAX_TEXT // len(atom))) for times in (2, 8))
        return long < 9 * short + 0.002

    assert any(is_linear() for _ in range(5))
