"""Bytes against everything that reads a sender's bytes: ``make fuzz``."""
