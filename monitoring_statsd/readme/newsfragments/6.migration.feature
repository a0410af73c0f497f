How far a move of attachments is, with panels on the dashboard of stores.
