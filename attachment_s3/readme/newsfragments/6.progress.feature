Observers for metrics are told how far a move of attachments is.
