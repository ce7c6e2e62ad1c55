"""What other engines run: the graph, and the weights of the compiled engine."""
