"""The export of a search: its page, its file, and how far it is."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
import redis
from flask import Response, abort, make_response, request
from flask_admin import expose

from mutt import names
from mutt.errors import MuttError, SettingsError
from mutt.store import lookup
from mutt.store.lookup import AuditSearch
from mutt.store.replica import source_of
from mutt.store.whole import FORMATS
from mutt.web.admin.forms import AuditForm
from mutt.web.admin.page import REFUSED, Page
from mutt.web.reading import note

log = logging.getLogger("mutt.admin")

TYPES = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}

#: Exports that a process makes at once: each keeps one of its threads.
AT_ONCE = 2

#: Seconds that the state of one is kept after its last word.
KEPT = 600

_turns = threading.BoundedSemaphore(AT_ONCE)


class ExportPage(Page):
    """``/audit/export``: about how much it is, which format, and how far it is while it comes."""

    @expose("/export")
    def export_page(self) -> Any:
        form = AuditForm(request.args)
        if not form.validate():
            return self.render("export.html", form=form, about=0, job=uuid4(), formats=FORMATS), REFUSED
        from mutt.store import exports  # noqa: PLC0415 it brings pyarrow, sixty megabytes, for who exports

        asked, now = self._wanted(form)
        with lookup.reading(self.services.read_engine) as conn:
            since, until = exports.span(conn, self.services.archives, asked, now)
            about = exports.estimate(conn, self.services.archives, since, min(until, now))
            note(source_of(conn).says)
        shown = {"since": since, "until": min(until, now), "about": about}
        return self.render("export.html", form=form, job=uuid4(), formats=FORMATS, **shown)

    @expose("/export/<uuid:job_id>/<kind>")
    def export_file(self, job_id: UUID, kind: str) -> Any:
        form = AuditForm(request.args)
        if kind not in FORMATS or not form.validate():
            abort(400, "This search can't be exported: look at its page.")
        asked, now = self._wanted(form)
        if not _turns.acquire(blocking=False):
            abort(503, f"{AT_ONCE} exports are being made already: try again when one of them has ended.")
        answer = Response(self._pieces(asked, now, job_id, kind), mimetype=TYPES[kind])
        answer.headers["Content-Disposition"] = f'attachment; filename="audit-{now:%Y%m%d-%H%M%S}.{kind}"'
        answer.call_on_close(_turns.release)
        return answer

    @expose("/export/<uuid:job_id>/state")
    def export_state(self, job_id: UUID) -> Response:
        """How far it is, as a part of its page."""
        told: dict[str, Any] = {}
        with contextlib.suppress(redis.RedisError, SettingsError):
            told = orjson.loads(self.services.redis.get(f"{names.EXPORTS}{job_id}") or b"{}")
        return make_response(self.render("export_state.html", job=job_id, told=told))

    def _wanted(self, form: AuditForm) -> tuple[AuditSearch, datetime]:
        now = datetime.now(UTC)
        return form.asked(now).narrowed(now), now

    def _pieces(self, asked: AuditSearch, now: datetime, job: UUID, kind: str) -> Iterator[bytes]:
        from mutt.store import exports  # noqa: PLC0415 as above
        from mutt.web.admin.exportfile import written  # noqa: PLC0415

        engine, archives = self.services.read_engine, self.services.archives
        state, so_far = "broken off", [0, 0.0]

        def noted(rows: int, share: float) -> None:
            so_far[:] = [rows, share]
            self._note(job, "running", rows, share)

        try:
            with lookup.reading(engine) as conn:
                since, until = exports.span(conn, archives, asked, now)
            yield from written(exports.export(engine, archives, asked, since, until), kind, noted)
            state = "done"
        except MuttError as error:
            # What was sent is half a file: the connection has to end so that the browser takes it for one.
            log.warning("export of the audit: %s", error)
            state = f"failed: {error}"
            raise
        finally:
            self._note(job, state, int(so_far[0]), so_far[1])

    def _note(self, job: UUID, state: str, rows: int, share: float) -> None:
        body = orjson.dumps({"state": state, "rows": rows, "share": share})
        with contextlib.suppress(redis.RedisError, SettingsError):
            self.services.redis.set(f"{names.EXPORTS}{job}", body, ex=KEPT)
