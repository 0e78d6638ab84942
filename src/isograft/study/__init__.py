"""Arms compared on tasks over label budgets and repeats, and what that shows."""
