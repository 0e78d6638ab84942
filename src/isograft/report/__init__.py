"""Reports: one self-contained HTML page with its pictures inside, and no request to anywhere."""
