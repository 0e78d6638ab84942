"""The web app for one classifier."""
