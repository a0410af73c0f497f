A page in Settings → Cloud Platform shows environment, faults, attachments and sessions, checks the connections and moves attachments; a badge names the environment.
