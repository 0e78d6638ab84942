"""Bring public pools by name: shown with their licence first, resumable, checked."""
