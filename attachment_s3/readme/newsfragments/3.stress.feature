A stress test of processes that are killed while they change attachments proves that nothing is lost.
