"""An answer of ours as Flask gives it to the sender."""

from __future__ import annotations

from flask import Response

from mutt.web.answer import Answer


def flask_response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, answer.headers, mimetype=answer.type)
    if answer.after:
        response.call_on_close(answer.after)
    return response
