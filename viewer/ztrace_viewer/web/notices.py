"""Pages of one sentence: for requests without the token, and for addresses that cannot be shown.

One idea: they are HTML without a script, so they load nothing, and need neither the token nor the database.
"""

import base64
import hashlib
from html import escape

from starlette.responses import HTMLResponse

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#1b1f24;"
    "background:#fff}code{font:14px ui-monospace,monospace;background:#eef1f4;padding:.1em .3em;"
    "border-radius:3px}dt{margin-top:1em;font-weight:600}dd{margin:0}"
    "@media(prefers-color-scheme:dark){body{color:#e6e9ec;background:#15181c}code{background:#2a2f36}}"
)
#: Hash of the page's style, for a policy that permits no other.
STYLE_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"

_HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>ztrace</title>'
    f"<style>{_STYLE}</style><h1>ztrace</h1>"
)


def answer_locked(status: int) -> HTMLResponse:
    """Return the page for requests without the token."""
    return HTMLResponse(
        f"{_HEAD}<p>The token is missing or old. Open the URL that <code>ztrace up</code> or <code>ztrace"
        " web</code> printed, which has the token in it, or run <code>ztrace open</code> with the same"
        " <code>--db</code>.</p></html>\n",
        status,
    )


def answer_problem(status: int, text: str) -> HTMLResponse:
    """Return the page that says why an address cannot be shown."""
    told = f'<p>{escape(text)}</p><p><a href="/">Go to the overview</a></p>'
    return HTMLResponse(f"{_HEAD}{told}</html>\n", status)
