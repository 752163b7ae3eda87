"""Names of secrets: ``db_password``, ``X-Api-Key`` and ``authToken``, but not ``author``.

One idea: a name is split into words, at ``_``, ``-``, dots, blanks and changes of case, and whole words are
compared. Two adjacent words are also tried as one, so ``api_key``, ``apiKey`` and ``apikey`` are equal. A
name that only describes a secret, such as ``token_count`` or ``password_expired``, is none.
"""

import re
from collections.abc import Sequence
from itertools import pairwise


def _listed(words: str) -> list[str]:
    return words.split()


#: Words that make any name a secret's. ``key`` is none of them: most keys are those of dictionaries.
_WORDS = frozenset(
    _listed(
        "auth authorisation authorization bearer cookie cred credential csrf cvc cvv jwt oauth otp pass "
        "passcode passphrase passwd password pw pwd secret sess session sig token totp xsrf"
    )
)
#: Words that make a name a secret's when followed by ``key``.
_KEY_OF = _listed(
    "access account aes api app consumer crypto decrypt decryption deploy encrypt encryption gpg hmac "
    "license master pgp private rsa secret session shared signing ssh ssl tls ztrace"
)
_PAIRS = frozenset([f"{word}key" for word in _KEY_OF] + ["accesssignature", "amzsignature", "googsignature"])
#: Endings of names written as one word: PGPASSWORD, csrfmiddlewaretoken, phpsessid.
_ENDINGS = tuple(
    _listed(
        "accesskey apikey cookie credential passcode passphrase passwd password privatekey secret secretkey "
        "sessid sessionid token"
    )
)
#: Words after a secret's that make a name describe the secret.
_ABOUT = frozenset(
    _listed(
        "age count counts disabled duration enabled endpoint error errors exception exceptions expiration "
        "expired expires expiry failed failure invalid kind len length lifetime limit max method min mode ms "
        "name ns policy provider required seconds size status timeout total ttl type uri url usage used user "
        "username valid"
    )
)
#: Words before a plural that make a name a number: ``input_tokens``, ``active_sessions``.
_NUMBER_OF = frozenset(
    _listed(
        "active cached completion input max min num number open output prompt reasoning remaining total used"
    )
)
#: Parts of words, one of which is in every name above; texts are searched for them first.
STEMS = _listed("auth bearer cookie cred csrf cvc cvv jwt key otp pass pw secret sess sig token xsrf")

#: Characters compared at both ends of a name, and the length up to which decisions are cached.
_MAX_NAME = 256
#: Decisions cached: a program may generate names for each call.
_MAX_DECISIONS = 4096

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")


class Names:
    """Classifier of names, with a cache of its decisions.

    Attributes:
        stems: lower-case parts of words, one of which is in every name of a secret.
    """

    def __init__(self, further: Sequence[str] = ()) -> None:
        phrases = [words for name in further if (words := split_name(name))]
        self.stems = (*STEMS, *sorted({words[0] for words in phrases}))
        self._further = frozenset("".join(words) for words in phrases)
        self._longest = max(map(len, phrases), default=0)
        self._decisions: dict[str, bool] = {}

    def are_secret(self, name: str) -> bool:
        """Return whether the value under a name is a secret."""
        decision = self._decisions.get(name)
        if decision is None:
            decision = self._decide(split_name(name))
            if len(self._decisions) >= _MAX_DECISIONS:
                self._decisions.clear()
            if len(name) <= _MAX_NAME:
                self._decisions[name] = decision
        return decision

    def _decide(self, words: list[str]) -> bool:
        for first in range(len(words) if self._further else 0):
            for last in range(first + 1, first + 1 + self._longest):
                if "".join(words[first:last]) in self._further:
                    return True
        about = max((place for place, word in enumerate(words) if word in _ABOUT), default=-1)
        return any(
            place > about
            and (_is_secret(word) or before + word in _PAIRS or _is_secret(before + word))
            and not (word[-1:] == "s" and before in _NUMBER_OF)
            for place, (before, word) in enumerate(pairwise(["", *words]))
        )


def split_name(name: str) -> list[str]:
    """Return the words of a name in lower case."""
    if len(name) > 2 * _MAX_NAME:
        name = f"{name[:_MAX_NAME]} {name[-_MAX_NAME:]}"
    return [word.lower() for word in _WORD.findall(name)]


def _is_secret(word: str) -> bool:
    single = word[:-1] if word[-1:] == "s" else word
    return word in _WORDS or single in _WORDS or single in _PAIRS or single.endswith(_ENDINGS)
