The settings page speaks French and German, and so does what it shows of attachments.
