"""`isograft evaluate`: how well a classifier does on images it has never seen, and how far that figure can be trusted."""
