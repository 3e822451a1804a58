"""A program that logs by the standard library's SysLogHandler to `mutt listen syslog`: every line of standard input.

SYSLOG_HOST=mutt-listen.example.net SYSLOG_PORT=5514 python sysloghandler.py < lines
"""

import logging
import logging.handlers
import os
import socket
import sys

host, port = os.environ["SYSLOG_HOST"], int(os.environ["SYSLOG_PORT"])

# UDP, as it is by itself: nobody waits, and what the network loses is lost. With socktype=socket.SOCK_STREAM it is TCP;
# then give it append_nul = False and a "\n" at the end of the format, for it puts nothing else between two messages.
handler = logging.handlers.SysLogHandler((host, port), facility="local3")
# The handler writes a priority and nothing else: time, host and program are the format's business (RFC 3164).
handler.setFormatter(
    logging.Formatter(
        f"%(asctime)s {socket.gethostname()} %(name)s[%(process)d]: %(message)s", "%b %e %H:%M:%S"
    )
)

logging.basicConfig(level=logging.INFO, handlers=[handler])
log = logging.getLogger("fans")

for line in sys.stdin:
    log.critical(line.strip())
