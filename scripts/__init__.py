"""Programs that one runs, each with `main`; a package, so that no other package of this name comes before them."""
