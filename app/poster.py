"""The outline of a page at once: Streamlit's own page is empty until its scripts have run and ours has been asked for.

In: Streamlit's empty page. Out: the same with poster.html in it, which goes when the page's heading is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.middleware.base import RequestResponseEndpoint
    from starlette.requests import Request

HTML = Path(__file__).with_name("poster.html")
ROOT = b'<div id="root">'  # of Streamlit's page
OF_THE_FILE = (b"content-length", b"etag", b"last-modified")


class Poster(BaseHTTPMiddleware):
    """Middleware that puts the poster before what Streamlit's scripts fill; every other answer stays as it is."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """The answer to one request."""
        response = await call_next(request)
        page = response.headers.get("content-type", "").startswith("text/html")
        whole = (request.method, response.status_code) == ("GET", 200) and "content-encoding" not in response.headers
        if not (page and whole):
            return response
        body = b"".join([part async for part in response.body_iterator])  # type: ignore[attr-defined]
        if ROOT in body:
            poster = HTML.read_bytes()
            if request.url.path == "/":
                poster = poster.replace(b'id="poster"', b'id="poster" class="explore"', 1)
            body = body.replace(b"<title>Streamlit<", b"<title>DMPO explore<").replace(ROOT, poster + ROOT)
        answer = Response(body)
        answer.raw_headers += [header for header in response.raw_headers if header[0] not in OF_THE_FILE]
        return answer
