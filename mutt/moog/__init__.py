"""Moog: from alerts to one HTTP request, and from its answer to what must happen next.

``dialects``    alerts -> bytes and headers, the field maps as data
``client``      sends them under a permit, inside one deadline
``connection``  where the permit is checked: after connect(), before the first byte
``deadline``    ends what takes too long, however slowly it drips
``outcome``     the answer -> delivered, retry, refused …, and the reason; pure
"""
