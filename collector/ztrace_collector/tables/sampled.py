"""Account of a publisher's samples: each one created is stored, lost, elsewhere, or still to come.

One idea: samples are numbered as they are sent, so any message shows which samples before it are missing, for
whatever reason.
"""

from dataclasses import dataclass

from ztrace.records import INT64_MAX


@dataclass(slots=True)
class Sampled:
    """Counts of one incarnation's samples.

    Attributes:
        created: number of samples, as reported by the publisher.
        stored: number of samples whose time is stored.
        lost: number of samples that were refused, or will never arrive.
        elsewhere: number of samples before the publisher's first message to this database, or delivered to
            another collector since.
    """

    created: int = 0
    stored: int = 0
    lost: int = 0
    elsewhere: int = 0

    @property
    def next(self) -> int:
        """Number of the next sample; all lower ones are accounted for."""
        return self.stored + self.lost + self.elsewhere

    def hear(self, sampled: int) -> None:
        """Apply the count of a header."""
        self.created = max(self.created, sampled)

    def begin(self, sampled: int) -> None:
        """Apply the count of a publisher's first header here after it has sent messages elsewhere.

        Which of its samples these had is shown by the next profile.
        """
        self.elsewhere += max(0, sampled - self.next)

    def take(self, first: int, count: int) -> None:
        """Count the samples of a message as stored, and those missing before it as lost."""
        # The messages of a correct publisher do not overlap: those that seemed to be elsewhere were not.
        self.elsewhere -= min(self.elsewhere, max(0, self.next - first))
        missing = max(0, first - self.next)
        count = max(0, first + count - max(first, self.next))
        self.lost += missing
        self.stored += count
        self.created = min(INT64_MAX, max(self.created, self.next))

    def end(self) -> None:
        """Count the samples that have not arrived by the end of the publisher as lost."""
        self.lost += self.created - self.next
