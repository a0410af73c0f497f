A song `install_generic` for any S3 store, and a dry run in a song.
