Observers are told of further tries in a Redis Cluster too.
