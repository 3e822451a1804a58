"""Keys: who may send, and who may manage by script; and whose posts are signed."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec
import redis
from flask import abort, flash, redirect, request, url_for
from flask_admin import expose
from sqlalchemy import Connection

from mutt.errors import Refused, SettingsError
from mutt.grant import INGEST, check_name, digest_of
from mutt.letters.desk import Desk
from mutt.sealing import Sealer
from mutt.store import keys, lookup
from mutt.store.engine import transaction
from mutt.store.keys import Key
from mutt.streams.letters import Letter, NoLetter
from mutt.web.admin.keyforms import (
    KEPT,
    MADE,
    NewKeyForm,
    RightsForm,
    RotateForm,
    SigningForm,
    TryForm,
    newest,
    same,
)
from mutt.web.admin.page import CONFLICT, REFUSED, Page, said, search
from mutt.web.admin.sourceform import Previewed, SourceForm, previewed, seen_of
from mutt.web.admin.trying import Tried, tried_on
from mutt.web.published import LATER, published
from mutt.web.roles import ADMINS_ONLY
from mutt.web.signatures import PRESETS, checked, checked_secret

#: Refused items of a key that are offered as samples.
SAMPLES = 5


class Keys(Page):
    needs = ADMINS_ONLY

    @expose("/")
    def index(self) -> str:
        wanted = request.args.get("q", "")
        with lookup.reading(self.engine) as conn:
            found = search(keys.listed(conn), wanted, lambda key: f"{key.name} {key.note}")
        now = datetime.now(UTC)
        groups = {
            "Good": [key for key in found if key.live(now)],
            "Without a live secret": [key for key in found if not key.live(now) and not key.revoked_at],
            "Revoked": [key for key in found if key.revoked_at],
        }
        return self.render("keys.html", groups=groups, q=wanted, found=len(found), now=now)

    @expose("/new", methods=("GET", "POST"))
    def new(self) -> Any:
        form, status = NewKeyForm(data={"scopes": [INGEST]}), 200
        if form.validate_on_submit():
            try:
                name, expires_at = (form.name.data or "").strip(), form.expires()
                with transaction(self.engine) as conn:
                    key, text = keys.make(
                        conn, name, expires_at=expires_at, **form.rights(), **said(form.why.data)
                    )
                return self._once(key, "The key", text)
            except Refused as error:
                form.refuse(error)
                status = REFUSED
        return self.render("key_new.html", form=form), status

    @expose("/<key_name>", methods=("GET", "POST"))
    def edit(self, key_name: str) -> Any:
        key, status = self._read(key_name), 200
        form = RightsForm.of(key)
        if form.validate_on_submit():
            try:
                with transaction(self.engine) as conn:
                    keys.change(conn, key_name, **form.rights(), **said(form.why.data))
                self._told(f"{key_name} is changed.")
                return redirect(url_for("keys.edit", key_name=key_name))
            except Refused as error:
                form.refuse(error)
                status = REFUSED
        return self.render("key.html", form=form, key=key, now=datetime.now(UTC)), status

    @expose("/<key_name>/rotate", methods=("GET", "POST"))
    def rotate(self, key_name: str) -> Any:
        key, status = self._read(key_name), 200
        form = RotateForm.of(key)
        if form.validate_on_submit():
            try:
                with transaction(self.engine) as conn:
                    key = keys.find(conn, key_name, lock=True)
                    if form.seen.data != newest(key):
                        abort(
                            CONFLICT,
                            f"{key_name} was rotated since this page was opened: nothing was changed.",
                        )
                    text = keys.rotate(conn, key_name, form.span(), form.expires(key), **said(form.why.data))
                return self._once(key, "The new secret of the key", text)
            except Refused as error:
                form.refuse(error)
                status = REFUSED
        return self.render("key_rotate.html", form=form, key=key, now=datetime.now(UTC)), status

    @expose("/<key_name>/revoke", methods=("POST",))
    def revoke(self, key_name: str) -> Any:
        """The whole key, or with ``made`` the one of its secrets that was made then."""
        made, why = request.form.get("made", ""), said(request.form.get("reason"))
        with transaction(self.engine) as conn:
            key = _find(conn, key_name)
            if made:
                keys.revoke_secret(conn, key_name, _digest(key, made), **why)
            else:
                keys.revoke(conn, key_name, **why)
        self._told(
            f"{'One secret of ' if made else ''}{key_name} is revoked: it is refused within 5 seconds."
        )
        return redirect(url_for("keys.edit", key_name=key_name))

    # ---- its source

    @expose("/<key_name>/source", methods=("GET", "POST"))
    def source(self, key_name: str) -> Any:
        key, refused = self._read(key_name), self._refused_of(key_name)
        form = SourceForm.of(key, refused)
        if form.validate_on_submit():
            try:
                self._describe(key_name, form)
                self._told(f"What is known of the source of {key_name} is changed.")
                return redirect(url_for("keys.source", key_name=key_name))
            except Refused as error:
                form.refuse(error)
        return self._source_page(key, form), REFUSED if request.method == "POST" else 200

    def _describe(self, key_name: str, form: SourceForm) -> None:
        with transaction(self.engine) as conn:
            standing = _find(conn, key_name).source
            keys.describe(conn, key_name, form.source(), **said(form.why.data))
            if form.seen.data != seen_of(standing):
                raise Refused(
                    "",
                    f"What is known of the source of {key_name} was changed since this page was opened: nothing was"
                    " saved. Open the page anew, and change there what you changed here.",
                )

    @expose("/<key_name>/source/preview", methods=("POST",))
    def preview(self, key_name: str) -> Any:
        """What a sample becomes, by the form as it stands: a fragment for the form, a page without script."""
        key, scripted = self._read(key_name), bool(request.headers.get("HX-Request"))
        form, found, status = SourceForm.of(key, [] if scripted else self._refused_of(key_name)), None, 200
        try:
            found = previewed(form.source(), key.formats, self._sample(key_name, form))
        except Refused as error:
            form.refuse(error)
            status = REFUSED
        if scripted:
            return self.render("key_source_preview.html", form=form, found=found)
        return self._source_page(key, form, found), status

    def _source_page(self, key: Key, form: SourceForm, found: Previewed | None = None) -> str:
        return self.render("key_source.html", form=form, key=key, found=found)

    def _refused_of(self, key_name: str) -> list[Letter]:
        """Samples for who writes a mapping: a convenience, which waits for no outage."""
        try:
            return Desk(self.services).refused_of(key_name, SAMPLES)
        except redis.RedisError:
            return []

    def _sample(self, key_name: str, form: SourceForm) -> str:
        """What is picked, if it is still there and this key's, else what is pasted."""
        if not form.letter.data:
            return form.pasted()
        try:
            letter = Desk(self.services).show("ingest", form.letter.data)
        except (NoLetter, redis.RedisError):
            return ""
        mine = letter.about == key_name and isinstance(letter.payload, dict)
        return str(letter.payload.get("raw", "")) if mine else ""

    # ---- signatures

    @expose("/<key_name>/signing", methods=("GET", "POST"))
    def signing(self, key_name: str) -> Any:
        key = self._read(key_name)
        form = SigningForm.of(key.signing)
        if form.validate_on_submit():
            try:
                return self._sign(key, form)
            except Refused as error:
                form.refuse(error)
        return self._signing_page(key, form, status=REFUSED if request.method == "POST" else 200)

    def _sign(self, key: Key, form: SigningForm) -> Any:
        signing, typed = checked(form.signing()), form.secret.data or ""
        made = not typed and form.source.data == MADE
        kept = not typed and form.source.data == KEPT and key.signing
        secret = secrets.token_urlsafe(32) if made else "" if kept else checked_secret(typed)
        sealed = kept.secret if kept else self._sealer().seal(secret)
        with transaction(self.engine) as conn:
            standing = _find(conn, key.name)
            if form.seen.data != _seen(standing):
                abort(
                    CONFLICT, f"{key.name} signs otherwise since this page was opened: nothing was changed."
                )
            signed = msgspec.structs.replace(signing, secret=sealed)
            keys.sign_with(conn, key.name, signed, **said(form.why.data))
        if made:
            return self._once(key, "The secret that signs its posts", secret)
        self._told(f"Posts of {key.name} must be signed.")
        return redirect(url_for("keys.signing", key_name=key.name))

    @expose("/<key_name>/unsign", methods=("POST",))
    def unsign(self, key_name: str) -> Any:
        try:
            with transaction(self.engine) as conn:
                _find(conn, key_name)
                keys.sign_with(conn, key_name, None, **said(request.form.get("reason")))
        except Refused as error:
            abort(CONFLICT, f"{error.reason}.")
        self._told(f"Posts of {key_name} need no signature any more; /signed/{key_name} is closed.")
        return redirect(url_for("keys.edit", key_name=key_name))

    @expose("/<key_name>/try", methods=("POST",))
    def attempt(self, key_name: str) -> Any:
        """Is this the signature of this body?"""
        key, form = self._read(key_name), TryForm()
        if key.signing is None:
            abort(CONFLICT, f"Posts of {key_name} are not signed: there is nothing to try.")
        tried = tried_on(key.signing, self._sealer().open(key.signing.secret), form)
        return self._signing_page(key, SigningForm.of(key.signing, formdata=None), form, tried)

    def _signing_page(
        self,
        key: Key,
        form: SigningForm,
        attempt: TryForm | None = None,
        tried: Tried | None = None,
        status: int = 200,
    ) -> Any:
        wanted = ""
        try:
            sealer = self._sealer()
            sealer.need()
            if key.signing:
                sealer.open(key.signing.secret)
        except SettingsError as error:
            wanted = error.expected
        preset = key.signing and next((name for name, one in PRESETS.items() if same(one, key.signing)), "")
        page = self.render(
            "key_signing.html",
            form=form,
            key=key,
            preset=preset,
            wanted=wanted,
            seen=_seen(key),
            attempt=attempt or TryForm(formdata=None),
            tried=tried,
        )
        return page, status

    # ---- shared

    def _once(self, key: Key, what: str, text: str) -> str:
        """The one page that shows ``text``: the answer to the post that made it. No cache keeps it."""
        return self.render("key_made.html", key=key, what=what, text=text, late=self._late())

    def _told(self, sentence: str) -> None:
        flash(" ".join([sentence, *filter(None, [self._late()])]))

    def _late(self) -> str:
        return "" if published(self.services) else LATER

    def _sealer(self) -> Sealer:
        return Sealer(self.services.settings.current("sealing_key"))

    def _read(self, name: str) -> Key:
        with lookup.reading(self.engine) as conn:
            return _find(conn, name, lock=False)


def _find(conn: Connection, name: str, *, lock: bool = True) -> Key:
    try:
        check_name(name)
        return keys.find(conn, name, lock=lock)
    except (Refused, LookupError):
        abort(404, "There is no key of this name.")


def _digest(key: Key, made: str) -> str:
    found = next((one for one in key.secrets if one.created_at.isoformat() == made), None)
    if found is None:
        abort(404, f"{key.name} has no such secret.")
    return found.digest


def _seen(key: Key) -> str:
    """What names the signing that stands, and tells nothing of it."""
    return digest_of(key.signing.secret.encode())[:16] if key.signing else ""
