"""The page at ``/``, which explains the API and how clients use it.

One idea: the page is static text in HTML, so it loads nothing and shows nothing of the database.
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


def answer_start(database: str, address: str) -> HTMLResponse:
    """Return the page for clients with the token.

    Args:
        database: name of the database.
        address: URL of the server.
    """
    url = escape(address)
    return HTMLResponse(
        _HEAD
        + (
            f"<p>Jaeger's query API over <code>{escape(database)}</code>, read-only, for programs on this"
            " machine that have the token.</p><dl>"
            f"<dt>Grafana</dt><dd>A data source of type Jaeger with the URL <code>{url}</code> and the custom"
            " HTTP header <code>X-Ztrace-Token</code>, whose value is the token.</dd>"
            "<dt>Jaeger's page</dt><dd>Any server for its files that passes <code>/api/</code> on to"
            f" <code>{url}</code> with that header.</dd>"
            f"<dt>Anything else</dt><dd><code>curl -H 'X-Ztrace-Token: TOKEN' {url}/api/services</code></dd>"
            "</dl><p>The token is in the URL that <code>ztrace</code> printed, and in the file beside the"
            " database. What there is to see is shown by <code>ztrace slow</code>, <code>ztrace errors</code>"
            " and <code>ztrace show</code>.</p></html>\n"
        )
    )


def answer_locked(status: int) -> HTMLResponse:
    """Return the page for requests without the token."""
    return HTMLResponse(
        f"{_HEAD}<p>Open the URL that <code>ztrace</code> printed: it has the token in it.</p></html>\n",
        status,
    )
