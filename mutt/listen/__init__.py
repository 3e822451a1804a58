"""Listeners: what comes straight from the network goes onto this machine's disk, and from there to ingest.

``relay``    takes records, keeps them on disk, posts them in order     ``buffer``  the disk
``batches``  what records are made into    ``sender``  what posts them  ``books``   what is counted
``aside``    batches that a proxy does not let through
``framing``  where a message ends in a stream of bytes                  ``syslog``  UDP, TCP, TLS
``snmptrap`` traps and informs                                          ``snmp/``   what stands in a datagram of SNMP
"""
