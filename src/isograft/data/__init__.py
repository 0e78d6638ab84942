"""From image files to batches: manifests, readers, caches, views."""
