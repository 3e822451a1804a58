"""SNMP's notifications: datagrams in, JSON objects of the format ``snmptrap`` out.

``pdu``    a trap's content                      ``users``   who may send with SNMPv3
``usm``    what makes a v3 message authentic     ``engine``  the little that has to outlive a restart

:mod:`mutt.listen.snmptrap` puts them together.
"""
