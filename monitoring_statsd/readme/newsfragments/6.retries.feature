Count the further tries of session operations on Redis.
