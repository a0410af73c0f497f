def post_load():
    """Filled by the next commit."""
