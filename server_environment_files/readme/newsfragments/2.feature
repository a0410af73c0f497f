The configuration folders default, prod, integration, test and dev for `server_environment`.
