Tell observers how often an operation was tried again, and name the client certificate when a server with TLS ends the connection.
