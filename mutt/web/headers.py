"""What every answer tells a browser to do with it, and not to do."""

from __future__ import annotations

#: Of every answer, page or not.
COMMON = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}

#: Of what is read by machines: a browser that is led there shows it as text, runs nothing and keeps nothing.
DATA = COMMON | {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

#: The same as lines of an answer.
DATA_LINES = "".join(f"{name}: {value}\r\n" for name, value in DATA.items())

#: Of pages.
PAGES = COMMON | {
    # Our own pages hold no inline script or style, and none of Flask-Admin's are shown: nothing needs unsafe-inline.
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    # Not no-referrer: over HTTPS the CSRF check asks for the form's own address.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
