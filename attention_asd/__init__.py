"""The command `attention-asd`; the programs behind it lie in the root of a clone, and in `clone/` of an installed wheel."""
