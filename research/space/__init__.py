"""The Space as people use it: an engineer, many users, a long live session, the static page, and pictures of every tab."""
