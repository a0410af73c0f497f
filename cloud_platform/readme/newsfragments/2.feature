Checks of each environment's configuration when a server starts, and the installation of a platform by a song.
