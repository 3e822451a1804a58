"""Listeners: syslog and SNMP traps straight from the network, posted to ingest."""
