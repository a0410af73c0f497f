The master of a prefork server tells which of its processes were killed, and by which signal.
