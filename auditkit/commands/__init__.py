"""Commands beside `audit`, a file for each group; `attach(app)` adds them to the command line."""
