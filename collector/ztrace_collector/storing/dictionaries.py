"""Dictionaries of sealed traces: the table ``sealing_dictionaries``.

One idea: a dictionary is made of the file's own traces. Now and then one is made of the latest, and half of
these are compressed by both: it takes the old one's place only if it saves enough. So a file whose services
change gets new dictionaries, and any other keeps the first good one.
"""

import sqlite3
from collections.abc import Sequence

from ztrace_collector.sealing.form import DICTIONARY_BYTES, Compressor

#: Traces sealed until a better dictionary is looked for the first time, and at most: the number doubles.
_FIRST, _MOST = 100, 25_600
#: Traces of which one is made, and the size up to which one is used for that: larger ones need none.
_SAMPLE, _LARGE = 256, 4_096
#: Part of the old one's bytes that a new dictionary has to come down to.
_BETTER = 0.93
#: Maximum of dictionaries, in 4 MB.
_LIMIT = 256


class Dictionaries:
    """Compression of a file's traces, with the newest of its dictionaries."""

    def __init__(self) -> None:
        self._compressor: Compressor | None = None
        self._key = 0
        #: Traces until the next look, and the number of the present interval.
        self._left = self._interval = _FIRST
        self._sample: list[bytes] = []

    def compress(self, db: sqlite3.Connection, packed: bytes) -> tuple[int, bytes]:
        """Compress a trace in a transaction of the caller's.

        After a rollback, the object must not be used any more.

        Args:
            db: the database.
            packed: what `ztrace_collector.sealing.form.pack` returned.

        Returns:
            The key of the dictionary, and the compressed trace.
        """
        compressor = self._compressor or self._load(db, packed)
        if self._left % max(1, self._interval // _SAMPLE) == 0 and len(packed) <= _LARGE:
            self._sample.append(packed)
        self._left -= 1
        if self._left <= 0:
            compressor = self._renew(db, compressor)
        return self._key, compressor.compress(packed)

    def _load(self, db: sqlite3.Connection, packed: bytes) -> Compressor:
        """Use the newest dictionary, or a first one of the first trace alone."""
        row = db.execute("SELECT id, content FROM sealing_dictionaries ORDER BY id DESC LIMIT 1").fetchone()
        return self._insert(db, make_dictionary([packed])) if row is None else self._use(*row)

    def _insert(self, db: sqlite3.Connection, content: bytes) -> Compressor:
        (key,) = db.execute(
            "INSERT INTO sealing_dictionaries (content) VALUES (?) RETURNING id", (content,)
        ).fetchone()
        return self._use(key, content)

    def _use(self, key: int, content: bytes) -> Compressor:
        self._key, self._compressor = key, Compressor(content)
        return self._compressor

    def _renew(self, db: sqlite3.Connection, old: Compressor) -> Compressor:
        """Use a dictionary of the sampled traces if it is better than the present one."""
        sample, self._sample = self._sample, []
        self._left = self._interval = min(_MOST, 2 * self._interval)
        if len(sample) < 2 or self._key >= _LIMIT:
            return old
        content = make_dictionary(sample[::2])
        new, others = Compressor(content), sample[1::2]
        before, after = (sum(len(each.compress(packed)) for packed in others) for each in (old, new))
        return self._insert(db, content) if after <= _BETTER * before else old


def make_dictionary(sample: Sequence[bytes]) -> bytes:
    """Return a dictionary of some packed traces, the last ones nearest to what is compressed."""
    return b"".join(dict.fromkeys(sample))[-DICTIONARY_BYTES:]
