"""A page that judges sounds in the visitor's browser: what it is built of, and how."""
