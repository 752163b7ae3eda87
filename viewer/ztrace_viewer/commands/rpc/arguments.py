"""Arguments of a call on the command line."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from ztrace.errors import SettingsError
from ztrace_viewer.commands.rpc.services import Method
from ztrace_viewer.commands.rpc.words import read_arguments, read_words

_F = TypeVar("_F", bound=Callable[..., object])

#: Variable with the key of this user at servers with keys.
KEY_VARIABLE = "ZTRACE_RPC_KEY"


def key_option(function: _F) -> _F:
    """Add the option ``--key``."""
    return click.option(
        "--key",
        envvar=KEY_VARIABLE,
        show_envvar=True,
        metavar="KEY",
        help="Output of 'ztrace keys add', for a server with keys.",
    )(function)


class WordsCommand(click.Command):
    """Command with words that may begin with a dash; those after ``--`` are values only."""

    #: Place of the words after ``--`` in the context's ``meta``.
    _LITERAL = "ztrace_viewer.commands.rpc.literal"

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: object
    ) -> click.Context:
        """Make the context of a call; options that are unknown, as -5, are words."""
        return super().make_context(info_name, args, parent, ignore_unknown_options=True, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words before ``--``, and keep the others."""
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[self._LITERAL] = args[:at], args[at + 1 :]
        return super().parse_args(ctx, args)

    @classmethod
    def literal(cls) -> list[str]:
        """Return the words after ``--`` of the command that runs."""
        words: list[str] = click.get_current_context().meta.get(cls._LITERAL, [])
        return words


def read_call(
    method: Method, words: Sequence[str], literal: Sequence[str] = (), json_args: str | None = None
) -> tuple[list[object], dict[str, object]]:
    """Return the arguments of a call, checked against the method's signature.

    Args:
        method: to call.
        words: values and ``name=value``.
        literal: further values.
        json_args: all arguments as JSON, in place of words.

    Raises:
        SettingsError: the arguments do not fit; the message has the signature.
    """
    if json_args is not None:
        args, kwargs = read_arguments(json_args)
    else:
        args, kwargs = read_words(words, method.keywords, literal)
    if problem := method.check(args, kwargs):
        raise SettingsError(f"{method.name}: {problem}", hint=f"it is {method.signature()}")
    return args, kwargs
